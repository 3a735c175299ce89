"""Whether a fit has converged: from the lines of its metrics.jsonl, and from what its gradients leave to climb."""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.dsl import Program
from pplemd.learning.alarms import Alarm, History
from pplemd.learning.optimisers import FORMS, REACH, AbstractOptimiser, newton_step, spectrum
from pplemd.learning.training import Training

LAST = 0.5  # share of the steps whose lines are looked at
LEAST = 6  # lines, from which a trend can be known
SURE = 4.0  # standard errors, more where there are few lines: for so many figures, 4.0 is one run in a thousand
NATS = 0.25  # of the likelihood: half of what one standard error of one parameter is worth
RISE = 1.0  # nats of log p(y, u) over the last part
FLAT = 1e-4  # nats: all that holds a parameter whose standard error is 70 times its size
UNSURE = 2.0  # nats of error from which nothing can be known
ENDLESS = "the gradient or the curvature of log p(y) is not finite where it ended: a scale of 0, or of infinity?"
FLATNESS = "here: the data say nothing of it, or it would go on to infinity (a scale to 0, a separated class)"
UNIDENTIFIED = "start elsewhere, in `program`; or fix it, leave it out, or make it a latent with a prior"


@dataclasses.dataclass(frozen=True)
class Drift:
    """The trend of a series against its noise.

    Attributes:
        rise: of the line of least squares, from the first to the last.
        error: its standard error; autocorrelated noise counts as of fewer.
        effective: independent draws that the series is worth: a trended one is worth hardly any.
        lines: how many lines it has.
    """

    rise: float
    error: float
    effective: float
    lines: int

    @property
    def sure(self) -> bool:
        """Whether there is a trend beyond the noise."""
        return abs(self.rise) > SURE * (1 + 4 / (self.lines - 2)) * self.error  # about the t distribution's quantiles


@dataclasses.dataclass(frozen=True)
class Convergence:
    """Whether a fit's parameters are where the likelihood is greatest.

    Attributes:
        converged: None where it cannot be known.
        found: why, in a sentence.
        repair: what to change; empty where nothing is to be.
        gain: nats that one more M-step would gain at least, where the program has few parameters.
        gain_error: its standard error.
        moves: what that step would add to parameters, by their names.
        flat: parameters that log p(y) hardly depends on there.
        log_joint: the trend of log p(y, u) over the last part of the run.
        parameters: the trends of parameters.
    """

    converged: bool | None
    found: str
    repair: str
    gain: float | None
    gain_error: float | None
    moves: dict[str, float]
    flat: tuple[str, ...]
    log_joint: Drift | None
    parameters: dict[str, Drift]


def drift(values: Float[np.ndarray, " lines"]) -> Drift | None:
    """The trend of a series; None of a short one, or one that is not finite.

    Errors are those of least squares, times sqrt((1 + r) / (1 - r)) for residuals of autocorrelation r at lag 1, whose
    estimate is freed of its bias.

    Source: Santer et al. 2000, section 3 (trends in autocorrelated series); Marriott and Pope 1954 (the bias).
    """
    count = len(values)
    if count < LEAST or not np.all(np.isfinite(values)):
        return None
    at = np.arange(count) - (count - 1) / 2
    slope = float(at @ values / (at @ at))
    residual = values - values.mean() - slope * at
    r = _lagged(residual)
    r = min(max(r + (2 + 4 * r) / count, 0.0), 0.95)
    error = math.sqrt(float(residual @ residual) / (count - 2) / float(at @ at) * (1 + r) / (1 - r))
    own = min(max(_lagged(values - values.mean()), 0.0), 0.99)
    return Drift(slope * (count - 1), error * (count - 1), count * (1 - own) / (1 + own), count)


def _lagged(x: Float[np.ndarray, " lines"]) -> float:
    """Autocorrelation at lag 1 of what has mean 0."""
    square = float(x @ x)
    return float(x[1:] @ x[:-1]) / square if square > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class HowFitted:
    """What a verdict's advice names.

    Attributes:
        training: the fit's numbers.
        optimiser: of the program.
        chains: of the latents, where all data are looked at together.
        minibatches: whether a step looks at some rows.
    """

    training: Training
    optimiser: AbstractOptimiser
    chains: int
    minibatches: bool


def convergence(history: History, how: HowFitted, size: int = 1) -> Convergence:
    """Judge a fit by the lines of its metrics.jsonl.

    Args:
        history: the lines, the newest last.
        how: the fit.
        size: rows that the likelihood has, where log p(y, u) is told for one of them.
    """
    newest: Mapping[str, Any] = history[-1] if history else {}
    done = newest.get("step", 0)
    kept = [line for line in history if line["step"] > (1 - LAST) * done and "log_joint" in line]
    names = dict.fromkeys(name for line in kept for name in line if name.startswith("parameter_"))
    trends = {name: drift(_series(kept, name)) for name in names}
    joint = drift(_series(kept, "log_joint"))
    moves, losses = _named(newest, "move_"), _named(newest, "loss_of_")
    flat = tuple(name for name, value in losses.items() if value is not None and value < FLAT)
    verdict = _verdict(joint, newest, size, done - round((1 - LAST) * done))
    return Convergence(
        *_unless_flat(*verdict, flat, how),
        newest.get("gain"),
        newest.get("gain_error"),
        {name: value for name, value in moves.items() if value is not None},
        flat,
        joint,
        {name.removeprefix("parameter_"): trend for name, trend in trends.items() if trend is not None},
    )


