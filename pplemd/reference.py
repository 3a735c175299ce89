"""Draws of a density by long chains: what a one-step sampler of it is judged by."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray

from pplemd.errors import DivergenceError, TeacherError
from pplemd.inference import NUTS, Potential, TiltedLaw, long_chains
from pplemd.teachers import AbstractDensity, AbstractTeacher, Posterior

CHAINS, WARM_UP = 8, 500  # eight chains share the cost of a step; warm-up half of Stan's, one estimate a chain
LEAST = 10  # draws of a chain, whatever is asked for, to see that it moves


def reference_draws(teacher: AbstractTeacher, count: int, seed: int = 0) -> Float32[np.ndarray, "count ..."]:
    """Draws of a density teacher by NUTS on its exact density, the chains' draws in turn.

    Args:
        teacher: a density; a posterior's chains start around its own start, another's at standard normal points.
        count: how many.
        seed: seed of everything random.

    Raises:
        TeacherError: where the teacher is no density.
        DivergenceError: where a chain never moved, or ended at a point that is not finite.
    """
    if not isinstance(teacher, AbstractDensity):
        raise TeacherError(
            f"reference_draws runs chains on a density; found a {type(teacher).__name__}. Use em.teachers.sample."
        )
    key_start, key_run = jax.random.split(jax.random.key(seed))
    starts = jax.random.normal(key_start, (CHAINS, *teacher.shape))
    if isinstance(teacher, Posterior):
        starts = teacher.start[None] + 0.1 * starts
    each = max(-(-count // CHAINS), LEAST)
    x = np.asarray(_run(key_run, teacher, starts, WARM_UP, each), np.float32)
    spread = x.reshape(CHAINS, x.shape[1], -1).std(axis=1)
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise DivergenceError(
            f"chains on the density of the {type(teacher).__name__} did not move or left for infinity; expected a "
            "proper law. Check the density's tails and scale, or judge by draws of your own."
        )
    return np.moveaxis(x, 0, 1).reshape(-1, *teacher.shape)[:count]


@eqx.filter_jit
def _run(key: PRNGKeyArray, teacher: AbstractDensity, starts: Array, warm_up: int, draws: int) -> Array:
    law = TiltedLaw(lambda x: x, Potential(lambda x: -teacher.log_q(x)), lambda x: jnp.zeros(()))
    return long_chains(key, law, NUTS(), starts, warm_up, draws).positions
