"""What is said of a program's parts and of a teacher before anything runs, as JSON data."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from pplemd.dsl import Program, Site

KEY = 0x2E907  # of everything that is drawn for a report


def parameters(tree: PyTree) -> int:
    """The number of parameters of a module, of arrays or of shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree) if is_array(leaf))


def size_in_bytes(tree: PyTree) -> int:
    """Bytes of a tree's arrays, or of its shapes."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if is_array(leaf)]
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in leaves)


def is_array(leaf: object) -> bool:
    """Whether a leaf is an array or the shape of one."""
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def fields(name: str, program: Program) -> dict[str, int]:
    """Parameters of each field of a program."""
    return {f"{name}.{field}": parameters(getattr(program, field)) for field in type(program).__dataclass_fields__}


def site(one: Site) -> dict[str, object]:
    """A latent."""
    return {
        "name": one.name,
        "distribution": one.family,
        "shape": list(one.shape),
        "depends_on": list(one.parents),
        "learned": one.learned,
        "conditioned": one.conditioned,
        "parameterization": "non-centered" if one.base == "normal" else "unconstrained",
        "eligible": one.eligible,
        "centered": one.centered,
        "plates": list(one.plates),
    }
