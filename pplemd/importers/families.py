"""The families of networks that checkpoints are of: how each is known, built, and what convention it has."""

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.diffusers import diffusers_assumed, diffusers_convention, diffusers_denoiser
from pplemd.importers.edm import edm_denoiser
from pplemd.importers.filling import Arguments
from pplemd.importers.network_places import StateDicts, network_at, places
from pplemd.importers.pixel_transformer import assumed, pixel_range, pixel_transformer_denoiser
from pplemd.storage.checkpoints import digest_of_file
from pplemd.teachers import AbstractDenoiser


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file or folder holds, read without executing anything.

    Attributes:
        architecture: the family of the network: edm, diffusers or pixel_transformer.
        config: how the network is built, in the words of its own library.
        arrays: its weights by their own names; views of the file where that is possible, so that shapes are known
            before numbers are read.
        files: the files that were read; the first names the checkpoint where it is alone.
        facts: what else its teacher.json says, where it has one: source and sha256 of what was imported.
        notes: what was chosen where the files leave a choice, a sentence each.
    """

    architecture: str
    config: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    files: tuple[Path, ...]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Numbers in all arrays, constants that some checkpoints keep among them."""
        return sum(array.size for array in self.arrays.values())

    def sha256(self) -> str:
        """SHA-256 of the file; of the digests of all files, in order, where there are several."""
        digests = [digest_of_file(path) for path in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


WAY = 'What works: write its forward pass in JAX and fill it with these arrays: docs/teachers.md, "Any PyTorch module".'


@dataclasses.dataclass(frozen=True)
class Format:
    """One kind of network.

    Attributes:
        what: what it is called.
        names: patterns, each of which is found among its arrays' names.
        repair: how pplemd reads it; None where it does not.
    """

    what: str
    names: tuple[str, ...]
    repair: str | None = None

    @property
    def sentence(self) -> str:
        """What it is and what to do, for people."""
        if self.repair is not None:
            return f"Its names are those of {self.what}: {self.repair}."
        return f"Its names are those of {self.what}, which pplemd does not read yet. {WAY}"


FORMATS = (  # the first that fits; ^ is the beginning of a name, or of one of its parts
    Format("a LoRA, which changes the weights of another network", (r"lora[_.]",)),
    Format(
        "a Stable Diffusion checkpoint (.ckpt: network, autoencoder and text encoder of latent diffusion in one file)",
        (r"^model\.diffusion_model\.|^diffusion_model\.", r"^first_stage_model\.|^cond_stage_model\.|^conditioner\."),
    ),
    Format("a U-Net of Stable Diffusion (latent diffusion)", (r"^diffusion_model\.input_blocks\.",)),
    Format(
        "a U-Net of Stable Diffusion (latent diffusion)", (r"^input_blocks\.", r"^transformer_blocks\.\d+\.attn2\.")
    ),
    Format("a ControlNet", (r"^controlnet_cond_embedding\.|^zero_convs\.|^input_hint_block\.",)),
    Format("guided-diffusion (OpenAI's ADM and improved-diffusion)", (r"^input_blocks\.\d+\.\d+\.", r"^time_embed\.")),
    Format("guided-diffusion's encoder (a classifier)", (r"^input_blocks\.\d+\.\d+\.",)),
    Format("a multimodal diffusion transformer (Stable Diffusion 3, Flux)", (r"^joint_blocks\.\d|^double_blocks\.\d",)),
    Format("PixArt", (r"^x_embedder\.", r"^blocks\.\d+\.cross_attn\.")),
    Format("DiT or SiT", (r"^x_embedder\.|^t_embedder\.", r"^blocks\.\d+\.adaLN_modulation\.|^final_layer\.")),
    Format("diffusers' DiTTransformer2DModel (DiT)", (r"^transformer_blocks\.\d+\.norm1\.emb\.",)),
    Format("EDM2", (r"^emb_fourier\.|^emb_noise\.|^emb_label\.", r"^enc\.|^dec\.|^out_gain")),
    Format(
        "EDM (SongUNet, DhariwalUNet)",
        (r"^map_layer0\.", r"^enc\.|^dec\."),
        "give EDM's .pkl, which knows its configuration, or put a config.json with the arguments of its constructor "
        "(img_resolution, model_type, ...) beside it",
    ),
    Format("k-diffusion", (r"^u_net\.d_blocks\.|^mapping\.", r"^timestep_embed\.|^time_emb\.|^patch_in\.|^proj_in\.")),
    Format(
        "diffusers' UNet2DConditionModel (Stable Diffusion)",
        (r"^down_blocks\.\d+\.attentions\.\d+\.transformer_blocks\.",),
    ),
    Format("diffusers' AutoencoderKL or VQModel", (r"^encoder\.down_blocks\.", r"^decoder\.|^quant_conv\.")),
    Format("an autoencoder of latent diffusion", (r"^encoder\.down\.\d", r"^decoder\.up\.\d")),
    Format(
        "diffusers' UNet2DModel",
        (r"^time_embedding\.linear_1\.", r"^down_blocks\.|^downsample_blocks\."),
        "put its config.json beside it, and its scheduler_config.json, which says what it predicts; or give the folder "
        "of the pipeline",
    ),
    Format("denoising-diffusion-pytorch", (r"^init_conv\.", r"^downs\.\d")),
    Format("score_sde_pytorch (NCSN++, DDPM++)", (r"^all_modules\.\d",)),
    Format("the DDPM and DDIM code in PyTorch", (r"^temb\.dense\.", r"^down\.\d+\.block\.")),
    Format("U-ViT", (r"^in_blocks\.\d", r"^out_blocks\.\d")),
    Format("CLIP or another text encoder", (r"^text_model\.encoder\.|^transformer\.resblocks\.",)),
    Format(
        "a pixel transformer",
        (r"^patch_embed\.weight", r"^unpatch\.weight"),
        'put a config.json with {"architecture": "pixel_transformer", "heads": ...} beside it',
    ),
)


def recognised(found: StateDicts) -> Format | None:
    """The kind of network that arrays are of, by their names alone.

    Args:
        found: the arrays, by place and name.
    """
    text = "\n".join(name for arrays in found.values() for name in arrays)
    for one in FORMATS:
        if all(re.search(pattern.replace("^", r"(?m:^|\.)"), text) for pattern in one.names):
            return one
    return None


def unsaid(path: Path, known: Format | None) -> ImporterError:
    """The error of weights of which nothing says what network they are."""
    if known is not None and known.repair is None:
        return ImporterError(f"{path} holds weights alone. {known.sentence}")
    words = f" {known.sentence}" if known is not None else f" Or, for a network of another kind: {WAY}"
    return ImporterError(
        f"{path} holds weights alone; expected a {path.stem}.json or a config.json beside it, which says of what "
        f"network they are. Put it there.{words}"
    )


UNET_2D = ("UNet2DModel", "UNetUnconditionalModel")  # today, and in the first half of 2022
WIDTHS = {"block_out_channels", "block_channels"}  # entries that no other family has
SHOWN = 2  # of each kind of things that do not fit
SMALL = 4096  # numbers: constants, such as filters and noise levels, which a network's shape may depend on


@dataclasses.dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        build: makes the teacher from a configuration and arrays, or its shapes where there are no arrays.
        convention: in what terms the original speaks of noise, given its configuration.
        assumed: what of it the configuration does not say, a sentence each.
        owner: what the network is, in a message.
        anchors: names that its arrays always have, by which it is found among others.
    """

    build: Callable[[Mapping[str, Any], Mapping[str, Any] | None], AbstractDenoiser]
    convention: Callable[[Mapping[str, Any]], str]
    assumed: Callable[[Mapping[str, Any]], tuple[str, ...]]
    owner: str
    anchors: tuple[str, ...]


def _edm(config: Mapping[str, Any], arrays: Mapping[str, Any] | None) -> AbstractDenoiser:
    arguments, name = {name: value for name, value in config.items() if name != "class_name"}, _class_name(config)
    if not isinstance(name, str):
        raise Arguments(config).wrong("class_name", "a name")
    return edm_denoiser(arguments, arrays, name)


def _class_name(config: Mapping[str, Any]) -> Any:
    return config.get("class_name", "EDMPrecond")


def _edm_convention(config: Mapping[str, Any]) -> str:
    name = _class_name(config)
    deviation = f", sigma_data {config.get('sigma_data', 0.5)}" if name == "EDMPrecond" else ""
    return f"{name}: x_sigma = x + sigma eps, images in [-1, 1]{deviation}"


def _flow_convention(config: Mapping[str, Any]) -> str:
    low, high = pixel_range(config)
    return f"flow matching, x1-prediction, t = 1 for data: x_t = t x1 + (1 - t) eps, images in [{low:g}, {high:g}]"


FAMILIES = {
    "diffusers": Family(
        diffusers_denoiser,
        diffusers_convention,
        diffusers_assumed,
        "a UNet2DModel",
        ("time_embedding.linear_1.weight", "conv_in.weight"),
    ),
    "edm": Family(_edm, _edm_convention, lambda config: (), "an EDM network", ("model.map_layer0.weight",)),
    "pixel_transformer": Family(
        pixel_transformer_denoiser,
        _flow_convention,
        assumed,
        "a pixel transformer",
        ("patch_embed.weight", "pos_embed"),
    ),
}


def family(config: Mapping[str, Any], found: StateDicts, source: str) -> str:
    """The family by what the configuration says, and else by the weights' names.

    Raises:
        ImporterError: where it is none that is known.
    """
    said = config.get("architecture")
    if isinstance(said, str) and said in FAMILIES:
        return said
    if config.get("_class_name") in UNET_2D or ("_class_name" not in config and WIDTHS & set(config)):
        return "diffusers"
    if config.get("model_type") in ("SongUNet", "DhariwalUNet"):
        return "edm"
    if places(found, FAMILIES["pixel_transformer"].anchors):
        return "pixel_transformer"
    shown = said or config.get("_class_name") or config.get("model_type") or "nothing"
    known = recognised(found)
    raise ImporterError(
        f"{source} says of its network: {ascii(str(shown))[:60]}; expected UNet2DModel as _class_name, SongUNet or "
        f"DhariwalUNet as model_type, or one of {', '.join(FAMILIES)} as architecture in its configuration."
        + (f" {known.sentence}" if known is not None else "")
    )


def identified(config: Mapping[str, Any], found: StateDicts, *files: Path, notes: tuple[str, ...] = ()) -> Checkpoint:
    """A checkpoint of the family that it is of.

    Args:
        config: the configuration that was found.
        found: the weights, by place and name.
        files: what was read, the weights last.
        notes: what is to be said of the choice of these files.

    Raises:
        ImporterError: where it is of none that is known, or its network is not found among other arrays.
    """
    known = {name: value for name, value in config.items() if name != "architecture"}
    name = family(config, found, str(files[-1]))
    arrays, found_notes = network_at(found, FAMILIES[name].anchors, FAMILIES[name].owner)
    return Checkpoint(name, known, arrays, files, notes=(*notes, *found_notes))


def notes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What was chosen or assumed where a checkpoint does not say it, a sentence each, for who uses it."""
    return (*checkpoint.notes, *_family(checkpoint).assumed(checkpoint.config))


def build(checkpoint: Checkpoint) -> AbstractDenoiser:
    """The teacher that a checkpoint holds.

    Raises:
        ImporterError: where its arrays are not those of the network that its configuration describes.
        RecipeError: where no network can be built of that configuration.
    """
    with _in_one_line(checkpoint):
        return _family(checkpoint).build(checkpoint.config, checkpoint.arrays)


def convention(checkpoint: Checkpoint) -> str:
    """In what terms the original speaks of noise and of images, in a line."""
    return _family(checkpoint).convention(checkpoint.config)


def shapes(checkpoint: Checkpoint) -> AbstractDenoiser:
    """The same teacher, of shapes alone: no weights are read.

    Raises:
        ImporterError: as for `build`; that its numbers are finite is seen by `build` alone.
        RecipeError: as for `build`.
    """
    arrays = {
        name: array if array.size <= SMALL else jax.ShapeDtypeStruct(array.shape, array.dtype)
        for name, array in checkpoint.arrays.items()
    }
    with _in_one_line(checkpoint):
        return _outline(_family(checkpoint).build(checkpoint.config, arrays))


def outline(architecture: str, config: Mapping[str, Any]) -> AbstractDenoiser:
    """The teacher that a configuration describes, of shapes alone.

    Raises:
        ImporterError: where the family is unknown, or the configuration not one of it.
        RecipeError: where no network can be built of it.
    """
    if architecture not in FAMILIES:
        raise ImporterError(f"found the architecture {architecture!r}; expected one of {', '.join(FAMILIES)}.")
    return _outline(FAMILIES[architecture].build(config, None))


def _family(checkpoint: Checkpoint) -> Family:
    found = FAMILIES.get(checkpoint.architecture)
    if found is None:
        raise ImporterError(
            f"found weights of {checkpoint.architecture}, whose networks pplemd does not have yet; expected one of "
            f"{', '.join(FAMILIES)}. Wrap the network as a JAX function: em.teachers.DenoiserFunction("
            "em.diffusion.VPEps(function, schedule), shape)."
        )
    return found


@contextlib.contextmanager
def _in_one_line(checkpoint: Checkpoint) -> Iterator[None]:
    """In a `with` block, a list of what does not fit becomes a line with its first items, and the file is named."""
    try:
        yield
    except ImporterError as error:
        lines = str(error).splitlines()
        items = [line.strip() for line in lines if line.startswith("  ")]
        first = [item for kind in _by_kind(items) for item in kind[:SHOWN]]
        shown = [*first, *([f"{len(items) - len(first)} more"] if len(items) > len(first) else [])]
        words = [line.strip() for line in lines if not line.startswith("  ")]
        whole = " ".join([*words[:1], *(["; ".join(shown) + "."] if shown else []), *words[1:]])
        raise ImporterError(f"{checkpoint.files[-1]}: {whole}") from error


def _by_kind(items: Sequence[str]) -> list[list[str]]:
    """What does not fit: missing, left over, of another shape, ..., each kind apart."""
    kinds: dict[str, list[str]] = {}
    for item in items:
        kinds.setdefault(item.split(" ")[0], []).append(item)
    return list(kinds.values())


def _outline(teacher: AbstractDenoiser) -> AbstractDenoiser:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf, teacher
    )