def fit_alarms(history: History, how: HowFitted, size: int = 1) -> tuple[Alarm, ...]:
    """What the newest line gives reason to be alarmed about: at the end of a fit, that it has not converged."""
    if not history or history[-1]["step"] < how.training.steps:
        return ()
    found = convergence(history, how, size)
    if found.converged is not False:
        return ()
    return (Alarm("not_converged", found.found, "its parameters are no estimates yet", found.repair),)


def _unless_flat(
    converged: bool | None, found: str, flat: tuple[str, ...], how: HowFitted
) -> tuple[bool | None, str, str]:
    """A verdict, why, and what to change; of a likelihood that is flat, that it has converged cannot be known."""
    if not converged:
        return converged, found, _repair(how)
    if not flat:
        return True, found, ""
    return None, f"{found}, but log p(y) hardly depends on {', '.join(flat)} {FLATNESS}", UNIDENTIFIED


def _verdict(joint: Drift | None, newest: Mapping[str, Any], size: int, last: int) -> tuple[bool | None, str]:
    """Whether it has converged, and why, in a sentence."""
    gain, error = newest.get("gain"), newest.get("gain_error")
    if "gain" in newest and (gain is None or error is None):
        return False, ENDLESS
    if gain is not None and error is not None and gain - 2 * error > NATS:
        return False, f"one more M-step would raise log p(y) by at least {gain:.3g} nats (+- {2 * error:.2g})"
    if joint is not None and joint.sure and abs(joint.rise) * size > RISE:
        rises = "rose" if joint.rise > 0 else "fell"
        each = " for each row" if size > 1 else ""
        found = f"log p(y, u) still {rises} by {abs(joint.rise):.3g}{each} (+- {2 * joint.error:.2g})"
        return False, f"{found} over the last {last:,} steps"
    if gain is not None and error is not None:
        if error > UNSURE:
            return None, f"what one more M-step would gain cannot be told: {gain:.3g} nats +- {2 * error:.2g}"
        return True, f"one more M-step would gain {max(0.0, gain):.2g} nats (+- {2 * error:.2g})"
    if joint is None:
        return None, f"fewer than {LEAST} lines of metrics.jsonl tell of the last {last:,} steps"
    if abs(joint.rise) > 2 * joint.error:
        return (
            None,
            f"log p(y, u) may have moved by {joint.rise:.3g} (+- {2 * joint.error:.2g}) in the last {last:,} steps",
        )
    return True, f"log p(y, u) was level over the last {last:,} steps, to {2 * joint.error:.2g}"


def _repair(how: HowFitted) -> str:
    """What usually helps."""
    more = f"more steps, --set training.steps={2 * how.training.steps}, in a new run"
    noisy = f"training.batch={2 * how.training.batch}" if how.minibatches else f"algorithm.chains={2 * how.chains}"
    own = [field.name for field in dataclasses.fields(how.optimiser)]
    rate = "a larger algorithm.optimiser.learning_rate, or --set algorithm.optimiser=newton"
    rates = [rate] if "learning_rate" in own else []
    return "; or ".join([more, *rates, f"less noise, --set {noisy}", "start nearer, in `program`"])


def _named(line: Mapping[str, Any], begin: str) -> dict[str, float | None]:
    """Figures of a line whose names begin so, without that; None for what is not finite."""
    return {name.removeprefix(begin): value for name, value in line.items() if name.startswith(begin)}


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> Float[np.ndarray, " lines"]:
    """A figure along the lines that hold it; NaN for what is not finite."""
    return np.asarray([math.nan if line[name] is None else line[name] for line in lines if name in line], float)


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
    # where parameters may go: each alone to both sides, and all as the move says; and which ones go far there
    move = moves[best]
    own = reach / REACH
    alone = jnp.diag(own)
    together = move / jnp.maximum(jnp.max(jnp.abs(move) / own), jnp.finfo(own.dtype).tiny)
    ways = jnp.concatenate([alone, -alone, together[None]])
    ways, turns = ways, jnp.abs(ways) > OTHERS * own[None]
    losses = jnp.stack([climb.lost(at, form, ways, draws) for form in range(FORMS)])
    losses = jnp.where(jnp.isnan(losses), jnp.inf, losses).min(axis=0)  # the likelihood loses less than in either form
    least = jnp.where(turns, losses[:, None], jnp.inf).min(axis=0)
    return Remaining(rows * gains[best], rows * errors[best], unravel(moves[best]), unravel(rows * least))


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
