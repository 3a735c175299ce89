"""SHA-256 of arrays and of files, by which a snapshot that is damaged, or of another program, is found."""

import hashlib
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from pplemd.devices import whole


def outline(tree: PyTree) -> dict[str, str]:
    """Place, type and shape of each of a pytree's arrays, such as {"['w']": "float32(3, 2)"}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{tuple(leaf.shape)}" for path, leaf in leaves}


def digest(tree: PyTree) -> str:
    """SHA-256 of a pytree's arrays: their places in it, types, shapes and bytes, whatever devices they lie on."""
    total = hashlib.sha256()
    for path, given in jax.tree_util.tree_leaves_with_path(tree):
        leaf = whole(given)  # one at a time
        data = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        content = np.ascontiguousarray(np.asarray(data))
        total.update(f"{jax.tree_util.keystr(path)}{leaf.dtype}{content.shape}".encode())
        total.update(content.tobytes())
    return total.hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path inside it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_of_file(path) for path in files}


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
