"""The families of networks that checkpoints are of: how each is known, built, and what convention it has."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from pplemd.errors import ImporterError
from pplemd.importers.arguments import Arguments
from pplemd.importers.checkpoint import Checkpoint
from pplemd.importers.diffusers import diffusers_assumed, diffusers_convention, diffusers_denoiser
from pplemd.importers.edm import edm_denoiser
from pplemd.importers.formats import recognised
from pplemd.importers.network_places import StateDicts, network_at, places
from pplemd.importers.pixel_transformer import assumed, pixel_range, pixel_transformer_denoiser
from pplemd.teachers import AbstractDenoiser

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
    """What was chosen or assumed where a checkpoint does not say it, a sentence each: to be told to who uses it."""
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
