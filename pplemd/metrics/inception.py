"""Figures in the features of the Inception network, by torch-fidelity (extra `fid`); which meets PyTorch."""

import io
import zipfile
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float32, Float64, Num, UInt8

from pplemd.errors import DataError
from pplemd.metrics.base import flat
from pplemd.metrics.distances import frechet_gaussians
from pplemd.storage.folder import write

PUBLISHED = "such as https://nvlabs-fi-cdn.nvidia.com/edm/fid-refs/cifar10-32x32.npz"


class Statistics(eqx.Module):
    """The Gaussian fit of features."""

    mu: Float64[np.ndarray, " d"]  # mean
    sigma: Float64[np.ndarray, "d d"]  # covariance, of n - 1

    def frechet(self, other: "Statistics") -> float:
        """The squared Frechet distance of the two Gaussians.

        Raises:
            DataError: unlike widths.
        """
        if len(self.mu) != len(other.mu):
            raise DataError(
                f"found statistics of {len(self.mu)} and of {len(other.mu)} features, expected one width: take both "
                "from the same feature network"
            )
        return frechet_gaussians(self.mu, self.sigma, other.mu, other.sigma)

    def save(self, path: Path | str) -> None:
        """Write them as `mu` and `sigma` of an .npz file.

        Raises:
            CheckpointError: where the file cannot be written.
        """
        content = io.BytesIO()
        np.savez(content, mu=self.mu, sigma=self.sigma)
        write(Path(path), content.getvalue())


def statistics(features: Num[np.ndarray, "n *shape"]) -> Statistics:
    """Mean and covariance of features, (n, d), n >= 2.

    Raises:
        DataError: fewer than two samples, NaN.
    """
    rows = flat(features, "features", 2)
    return Statistics(rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)))


def load_statistics(path: Path | str) -> Statistics:
    """Read an .npz file with `mu` (d,) and `sigma` (d, d): NVIDIA's fid-refs, or what `Statistics.save` wrote.

    Raises:
        DataError: where the file cannot be read, or holds something else.
    """
    if not Path(path).exists():
        raise DataError(f"found no file {path}, expected reference statistics, {PUBLISHED}: check the path")
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            found = {name: np.asarray(file[name], np.float64) for name in ("mu", "sigma") if name in file}
            names = list(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read as an .npz file ({error}); expected reference statistics, {PUBLISHED}."
        ) from error
    if set(found) != {"mu", "sigma"}:
        raise DataError(f"{path} holds {', '.join(names) or 'nothing'}; expected the arrays mu and sigma.")
    mu, sigma = found["mu"], found["sigma"]
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise DataError(
            f"{path} holds mu of shape {mu.shape} and sigma of shape {sigma.shape}; expected (d,) and (d, d), finite."
        )
    if not np.allclose(sigma, sigma.T, rtol=1e-5, atol=1e-8 * np.abs(sigma).max()) or (np.diag(sigma) < 0).any():
        raise DataError(
            f"{path} holds a sigma that is no covariance; expected a symmetric one, of no negative variance."
        )
    return Statistics(mu, sigma)


EXTRACTOR, POOLED = "inception-v3-compat", "2048"  # torch-fidelity's names of the network and of its features
NAMES = {
    "frechet_inception_distance": "fid",
    "kernel_inception_distance_mean": "kid",
    "kernel_inception_distance_std": "kid_sd",
    "inception_score_mean": "inception_score",
    "inception_score_std": "inception_score_sd",
    "precision": "precision",
    "recall": "recall",
}
BLOCK = 1000  # samples in one block of KID, where there are as many


