"""Arrays by name: safetensors, an .npz, or what torch.save wrote, a training checkpoint among them."""

import logging
from pathlib import Path

import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.network_places import StateDicts, only_one, with_names
from pplemd.importers.npz import read_npz
from pplemd.importers.pickles import Budget, read_torch_save, state_dicts
from pplemd.importers.safetensors import is_safetensors, read_safetensors
from pplemd.importers.views import view

logger = logging.getLogger("pplemd")


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, from an .npz, a .safetensors, or what torch.save wrote.

    Of an .npz that holds names that begin with "sd/", those alone are taken, without that beginning. Of a training
    checkpoint, {"model": ..., "ema": ..., "step": ...}, the averaged network's are taken, and the log says so.

    Raises:
        ImporterError: where it is damaged, hostile or of another kind, or holds several networks that nothing tells
            apart; nothing of it is executed.
    """
    file = Path(path)
    try:
        if file.suffix == ".npz":
            return read_npz(file)[1]
        arrays, note = only_one(read_weights(file))
    except ImporterError as error:
        raise error if str(path) in str(error) else ImporterError(f"{path}: {error}") from error
    if note is not None:
        logger.warning("%s: %s", path, note)
    return arrays


def read_weights(path: Path) -> StateDicts:
    """The arrays of a .safetensors file, or of what torch.save wrote, by place and name.

    Raises:
        ImporterError: where it is damaged, hostile or of another kind; nothing of it is executed.
    """
    if path.suffix == ".safetensors" or is_safetensors(view(path)):
        return {"": read_safetensors(path)}
    return _read_torch(path)


def _read_torch(path: Path) -> StateDicts:
    data = view(path)
    try:
        found = state_dicts(read_torch_save(data, Budget(len(data))))
        arrays = {place: {name: one.array() for name, one in inside.items()} for place, inside in found.items()}
    except ImporterError as error:
        raise ImporterError(f"{path} is no state dict that can be read: {error}") from error
    return with_names(arrays)
