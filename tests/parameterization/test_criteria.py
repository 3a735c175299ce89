"""Every criterion, through the policy, on a hierarchy that data tell well and on one that they hardly tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_hierarchies import gaussian

from pplemd.errors import RecipeError
from pplemd.inference import HMC, bulk_ess, long_chains
from pplemd.parameterization import (
    VIP,
    Change,
    Curvature,
    Fisher,
    Interleaved,
    Length,
    PilotESS,
    Policy,
    Situation,
    asked,
    interleave,
    parameterize,
    trial,
)

KEY = jax.random.key(0)
KERNEL = HMC(leapfrogs=6)
SHORT = Length(4, 150, 150)
CRITERIA = {
    "fisher": Fisher(),
    "fisher, untied": Fisher(tied=False),
    "curvature": Curvature(),
    "curvature, partial": Curvature(partial=True),
    "vip": VIP(steps=200),
    "pilot ESS": PilotESS((0.0, 1.0), SHORT),
    "interleaved": Interleaved(),
}


@pytest.fixture(scope="module")
def told():
    return gaussian([0.15] * 6)


@pytest.fixture(scope="module")
def untold():
    return gaussian([4.0] * 6)


@pytest.mark.parametrize("name", CRITERIA)
def test_centered_where_data_tell_and_not_where_they_do_not(name, told, untold):
    criterion = CRITERIA[name]
    cases = ((told, 0.85, 1.0), (untold, 0.0, 0.15))
    for known, low, high in cases[: 1 if isinstance(criterion, PilotESS) else 2]:  # chains take their time
        situation = Situation(known.placement, known.pilot, known.law, KERNEL)
        choice = Policy(criterion).choose(KEY, situation)
        loc = np.asarray(choice.lam.loc["theta"])
        assert low <= loc.min() <= loc.max() <= high
        better, worse = (choice.centered, choice.noncentered) if low > 0.5 else (choice.noncentered, choice.centered)
        assert float(better) < float(worse)
        assert float(choice.chosen) <= float(better) * 1.1 + criterion.slack


@pytest.mark.parametrize("partial", [False, True])
def test_the_curvature_rule_centers_where_data_tell_all(partial):
    """1 - kappa is 1e-10 here, which 32 bits round to 0: a cost over it would be no number."""
    known = gaussian([1e-5] * 6)
    choice = Policy(Curvature(partial=partial)).choose(KEY, Situation(known.placement, known.pilot, known.law, KERNEL))
    assert np.isfinite([float(choice.centered), float(choice.noncentered)]).all()
    assert float(choice.centered) < float(choice.noncentered)
    np.testing.assert_allclose(choice.lam.loc["theta"], 1.0, atol=1e-5)


@pytest.mark.parametrize("criterion", [VIP(), PilotESS()], ids=["vip", "pilot ESS"])
def test_criteria_that_ask_the_law_say_so(criterion, told):
    with pytest.raises(RecipeError, match="was given draws alone"):
        criterion.fit(KEY, Situation(told.placement, told.pilot))


def test_vip_finds_kappa():
    known = gaussian([1.0] * 6)
    found = VIP(steps=300).fit(KEY, Situation(known.placement, known.pilot, known.law))
    np.testing.assert_allclose(jnp.mean(found.loc["theta"]), 0.5, atol=0.12)


def test_pilots_lead_to_the_same_choice_as_exact_draws(told):
    choice, made = parameterize(KEY, told.placement, told.law, kernel=KERNEL, length=SHORT)
    assert float(choice.lam.loc["theta"].min()) > 0.85
    assert float(made.r_hat) < 1.1
    np.testing.assert_allclose(choice.kappa["theta"], told.kappa, atol=0.05)
    again = asked(told.law, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), made.u))
    at_zero = told.placement.problem.centering(0.0)
    exact, piloted = (
        float(Fisher().cost(KEY, Situation(told.placement, pilot), at_zero)) for pilot in (told.pilot, again)
    )
    np.testing.assert_allclose(piloted, exact, rtol=0.5)


def test_interleaving_leaves_the_posterior_as_it_is():
    """Moments of long interleaved chains, against exact draws; gradients counted with those of each half's start."""
    known = gaussian([1.0, 0.3, 2.0, 0.5, 1.5, 1.0])
    centering = known.placement.problem.centering
    lams = (centering(1.0), centering(0.0))
    runs = tuple(trial(KEY, known.placement, known.law, KERNEL, lam, SHORT).run for lam in lams)
    kernel = interleave(KERNEL, tuple(Change(known.placement, lam) for lam in lams), runs)
    starts = jax.tree.map(lambda leaf: leaf[:8], known.pilot.u)
    run = jax.jit(lambda key: long_chains(key, known.law, kernel, starts, 10, 400))(KEY)
    np.testing.assert_array_equal(run.gradients, 400 * 2 * (6 + 1))
    for name in ("mu", "theta"):
        draws = run.positions[name].reshape(8, 400, -1)
        ess = np.asarray(bulk_ess(draws))
        exact = np.asarray(known.pilot.u[name]).reshape(len(known.pilot.u[name]), -1)
        spread, pooled = exact.std(axis=0), np.asarray(draws).reshape(3200, -1)
        error = np.sqrt(1 / ess + 1 / len(exact))
        assert np.all(ess > 400)
        assert np.all(np.abs(pooled.mean(axis=0) - exact.mean(axis=0)) < 4.5 * spread * error)
        assert np.all(np.abs(pooled.std(axis=0) / spread - 1) < 4.5 * error)