def inception_figures(
    fake: Num[np.ndarray, "n h w c"],
    real: Num[np.ndarray, "m h w c_real"] | None = None,
    reference: Statistics | None = None,
    weights: Path | str | None = None,
) -> dict[str, float]:
    """The published figures of images: all computed by torch-fidelity.

    inception_score and its s.d. over ten splits; with `real` images fid, kid (with its s.d. over blocks), precision and
    recall (k = 3, in Inception's features); with `reference` statistics fid_reference.

    Args:
        fake: images to judge, in [-1, 1], one or three channels; 50,000 are usual.
        real: real images, of the same range.
        reference: mean and covariance of real images' features, such as NVIDIA's fid-refs.
        weights: the network's weights, a state dict saved by PyTorch; by default torch-fidelity downloads them.

    Raises:
        DataError: the extra is not installed, images of another shape, no more than ten of them, or weights that hold
            something else than arrays.
    """
    fidelity, path = _fidelity(), _checked(weights)
    sets = [as_bytes(x) for x in (fake, real) if x is not None]
    least = min(len(x) for x in sets)
    if least <= 10:
        raise DataError(f"found {least} images, expected more than ten: FID wants thousands, usually 50,000")
    found = fidelity.calculate_metrics(
        input1=_dataset(sets[0]),
        **({} if real is None else {"input2": _dataset(sets[1])}),
        isc=True,
        **dict.fromkeys(("fid", "kid", "prc"), real is not None),
        feature_extractor=EXTRACTOR,
        feature_extractor_weights_path=path,
        kid_subset_size=min(BLOCK, least),
        **_quietly(),
    )
    figures = {NAMES[name]: float(value) for name, value in found.items() if name in NAMES}
    if reference is not None:
        figures["fid_reference"] = inception_statistics(fake, weights).frechet(reference)
    return figures


def inception_features(
    x: Num[np.ndarray, "n h w c"], weights: Path | str | None = None
) -> Float32[np.ndarray, "n width"]:
    """Inception's 2,048 pooled features of images in [-1, 1]: for any other figure.

    Raises:
        DataError: as of `inception_figures`.
    """
    _fidelity()
    import torch
    from torch_fidelity.utils import create_feature_extractor

    path = _checked(weights)
    network = create_feature_extractor(
        EXTRACTOR, [POOLED], feature_extractor_weights_path=path, cuda=_cuda(), verbose=False
    )
    parts, images = [], as_bytes(x)
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(images[start : start + 64])
        with torch.no_grad():
            parts.append(network(batch.cuda() if _cuda() else batch)[0].cpu().numpy())
    return np.concatenate(parts)


def inception_statistics(x: Num[np.ndarray, "n h w c"], weights: Path | str | None = None) -> Statistics:
    """Mean and covariance of Inception's features, to be kept as a reference (`Statistics.save`).

    Raises:
        DataError: as of `inception_figures`.
    """
    features = inception_features(x, weights)  # says what is missing
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics

    found = fid_features_to_statistics(torch.from_numpy(features.astype(np.float64)))
    return Statistics(found["mu"], found["sigma"])


def as_bytes(x: Num[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n 3 h w"]:
    """Images in [-1, 1] as the network wants them: 0 to 255, three channels, channels first.

    Source: round(127.5 x + 127.5), as images are saved; grey ones are repeated.

    Raises:
        DataError: another shape, whole numbers, NaN.
    """
    if x.ndim != 4 or x.shape[3] not in (1, 3):
        raise DataError(f"found images of shape {x.shape}, expected (n, h, w, 1) or (n, h, w, 3): reshape them")
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"found images of {x.dtype}, expected fractions in [-1, 1]: rescale them")
    levels = np.round(np.clip(flat(x, "images").reshape(x.shape), -1, 1) * 127.5 + 127.5).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(np.broadcast_to(levels, (*x.shape[:3], 3)), 3, 1))


def _fidelity() -> Any:
    try:
        import torch_fidelity
    except ImportError as error:
        raise DataError(
            "Inception's figures need torch-fidelity, which is not installed: pip install 'pplemd[fid]'."
        ) from error
    return torch_fidelity


def _checked(weights: Path | str | None) -> str | None:
    """The path of weights that hold arrays alone; read here by PyTorch's reader that executes nothing."""
    if weights is None:
        return None
    import torch

    try:
        found = torch.load(weights, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise DataError(f"found no file {weights}, expected Inception's weights: check the path.") from error
    except Exception as error:  # PyTorch raises many kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{weights} is refused ({first}); expected a state dict of arrays alone, as torch-fidelity's "
            "weights-inception-2015-12-05-6726825d.pth. Nothing of it was executed."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise DataError(f"{weights} holds a {type(found).__name__}; expected a state dict, arrays by name.")
    return str(weights)


def _dataset(images: UInt8[np.ndarray, "n 3 h w"]) -> Any:
    """Images as PyTorch's kind of data set."""
    import torch

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int):
            return torch.from_numpy(images[index])

    return Images()


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _quietly() -> dict[str, Any]:
    """No progress, nothing kept, and no processes forked beside JAX's threads."""
    return {"cuda": _cuda(), "verbose": False, "cache": False, "save_cpu_ram": True}
