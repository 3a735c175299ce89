"""The marginal likelihood p(y) = E[p(y | T(u))] of a program that observes data, by draws of its latents.

Each estimator gives log of an unbiased estimate of p(y), so that on average it lies below log p(y) (Jensen). All can be
differentiated in the program: the draws are of base noise, which depends on no parameter.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.dsl import Problem, Program
from pplemd.errors import ProgramError
from pplemd.inference.kernels import HMC, AbstractKernel, sized
from pplemd.inference.target import Potential, TiltedTarget, posterior_target

FEWEST = 32  # draws that find step sizes
FEWEST_EFFECTIVE = 10.0  # of fewer weights the s.d. is a guess: n equal ones and the rest 0 level off at an error of 1
NARROWEST = 1e-6  # of a coordinate's own s.d.: float32 resolves no narrower ridge
FIRST, RATE, LEAST = (
    0.3,
    0.5,
    1e-5,
)  # in s.d. of a coordinate; of log size, per level; a step of a coordinate that stays


class Marginal(eqx.Module):
    """An estimate of log p(y), and what it is made of.

    Attributes:
        value: the estimate, in nats.
        log_weights: its terms: log of an estimate of p(y) from each draw alone.
    """

    value: Float[Array, ""]
    log_weights: Float[Array, " draws"]

    @property
    def error(self) -> Float[Array, ""]:
        """Standard error of the value, by the delta method: s.d. of the weights over their mean and sqrt(draws).

        NaN below ten effective draws: what one draw is the whole of has no s.d., and this figure levels off at 1.
        """
        weights = jnp.exp(self.log_weights - jnp.max(self.log_weights))
        error = jnp.std(weights, ddof=1) / (jnp.mean(weights) * jnp.sqrt(weights.size))
        return jnp.where(self.effective >= FEWEST_EFFECTIVE, error, jnp.nan)

    @property
    def effective(self) -> Float[Array, ""]:
        """Effective number of draws, (sum w)^2 / sum w^2: near 1, one draw is the whole estimate."""
        weights = jnp.exp(self.log_weights - jnp.max(self.log_weights))
        return jnp.sum(weights) ** 2 / jnp.sum(weights**2)


def _estimate(log_weights: Float[Array, " draws"]) -> Marginal:
    return Marginal(jax.nn.logsumexp(log_weights) - jnp.log(log_weights.size), log_weights)


def marginal(key: PRNGKeyArray, problem: Problem, program: Program, draws: int) -> Marginal:
    """Log of the mean of p(y | T(u)) over draws of the prior.

    Args:
        key: a key.
        problem: a traced program that observes data.
        program: its networks.
        draws: how many.

    Source: arXiv:1402.0480, section 5.2 (the Monte Carlo estimator of the marginal likelihood, differentiable
        non-centered form).
    """

    def one(draw_key: PRNGKeyArray) -> Array:
        return problem.log_likelihood(program, problem.draw(draw_key, program))

    return _estimate(jax.vmap(one)(jax.random.split(key, draws)))


class Proposal(eqx.Module):
    """A normal distribution of base coordinates, each by itself or correlated, wider than what it was fitted to.

    Attributes:
        mean: by coordinate.
        scale: lower triangular.
        unravel: from a flat vector to base coordinates.
    """

    mean: Float[Array, " n"]
    scale: Float[Array, "n n"]
    unravel: Callable[[Array], PyTree] = eqx.field(static=True)

    def draw(self, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, ""]]:
        """One draw and its log density."""
        noise = jax.random.normal(key, self.mean.shape)
        log_det = jnp.sum(jnp.log(jnp.diag(self.scale)))
        moved = jnp.matmul(self.scale, noise, precision=jax.lax.Precision.HIGHEST)  # the density is that of this point
        return self.unravel(self.mean + moved), jnp.sum(norm.logpdf(noise)) - log_det


def normal_proposal(positions: PyTree, inflation: float = 1.2) -> Proposal:
    """The normal distribution of draws of the posterior, its scale inflated so that its tails cover theirs.

    The scale is R^T of A = QR, A the draws in units of each coordinate's own s.d.: a posterior far narrower than the
    prior, or a ridge, keeps its width, which the square of A, the covariance, would lose in 32 bits.

    Args:
        positions: base coordinates, each leaf with one leading dimension: draws.
        inflation: of the standard deviations.

    Raises:
        ProgramError: fewer than two draws for each coordinate.
    """
    flat = jax.vmap(lambda u: ravel_pytree(u)[0])(positions)
    if flat.shape[0] < 2 * flat.shape[1]:
        raise ProgramError(
            f"a normal proposal over {flat.shape[1]} coordinates was given {flat.shape[0]} draws; expected at least "
            f"{2 * flat.shape[1]}. Draw longer chains."
        )
    unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], positions))[1]
    mean = jnp.mean(flat, axis=0)
    centred = flat - mean[None]
    spacing = jnp.finfo(flat.dtype).eps * jnp.maximum(jnp.abs(mean), 1.0)  # of a coordinate that never moved
    own = jnp.maximum(jnp.std(centred, axis=0, ddof=1), spacing)
    factor = jnp.linalg.qr(centred / own[None], mode="r") / jnp.sqrt(flat.shape[0] - 1.0)
    diagonal = jnp.diag(factor)
    factor = jnp.where(diagonal < 0, -1.0, 1.0)[:, None] * factor
    factor = factor + jnp.diag(jnp.maximum(NARROWEST - jnp.abs(diagonal), 0.0))
    return Proposal(mean, inflation * own[:, None] * factor.T, unravel)


def importance_marginal(
    key: PRNGKeyArray, problem: Problem, program: Program, proposal: Proposal, draws: int
) -> Marginal:
    """Log of the mean of p(y | T(u)) p(u) / r(u) over draws of a proposal r near the posterior.

    Args:
        key: a key.
        problem: a traced program that observes data.
        program: its networks.
        proposal: r, as of `normal_proposal`.
        draws: how many.

    Source: arXiv:1402.0480, section 5.2; arXiv:1401.4082, appendix (importance sampling by an approximate posterior).
    """

    def one(draw_key: PRNGKeyArray) -> Array:
        u, log_proposal = proposal.draw(draw_key)
        return problem.log_likelihood(program, u) + problem.log_base(program, u) - log_proposal

    return _estimate(jax.vmap(one)(jax.random.split(key, draws)))


def tempered(target: TiltedTarget, inverse_temperature: Float[Array, ""] | float) -> TiltedTarget:
    """The target with its potential scaled: the base at 0, the target itself at 1.

    Raises:
        ProgramError: where only the gradient of the potential is known.
    """
    if not isinstance(target.potential, Potential):
        raise ProgramError("annealing needs the value of the potential; this target knows its gradient alone.")
    value = target.potential.value
    return TiltedTarget(target.push, Potential(lambda x: inverse_temperature * value(x)), target.log_base)


def annealed_marginal(
    key: PRNGKeyArray,
    problem: Problem,
    program: Program,
    draws: int,
    levels: int = 100,
    kernel: AbstractKernel | None = None,
) -> Marginal:
    """Annealed importance sampling: each draw goes from the prior to the posterior through tempered likelihoods.

    The weight of a draw is the product over levels of p(y | T(u))^(change of inverse temperature), u moved by a kernel
    that leaves each tempered target as it is. Inverse temperatures are fourth powers of an even grid: most are near 0,
    where the likelihood varies most. A kernel without a step size gets one for each level and coordinate, by a pilot of
    as many draws: their s.d. there, times a factor that the acceptance so far called for. The draws of the estimate
    are others, so that it stays unbiased.

    Args:
        key: a key.
        problem: a traced program that observes data.
        program: its networks.
        draws: how many.
        levels: inverse temperatures, one transition each.
        kernel: an adjusted kernel; by default HMC of 5 leapfrogs.

    Source: Neal 2001, "Annealed importance sampling", Statistics and Computing 11, equations 3 to 11.
    """
    moving = HMC(None, 5) if kernel is None else kernel
    target = posterior_target(problem, program)
    grid = jnp.linspace(0.0, 1.0, levels + 1) ** 4
    key_pilot, key_run = jax.random.split(key)
    sizes = None
    if moving.step_size is None:
        begun = jax.vmap(lambda k: problem.draw(k, program))(jax.random.split(key_pilot, max(draws, FEWEST)))
        sizes = jax.lax.stop_gradient(_sizes(key_pilot, target, moving, begun, grid[1:]))

    def one(draw_key: PRNGKeyArray) -> Array:
        key_start, key_moves = jax.random.split(draw_key)

        def level(carry: tuple[PyTree, Array], given: tuple[PRNGKeyArray, Array, Array, PyTree]):
            (u, log_weight), (move_key, colder, warmer, size) = carry, given
            log_weight = log_weight + (colder - warmer) * problem.log_likelihood(program, u)
            sure = moving if size is None else sized(moving, size)
            return (_moved(move_key, tempered(target, colder), sure, u)[0], log_weight), None

        start = (problem.draw(key_start, program), jnp.zeros(()))
        inputs = (jax.random.split(key_moves, levels), grid[1:], grid[:-1], sizes)
        return jax.lax.scan(level, start, inputs)[0][1]

    return _estimate(jax.vmap(one)(jax.random.split(key_run, draws)))


def _moved(key: PRNGKeyArray, target: TiltedTarget, kernel: AbstractKernel, u: PyTree) -> tuple[PyTree, Array]:
    """Where one transition goes from u, and its acceptance."""
    key_first, key_step = jax.random.split(key)
    state, info = kernel.step(key_step, kernel.init(key_first, target, u), target)
    return state.position, info.acceptance


def _sizes(
    key: PRNGKeyArray,
    target: TiltedTarget,
    kernel: AbstractKernel,
    begun: PyTree,
    temperatures: Float[Array, " levels"],
) -> PyTree:
    """Step sizes by level and coordinate, found by draws that are moved side by side from the prior to the target.

    Raises:
        ProgramError: where the kernel says nothing of its acceptance.
    """
    wanted = kernel.wanted_acceptance
    if wanted is None:
        raise ProgramError(f"{type(kernel).__name__} accepts everything: annealing needs a kernel that is adjusted.")
    count = jax.tree.leaves(begun)[0].shape[0]

    def level(carry: tuple[PyTree, Array], given: tuple[PRNGKeyArray, Array]):
        (u, log_size), (level_key, colder) = carry, given
        size = jax.tree.map(lambda leaf: jnp.exp(log_size) * jnp.std(leaf, axis=0) + LEAST, u)
        at_level, sure = tempered(target, colder), sized(kernel, size)
        u, acceptance = jax.vmap(lambda k, one: _moved(k, at_level, sure, one))(jax.random.split(level_key, count), u)
        return (u, log_size + RATE * (jnp.mean(jnp.nan_to_num(acceptance)) - wanted)), size

    start = (begun, jnp.log(jnp.asarray(FIRST)))
    return jax.lax.scan(level, start, (jax.random.split(key, temperatures.size), temperatures))[1]
