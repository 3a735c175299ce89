"""Weights and files of other code: what they are is said, that they are not read, and the way that works."""

import io
import json
import zipfile

import numpy as np
import pytest
from look_alikes import Called, Kept, Name, edm, network, pickled, state_dict_zip, tensor, tiny_weights, zipped

from pplemd.errors import ImporterError
from pplemd.importers import read_checkpoint
from pplemd.importers.weights import write_safetensors

UNREAD, WAY = "does not read yet", 'docs/teachers.md, "Any PyTorch module"'
GUIDED = ["time_embed.0.weight", "label_emb.weight", "input_blocks.0.0.weight", "input_blocks.1.0.in_layers.0.weight"]
NAMES = {  # of arrays, and what they are called
    "guided-diffusion (OpenAI's ADM": GUIDED,
    "a Stable Diffusion checkpoint": [
        *[f"model.diffusion_model.{name}" for name in GUIDED],
        "first_stage_model.encoder.conv_in.weight",
        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
    ],
    "a U-Net of Stable Diffusion": [*GUIDED, "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"],
    "DiT or SiT": ["pos_embed", "x_embedder.proj.weight", "t_embedder.mlp.0.weight", "final_layer.linear.weight"],
    "DiTTransformer2DModel": ["pos_embed.proj.weight", "transformer_blocks.0.norm1.emb.class_embedder.embedding_table"],
    "EDM2": ["unet.emb_fourier.freqs", "unet.enc.16x16_conv.weight", "unet.out_gain"],
    "k-diffusion": ["inner_model.timestep_embed.weight", "inner_model.mapping.0.weight", "inner_model.proj_in.weight"],
    "UNet2DConditionModel": ["conv_in.weight", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"],
    "AutoencoderKL": ["encoder.down_blocks.0.resnets.0.conv1.weight", "quant_conv.weight"],
    "denoising-diffusion-pytorch": ["model.init_conv.weight", "model.downs.0.0.block1.proj.weight"],
    "score_sde_pytorch": ["module.all_modules.0.weight", "module.sigmas"],
    "the DDPM and DDIM code": ["temb.dense.0.weight", "down.0.block.0.norm1.weight"],
    "U-ViT": ["in_blocks.0.norm1.weight", "out_blocks.0.skip_linear.weight"],
}
READ = {
    "UNet2DModel": (
        ["time_embedding.linear_1.weight", "down_blocks.0.resnets.0.conv1.weight"],
        "scheduler_config.json",
    ),
    "EDM (SongUNet": (list(tiny_weights()), "arguments of its constructor"),
    "a pixel transformer": (
        ["patch_embed.weight", "pos_embed", "unpatch.weight"],
        '"architecture": "pixel_transformer"',
    ),
}


def message(path) -> str:
    with pytest.raises(ImporterError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def ones(names):
    return dict.fromkeys(names, np.ones((2, 2), np.float32))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_other_code_are_named(tmp_path, kind, prefix):
    arrays = ones(f"{prefix}{name}" for name in NAMES[kind])
    if kind != "EDM2":
        (tmp_path / "model.ckpt").write_bytes(state_dict_zip(arrays))
        write_safetensors(tmp_path / "model.safetensors", arrays)
    np.savez(tmp_path / "model.npz", **arrays)
    for path in tmp_path.iterdir():
        found = message(path)
        for phrase in (kind, UNREAD, WAY):
            assert phrase in found


@pytest.mark.parametrize("kind", READ)
def test_weights_that_lack_their_configuration_say_which(tmp_path, kind):
    names, way = READ[kind]
    write_safetensors(tmp_path / "model.safetensors", ones(names))
    found = message(tmp_path / "model.safetensors")
    for phrase in ("holds weights alone; expected a model.json or a config.json beside it", kind, way):
        assert phrase in found


def test_a_configuration_of_another_network_is_named_by_its_arrays(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", ones(NAMES["DiT or SiT"]))
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 384}))
    assert "DiT or SiT, which pplemd does not read yet" in message(tmp_path / "model.safetensors")


