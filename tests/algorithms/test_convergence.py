"""Whether a fit has converged, from made-up lines of metrics.jsonl: trends are found, slow noise is none."""

import numpy as np
import pytest

from pplemd.algorithms import MonteCarloEM, convergence
from pplemd.algorithms.convergence import drift, fit_alarms
from pplemd.learning import Adam, Training


def wandering(seed, count, r):
    """A stationary series of autocorrelation r."""
    noise = np.random.default_rng(seed).standard_normal(count + 100)
    x = np.zeros(count + 100)
    for place in range(1, count + 100):
        x[place] = r * x[place - 1] + noise[place]
    return x[100:]


@pytest.mark.parametrize(("count", "rise"), [(6, 40.0), (20, 10.0), (40, 10.0)])
def test_a_trend_is_found_and_leaves_few_effective_draws(count, rise):
    found = drift(np.linspace(0.0, rise, count) + wandering(1, count, 0.0))
    assert found.sure
    assert abs(found.rise - rise) < 4 * found.error
    assert found.effective < count / 2


@pytest.mark.parametrize(("r", "most"), [(0.0, 0.01), (0.6, 0.02), (0.8, 0.05)])
def test_a_stationary_series_has_no_trend_though_it_is_autocorrelated(r, most):
    found = [drift(wandering(seed, 20, r)) for seed in range(400)]
    assert np.mean([one.sure for one in found]) < most
    worth = 20 * (1 - r) / (1 + r)
    assert worth / 2 < np.median([one.effective for one in found]) < worth * 2.5  # r is found too low in 20 lines


def test_of_a_short_series_or_one_that_is_not_finite_no_trend_is_told():
    assert drift(np.arange(5.0)) is None
    assert drift(np.asarray([1.0, 2.0, np.nan, 3.0, 4.0, 5.0, 6.0])) is None
    assert drift(np.ones(8)).rise == 0.0


def lines(joint, **last):
    made = [{"step": 10 * (at + 1), "log_joint": float(x), "parameter_a": 0.01 * at} for at, x in enumerate(joint)]
    return [*made[:-1], {**made[-1], **last}]


HOW = MonteCarloEM().how(Training(steps=400))
LEVEL, RISING = wandering(3, 40, 0.3), 0.5 * np.arange(40) + wandering(3, 40, 0.0)


def test_what_is_left_to_climb_decides():
    near, far = lines(LEVEL, gain=0.01, gain_error=0.02), lines(LEVEL, gain=8.0, gain_error=0.1, move_a=0.5)
    assert convergence(near, HOW).converged is True
    assert convergence(near, HOW).repair == ""
    told = convergence(far, HOW)
    assert told.converged is False
    assert told.moves == {"a": 0.5}
    assert "at least 8 nats" in told.found
    assert "--set training.steps=800" in told.repair
    assert told.parameters["a"].sure
    assert convergence(lines(LEVEL, gain=1.0, gain_error=5.0), HOW).converged is None


def test_a_program_whose_gradient_is_not_finite_has_not_converged():
    told = convergence(lines(LEVEL, gain=None, gain_error=None, move_a=None), HOW)
    assert told.converged is False
    assert told.moves == {}
    assert "not finite" in told.found


def test_a_parameter_that_nothing_holds_is_named():
    flat = dict(gain=0.0, gain_error=0.01, loss_of_a=50.0, loss_of_b=0.0)
    told = convergence(lines(LEVEL, **flat), HOW)
    assert (told.converged, told.flat) == (None, ("b",))
    assert "hardly depends on b here" in told.found
    assert "prior" in told.repair
    assert convergence(lines(LEVEL, **{**flat, "gain": 8.0}), HOW).converged is False


def test_where_that_is_not_known_the_trend_does():
    assert convergence(lines(LEVEL), HOW).converged is True
    assert convergence(lines(RISING), HOW).converged is False
    assert convergence(lines(RISING, gain=0.0, gain_error=0.01), HOW).converged is False
    assert convergence(lines(LEVEL[:6]), HOW).converged is None
    assert convergence([], HOW).converged is None


def test_an_alarm_is_raised_at_the_end_alone_and_names_what_the_fit_has():
    how = MonteCarloEM(optimiser=Adam()).how(Training(steps=400))
    (alarm,) = fit_alarms(lines(RISING), how)
    assert alarm.name == "not_converged"
    assert "optimiser.learning_rate" in alarm.repair
    assert fit_alarms(lines(RISING)[:-1], how) == ()
    assert fit_alarms(lines(LEVEL), how) == ()
