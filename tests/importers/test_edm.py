"""EDM's configurations: every kind is read, and what cannot be is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import ContinuousVP, DiscreteVP, PlainVE, cosine_levels
from pplemd.errors import ImporterError, RecipeError
from pplemd.importers import blank, edm_denoiser
from pplemd.importers.edm import FREQUENCIES, filters, options, slots, variant
from pplemd.networks import DhariwalUNet, FourierNoise, NetworkPrecision, Side, SongUNet
from pplemd.teachers import Denoiser, Preconditioned

SMALL = {"img_resolution": 4, "img_channels": 3, "model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1}
NCSN = SMALL | {
    "model_type": "SongUNet",
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "decoder_type": "standard",
    "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}
SKIPS = NCSN | {"encoder_type": "skip", "decoder_type": "skip", "embedding_type": "positional"}


def checkpoint(config: dict, class_name: str = "EDMPrecond") -> dict[str, np.ndarray]:
    """Arrays of the names and shapes that a network of the configuration has."""
    sizes, draw = options(config, class_name, None, False), np.random.default_rng(0)
    song = config.get("model_type") == "SongUNet" or class_name in ("VPPrecond", "VEPrecond")
    key = jax.random.key(0)
    network = blank(lambda: SongUNet(sizes, variant(config), key=key) if song else DhariwalUNet(sizes, key=key))
    found = {slot.key: 0.1 * draw.normal(size=slot.layout.original(slot.leaf.shape)) for slot in slots(network)}
    found |= {constant.key: constant.value for constant in filters(network)}
    if config.get("embedding_type") == "fourier":
        found[FREQUENCIES] = 16 * draw.normal(size=8)
    return found


def test_ncsn() -> None:
    arrays = checkpoint(NCSN)
    teacher = edm_denoiser(NCSN, arrays)
    assert isinstance(teacher, Denoiser)
    assert teacher.sigma_data == 0.5
    noise = teacher.network.conditioning.noise
    assert isinstance(noise, FourierNoise)
    np.testing.assert_allclose(noise.rates(8), 2 * np.pi * arrays[FREQUENCIES], rtol=1e-6)
    assert "model.enc.2x2_aux_residual.weight" in arrays
    np.testing.assert_allclose(arrays["model.enc.2x2_down.conv0.resample_filter"][0, 0, 0], np.array([1, 3, 3, 1]) / 64)


@pytest.mark.slow
def test_adm_starts_as_wide_as_its_finest_level() -> None:
    """Its first convolution computes 32 x 2 channels, not 32 as SongUNet's would, and no block there needs a matrix.

    Source: the constructor of arXiv:2105.05233's U-Net, `input_ch = channel_mult[0] * model_channels`.
    """
    config = SMALL | {"model_type": "DhariwalUNet", "model_channels": 32, "channel_mult": [2, 3]}
    arrays = checkpoint(config)
    expected = {
        "enc.4x4_conv": (64, 3, 3, 3),
        "enc.4x4_block0.conv0": (64, 64, 3, 3),
        "enc.2x2_down.conv0": (64, 64, 3, 3),
        "enc.2x2_block0.conv0": (96, 64, 3, 3),
        "enc.2x2_block0.skip": (96, 64, 1, 1),
        "dec.2x2_block0.conv0": (96, 96 + 96, 3, 3),
        "dec.2x2_block1.conv0": (96, 96 + 64, 3, 3),
        "dec.4x4_block0.conv0": (64, 96 + 64, 3, 3),
        "dec.4x4_block1.conv0": (64, 64 + 64, 3, 3),
    }
    assert {name: arrays[f"model.{name}.weight"].shape for name in expected} == expected
    assert "model.enc.4x4_block0.skip.weight" not in arrays
    teacher = edm_denoiser(config, arrays)
    assert np.isfinite(teacher.denoise(jnp.ones((4, 4, 3)), jnp.asarray(0.5))).all()


def test_sides_are_named_as_the_originals() -> None:
    assert variant(SKIPS).decoder is Side.SKIP
    names = set(checkpoint(SKIPS))
    for name in ("enc.2x2_aux_skip.bias", "enc.2x2_aux_down.resample_filter", "dec.4x4_aux_up.resample_filter"):
        assert f"model.{name}" in names
    assert {"model.dec.2x2_aux_norm.weight", "model.dec.2x2_aux_conv.weight"} <= names
    edm_denoiser(SKIPS, checkpoint(SKIPS))


@pytest.mark.parametrize(
    ("class_name", "kind", "network"),
    [
        ("VPPrecond", ContinuousVP, SongUNet),
        ("VEPrecond", PlainVE, SongUNet),
        ("iDDPMPrecond", DiscreteVP, DhariwalUNet),
    ],
)
def test_older_preconditioning(class_name: str, kind: type, network: type) -> None:
    arrays = checkpoint(SMALL, class_name)
    if class_name == "iDDPMPrecond":
        assert arrays["model.out_conv.weight"].shape[0] == 6
        arrays["u"] = np.asarray(cosine_levels()) * 1.001
    teacher = edm_denoiser(SMALL, arrays, class_name)
    assert isinstance(teacher, Preconditioned)
    assert isinstance(teacher.network, network)
    assert isinstance(teacher.coefficients, kind)
    if isinstance(teacher.coefficients, DiscreteVP):
        np.testing.assert_allclose(teacher.coefficients.levels, arrays["u"], rtol=1e-6)


def test_compute_type_and_recomputation_are_passed_on() -> None:
    trunk = edm_denoiser(SMALL, checkpoint(SMALL), compute=jnp.bfloat16, rematerialise=True).network.trunk
    assert trunk.precision == NetworkPrecision(jnp.bfloat16, True)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"img_resolution": "big"}, "img_resolution='big'"),
        ({"img_resolution": None}, "img_resolution=None"),
        ({"num_blocks": 10**9}, "num_blocks=1000000000"),
        ({"num_blocks": 1000}, "2000 blocks"),
        ({"model_channels": 2**20}, "numbers in all"),
        ({"label_dim": 2**20}, "numbers in all"),
        ({"channel_mult": 3}, "channel_mult=3"),
        ({"channel_mult": [1.5]}, r"channel_mult=\[1.5\]"),
        ({"dropout": float("nan")}, "dropout=nan"),
        ({"model_type": "EDM2UNet"}, "model_type='EDM2UNet'"),
        ({"encoder_type": "skip"}, "does not take: encoder_type"),
        ({"label_dim": 5}, "missing: model.map_label.weight"),
        ({"num_blocks": 2}, "missing: model.enc.4x4_block1"),
    ],
)
def test_configurations_that_do_not_fit_are_named(changes: dict, found: str) -> None:
    with pytest.raises(ImporterError, match=found):
        edm_denoiser(SMALL | changes, checkpoint(SMALL))


def test_impossible_networks_and_unknown_classes_are_named() -> None:
    with pytest.raises(RecipeError, match="divisible by 2"):
        edm_denoiser(SMALL | {"img_resolution": 5}, checkpoint(SMALL))
    with pytest.raises(ImporterError, match="expected one of EDMPrecond"):
        edm_denoiser(SMALL, checkpoint(SMALL), "Precond")


def test_another_filter_and_missing_frequencies_are_named() -> None:
    arrays = checkpoint(NCSN)
    with pytest.raises(ImporterError, match="shape of model.enc.2x2_down.conv0.resample_filter"):
        edm_denoiser(NCSN | {"resample_filter": [1, 1]}, arrays)
    with pytest.raises(ImporterError, match="values of model.enc.2x2_down.conv0.resample_filter"):
        edm_denoiser(NCSN | {"resample_filter": [1, 2, 2, 1]}, arrays)
    del arrays[FREQUENCIES]
    with pytest.raises(ImporterError, match=f"missing: {FREQUENCIES}"):
        edm_denoiser(NCSN, arrays)
