"""The way from a start far out to where a law has its mass, by its score alone: what long chains begin with."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from pplemd.inference.target import TiltedLaw

FIRST = 0.1  # of moves: u is standard normal a priori, and too short is safe
FAR = 10.0  # nats that a coordinate's next move promises, where it is worth making: a normal law's at 3 s.d. or more
LONGER, SHORTER = 1.2, 0.5  # of moves, after one in the same direction and after a turn: Riedmiller and Braun's
MOST = 500  # moves: 1.2^100 is 1e8, a turn halves, and coordinates that depend on each other wait for each other


class _Climb(eqx.Module):
    """A climb on its way: where it is, the score there, how far each coordinate moves next, and moves so far."""

    x: Float[Array, " n"]
    score: Float[Array, " n"]
    sizes: Float[Array, " n"]
    moves: Int[Array, ""]

    @property
    def far(self) -> Bool[Array, " n"]:
        """Coordinates whose next move promises much."""
        return jnp.abs(self.score) * self.sizes > FAR


def climbed(law: TiltedLaw, start: PyTree) -> PyTree:
    """Where the score leads from a start that lies far out; a start within the bulk is left where it is.

    Each coordinate moves by the sign of its score and a length of its own, which grows until the sign turns: no scale
    is assumed, and 1 and 1e6 standard deviations are some 100 moves apart. A coordinate rests while its next move
    promises few nats: the climb ends where the law is plausible, not at its mode, which a hierarchy may have at
    infinity. Where it does not end, there is no such place on its way, and the start is left, too.

    Args:
        law: the law.
        start: coordinates of one chain, a pytree.

    Source: Riedmiller and Braun 1993 (Rprop), its updates without backtracking. Departs: coordinates rest.
    """
    first, unravel = ravel_pytree(start)

    def score(x: Float[Array, " n"]) -> Float[Array, " n"]:
        return ravel_pytree(law.score(unravel(x)))[0]

    def move(now: _Climb) -> _Climb:
        x = now.x + jnp.where(now.far, jnp.sign(now.score) * now.sizes, 0.0)
        there = score(x)
        factor = jnp.where(now.score * there < 0, SHORTER, LONGER)
        moved = _Climb(x, there, jnp.where(now.far, factor * now.sizes, now.sizes), now.moves + 1)
        stayed = _Climb(now.x, now.score, SHORTER * now.sizes, now.moves + 1)
        return jax.tree.map(lambda a, b: jnp.where(jnp.all(jnp.isfinite(there)), a, b), moved, stayed)

    begun = _Climb(first, score(first), jnp.full_like(first, FIRST), jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(lambda now: jnp.any(now.far) & (now.moves < MOST), move, begun)
    return unravel(jnp.where(jnp.any(end.far), first, end.x))
