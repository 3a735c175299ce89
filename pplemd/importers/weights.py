"""A state dict: safetensors, an .npz, or what torch.save wrote."""

from pathlib import Path
from typing import Any

import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.npz import read_npz
from pplemd.importers.pickles import Budget, Tensor, read_torch_save
from pplemd.importers.safetensors import read_safetensors
from pplemd.importers.views import view


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, from an .npz, a .safetensors, or what torch.save wrote.

    Of an .npz that holds names that begin with "sd/", those alone are taken, without that beginning.

    Raises:
        ImporterError: where it is damaged, hostile or of another kind; nothing of it is executed.
    """
    file = Path(path)
    try:
        return read_npz(file)[1] if file.suffix == ".npz" else read_weights(file)
    except ImporterError as error:
        raise error if str(path) in str(error) else ImporterError(f"{path}: {error}") from error


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors file, or of a state dict that torch.save wrote, by name.

    Raises:
        ImporterError: where it is damaged, hostile or of another kind; nothing of it is executed.
    """
    return read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    data = view(path)
    try:
        value = read_torch_save(data, Budget(len(data)))
        nested = value.get("state_dict") if isinstance(value, dict) else None
        return {
            name: tensor.array() for name, tensor in _tensors(nested if isinstance(nested, dict) else value).items()
        }
    except ImporterError as error:
        raise ImporterError(f"{path} is no state dict that can be read: {error}") from error


def _tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, dict):
        raise ImporterError(f"it holds a {type(value).__name__}; expected a dictionary of tensors.")
    for name, item in value.items():
        if not isinstance(name, str) or len(name) > 256 or not isinstance(item, Tensor):
            raise ImporterError(f"its entry {ascii(name)[:80]} is a {type(item).__name__}; expected tensors by name.")
    return value
