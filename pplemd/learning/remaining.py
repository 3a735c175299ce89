"""What a fit of few parameters leaves to climb: gradients at the fitted program against their noise, in nats."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from pplemd.dsl import Program
from pplemd.learning.monte_carlo import FitState, FitStep
from pplemd.learning.newton import FORMS, REACH, Newton, newton_step, spectrum

CHECK = 2**32 - 3  # folded into the run's key: no step has this number, so that training never uses these keys
BATCHES, ROUNDS = 8, 8  # of E-steps whose mean gradients are compared; a batch before them is not looked at
SHARES = 8  # halvings of a move
OTHERS = 0.1  # of how far is far: parameters that go less far with others are not what goes there

Draws = tuple[Array, dict[str, Array]]  # rows, and where their chains are; a leading dimension for each of them


class Remaining(eqx.Module):
    """What the next M-step would gain at the averaged program.

    Attributes:
        gain: nats by which the likelihood would rise at least, g^T H^-1 g / 2 without the bias of noise in g; less
            where the draws say that the move gains less.
        error: its standard error, over batches of E-steps.
        move: what that M-step would add to each parameter.
        held: nats that the likelihood would lose at most if a parameter went as far again as it is from 0, or by 1, to
            the better side, alone or with the others on the way of the move: about 0 where the data say nothing of it,
            or where it is on its way to infinity.
    """

    gain: Float[Array, ""]
    error: Float[Array, ""]
    move: Program
    held: Program


def remaining(step: FitStep, key: PRNGKeyArray, state: FitState) -> Remaining | None:
    """Ask what is left to climb; None of a program of many parameters.

    At the greatest likelihood, the gradient of the complete-data log-likelihood is 0 on average over the posterior.
    The likelihood rises at least as much as that function of the draws in the mean. Both forms of the latents say so
    of the same likelihood, and the one that finds more is right.

    Source: Dempster, Laird and Rubin 1977 (gain); Caffo, Jank and Jones 2005 (against its Monte Carlo error).

    Args:
        step: the step of the fit.
        key: the run's key.
        state: the state to look at; its chains go on from where they are, at the averaged program.
    """
    parameters, _ = step.problem.split(state.average)
    if sum(leaf.size for leaf in jax.tree.leaves(parameters)) > Newton().most:
        return None
    return _remaining(step, jax.random.fold_in(key, CHECK), state)


class _Slope(eqx.Module):
    """The complete-data log-likelihood as a function of the parameters, negated, at draws of the averaged program."""

    step: FitStep
    state: FitState

    def value(self, theta: Float[Array, " p"], form: int, rows: Array, after: dict[str, Array]) -> Array:
        """That function, at the chains' positions, in one form of the latents."""
        moving, fixed = self.step.problem.split(self.state.average)
        lam = jax.tree.map(lambda leaf: jnp.full_like(leaf, form), self.state.centering)
        held = self.step.recast(self.state.average, rows, after, self.state.centering, lam)
        return self.step.loss(eqx.combine(ravel_pytree(moving)[1](theta), fixed), rows, held, lam)

    def lost(self, at: Float[Array, " p"], form: int, moves: Float[Array, "moves p"], draws: Draws) -> Array:
        """What moves lose by it, in the mean of draws."""

        def mean(move: Array) -> Array:
            return jnp.mean(jax.lax.map(lambda one: self.value(at + move, form, *one), draws))

        return jax.lax.map(mean, moves) - mean(jnp.zeros_like(at))

    def batch(self, at: Float[Array, " p"], positions: dict[str, Array], key: PRNGKeyArray):
        """E-steps: where the chains are then, and in each form the mean gradient; the Hessian at the last draws."""

        def one(positions, round_key):
            key_rows, key_chain = jax.random.split(round_key)
            rows = self.step.rows(key_rows, self.state)
            before = jax.tree.map(lambda leaf: leaf[rows], positions)
            after = self.step.e_step(self.state.average, key_chain, rows, before, self.state)[0]
            slopes = jnp.stack([jax.grad(self.value)(at, form, rows, after) for form in range(FORMS)])
            positions = jax.tree.map(lambda all_, new: all_.at[rows].set(new), positions, after)
            return positions, (slopes, rows, after)

        positions, (slopes, rows, after) = jax.lax.scan(one, positions, jax.random.split(key, ROUNDS))
        last = jax.tree.map(lambda leaf: leaf[-1], (rows, after))
        bends = jnp.stack([jax.hessian(self.value)(at, form, *last) for form in range(FORMS)])
        return positions, (slopes.mean(axis=0), bends, last)


