"""Every criterion, through the policy, on a hierarchy that data tell well and on one that they hardly tell."""

import jax
import numpy as np
import pytest
from known_hierarchies import gaussian

from pplemd.inference import HMC
from pplemd.parameterization import Curvature, Fisher, Length, Policy, parameterize, scored, trial

KEY = jax.random.key(0)
KERNEL = HMC(leapfrogs=6)
SHORT = Length(4, 150, 150)
CRITERIA = {
    "fisher": Fisher(),
    "fisher, untied": Fisher(tied=False),
    "curvature": Curvature(),
    "curvature, partial": Curvature(partial=True),
}


@pytest.fixture(scope="module")
def told():
    return gaussian([0.15] * 6)


@pytest.fixture(scope="module")
def vague():
    return gaussian([4.0] * 6)


@pytest.mark.slow_for("fisher", "fisher, untied", "interleaved", "pilot ESS", "curvature")
@pytest.mark.parametrize("name", CRITERIA)
def test_centered_where_data_tell_and_not_where_they_do_not(name, told, vague):
    criterion = CRITERIA[name]
    for known, low, high in ((told, 0.85, 1.0), (vague, 0.0, 0.15)):
        choice = Policy(criterion).choose(*known.pair)
        loc = np.asarray(choice.lam.loc["theta"])
        assert low <= loc.min() <= loc.max() <= high
        better, worse = (choice.centered, choice.noncentered) if low > 0.5 else (choice.noncentered, choice.centered)
        assert float(better) < float(worse)
        assert float(choice.chosen) <= float(better) * 1.1 + criterion.slack


@pytest.mark.slow
def test_chains_mix_better_where_the_criteria_say(told):
    """Gradients per effective draw, of the least effective element: the plainest criterion is to try, and count."""
    centering = told.placement.problem.centering
    trials = {lam: trial(KEY, told.placement, told.law, KERNEL, centering(lam), SHORT) for lam in (0.0, 1.0)}
    assert bool(trials[1.0].sound)
    assert float(trials[1.0].rate) > 2 * float(trials[0.0].rate) or not bool(trials[0.0].sound)


@pytest.mark.parametrize("partial", [False, True])
def test_the_curvature_rule_centers_where_data_tell_all(partial):
    """1 - kappa is 1e-10 here, which 32 bits round to 0: a cost over it would be no number."""
    choice = Policy(Curvature(partial=partial)).choose(*gaussian([1e-5] * 6).pair)
    assert np.isfinite([float(choice.centered), float(choice.noncentered)]).all()
    assert float(choice.centered) < float(choice.noncentered)
    np.testing.assert_allclose(choice.lam.loc["theta"], 1.0, atol=1e-5)


@pytest.mark.slow
def test_pilots_lead_to_the_same_choice_as_exact_draws(told):
    choice, made = parameterize(KEY, told.placement, told.law, kernel=KERNEL, length=SHORT)
    assert float(choice.lam.loc["theta"].min()) > 0.85
    assert float(made.r_hat) < 1.1
    np.testing.assert_allclose(choice.kappa["theta"], told.kappa, atol=0.05)
    again = scored(told.law, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), made.u))
    at_zero = told.placement.problem.centering(0.0)
    exact, piloted = (float(Fisher().cost(told.placement, pilot, at_zero)) for pilot in (told.pilot, again))
    np.testing.assert_allclose(piloted, exact, rtol=0.5)
