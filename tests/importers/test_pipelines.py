"""diffusers pipelines: each network's scheduler, the parts that are not understood, and weights in every variant."""

import json
import shutil

import numpy as np
import pytest
from look_alikes import state_dict_zip, weights

from pplemd.errors import ImporterError
from pplemd.importers import convention, notes, read_checkpoint
from pplemd.importers.weights import write_safetensors

UNET = {"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3}
SCHEDULE = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}
NAME = "diffusion_pytorch_model"
PLAIN = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}


def network(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(UNET))
    write_safetensors(folder / f"{NAME}.safetensors", weights())
    return folder


def pipeline(folder, index=None, networks=("unet",)):
    """A pipeline of some networks; `index` is what its model_index.json says, None where it has none."""
    for name in networks:
        network(folder / name)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULE))
    if index is not None:
        (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("place", ["unet_ema", "average", f"unet_ema/{NAME}.safetensors", "checkpoint-500/unet_ema"])
@pytest.mark.parametrize("index", [None, {"_class_name": "DDPMPipeline", **PLAIN}])
def test_any_network_of_a_pipeline_has_its_scheduler(tmp_path, place, index):
    pipeline(tmp_path / "p", index, ("unet", "unet_ema", "average", "checkpoint-500/unet_ema"))
    found = read_checkpoint(tmp_path / "p" / place)
    assert found.config["scheduler"] == SCHEDULE
    assert convention(found).startswith("DDIMScheduler")
    assert notes(found) == ()


def test_of_two_networks_it_is_said_which_was_read(tmp_path):
    folder = pipeline(tmp_path / "p", networks=("unet", "unet_ema"))
    (said,) = notes(read_checkpoint(folder))
    assert said == f"unet was read, and not unet_ema beside it: give {folder / 'unet_ema'} for that"
    shutil.rmtree(folder / "unet")
    found = read_checkpoint(folder)
    assert (found.files[0].parent.name, notes(found)) == ("unet_ema", ())


def test_what_is_assumed_is_said(tmp_path):
    (said,) = notes(read_checkpoint(network(tmp_path / "alone")))
    assert "no scheduler_config.json was found, so DDPM's usual convention is assumed" in said
    network(tmp_path / "p" / "deep" / "deeper" / "unet")
    (tmp_path / "p" / "scheduler_config.json").write_text(json.dumps(SCHEDULE))  # of no pipeline
    assert len(notes(read_checkpoint(tmp_path / "p" / "deep" / "deeper" / "unet"))) == 1
    folder = pipeline(tmp_path / "nameless")
    (folder / "scheduler" / "scheduler_config.json").write_text('{"beta_schedule": "linear"}')
    assert notes(read_checkpoint(folder)) == (
        "scheduler_config.json does not name its class, so DDPMScheduler is assumed",
    )


ACCEPTED = {
    "today's": {"_class_name": "DDPMPipeline", "_diffusers_version": "0.30.0", **PLAIN},
    "DDIM": {"_class_name": "DDIMPipeline", **PLAIN},
    "of 2022": {"_class_name": "DDPM", "noise_scheduler": ["diffusers", "DDPMScheduler"]},
    "with an average": {"_class_name": "DDPMPipeline", **PLAIN, "unet_ema": ["diffusers", "UNet2DModel"]},
    "with what is left out": {"_class_name": "DDPMPipeline", **PLAIN, "vqvae": [None, None], "requires_safety": False},
    "of scores": {"_class_name": "ScoreSdeVePipeline", **PLAIN},
}
REFUSED = {  # what it says, and a phrase of the message
    "latents": (
        {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"], **PLAIN},
        r"LDMPip.*vqvae \(VQM",
    ),
    "an autoencoder": ({"_class_name": "DDPMPipeline", **PLAIN, "vae": ["diffusers", "AutoencoderKL"]}, r"vae \(Auto"),
    "a text": (
        {"_class_name": "StableDiffusionPipeline", "text_encoder": ["transformers", "CLIPTextModel"]},
        r"text_encoder \(CLIPTextModel\)",
    ),
    "a transformer": (
        {"_class_name": "DiTPipeline", "transformer": ["diffusers", "DiTTransformer2DModel"]},
        r"DiTPipeline with parts .*transformer \(DiTTransformer2DModel\)",
    ),
    "sound": ({"_class_name": "AudioDiffusionPipeline", **PLAIN, "mel": ["audio_diffusion", "Mel"]}, r"mel \(Mel\)"),
    "another network": ({"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet1DModel"]}, r"unet \(UNet1DModel\)"),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_pipelines_of_pixels_are_read(tmp_path, kind):
    assert read_checkpoint(pipeline(tmp_path / "p", ACCEPTED[kind])).config["scheduler"] == SCHEDULE


@pytest.mark.parametrize("place", ["", "unet", f"unet/{NAME}.safetensors"])
@pytest.mark.parametrize("kind", REFUSED)
def test_parts_that_are_not_understood_are_named(tmp_path, kind, place):
    index, phrase = REFUSED[kind]
    with pytest.raises(ImporterError, match=phrase):
        read_checkpoint(pipeline(tmp_path / "p", index) / place)


def test_an_unknown_pipeline_is_named_and_its_network_can_be_given(tmp_path):
    for kind in ("ConsistencyModelPipeline", ["my_pipeline", "Mine"]):
        folder = pipeline(tmp_path / str(len(kind)), {"_class_name": kind, **PLAIN})
        with pytest.raises(ImporterError, match=r"expected one of DDPM, DDIM.* give its folder alone, .*unet"):
            read_checkpoint(folder)
        assert read_checkpoint(folder / "unet").config["scheduler"] == SCHEDULE


def test_a_pipeline_that_lost_its_index(tmp_path):
    folder = pipeline(tmp_path / "p")
    (folder / "vqvae").mkdir()
    (folder / "vqvae" / "config.json").write_text("{}")
    with pytest.raises(ImporterError, match="parts that pplemd does not understand: vqvae"):
        read_checkpoint(folder / "unet")


def in_shards(folder, ending, variant="", old=False):
    """Weights in two files and their index, as `save_pretrained(max_shard_size=..., variant=...)` leaves them."""
    (folder / f"{NAME}.safetensors").unlink()
    middle = f".{variant}" if variant else ""
    names, placed = sorted(weights()), {}
    for number in (1, 2):
        count = f"-{number:05}-of-00002"
        file = f"{NAME}{count}{middle}.{ending}" if old else f"{NAME}{middle}{count}.{ending}"
        part = {name: weights()[name] for name in names[number - 1 :: 2]}
        placed |= dict.fromkeys(part, file)
        if ending == "bin":
            (folder / file).write_bytes(state_dict_zip(part))
        else:
            write_safetensors(folder / file, part)
    (folder / f"{NAME}.{ending}.index{middle}.json").write_text(json.dumps({"weight_map": placed}))


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize(
    ("variant", "old"), [("", False), ("fp16", False), ("fp16", True), ("ema", False), ("x", False)]
)
def test_shards_of_every_variant(tmp_path, ending, variant, old):
    in_shards(network(tmp_path / "unet"), ending, variant, old)
    found = read_checkpoint(tmp_path / "unet")
    assert set(found.arrays) == set(weights())
    for name, array in weights().items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert len(found.files) == 4


def test_of_several_variants_it_is_said_which_was_read(tmp_path):
    folder = network(tmp_path / "unet")
    for variant in ("non_ema", "fp16"):
        (folder / f"{NAME}.{variant}.bin").write_bytes(state_dict_zip(weights()))
    found = read_checkpoint(folder)
    assert found.files[-1].name == f"{NAME}.safetensors"
    assert f"and not {NAME}.fp16.bin, {NAME}.non_ema.bin beside it" in notes(found)[0]
    (folder / f"{NAME}.safetensors").unlink()
    assert read_checkpoint(folder).files[-1].name == f"{NAME}.fp16.bin"


def test_shards_without_their_index(tmp_path):
    folder = network(tmp_path / "unet")
    in_shards(folder, "bin")
    (folder / f"{NAME}.bin.index.json").unlink()
    with pytest.raises(ImporterError, match="weights in several files, such as .*-00002.bin, and not the index"):
        read_checkpoint(folder)
    with pytest.raises(ImporterError, match="is one of several files of weights; expected their folder"):
        read_checkpoint(folder / f"{NAME}-00001-of-00002.bin")


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("diffusion_flax_model.msgpack", "Flax's msgpack, which pplemd does not read"),
        ("model.onnx", "model.onnx, which is an ONNX graph and not read"),
        ("my_weights.bin", "It holds config.json, my_weights.bin"),
    ],
)
def test_what_lies_there_is_named_and_not_to_be_fetched_again(tmp_path, name, phrase):
    folder = network(tmp_path / "unet")
    (folder / f"{NAME}.safetensors").rename(folder / name)
    with pytest.raises(ImporterError, match=phrase) as caught:
        read_checkpoint(folder)
    assert "ownload" not in str(caught.value)
