"""Snapping, hysteresis and alternation, on costs that are known."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from known_hierarchies import gaussian

from pplemd.dsl import Centering, Program, latent, observe, trace_observed
from pplemd.errors import RecipeError
from pplemd.inference import posterior_law
from pplemd.parameterization import (
    VIP,
    AbstractCriterion,
    Curvature,
    Fisher,
    Interleaved,
    Length,
    Placement,
    Policy,
    Situation,
    asked,
    described,
    parameterize,
)

KEY = jax.random.key(0)


class Valley(AbstractCriterion):
    """Costs depth + steep (lambda - bottom)^2, of the mean lambda."""

    bottom: float
    depth: float
    steep: float
    slack: float = 0.0
    from_zero: ClassVar[bool] = True

    def fit(self, key, situation):
        return situation.placement.problem.centering(self.bottom)

    def cost(self, key, situation, lam):
        return self.depth + self.steep * (jnp.mean(lam.loc["theta"]) - self.bottom) ** 2


class Bound(AbstractCriterion):
    """The same valley below an arbitrary level, as of a bound."""

    valley: Valley
    slack: float = 0.5
    from_zero: ClassVar[bool] = False

    def fit(self, key, situation):
        return self.valley.fit(key, situation)

    def cost(self, key, situation, lam):
        return self.valley.cost(key, situation, lam)


@pytest.fixture(scope="module")
def situation():
    known = gaussian([0.3, 1.0], draws=100)
    return Situation(known.placement, known.pilot)


def chosen(policy, situation, present=None):
    choice = policy.choose(KEY, situation, present)
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
def test_snaps_to_an_end_that_costs_next_to_nothing(situation, criterion, expected):
    found, choice = chosen(Policy(criterion), situation)
    assert found == pytest.approx(expected)
    numbers = [criterion.cost(KEY, situation, situation.placement.problem.centering(one)) for one in (0.0, 1.0, found)]
    np.testing.assert_allclose([choice.noncentered, choice.centered, choice.chosen], numbers, rtol=1e-6)
    assert (choice.criterion, choice.kept) == ("Valley", False)


@pytest.mark.parametrize("depth", [-1e4, 0.0, 1e4])
def test_a_bound_is_judged_by_differences_alone(situation, depth):
    """Its level is that of the data's units."""
    assert chosen(Policy(Bound(Valley(0.1, depth, 30.0))), situation)[0] == 0.0
    assert chosen(Policy(Bound(Valley(0.2, depth, 30.0))), situation)[0] == pytest.approx(0.2)


def test_bounds_have_no_ratio():
    with pytest.raises(RecipeError, match="those of VIP have no zero; expected another judge"):
        Interleaved(VIP())


def test_an_end_that_is_better_than_what_was_fitted_is_taken(situation):
    class Missed(AbstractCriterion):
        slack: float = 0.0
        from_zero: ClassVar[bool] = True

        def fit(self, key, situation):
            return situation.placement.problem.centering(0.5)

        def cost(self, key, situation, lam):
            return 1.0 + jnp.mean(lam.loc["theta"])

    assert chosen(Policy(Missed()), situation)[0] == 0.0


def test_what_is_in_use_is_kept_until_it_costs_too_much(situation):
    criterion = Valley(0.5, 10.0, 100.0)  # margin 1, hysteresis 2: kept up to a cost of 12
    centering = situation.placement.problem.centering
    for present, expected, kept in ((0.38, 0.38, True), (0.34, 0.5, False)):
        found, choice = chosen(Policy(criterion), situation, centering(present))
        assert (found, choice.kept) == (pytest.approx(expected), kept)
    wide = Policy(criterion, hysteresis=4.0)
    assert chosen(wide, situation, centering(0.34))[1].kept


def test_interleaving_is_for_ends_that_are_alike(situation):
    alike = chosen(Policy(Interleaved(Valley(0.5, 1.0, 10.0))), situation)[1]
    assert alike.alternate is not None
    assert (float(alike.lam.loc["theta"][0]), float(alike.alternate.loc["theta"][0])) == (1.0, 0.0)
    assert any("alternate" in line for line in described(alike))
    assert float(alike.chosen) == float(alike.centered) == pytest.approx(3.5)  # of lam, which is centered
    again = chosen(Policy(Interleaved(Valley(0.5, 1.0, 10.0)), hysteresis=9.0), situation, alike.alternate)[1]
    assert not again.kept
    apart = chosen(Policy(Interleaved(Valley(0.9, 1.0, 10.0))), situation)[1]
    assert apart.alternate is None


def test_impossible_pilots_are_named(situation):
    with pytest.raises(RecipeError, match="0 rounds"):
        parameterize(KEY, situation.placement, gaussian([1.0], draws=10).law, rounds=0)
    with pytest.raises(RecipeError, match="3 draws; expected 1, 0 and 4"):
        Length(draws=3)


def test_words_tell_lambda_and_its_reasons(situation):
    choice = Policy(Valley(0.9, 10.0, 100.0)).choose(KEY, situation)
    first, last = described(choice)
    assert first.startswith("theta: centered, lambda 1, kappa 0.")
    assert last == "Valley: cost at lambda 0 91, 1 11, best 10, chosen 11"
    mixed = Centering({"theta": jnp.array([0.0, 1.0])}, {"theta": jnp.array([0.5, 0.5])})
    kept = Policy(Valley(0.5, 1.0, 0.1)).choose(KEY, situation, mixed)
    assert kept.kept
    assert described(kept)[0].startswith("theta: lambda 0 to 1 of loc, 0.5 of scale")
    assert described(kept)[1].endswith("kept from before")


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
    pilot = asked(posterior_law(problem, program), u)
    for criterion in (Fisher(steps=20), Curvature()):
        choice = Policy(criterion).choose(KEY, Situation(placement, pilot))
        np.testing.assert_allclose(choice.lam.loc["one"], 0.3, rtol=1e-6)
        np.testing.assert_allclose(choice.lam.scale["one"], 0.3, rtol=1e-6)