def test_what_nothing_is_known_of_says_the_way(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", ones(["a.weight"]))
    assert WAY in message(tmp_path / "model.safetensors")


def test_pickled_modules_are_no_weights_alone(tmp_path):
    """torch.save(module): the object's class is asked for, and named."""
    storage = Kept(("storage", Name("torch", "FloatStorage"), "0", "cpu", 4))
    module = Called(Name("__main__", "Net"), (), {"_parameters": {"weight": tensor(storage, (4,))}})
    for name, protocol in (("zipped.pt", 2), ("plain.pkl", 4)):
        raw = zipped(module, {"0": bytes(16)}) if protocol == 2 else pickled({"model": module})
        (tmp_path / name).write_bytes(raw)
        found = message(tmp_path / name)
        for phrase in ("asks for __main__.Net", "nothing was executed", "torch.save(module.state_dict(), PATH)"):
            assert phrase in found
        assert "weights alone;" not in found


def test_edm2_is_named(tmp_path):
    held = {**edm(kind="Precond"), "encoder": network("StandardRGBEncoder")}
    pair = Called(Name("dnnlib.util", "EasyDict"), (held,))
    (tmp_path / "edm2.pkl").write_bytes(pickled(pair))
    for phrase in ("its network is a Precond", "EDM2's, which pplemd does not read yet", WAY):
        assert phrase in message(tmp_path / "edm2.pkl")


def holding(*names) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


FILES = {  # the name and the bytes of a file, and what it is called
    "an ONNX graph": ("model.bin", b"\x08\x08\x12\x07pytorch\x1a\x051.0.0:\x10" + bytes(200)),
    "an ONNX graph, by its name": ("model.onnx", b"\x0a" + bytes(200)),
    "HDF5 (Keras)": ("model.keras", b"\x89HDF\r\n\x1a\n" + bytes(200)),
    "a Keras model": ("model.zip", holding("metadata.json", "config.json", "model.weights.h5")),
    "TorchScript": ("model.pt", holding("m/data.pkl", "m/constants.pkl", "m/code/a.py")),
    "Flax's msgpack": ("flax_model.bin", b"\x81\xa6params\x81\xa1a\xc0" + bytes(200)),
    "GGUF": ("model.bin", b"GGUF\x03\x00\x00\x00" + bytes(200)),
    "a TensorFlow Lite model": ("model.bin", b"\x1c\x00\x00\x00TFL3" + bytes(200)),
    "a numpy array": ("model.bin", b"\x93NUMPY\x01\x00" + bytes(200)),
    "a packed file": ("model.pkl.gz", b"\x1f\x8b\x08" + bytes(200)),
    "a web page": ("edm.pkl", b"<!DOCTYPE html><html></html>"),
    "Git LFS": ("edm.pkl", b"version https://git-lfs.github.com/spec/v1\n"),
    "text": ("model.safetensors.index.json", b'{"weight_map": {}}'),
}
FOLDERS = {  # what lies in a folder, and what it is called
    "a TensorFlow SavedModel": ["saved_model.pb", "variables"],
    "an Orbax or Flax checkpoint": ["_METADATA", "d"],
    "an Orbax or Flax checkpoint, of OCDBT": ["manifest.ocdbt"],
    "Flax's msgpack": ["flax_model.msgpack", "readme.md"],
    "an ONNX graph": ["graph.onnx"],
    "It holds notes.txt": ["notes.txt"],
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_other_formats_are_named(tmp_path, kind):
    name, content = FILES[kind]
    (tmp_path / name).write_bytes(content)
    assert kind.split(",")[0] in message(tmp_path / name)


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_of_other_formats_are_named(tmp_path, kind):
    for name in FOLDERS[kind]:
        (tmp_path / name).write_bytes(b"x")
    found = message(tmp_path)
    assert kind.split(",")[0] in found
    assert "ownload" not in found


def test_a_folder_of_weights_alone_says_whose_they_are(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", ones(GUIDED))
    assert "guided-diffusion" in message(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", tiny_weights())
    assert "model.safetensors holds weights alone. Its names are those of EDM" in message(tmp_path)