@eqx.filter_jit
def _remaining(step: FitStep, key: PRNGKeyArray, state: FitState) -> Remaining:
    at, unravel = ravel_pytree(step.problem.split(state.average)[0])
    slope, keys = _Slope(step, state), jax.random.split(key, BATCHES + 1)
    _, (slopes, bends, draws) = jax.lax.scan(lambda now, one: slope.batch(at, now, one), state.positions, keys)
    reach = REACH * jnp.maximum(1.0, jnp.abs(at))
    found = [_gain(slopes[1:, form], bends[1:, form].mean(axis=0), reach) for form in range(FORMS)]
    gains, errors, moves = map(jnp.stack, zip(*found, strict=True))
    shares = 0.5 ** jnp.arange(float(SHARES))[:, None]  # in truth: far away, curvature alone says too much
    climbed = [-jnp.min(slope.lost(at, form, shares * moves[form][None], draws)) for form in range(FORMS)]
    gains = jnp.minimum(gains, jnp.stack(climbed))
    best = jnp.argmax(gains)
    ways, turns = _ways(moves[best], reach / REACH)
    losses = jnp.stack([slope.lost(at, form, ways, draws) for form in range(FORMS)])
    losses = jnp.where(jnp.isnan(losses), jnp.inf, losses).min(axis=0)  # the likelihood loses less than in either form
    held = jnp.where(turns, losses[:, None], jnp.inf).min(axis=0)
    size = 1 if step.recipe.rows is None else jax.tree.leaves(state.positions)[0].shape[0]
    return Remaining(size * gains[best], size * errors[best], unravel(moves[best]), unravel(size * held))


def _ways(move: Float[Array, " p"], own: Float[Array, " p"]) -> tuple[Float[Array, "ways p"], Bool[Array, "ways p"]]:
    """Where parameters may go: each alone to both sides, and all as the move says; and which ones go far there.

    Args:
        move: of the next M-step.
        own: how far is far.
    """
    alone = jnp.diag(own)
    together = move / jnp.maximum(jnp.max(jnp.abs(move) / own), jnp.finfo(own.dtype).tiny)
    ways = jnp.concatenate([alone, -alone, together[None]])
    return ways, jnp.abs(ways) > OTHERS * own[None]


def _gain(
    slopes: Float[Array, "batches p"], curvature: Float[Array, "p p"], reach: Float[Array, " p"]
) -> tuple[Array, Array, Array]:
    """Gain, its error by the jackknife, and the move: of pairs of different batches, whose noise is independent."""
    mean, count = slopes.mean(axis=0), slopes.shape[0]
    scale, values, vectors = spectrum(mean, curvature, reach)
    white = jax.vmap(lambda slope: vectors.T @ (slope / scale) / jnp.sqrt(values))(slopes)
    total, own = white.sum(axis=0), jnp.sum(white**2, axis=1)
    gain = (jnp.sum(total**2) - jnp.sum(own)) / (2 * count * (count - 1))
    others = jax.vmap(lambda one: jnp.sum((total - one) ** 2))(white) - (jnp.sum(own) - own)
    without = others / (2 * (count - 1) * (count - 2))
    error = jnp.sqrt((count - 1) * jnp.mean((without - without.mean()) ** 2))
    return gain, error, newton_step(mean, curvature, reach)
