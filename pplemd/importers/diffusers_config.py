"""What the config.json of a UNet2DModel says, checked entry by entry."""

from collections.abc import Mapping, Sequence
from typing import Any

from jax.typing import DTypeLike

from pplemd.errors import ImporterError
from pplemd.importers.arguments import Arguments
from pplemd.networks import LevelKind, TimeKind, UNet2DOptions

OWNER = "a UNet2DModel"
DOWN = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D")
UP = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D")
CHANNELS = (224, 448, 672, 896)  # of the original's constructor, as the kinds of levels are
USUAL = {
    "down_block_types": (DOWN[0], DOWN[1], DOWN[1], DOWN[1]),
    "up_block_types": (UP[1], UP[1], UP[1], UP[0]),
}
PREFIX = "UNetRes"  # of the names of kinds of levels in 2022
OLD = {  # names of entries in the first half of 2022
    "image_size": "sample_size",
    "num_res_blocks": "layers_per_block",
    "block_channels": "block_out_channels",
    "down_blocks": "down_block_types",
    "up_blocks": "up_block_types",
    "downscale_freq_shift": "freq_shift",
    "resnet_num_groups": "norm_num_groups",
    "resnet_act_fn": "act_fn",
    "resnet_eps": "norm_eps",
    "num_head_channels": "attention_head_dim",
}


def options(config: Mapping[str, Any], compute: DTypeLike | None = None, rematerialise: bool = False) -> UNet2DOptions:
    """Return the sizes and kinds of the network that a configuration describes.

    Entries that the original's constructor does not take have no effect, as there.

    Args:
        config: config.json, of today or of 2022.
        compute: type of products and features, None for the input's.
        rematerialise: whether blocks are computed again for their gradients.

    Raises:
        ImporterError: an entry of the wrong kind, or a kind of network that pplemd does not have.
    """
    given = Arguments({OLD.get(name, name): value for name, value in config.items()}, OWNER)
    image, computed = given.whole("in_channels", 3), given.whole("out_channels", 3)
    if computed not in (image, 2 * image):
        raise given.wrong("out_channels", f"{image}, its in_channels, or with a learnt variance {2 * image}")
    modulated = given.one_of("resnet_time_scale_shift", "default", ("default", "scale_shift")) == "scale_shift"
    classes, as_times = _classes(given)
    return UNet2DOptions(
        shape=(*_size(given), image),
        channels=given.wholes("block_out_channels", CHANNELS),
        down=_kinds(given, "down_block_types", DOWN, "downsample_type"),
        up=_kinds(given, "up_block_types", UP, "upsample_type"),
        blocks=given.whole("layers_per_block", 2),
        middle=_middle(given),
        middle_attend=given.flag("add_attention", True),
        middle_scale=given.number("mid_block_scale_factor", 1.0),
        head=given.optional("attention_head_dim", 8),
        groups=given.optional("norm_num_groups", 32),
        middle_groups=given.optional("attn_norm_num_groups"),
        floor=given.number("norm_eps", 1e-5),
        modulated=modulated,
        activation=given.one_of("act_fn", "silu", ("silu", "swish", "mish", "gelu", "relu")),
        time=TimeKind(given.one_of("time_embedding_type", "positional", [kind.value for kind in TimeKind])),
        time_shift=given.number("freq_shift", 0.0),
        time_flip=given.flag("flip_sin_to_cos", True),
        times=given.optional("num_train_timesteps"),
        width=given.optional("time_embedding_dim"),
        classes=classes,
        classes_as_times=as_times,
        padded_evenly=_padded_evenly(given),
        centred=given.flag("center_input_sample", False),
        out_channels=computed,
        dropout=given.number("dropout", 0.0),
        compute=compute,
        rematerialise=rematerialise,
    )


def _size(given: Arguments) -> tuple[int, int]:
    found = given.given.get("sample_size")
    if isinstance(found, Sequence) and not isinstance(found, str) and len(found) == 2:
        height, width = given.wholes("sample_size", ())
        return height, width
    if found is None:
        raise given.wrong("sample_size", "the side of the images in pixels, or [height, width]: add it")
    return (given.whole("sample_size"),) * 2


def _kinds(given: Arguments, name: str, known: Sequence[str], resampling: str) -> tuple[LevelKind, ...]:
    """The kind of each level; attending levels change an image's size as another entry says."""
    found = given.given.get(name, USUAL[name])
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise given.wrong(name, f"a list of {', '.join(known)}")
    by_block = (given.given.get(resampling) or "conv") != "conv" and _resized_by_block(given, resampling)
    kinds = []
    for item in found:
        kind = str(item).removeprefix(PREFIX)
        if kind not in known:
            raise ImporterError(
                f"the configuration has a level of the kind {ascii(str(item))[:60]} in {name}; pplemd has "
                f"{', '.join(known)}. Wrap a network of another kind in em.teachers.DenoiserFunction."
            )
        attend, skip, resnet = kind.startswith("Attn"), "Skip" in kind, kind.startswith("Resnet")
        kinds.append(LevelKind(attend, skip or resnet or (attend and by_block), skip))
    return tuple(kinds)


def _resized_by_block(given: Arguments, name: str) -> bool:
    return given.one_of(name, "conv", ("conv", "resnet")) == "resnet"


def _middle(given: Arguments) -> bool:
    if given.given.get("mid_block_type", "UNetMidBlock2D") is None:
        return False
    given.one_of("mid_block_type", "UNetMidBlock2D", ("UNetMidBlock2D",))
    return True


def _classes(given: Arguments) -> tuple[int | None, bool]:
    """The number of classes, and whether they are told as time steps are.

    Such classes need no table and so no number: where it is not said, there are as many as time steps.
    """
    count = given.optional("num_class_embeds")
    kind = given.given.get("class_embed_type")
    if kind is None:
        return count, False
    given.one_of("class_embed_type", "timestep", ("timestep",))  # an identity wants vectors, which are no classes
    return count or given.optional("num_train_timesteps") or 1000, True


def _padded_evenly(given: Arguments) -> bool:
    found = given.whole("downsample_padding", 1)
    if found > 1:
        raise given.wrong("downsample_padding", "0 or 1")
    return found == 1
