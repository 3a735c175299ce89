"""EDM's .pkl checkpoints: the network's class, its constructor's arguments and its state dict."""

from pathlib import Path
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.edm import PRECONDITIONED
from pplemd.importers.families import WAY, Checkpoint
from pplemd.importers.pickles import Module, plain, read_network, state_dict
from pplemd.importers.views import view

ARGUMENTS = (  # of the constructor, where they are given by position
    "img_resolution",
    "img_channels",
    "label_dim",
    "use_fp16",
    "sigma_min",
    "sigma_max",
    "sigma_data",
    "model_type",
)
COMMON = 4  # of them are the first of each class; the others are EDMPrecond's


def read_edm_pickle(path: Path) -> Checkpoint:
    """The averaged network of an EDM checkpoint; its code is never looked at.

    Raises:
        ImporterError: where the file is damaged, hostile or of another kind; nothing of it is executed.
    """
    try:
        network = read_network(view(path))
        if network.kind not in PRECONDITIONED:
            known = ", ".join(PRECONDITIONED)
            edm2 = f" It is EDM2's, which pplemd does not read yet. {WAY}" if network.kind == "Precond" else ""
            raise ImporterError(f"its network is a {ascii(network.kind)[1:-1]}; expected one of {known}.{edm2}")
        arrays = {name: tensor.array() for name, tensor in state_dict(network).items()}
        return Checkpoint("edm", _config(network), arrays, (path,))
    except ImporterError as error:
        raise ImporterError(f"{path} is no EDM checkpoint that can be read: {error}") from error


def _config(network: Module) -> dict[str, Any]:
    """The arguments that the network was built with, and its class where that is not EDM's own."""
    positional, named = network.state.get("_init_args", ()), network.state.get("_init_kwargs")
    edm = network.kind == "EDMPrecond"
    known = ARGUMENTS if edm else ARGUMENTS[:COMMON]
    if not isinstance(positional, tuple) or not isinstance(named, dict) or len(positional) > len(known):
        raise ImporterError("its network lacks the arguments that it was built with (_init_kwargs). It is damaged.")
    kind = {} if edm else {"class_name": network.kind}
    return plain({**kind, **dict(zip(known, positional, strict=False)), **named})
