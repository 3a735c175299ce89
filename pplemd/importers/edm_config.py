"""What the constructor's arguments of an EDM checkpoint say, checked one by one."""

from collections.abc import Mapping
from typing import Any

from jax.typing import DTypeLike

from pplemd.errors import ImporterError
from pplemd.importers.arguments import Arguments
from pplemd.networks import FourierNoise, PositionalNoise, Side, SongVariant, UNetOptions

PRECONDITIONED = {  # class of the checkpoint's network -> class of the network inside it, where it does not say
    "EDMPrecond": "DhariwalUNet",
    "iDDPMPrecond": "DhariwalUNet",
    "VPPrecond": "SongUNet",
    "VEPrecond": "SongUNet",
}
OUTER = {  # arguments of the class of the checkpoint's network; those of no effect on what it computes are not read
    "EDMPrecond": {"sigma_min", "sigma_max", "sigma_data"},
    "iDDPMPrecond": {"C_1", "C_2", "M"},
    "VPPrecond": {"beta_d", "beta_min", "M", "epsilon_t"},
    "VEPrecond": {"sigma_min", "sigma_max"},
}
EVERY = {"img_resolution", "img_channels", "label_dim", "use_fp16", "model_type", "augment_dim", "model_channels"}
EVERY |= {"channel_mult", "channel_mult_emb", "num_blocks", "attn_resolutions", "dropout", "label_dropout"}
SONG = {"embedding_type", "channel_mult_noise", "encoder_type", "decoder_type", "resample_filter"}
MOST_TAPS = 64  # of a filter that halves images: their outer product is built; the longest that is known has four
DEFAULTS: dict[str, dict[str, Any]] = {  # of the original's constructors
    "SongUNet": {"model_channels": 128, "channel_mult": (1, 2, 2, 2), "num_blocks": 4, "attn_resolutions": (16,)},
    "DhariwalUNet": {
        "model_channels": 192,
        "channel_mult": (1, 2, 3, 4),
        "num_blocks": 3,
        "attn_resolutions": (32, 16, 8),
    },
}


def model_type(config: Mapping[str, Any], class_name: str) -> str:
    """Return the class of the network inside a checkpoint's, and check that every argument is one that is known.

    Args:
        config: the constructor's arguments.
        class_name: the class whose constructor it is.

    Raises:
        ImporterError: a class that is not EDM's, or arguments that its constructor does not have.
    """
    if class_name not in PRECONDITIONED:
        raise ImporterError(
            f"the checkpoint's network is a {class_name!r}; expected one of {', '.join(PRECONDITIONED)}. "
            "Wrap a network of another kind in em.teachers.DenoiserFunction."
        )
    found = Arguments(config).one_of("model_type", PRECONDITIONED[class_name], list(DEFAULTS))
    known = EVERY | OUTER[class_name] | (SONG if found == "SongUNet" else set())
    unknown = sorted(str(name) for name in set(config) - known)
    if unknown:
        raise ImporterError(
            f"the configuration of {class_name} with a {found} has arguments that it does not take: "
            f"{', '.join(unknown)}; expected some of {', '.join(sorted(known))}. "
            "Check that it is of an EDM checkpoint; leave out what does not change the network."
        )
    return found


def options(config: Mapping[str, Any], class_name: str, compute: DTypeLike | None, rematerialise: bool) -> UNetOptions:
    """Return the sizes of the network inside a checkpoint's.

    Args:
        config: the constructor's arguments.
        class_name: the class whose constructor it is.
        compute: type of products and features, None for the input's.
        rematerialise: whether blocks are computed again for their gradients.

    Raises:
        ImporterError: an argument of the wrong kind.
    """
    given, usual = Arguments(config), DEFAULTS[model_type(config, class_name)]
    size, image = given.whole("img_resolution"), given.whole("img_channels", 3)
    return UNetOptions(
        shape=(size, size, image),
        channels=given.whole("model_channels", usual["model_channels"]),
        multipliers=given.wholes("channel_mult", usual["channel_mult"]),
        embedding_multiplier=given.whole("channel_mult_emb", 4),
        blocks=given.whole("num_blocks", usual["num_blocks"]),
        attention=given.wholes("attn_resolutions", usual["attn_resolutions"]),
        classes=given.whole("label_dim", 0) or None,
        augment=given.whole("augment_dim", 0) or None,
        dropout=given.number("dropout", 0.1),
        label_dropout=given.number("label_dropout", 0.0),
        out_channels=2 * image if class_name == "iDDPMPrecond" else None,
        compute=compute,
        rematerialise=rematerialise,
    )


def variant(config: Mapping[str, Any]) -> SongVariant:
    """Return which member of the SongUNet family a checkpoint holds.

    Raises:
        ImporterError: an argument of the wrong kind.
    """
    given = Arguments(config)
    noise = given.one_of("embedding_type", "positional", ("positional", "fourier"))
    taps = given.numbers("resample_filter", (1.0, 1.0))
    if len(taps) > MOST_TAPS:
        raise given.wrong("resample_filter", f"at most {MOST_TAPS} numbers")
    return SongVariant(
        noise=PositionalNoise() if noise == "positional" else FourierNoise(),
        noise_multiplier=given.whole("channel_mult_noise", 1),
        encoder=Side(given.one_of("encoder_type", "standard", ("standard", "skip", "residual"))),
        decoder=Side(given.one_of("decoder_type", "standard", ("standard", "skip"))),
        taps=taps,
    )
