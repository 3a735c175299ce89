"""Whether a fit has converged: told from the lines of its metrics.jsonl alone. Pure functions."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pplemd.learning.alarms import Alarm, History
from pplemd.learning.optimisers import AbstractOptimiser
from pplemd.learning.training import Training

LAST = 0.5  # share of the steps whose lines are looked at
LEAST = 6  # lines, from which a trend can be told
SURE = 4.0  # standard errors, more where there are few lines: for so many figures, 4.0 is one run in a thousand
NATS = 0.25  # of the likelihood: half of what one standard error of one parameter is worth
RISE = 1.0  # nats of log p(y, u) over the last part
FLAT = 1e-4  # nats: all that holds a parameter whose standard error is 70 times its size
UNSURE = 2.0  # nats of error from which nothing can be told
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
        return abs(self.rise) > SURE * (1 + 4 / (self.lines - 2)) * self.error  # about the t law's quantiles


@dataclasses.dataclass(frozen=True)
class Convergence:
    """Whether a fit's parameters are where the likelihood is greatest.

    Attributes:
        converged: None where it cannot be told.
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
    """A verdict, why, and what to change; of a likelihood that is flat, that it has converged cannot be told."""
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
