"""Importance weights that correct a one-step sampler whose density is known, with Pareto's word on whether they can."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Float32, PRNGKeyArray

from pplemd.conditions import Condition
from pplemd.diagnosis import RELIABLE, pareto_smoothed
from pplemd.errors import DataError, TeacherError
from pplemd.tasks.results import Distilled, in_single, narrow, wide
from pplemd.teachers import AbstractDensity, AbstractExactTeacher, AbstractTeacher

CHUNK = 20_000  # draws of one compiled call


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Draws of a one-step sampler with importance weights.

    Attributes:
        x: the draws.
        log_ratios: log q(x) - log p(x), up to a constant.
        log_weights: the same, Pareto-smoothed; their exponentials sum to 1.
        k_hat: the shape of the largest ratios' tail.
    """

    x: Float32[np.ndarray, "n ..."]
    log_ratios: Float[np.ndarray, " n"]
    log_weights: Float[np.ndarray, " n"]
    k_hat: float

    @property
    def effective(self) -> float:
        """1 / sum w^2: as many draws of equal weight would give as large an error, roughly."""
        return float(1 / np.sum(np.exp(2 * self.log_weights)))

    @property
    def reliable(self) -> bool:
        """Whether k is known, and no larger than smoothed weights can stand."""
        return self.k_hat <= RELIABLE

    @property
    def word(self) -> str:
        """What k-hat means, in a sentence."""
        found = f"Pareto k = {self.k_hat:.2f}, effective draws {self.effective:,.0f} of {len(self.x):,}"
        if math.isnan(self.k_hat):
            return f"{found}: too few of the largest weights differ for k to be found. Draw more."
        if self.reliable:
            return f"{found}: the correction can be relied on (k <= {RELIABLE})."
        return (
            f"{found}: do not rely on the correction (k > {RELIABLE}): the sampler leaves out a part of the target, "
            "and weights cannot bring it back. Distil for longer, or to a smaller sigma, or run chains."
        )

    def resample(self, count: int, seed: int = 0) -> Float32[np.ndarray, "count ..."]:
        """Draws of equal weight, some more than once: one at a random place of each of `count` equal shares of weight.

        Source: Kitagawa, J. Computational and Graphical Statistics 5 (1996), appendix (stratified resampling).
        """
        rng = np.random.default_rng(seed)
        places = (np.arange(count) + rng.uniform(size=count)) / count
        totals = np.cumsum(np.exp(self.log_weights))
        chosen = np.searchsorted(totals / totals[-1], places, side="right")
        return self.x[rng.permutation(np.minimum(chosen, len(self.x) - 1))]


def importance(distilled: Distilled, teacher: AbstractTeacher, count: int = 20_000, seed: int = 0) -> Weighted:
    """Draw of a one-step sampler, and weight the draws by q(x) / p(x).

    p is the density of x = g(z), which is known where g is one to one and smooth, with as many numbers in z as in x:
    log p(x) = log p(z) - log|det J_g(z)|. Networks that are: em.networks.CouplingFlow, and what is made of such maps.

    Args:
        distilled: the sampler.
        teacher: the target, whose density is known: a posterior, a density, a flow, a mixture.
        count: how many draws.
        seed: seed of everything random.

    Raises:
        TeacherError: where the density of one of the two is not known: a program with a condition, or of a latent with
            fewer or more numbers than x, or whose map turns space over at some places and not at others, so that it is
            not one to one; a teacher without a density.
        DataError: too few draws at which the target has mass.
    """
    return _importance(distilled, narrow(teacher) if wide() else teacher, count, seed)


@in_single
def _importance(distilled: Distilled, teacher: AbstractTeacher, count: int, seed: int) -> Weighted:
    _check(distilled, teacher)
    if count < 1:
        raise DataError(f"found a count of {count}, expected 1 or more: draw thousands")
    size, key = min(count, CHUNK), jax.random.key(seed)
    parts = [_draws(jax.random.fold_in(key, start), distilled, teacher, size) for start in range(0, count, size)]
    x, log_ratios, positive = (np.concatenate(arrays)[:count] for arrays in zip(*map(_arrays, parts), strict=True))
    if positive.any() != positive.all():
        share = min(positive.mean(), 1 - positive.mean())
        raise TeacherError(
            f"the Jacobian of the program {distilled.problem.name} has one sign at {share:.1%} of its draws and "
            "another at the rest; expected a map that is one to one, without which the density of x is not known. "
            "Build the program of em.networks.CouplingFlow."
        )
    log_weights, k_hat = pareto_smoothed(log_ratios.astype(np.float64))
    return Weighted(x, log_ratios.astype(np.float64), log_weights, k_hat)


class _Draws(eqx.Module):
    x: Float[Array, "..."]
    log_ratios: Float[Array, "*n"]
    positive: Bool[Array, "*n"]  # whether the Jacobian's determinant is


def _arrays(draws: _Draws) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.asarray(draws.x), np.asarray(draws.log_ratios), np.asarray(draws.positive)


@eqx.filter_jit
def _draws(key: PRNGKeyArray, distilled: Distilled, teacher: AbstractTeacher, count: int) -> _Draws:
    problem, program = distilled.problem, distilled.program

    def one(one_key):
        u = problem.draw(one_key, program)
        flat, unravel = ravel_pytree(u)
        jacobian = jax.jacfwd(lambda v: problem.generate(program, unravel(v)).reshape(-1))(flat)
        sign, log_det = jnp.linalg.slogdet(jacobian)
        x = problem.generate(program, u)
        return _Draws(x, log_density(teacher, x) - (problem.log_base(program, u) - log_det), sign > 0)

    return jax.vmap(one)(jax.random.split(key, count))


def log_density(teacher: AbstractTeacher, x: Float[Array, "..."], condition: Condition = None) -> Array:
    """Log q of one noiseless x, up to a constant.

    Raises:
        TeacherError: where it is not known.
    """
    if isinstance(teacher, AbstractDensity):
        return teacher.log_q(x)
    if isinstance(teacher, AbstractExactTeacher):
        return teacher.log_density(x, jnp.zeros((), x.dtype), condition)
    raise TeacherError(
        f"importance weights need the target's density; a {type(teacher).__name__} knows its score alone. Teachers "
        "with a density: em.posterior, em.Density, em.Flow, em.GaussianMixture."
    )


def _check(distilled: Distilled, teacher: AbstractTeacher) -> None:
    problem = distilled.problem
    if problem.condition is not None:
        raise TeacherError(
            f"importance weights are for programs without a condition; {problem.name} has {problem.condition.words}."
        )
    latent = sum(int(np.prod(site.base_shape)) for site in problem.sites)
    size = int(np.prod(problem.output.shape))
    if latent != size:
        raise TeacherError(
            f"the program {problem.name} makes {size} numbers of {latent}; expected as many latent numbers as x has, "
            "so that the density of x is known. Build it of em.networks.CouplingFlow."
        )
    jax.eval_shape(lambda x: log_density(teacher, x), jax.ShapeDtypeStruct(problem.output.shape, jnp.float32))
