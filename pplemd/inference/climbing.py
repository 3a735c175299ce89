"""The way from a start far out to where a target has its mass, by its score alone; long chains begin with it."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from pplemd.inference.target import TiltedTarget

FIRST = 0.1  # of moves: u is standard normal a priori, and too short is safe
FAR = 10.0  # nats that the first move of a coordinate promises, where a start is far out: a choice
LONGER, SHORTER = 1.2, 0.5  # of moves, after one in the same direction and after a turn: Riedmiller and Braun's
MOST = 500  # moves: 1.2^100 is 1e8, and coordinates that depend on each other wait for each other
FADING = 0.8  # of the running mean of gains, which shows where nothing more is gained
LITTLE = 0.1  # nats a move that are nothing: 50 more moves would gain what a target of ten coordinates varies by
PROBES = 12  # each halves the orders of magnitude by which a coordinate's scale is off


class _Climb(eqx.Module):
    """A climb on its way: where it is, the score there, how far each coordinate moves next, what was gained."""

    x: Float[Array, " n"]
    score: Float[Array, " n"]
    sizes: Float[Array, " n"]
    gain: Float[Array, ""]
    moves: Int[Array, ""]

    @property
    def goes_on(self) -> Bool[Array, ""]:
        """Whether moves still gain something, and there are some left."""
        return (self.gain > LITTLE) & (self.moves < MOST)


class Camp(eqx.Module):
    """Where a chain begins.

    Attributes:
        position: its coordinates.
        scale: about how far each coordinate goes there, flat; 1, as a priori, of a start that was left.
    """

    position: PyTree
    scale: Float[Array, " n"]


def climbed(key: PRNGKeyArray, target: TiltedTarget, start: PyTree) -> Camp:
    """Where the score leads from a start that lies far out; any other start is left where it is.

    Each coordinate moves by the sign of its score and a length of its own, which grows until the sign turns: no scale
    is assumed, and 1 and 1e6 standard deviations are some 100 moves apart. Far out is where a first move of any
    coordinate promises many nats: warm-up alone would bring home what lies nearer, and a mode may lie in a neck of no
    mass. A target that says what to climb on (`TiltedTarget.climbs_on`) has no such necks there: all its starts climb.

    Args:
        key: a key, for the probes of the target's curvature.
        target: the target.
        start: coordinates of one chain, a pytree.

    Source: Riedmiller and Braun 1993 (Rprop), its updates without backtracking.
    """
    first, unravel = ravel_pytree(start)
    guide = target if target.climbs_on is None else target.climbs_on

    def score(x: Float[Array, " n"]) -> Float[Array, " n"]:
        return ravel_pytree(guide.score(unravel(x)))[0]

    def move(now: _Climb) -> _Climb:
        step = jnp.sign(now.score) * now.sizes
        there = score(now.x + step)
        gain = jnp.abs(0.5 * jnp.sum((now.score + there) * step))  # back and forth is not yet there
        sizes = now.sizes * jnp.where(now.score * there < 0, SHORTER, LONGER)
        mean = FADING * now.gain + (1 - FADING) * gain
        moved = _Climb(now.x + step, there, sizes, mean, now.moves + 1)
        stayed = _Climb(now.x, now.score, SHORTER * now.sizes, now.gain, now.moves + 1)
        return jax.tree.map(lambda a, b: jnp.where(jnp.all(jnp.isfinite(there)), a, b), moved, stayed)

    here = score(first)
    promised = FIRST * jnp.max(jnp.abs(here))
    gain = jnp.where(promised > (FAR if target.climbs_on is None else LITTLE), promised, 0.0)
    begun = _Climb(first, here, jnp.full_like(first, FIRST), gain, jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(lambda now: now.goes_on, move, begun)
    known = (end.moves > 0) | (target.climbs_on is not None)
    return Camp(unravel(end.x), jnp.where(known, _scale(key, score, end), 1.0))


def _scale(key: PRNGKeyArray, score: Callable[[Array], Array], end: _Climb) -> Float[Array, " n"]:
    """Of each coordinate (-d score / dx)^(-1/2), at most 1: by differences of scores with signs at random.

    All coordinates move at once, each about as far as it goes, so that what the others do to a score is no more than
    what its own does; a length that is too short becomes the geometric mean of itself and the right one.
    """

    def probe(scale: Array, probe_key: PRNGKeyArray) -> tuple[Array, None]:
        step = scale * jax.random.rademacher(probe_key, scale.shape, scale.dtype)
        steep = jnp.abs(score(end.x + step) - end.score) / scale
        return jnp.where(jnp.isfinite(steep), jax.lax.rsqrt(jnp.maximum(steep, 1.0)), SHORTER * scale), None

    return jax.lax.scan(probe, jnp.minimum(end.sizes, 1.0), jax.random.split(key, PROBES))[0]
