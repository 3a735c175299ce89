"""What a fit of few parameters leaves to climb: gradients at the fitted program against their noise, in nats."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pplemd.dsl import Program
from pplemd.learning.newton import FORMS, REACH, newton_step, spectrum

BATCHES, ROUNDS = 8, 8  # of E-steps whose mean gradients are compared; a batch before them is not looked at
SHARES = 8  # halvings of a move
OTHERS = 0.1  # of how far is far: parameters that go less far with others are not what goes there

Positions = dict[str, Float[Array, "..."]]
Draws = tuple[Int[Array, "..."], Positions]  # rows, and where their chains are; a leading dimension for each of them


class Remaining(eqx.Module):
    """What the next M-step would gain at the averaged program.

    Attributes:
        gain: nats by which the likelihood would rise at least, g^T H^-1 g / 2 without the bias of noise in g; less
            where the draws say that the move gains less.
        error: its standard error, over batches of E-steps.
        move: what that M-step would add to each parameter.
        loss: nats that the likelihood would lose at most if a parameter went as far again as it is from 0, or by 1, to
            the better side, alone or with the others on the way of the move: about 0 where the data say nothing of it,
            or where it is on its way to infinity.
    """

    gain: Float[Array, ""]
    error: Float[Array, ""]
    move: Program
    loss: Program


class AbstractClimb(eqx.Module):
    """The complete-data log-likelihood as a function of the parameters, negated, at draws of the fitted program."""

    @abstractmethod
    def value(self, theta: Float[Array, " p"], form: int, draws: Draws) -> Float[Array, ""]:
        """That function, at the chains' positions, in one form of the latents."""

    @abstractmethod
    def moved(self, positions: Positions, key: PRNGKeyArray) -> tuple[Positions, Draws]:
        """An E-step: where all chains are then, and the draws of those that it moved."""

    def lost(
        self, at: Float[Array, " p"], form: int, moves: Float[Array, "moves p"], draws: Draws
    ) -> Float[Array, " moves"]:
        """What moves lose by it, in the mean of draws."""

        def mean(move: Array) -> Array:
            return jnp.mean(jax.lax.map(lambda one: self.value(at + move, form, one), draws))

        return jax.lax.map(mean, moves) - mean(jnp.zeros_like(at))

    def batch(
        self, at: Float[Array, " p"], positions: Positions, key: PRNGKeyArray
    ) -> tuple[Positions, tuple[Float[Array, "forms p"], Float[Array, "forms p p"], Draws]]:
        """E-steps: where the chains are then, and in each form the mean gradient; the Hessian at the last draws."""

        def one(positions, round_key):
            positions, draws = self.moved(positions, round_key)
            slopes = jnp.stack([jax.grad(self.value)(at, form, draws) for form in range(FORMS)])
            return positions, (slopes, draws)

        positions, (slopes, draws) = jax.lax.scan(one, positions, jax.random.split(key, ROUNDS))
        last = jax.tree.map(lambda leaf: leaf[-1], draws)
        bends = jnp.stack([jax.hessian(self.value)(at, form, last) for form in range(FORMS)])
        return positions, (slopes.mean(axis=0), bends, last)


@eqx.filter_jit
def remaining(
    climb: AbstractClimb,
    at: Float[Array, " p"],
    unravel: Callable[[Float[Array, " p"]], Program],
    positions: Positions,
    rows: int,
    key: PRNGKeyArray,
) -> Remaining:
    """What is left to climb at the parameters of a fit.

    At the greatest likelihood, the gradient of the complete-data log-likelihood is 0 on average over the posterior.
    The likelihood rises at least as much as that function of the draws in the mean. Both forms of the latents say so
    of the same likelihood, and the one that finds more is right.

    Source: Dempster, Laird and Rubin 1977 (gain); Caffo, Jank and Jones 2005 (against its Monte Carlo error).

    Args:
        climb: the function that is climbed.
        at: the fitted parameters.
        unravel: makes a program's parameters of them.
        positions: where the chains are, which go on from there.
        rows: that the likelihood has, where `climb` is of one of them.
        key: a key.
    """
    keys = jax.random.split(key, BATCHES + 1)
    _, (slopes, bends, draws) = jax.lax.scan(lambda where, one: climb.batch(at, where, one), positions, keys)
    reach = REACH * jnp.maximum(1.0, jnp.abs(at))
    found = [_gain(slopes[1:, form], bends[1:, form].mean(axis=0), reach) for form in range(FORMS)]
    gains, errors, moves = map(jnp.stack, zip(*found, strict=True))
    shares = 0.5 ** jnp.arange(float(SHARES))[:, None]  # in truth: far away, curvature alone says too much
    climbed = [-jnp.min(climb.lost(at, form, shares * moves[form][None], draws)) for form in range(FORMS)]
    gains = jnp.minimum(gains, jnp.stack(climbed))
    best = jnp.argmax(gains)
    ways, turns = _ways(moves[best], reach / REACH)
    losses = jnp.stack([climb.lost(at, form, ways, draws) for form in range(FORMS)])
    losses = jnp.where(jnp.isnan(losses), jnp.inf, losses).min(axis=0)  # the likelihood loses less than in either form
    least = jnp.where(turns, losses[:, None], jnp.inf).min(axis=0)
    return Remaining(rows * gains[best], rows * errors[best], unravel(moves[best]), unravel(rows * least))


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
