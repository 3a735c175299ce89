"""UNet2DModel in every configuration, by every name: computed as by numpy; what does not fit is named."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusers_look_alikes import (
    SCHEDULER,
    SKIPS,
    SMALL,
    VARIANTS,
    configuration,
    old_names,
    random_weights,
    write_flat,
    write_pipeline,
)
from numpy_unet_2d import Reference

from pplemd.errors import ImporterError, RecipeError
from pplemd.importers import build, convention, diffusers_denoiser, read_checkpoint, shapes, unet_2d
from pplemd.importers.families import outline
from pplemd.teachers import Preconditioned

BOUND = 2e-5  # of the largest error, relative to the largest value, in single precision


@eqx.filter_jit
def run(network, x, time, label=None):
    return network(x, time, label)


def image(config: dict, seed: int = 7) -> np.ndarray:
    """Channels first."""
    size = config["sample_size"]
    return np.random.default_rng(seed).standard_normal((config["in_channels"], *np.broadcast_to(size, 2)))


def error(found: jax.Array, expected: np.ndarray) -> float:
    wide = np.moveaxis(expected, 0, -1)
    assert found.shape == wide.shape
    return float(np.abs(np.asarray(found, np.float64) - wide).max() / np.abs(wide).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_outputs_are_those_of_numpy(name: str) -> None:
    config = configuration(name)
    weights, x = random_weights(config), image(config)
    network = unet_2d(config, weights)
    classes = network.classes is not None
    for time, label in ((0.7, None), (13.0, 2 if classes else None)):
        time = round(time) + 3.0 if config.get("time_embedding_type") == "learned" else time
        expected = Reference(config, weights)(x, time, label)[: len(x)]
        told = None if label is None else jnp.asarray(label)
        found = run(network, jnp.asarray(np.moveaxis(x, 0, -1), jnp.float32), jnp.asarray(time), told)
        assert error(found, expected) < BOUND
        assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("name", VARIANTS)
def test_every_array_is_used_and_no_other(name: str) -> None:
    config = configuration(name)
    weights = random_weights(config)
    plan = unet_2d(config, {key: jax.ShapeDtypeStruct(value.shape, value.dtype) for key, value in weights.items()})
    assert len(jax.tree.leaves(plan)) == len(weights) - ("time_embedding_type" in config and "skips" in name)
    lacking = dict(weights)
    for key in list(weights)[::7]:
        del lacking[key]
    with pytest.raises(ImporterError) as caught:
        unet_2d(config, lacking | {"surplus": np.zeros(2, np.float32)})
    complaint = str(caught.value)
    assert "left over: surplus" in complaint
    for key in list(weights)[::7]:
        assert f"missing: {key}" in complaint


@pytest.mark.slow
def test_labels_of_no_class_add_nothing() -> None:
    for name in ("classes", "classes as times"):
        config = configuration(name)
        network = unet_2d(config, random_weights(config))
        x = jnp.asarray(np.moveaxis(image(config), 0, -1), jnp.float32)
        none, minus = run(network, x, jnp.asarray(5.0)), run(network, x, jnp.asarray(5.0), jnp.asarray(-1))
        np.testing.assert_allclose(none, minus, atol=1e-5)
        assert np.abs(run(network, x, jnp.asarray(5.0), jnp.asarray(1)) - none).max() > 1e-3


@pytest.mark.slow_for("skips", "plain")
@pytest.mark.parametrize("name", ["plain", "skips", "classes"])
def test_every_layout_is_the_same_teacher(name: str, tmp_path) -> None:
    config = configuration(name)
    weights = random_weights(config)
    today = write_pipeline(tmp_path / "today", config, weights)
    teacher = build(read_checkpoint(today))
    old = write_flat(tmp_path / "old", config, old_names(weights))
    older = write_flat(tmp_path / "older", config, old_names(weights, convolutions=True))
    for path in (old, older, today / "unet", today / "unet" / "diffusion_pytorch_model.safetensors"):
        found = read_checkpoint(path)
        assert found.architecture == "diffusers"
        assert eqx.tree_equal(build(found), teacher)
    plan = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), teacher)
    assert eqx.tree_equal(shapes(read_checkpoint(old)), plan)


def test_names_of_the_first_half_of_2022(tmp_path) -> None:
    weights = random_weights(SMALL)
    places = {"down_blocks": "downsample_blocks", "up_blocks": "upsample_blocks", "mid_block": "mid"}
    words = {
        "sample_size": "image_size", "layers_per_block": "num_res_blocks", "block_out_channels": "block_channels",
        "attention_head_dim": "num_head_channels", "norm_num_groups": "resnet_num_groups",
        "down_block_types": "down_blocks", "up_block_types": "up_blocks",
    }  # fmt: skip
    config = {words.get(key, key): value for key, value in SMALL.items() if key != "_class_name"}
    config["down_blocks"] = [f"UNetRes{kind}" for kind in SMALL["down_block_types"]]
    first = {}
    for key, value in old_names(weights).items():
        head, *rest = key.split(".", 1)
        first[".".join([places.get(head, head), *rest])] = value
    found = read_checkpoint(write_flat(tmp_path / "first", config, first))
    assert found.architecture == "diffusers"
    assert eqx.tree_equal(build(found), build(read_checkpoint(write_pipeline(tmp_path / "now", SMALL, weights))))


@pytest.mark.slow
def test_frequencies_may_be_there_twice() -> None:
    config = configuration("skips")
    weights = random_weights(config)
    weights["time_proj.weight"] = np.arange(32, dtype=np.float32) / 7
    both = weights | {"time_proj.W": weights["time_proj.weight"]}
    assert eqx.tree_equal(unet_2d(config, both), unet_2d(config, weights))
    assert unet_2d(config, weights).conditioning.time.noise.frequencies[7] == pytest.approx(1.0)
    with pytest.raises(ImporterError, match="values of time_proj.W"):
        unet_2d(config, weights | {"time_proj.W": weights["time_proj.weight"] + 1})
    del weights["time_proj.weight"]
    with pytest.raises(ImporterError, match="missing: time_proj.weight"):
        unet_2d(config, weights)


@pytest.mark.slow
def test_half_precision_and_recomputed_blocks() -> None:
    weights = random_weights(SMALL)
    x = jnp.asarray(np.moveaxis(image(SMALL), 0, -1), jnp.float32)
    exact = run(unet_2d(SMALL, weights), x, jnp.asarray(5.0))
    again = run(unet_2d(SMALL, weights, rematerialise=True), x, jnp.asarray(5.0))
    np.testing.assert_allclose(again, exact, rtol=1e-4, atol=1e-5)
    rough = run(unet_2d(SMALL, weights, compute=jnp.bfloat16), x, jnp.asarray(5.0))
    assert rough.dtype == jnp.float32
    assert 1e-4 < np.abs(rough - exact).max() / np.abs(exact).max() < 0.05


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (
            {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]},
            "CrossAttnDownBlock2D.* has DownBlock2D",
        ),
        ({"up_block_types": "UpBlock2D"}, "a list of UpBlock2D"),
        ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, "expected one of UNetMidBlock2D"),
        ({"class_embed_type": "identity"}, "class_embed_type='identity'; expected one of timestep"),
        ({"resnet_time_scale_shift": "spatial"}, "expected one of default, scale_shift"),
        ({"time_embedding_type": "rotary"}, "expected one of positional, fourier, learned"),
        ({"act_fn": "tanh"}, "act_fn='tanh'"),
        ({"sample_size": None}, "the side of the images in pixels"),
        ({"out_channels": 5}, "out_channels=5; expected 3"),
        ({"downsample_padding": 2}, "expected 0 or 1"),
        ({"center_input_sample": "yes"}, "expected true or false"),
        ({"downsample_type": "pool"}, "downsample_type='pool'"),
        ({"block_out_channels": [8, 2**20]}, "numbers in all"),
        ({"layers_per_block": 1000}, "2000 blocks or more"),
        ({"num_class_embeds": 4}, "missing: class_embedding.weight"),
        ({"scheduler": "DDPM"}, "expected the entries of scheduler_config.json"),
        ({"scheduler": {"_class_name": "VQDiffusionScheduler"}}, "VQDiffusionScheduler'; expected one of DDPM"),
        ({"scheduler": {"prediction_type": "score"}}, "expected one of epsilon, sample, v_prediction"),
        ({"scheduler": {"beta_schedule": "sqrt"}}, "beta_schedule='sqrt'"),
        ({"scheduler": {"num_train_timesteps": 10**6}}, "num_train_timesteps=1000000"),
    ],
)
def test_what_pplemd_does_not_have_is_named(change: dict, phrase: str) -> None:
    with pytest.raises(ImporterError, match=phrase):
        diffusers_denoiser(SMALL | change, random_weights(SMALL))


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"sample_size": 9}, "divisible by 2"),
        ({"norm_num_groups": 3}, "normed in 3 groups"),
        ({"attention_head_dim": 17}, "heads of 17 features for 16 channels"),
        ({"up_block_types": ["UpBlock2D"]}, "as many of each"),
        ({"freq_shift": 4}, "shifted by 4"),
        ({"time_embedding_type": "learned"}, "number of time steps"),
        ({"class_embed_type": "timestep", "time_embedding_type": "fourier"}, "told as times with time fourier"),
        (SKIPS | {"up_block_types": ["SkipUpBlock2D", "UpBlock2D"]}, "at the last ones on the way out"),
        (SKIPS | {"in_channels": 1, "out_channels": 1}, "images of 3 channels"),
        ({"scheduler": {"beta_start": 2.0}}, "alphas_cumprod"),
    ],
)
def test_impossible_networks_are_named(change: dict, phrase: str) -> None:
    with pytest.raises(RecipeError, match=phrase):
        diffusers_denoiser(SMALL | change, None)


def test_the_plan_needs_no_weights() -> None:
    planned = outline("diffusers", SMALL | {"scheduler": SCHEDULER})
    assert isinstance(planned, Preconditioned)
    assert (planned.shape, planned.classes) == ((8, 8, 3), None)


def test_the_convention_is_said(tmp_path) -> None:
    weights = random_weights(SMALL)
    found = read_checkpoint(write_pipeline(tmp_path / "a", SMALL, weights, SCHEDULER | {"prediction_type": "sample"}))
    assert convention(found).startswith("DDPMScheduler: x_t = alpha_t x + sqrt(1 - alpha_t^2) eps, predicts x, 1,000 ")
    bare = read_checkpoint(write_flat(tmp_path / "b", SMALL, weights, None))
    assert "no scheduler_config.json, so that of DDPMScheduler is taken" in convention(bare)
    assert eqx.tree_equal(build(bare), build(read_checkpoint(write_pipeline(tmp_path / "c", SMALL, weights))))
