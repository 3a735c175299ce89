"""Random keys by name: the one place where a name becomes the number that is folded into a key.

`jax.random.fold_in(key, i)` is the i-th key of `jax.random.split(key, n)`, whatever n: numbers of most names lie beyond
those of any split and any count of steps; `score` and `generator` are the two keys of a training step. What a name
stands for never changes, since a resumed run has to draw what it would have drawn.
"""

import zlib

import jax
from jaxtyping import PRNGKeyArray

NUMBERS = {
    # of a training step
    "score": 0,
    "generator": 1,
    "anchor": 2**31 - 1,
    # of a run, where steps are numbered from 0
    "health": 2**32 - 1,
    "reparameterization": 2**32 - 2,
    "remaining": 2**32 - 3,
    # of the start of a program
    "pairs": 2**31 - 1,
    "pool": 2**31 - 2,
    # of a chain, a transition or a start
    "persistent": 2**31 - 1,
    "probe": 2**31 - 2,
    "elsewhere": 2**31 - 3,
    "stretch": 2**31 - 3,
    "climb": 2**31 - 4,
    "climb of a fit": 2**31 - 5,
    # of what is judged or diagnosed
    "judging": 0x5EED,
    "teacher's draws": 0x7EAC,
    "diagnosis": 0xD1A6,
    "x": 2**31 - 1,
}
FIRST, MANY = 2**30, 2**29  # numbers of all other names, by their checksum


def named(key: PRNGKeyArray, name: str, *places: int) -> PRNGKeyArray:
    """The key of a name, and of places in what is named: the same one for the same key, name and places.

    Args:
        key: a key.
        name: what it is for; any text.
        places: numbers folded in afterwards, such as that of a repetition.
    """
    number = NUMBERS.get(name, FIRST + zlib.crc32(name.encode()) % MANY)
    found = jax.random.fold_in(key, number)
    for place in places:
        found = jax.random.fold_in(found, place)
    return found
