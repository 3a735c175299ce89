"""From costs to a choice: snap to the ends, keep what is good enough, and say why."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.dsl import Centering
from pplemd.errors import RecipeError
from pplemd.inference import NUTS, AbstractKernel, TiltedLaw
from pplemd.parameterization.base import AbstractCriterion, Situation
from pplemd.parameterization.curvature import shares
from pplemd.parameterization.fisher import Fisher
from pplemd.parameterization.interleaving import Interleaved
from pplemd.parameterization.placement import Placement, asked
from pplemd.parameterization.trial import Length, Trial, pooled, trial


class Choice(eqx.Module):
    """How each site is placed, and the numbers behind it.

    Attributes:
        lam: the lambdas.
        criterion: class of the criterion: "Fisher".
        noncentered: cost of lambda = 0 everywhere.
        centered: cost of lambda = 1 everywhere.
        fitted: the least cost that was found.
        chosen: cost of `lam`.
        kappa: by site, the share of each element's precision that data tell, from the same draws.
        kept: the lambdas were kept from before, being good enough.
        alternate: coordinates to alternate with those of `lam` (`Interleave`); None for one set.
    """

    lam: Centering
    criterion: str = eqx.field(static=True)
    noncentered: Float[Array, ""]
    centered: Float[Array, ""]
    fitted: Float[Array, ""]
    chosen: Float[Array, ""]
    kappa: dict[str, Float[Array, "..."]]
    kept: bool = eqx.field(static=True)
    alternate: Centering | None = None


class Policy(eqx.Module):
    """Start non-centered; fit; snap sites to 0 or 1 where that costs next to nothing; keep what is good enough.

    Sites that say how centered they are (`centered=`) stay so.

    Next to nothing is `relative` of the least cost, where costs have a zero, or the criterion's slack if that is more.

    Attributes:
        criterion: what counts as good.
        relative: share of the least cost that does not matter.
        hysteresis: what is in use is left only where it costs so many times more than nothing.
    """

    criterion: AbstractCriterion = Fisher()
    relative: float = eqx.field(static=True, default=0.1)
    hysteresis: float = eqx.field(static=True, default=2.0)

    def choose(self, key: PRNGKeyArray, situation: Situation, present: Centering | None = None) -> Choice:
        """Choose lambdas for every eligible site.

        Args:
            key: a key; criteria that draw see the same for each lambda.
            situation: the program, pilot draws, and what else the criterion needs.
            present: the lambdas in use, which it takes more than noise to leave; None at first.
        """
        key_fit, key_cost = jax.random.split(key)
        problem = situation.placement.problem

        def cost(lam: Centering) -> float:
            return float(self.criterion.cost(key_cost, situation, lam))

        ends = [problem.centering(number) for number in (0.0, 1.0)]
        costs = [cost(end) for end in ends]
        fitted = problem.honoured(self.criterion.fit(key_fit, situation))
        found = [*zip(costs, ends, strict=True), (cost(fitted), fitted)]
        least, best = min(found, key=lambda pair: pair[0])
        share = self.relative * least if self.criterion.from_zero else 0.0
        margin = max(share, self.criterion.slack)
        chosen, lam = self._snapped(situation.placement.free, best, least, margin, cost)
        kept = False
        if present is not None and (here := cost(present)) <= chosen + self.hysteresis * margin:
            kept, chosen, lam = True, here, present
        alternate = None
        if isinstance(self.criterion, Interleaved) and max(costs) <= self.criterion.ratio * min(costs):
            kept, chosen, lam, alternate = False, costs[1], ends[1], ends[0]
        kappa = shares(situation.placement, situation.pilot)
        return Choice(
            lam=lam,
            criterion=type(self.criterion).__name__,
            noncentered=jnp.asarray(costs[0]),
            centered=jnp.asarray(costs[1]),
            fitted=jnp.asarray(least),
            chosen=jnp.asarray(chosen),
            kappa=kappa,
            kept=kept,
            alternate=alternate,
        )

    def _snapped(
        self, free: tuple[str, ...], best: Centering, least: float, margin: float, cost
    ) -> tuple[float, Centering]:
        """Each free site in turn at 0 or at 1, the cheaper first, as long as the whole costs at most least + margin."""
        lam, now = best, least
        for name in free:
            trials = []
            for number in (0.0, 1.0):
                end = jnp.full_like(best.loc[name], number)
                trials.append(Centering({**lam.loc, name: end}, {**lam.scale, name: end}))
            costs = [cost(each) for each in trials]
            cheaper = min(range(2), key=costs.__getitem__)
            if costs[cheaper] <= least + margin:
                now, lam = costs[cheaper], trials[cheaper]
        return now, lam


def parameterize(
    key: PRNGKeyArray,
    placement: Placement,
    law: TiltedLaw,
    policy: Policy | None = None,
    kernel: AbstractKernel | None = None,
    length: Length | None = None,
    rounds: int = 2,
) -> tuple[Choice, Trial]:
    """Choose coordinates for long chains: a pilot in non-centered ones, a choice, and so on from what was chosen.

    Args:
        key: a key.
        placement: the program.
        law: of its base coordinates, such as `posterior_law`.
        policy: how to choose; `Policy()` by default.
        kernel: of pilot and of criteria that run chains; NUTS by default.
        length: of each pilot.
        rounds: pilots; all but the first are in the coordinates chosen last, which hysteresis keeps.

    Returns:
        The choice, and the last pilot that it was made from.

    Raises:
        RecipeError: no round.
    """
    if rounds < 1:
        raise RecipeError(f"found {rounds} rounds; expected 1 or more, a pilot each.")
    policy, kernel = policy or Policy(), kernel or NUTS()
    choice: Choice | None = None
    for one in jax.random.split(key, rounds):
        key_pilot, key_choice = jax.random.split(one)
        present = None if choice is None else choice.lam
        made = trial(key_pilot, placement, law, kernel, present or placement.problem.centering(0.0), length or Length())
        situation = Situation(placement, asked(law, pooled(made.u)), law, kernel)
        choice = policy.choose(key_choice, situation, present)
    assert choice is not None
    return choice, made
