"""Inception's figures against torch-fidelity's own, with random weights in the right format."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import Statistics, statistics
from pplemd.metrics.inception import as_bytes, inception_features, inception_figures, inception_statistics

fidelity = pytest.importorskip("torch_fidelity", reason="the extra `fid` is not installed")
import torch  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's own
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
RNG = np.random.default_rng(0)
FAKE = RNG.uniform(-1, 1, (14, 8, 8, 1)).astype(np.float32)
REAL = np.clip(0.5 * RNG.standard_normal((13, 8, 8, 3)), -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A state dict of random weights, of the names and shapes of the published one."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Network

    torch.manual_seed(0)
    loading = Network.load_state_dict
    Network.load_state_dict = lambda self, state: None
    empty = tmp_path_factory.mktemp("weights") / "empty.pth"
    torch.save({}, empty)
    try:
        network = Network("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(empty))
    finally:
        Network.load_state_dict = loading
    path = empty.with_name("random.pth")
    torch.save(network.state_dict(), path)
    return path


class Images(torch.utils.data.Dataset):
    """The images as the library's user would give them."""

    def __init__(self, x):
        self.x = torch.from_numpy(as_bytes(x))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index]


@pytest.fixture(scope="module")
def own(weights):
    """The library's own figures."""
    return fidelity.calculate_metrics(
        input1=Images(FAKE), input2=Images(REAL), isc=True, fid=True, kid=True, prc=True, cuda=False, verbose=False,
        cache=False, save_cpu_ram=True, kid_subset_size=13, feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
    )  # fmt: skip


def test_figures_are_the_librarys_own(weights, own):
    reference = inception_statistics(REAL, weights)
    found = inception_figures(FAKE, REAL, reference, weights)
    assert found["fid"] == own["frechet_inception_distance"]
    assert found["kid"] == own["kernel_inception_distance_mean"]
    assert found["inception_score"] == own["inception_score_mean"]
    assert (found["precision"], found["recall"]) == (own["precision"], own["recall"])
    assert found["fid"] > 0
    assert found["fid_reference"] == pytest.approx(found["fid"], rel=1e-3)  # theirs sums means in single precision


def test_without_real_images_there_is_a_score_alone(weights, own):
    assert inception_figures(FAKE, weights=weights) == {
        "inception_score": own["inception_score_mean"],
        "inception_score_sd": own["inception_score_std"],
    }


def test_features_and_statistics(weights, tmp_path):
    features = inception_features(FAKE, weights)
    assert features.shape == (14, 2048)
    kept = inception_statistics(FAKE, weights)
    by_hand = statistics(features)
    np.testing.assert_allclose(kept.mu, by_hand.mu, rtol=1e-6)
    np.testing.assert_allclose(kept.sigma, by_hand.sigma, rtol=1e-5, atol=1e-9)
    assert isinstance(kept, Statistics)


class Danger:
    """What an unsafe reader would execute."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_weights_that_hold_anything_else_are_refused_and_nothing_of_them_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"fc.bias": Danger()}))
    torch.save({"fc.bias": Danger()}, tmp_path / "zip.pth")
    for name in ("plain.pth", "zip.pth"):
        with pytest.raises(DataError, match="Nothing of it was executed"):
            inception_features(FAKE, tmp_path / name)
    assert not (tmp_path / "executed").exists()
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(DataError, match="holds a list"):
        inception_features(FAKE, tmp_path / "list.pth")
    with pytest.raises(DataError, match="found no file"):
        inception_features(FAKE, tmp_path / "none.pth")


def test_few_images_are_refused(weights):
    with pytest.raises(DataError, match="found 5 images"):
        inception_figures(FAKE[:5], REAL, None, weights)
