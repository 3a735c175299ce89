"""Which family of networks a checkpoint is of."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pplemd.errors import ImporterError

NAMES = ("edm", "diffusers", "pixel_transformer")


def family(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], source: str) -> str:
    """The family by what the configuration says, and else by the weights' names.

    Raises:
        ImporterError: where it is none that is known.
    """
    said = config.get("architecture")
    if said in NAMES:
        return said
    if config.get("_class_name") == "UNet2DModel":
        return "diffusers"
    if config.get("model_type") in ("SongUNet", "DhariwalUNet"):
        return "edm"
    if {"pos_embed", "patch_embed.weight"} <= set(arrays):
        return "pixel_transformer"
    shown = said or config.get("_class_name") or config.get("model_type") or "nothing"
    raise ImporterError(
        f"{source} says of its network: {ascii(str(shown))[:60]}; expected SongUNet or DhariwalUNet as model_type, "
        f"UNet2DModel as _class_name, or one of {', '.join(NAMES)} as architecture in its configuration."
    )
