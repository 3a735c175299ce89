"""Draws of a density by long chains: what a one-step sampler of it is judged by."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from pplemd.errors import DivergenceError, TeacherError
from pplemd.inference import NUTS, Potential, Run, TiltedTarget, bulk_ess, long_chains, r_hat
from pplemd.teachers import AbstractDensity, AbstractTeacher, Posterior

CHAINS, WARM_UP = 8, 500  # eight chains share the cost of a step; warm-up half of Stan's, one estimate a chain
LEAST = (
    400  # draws of a chain, whatever the caller wants: 3,200, of which NUTS makes 1,000 effective ones in one dimension
)
APART = 1.05  # R-hat: chance alone leaves .02 at 25 effective draws in each half of a chain
WORTH = 400  # effective draws: a mean is then off by 1 / 20 s.d.; Vehtari et al. 2021, arXiv:1903.08008, section 4
REFUSES = 0.999  # acceptance that NUTS never comes to: above, energies are too large for 32 bits to tell apart


def reference_draws(teacher: AbstractTeacher, count: int, seed: int = 0) -> Float32[np.ndarray, "count ..."]:
    """Draws of a density teacher by NUTS on its exact density, the chains' draws in turn, evenly spread.

    Args:
        teacher: a density; a posterior's chains start as NumPyro's do, another's at standard normal points.
        count: how many.
        seed: seed of everything random.

    Raises:
        TeacherError: where the teacher is no density.
        DivergenceError: where a chain never moved, or ended at a point that is not finite, and where the chains are
            not of one distribution or worth too few draws to judge by.
    """
    if not isinstance(teacher, AbstractDensity):
        raise TeacherError(
            f"reference_draws runs chains on a density; found a {type(teacher).__name__}. Use em.teachers.sample."
        )
    key_start, key_run = jax.random.split(jax.random.key(seed))
    starts = _starts(key_start, teacher)
    each = max(-(-count // CHAINS), LEAST)
    run = _run(key_run, teacher, starts, WARM_UP, each)
    x = np.asarray(run.positions, np.float32)
    spread = np.ptp(x.reshape(CHAINS, x.shape[1], -1), axis=1)
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise DivergenceError(
            f"chains on the density of the {type(teacher).__name__} did not move or left for infinity; expected a "
            "proper distribution. Check the density's tails and scale, or judge by draws of your own."
        )
    # see that chains can be judged by: of one distribution, decided by energies that are known, worth so many draws
    worth = min(count, WORTH)
    name = type(teacher).__name__
    apart, ess = (float(figure) for figure in _mixing(run.positions))
    accepted, energy = float(jnp.mean(run.acceptance)), np.asarray(run.energy)
    known = np.isfinite(energy).all() and np.ptp(energy, axis=1).all()
    wrong = [
        *([f"R-hat is {apart:.3f} (at most {APART})"] if not apart <= APART else []),
        *([f"they are worth {ess:.0f} draws (at least {worth})"] if not ess >= worth else []),
        *(
            [f"{100 * accepted:.2f} % of proposals are accepted (at most {100 * REFUSES})"]
            if accepted > REFUSES
            else []
        ),
        *([] if known else ["their energies are not finite, or never change"]),
    ]
    if wrong:
        raise DivergenceError(
            f"long chains on the density of the {name} are not good enough to judge by: {'; '.join(wrong)}. They have "
            "not come to one distribution: modes that they do not cross, necks that they do not enter, or numbers "
            "so unlike in scale that 32 bits do not hold them. Write the model in other coordinates (non-centered, in "
            "units near its s.d.), or judge by draws of your own."
        )
    drawn = np.moveaxis(x, 0, 1).reshape(-1, *teacher.shape)
    return drawn[np.linspace(0, len(drawn) - 1, count).astype(int)]


@eqx.filter_jit
def _starts(key: PRNGKeyArray, teacher: AbstractDensity) -> Float[Array, "chain ..."]:
    """Standard normal points; of a posterior, points within 2 of 0, or near its own start where these will not do.

    Chains that all start at one point would agree on the mode that lies next to it. These are NumPyro's starts.
    """
    noise = jax.random.normal(key, (CHAINS, *teacher.shape))
    if not isinstance(teacher, Posterior):
        return noise
    wide = jax.random.uniform(key, noise.shape, noise.dtype, -2.0, 2.0)
    near = jnp.asarray(teacher.start, noise.dtype)[None] + 0.1 * noise
    value, slope = jax.vmap(jax.value_and_grad(teacher.log_q))(wide)
    return jnp.where((jnp.isfinite(value) & jnp.isfinite(slope).all(axis=1))[:, None], wide, near)


@eqx.filter_jit
def _mixing(x: Float[Array, "chain draw *shape"]) -> tuple[Array, Array]:
    """The largest R-hat and the least effective sample size of any number, itself and folded at its median."""
    flat = x.reshape(*x.shape[:2], -1)
    folded = jnp.abs(flat - jnp.median(flat, axis=(0, 1), keepdims=True))
    both = jnp.concatenate([flat, folded], axis=2)
    return jnp.max(r_hat(both)), jnp.min(bulk_ess(both))


@eqx.filter_jit
def _run(key: PRNGKeyArray, teacher: AbstractDensity, starts: Array, warm_up: int, draws: int) -> Run:
    target = TiltedTarget(lambda x: x, Potential(lambda x: -teacher.log_q(x)), lambda x: jnp.zeros(()))
    return long_chains(key, target, NUTS(), starts, warm_up, draws)
