"""A checkpoint of another library: what its network is, and its arrays."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pplemd.storage.digests import digest_of_file


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
