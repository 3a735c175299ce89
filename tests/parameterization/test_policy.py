"""Snapping and hysteresis, on costs that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from known_hierarchies import gaussian

from pplemd.dsl import Centering, Program, latent, observe, trace_observed
from pplemd.errors import RecipeError
from pplemd.inference import posterior_target
from pplemd.parameterization import (
    AbstractCriterion,
    Curvature,
    Fisher,
    Length,
    Placement,
    Policy,
    described,
    parameterize,
    scored,
)

KEY = jax.random.key(0)


class Valley(AbstractCriterion):
    """Costs depth + steep (lambda - bottom)^2, of the mean lambda."""

    bottom: float
    depth: float
    steep: float
    slack: float = 0.0

    def fit(self, placement, pilot):
        return placement.problem.centering(self.bottom)

    def cost(self, placement, pilot, lam):
        return self.depth + self.steep * (jnp.mean(lam.loc["theta"]) - self.bottom) ** 2


@pytest.fixture(scope="module")
def known():
    return gaussian([0.3, 1.0], draws=100)


def chosen(policy, known, present=None):
    choice = policy.choose(*known.pair, present)
    return float(choice.lam.loc["theta"][0]), choice


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (Valley(0.05, 10.0, 100.0), 0.0),  # 10.25 is within 10 % of 10
        (Valley(0.9, 10.0, 100.0), 1.0),  # 11.0 is just so
        (Valley(0.89, 10.0, 100.0), 0.89),  # 11.21 is not
        (Valley(0.5, 10.0, 1.0), 0.0),  # both ends would do, alike
        (Valley(0.6, 10.0, 1.0), 1.0),  # the cheaper one
        (Valley(0.1, 0.0, 30.0), 0.1),
        (Valley(0.1, 0.0, 30.0, slack=0.5), 0.0),  # an absolute difference that does not matter
    ],
)
def test_snaps_to_an_end_that_costs_next_to_nothing(known, criterion, expected):
    found, choice = chosen(Policy(criterion), known)
    assert found == pytest.approx(expected)
    numbers = [criterion.cost(*known.pair, known.placement.problem.centering(one)) for one in (0.0, 1.0, found)]
    np.testing.assert_allclose([choice.noncentered, choice.centered, choice.chosen], numbers, rtol=1e-6)
    assert (choice.criterion, bool(choice.kept)) == ("Valley", False)


def test_an_end_that_is_better_than_what_was_fitted_is_taken(known):
    class Missed(AbstractCriterion):
        slack: float = 0.0

        def fit(self, placement, pilot):
            return placement.problem.centering(0.5)

        def cost(self, placement, pilot, lam):
            return 1.0 + jnp.mean(lam.loc["theta"])

    assert chosen(Policy(Missed()), known)[0] == 0.0


def test_what_is_in_use_is_kept_until_it_costs_too_much(known):
    criterion = Valley(0.5, 10.0, 100.0)  # margin 1, hysteresis 2: kept up to a cost of 12
    centering = known.placement.problem.centering
    for present, expected, kept in ((0.38, 0.38, True), (0.34, 0.5, False)):
        found, choice = chosen(Policy(criterion), known, centering(present))
        assert (found, bool(choice.kept)) == (pytest.approx(expected), kept)
    wide = Policy(criterion, hysteresis=4.0)
    assert chosen(wide, known, centering(0.34))[1].kept


def test_impossible_pilots_are_named(known):
    with pytest.raises(RecipeError, match="0 rounds"):
        parameterize(KEY, known.placement, gaussian([1.0], draws=10).law, rounds=0)
    with pytest.raises(RecipeError, match="3 draws; expected 1, 0 and 4"):
        Length(draws=3)


def test_words_tell_lambda_and_its_reasons(known):
    choice = Policy(Valley(0.9, 10.0, 100.0)).choose(*known.pair)
    first, last = described(choice)
    assert first.startswith("theta: centered, lambda 1, kappa 0.")
    assert last == "Valley: cost at lambda 0 91, 1 11, best 10, chosen 11"
    mixed = Centering({"theta": jnp.array([0.0, 1.0])}, {"theta": jnp.array([0.5, 0.5])})
    kept = Policy(Valley(0.5, 1.0, 0.1)).choose(*known.pair, mixed)
    assert kept.kept
    assert described(kept)[0].startswith("theta: lambda 0 to 1 of loc, 0.5 of scale")
    assert described(kept)[1].endswith("kept from before")


@pytest.mark.slow
def test_what_a_program_declares_is_not_chosen():
    """Two sites of one law: the one that is declared stays where it is, the other is where it is best for both."""

    class Two(Program):
        tau: jax.Array

        def __call__(self):
            one = latent("one", dist.Normal(0.0, self.tau).expand([2]), centered=0.3)
            other = latent("other", dist.Normal(0.0, self.tau).expand([2]))
            observe("y", dist.Normal(jnp.stack([one, other]), 0.1), jnp.ones((2, 2)))

    program = Two(jnp.asarray(2.0))
    problem = trace_observed(program)
    placement = Placement(problem, program)
    assert (placement.sites, placement.free) == (("one", "other"), ("other",))
    u = {name: jax.random.normal(jax.random.key(i), (100, 2)) for i, name in enumerate(placement.sites)}
    pilot = scored(posterior_target(problem, program), u)
    for criterion in (Fisher(steps=20), Curvature()):
        choice = Policy(criterion).choose(placement, pilot)
        np.testing.assert_allclose(choice.lam.loc["one"], 0.3, rtol=1e-6)
        np.testing.assert_allclose(choice.lam.scale["one"], 0.3, rtol=1e-6)
