"""From costs to a choice of coordinates: snap to the ends, keep what is good enough, and say why."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.dsl import Centering
from pplemd.errors import RecipeError
from pplemd.inference import NUTS, AbstractKernel, TiltedTarget
from pplemd.parameterization.base import AbstractCriterion
from pplemd.parameterization.curvature import shares
from pplemd.parameterization.fisher import Fisher
from pplemd.parameterization.placement import Pilot, Placement, scored
from pplemd.parameterization.trial import Length, Trial, pooled, trial

Lambda = TypeVar("Lambda")


class Choice(eqx.Module):
    """Which coordinates are chosen, and the costs behind it.

    Attributes:
        lam: the lambdas: a `Centering` of sites; of x_sigma a number for each range of sigma, as each cost is.
        noncentered: cost of lambda = 0 everywhere.
        centered: cost of lambda = 1 everywhere.
        least: the least cost that was found.
        chosen: cost of `lam`.
        kept: whether the lambdas were kept from before, being good enough.
        kappa: by site, the share of each element's precision that data tell, from the same draws.
        criterion: class of the criterion: "Fisher".
    """

    lam: PyTree
    noncentered: Float[np.ndarray, "..."]
    centered: Float[np.ndarray, "..."]
    least: Float[np.ndarray, "..."]
    chosen: Float[np.ndarray, "..."]
    kept: np.ndarray
    kappa: dict[str, Float[Array, "..."]] = eqx.field(default_factory=dict)
    criterion: str = eqx.field(static=True, default="")


class Policy(eqx.Module):
    """Start non-centered; fit; snap sites to 0 or 1 where that costs next to nothing; keep what is good enough.

    Sites that say how centered they are (`centered=`) stay so.

    Next to nothing is `relative` of the least cost, or the criterion's slack if that is more.

    Attributes:
        criterion: what counts as good.
        relative: share of the least cost that does not matter.
        hysteresis: what is in use is left only where it costs so many times more than nothing.
    """

    criterion: AbstractCriterion = Fisher()
    relative: float = eqx.field(static=True, default=0.1)
    hysteresis: float = eqx.field(static=True, default=2.0)

    def choose(self, placement: Placement, pilot: Pilot, present: Centering | None = None) -> Choice:
        """Choose lambdas for every eligible site.

        Args:
            placement: the program.
            pilot: draws with scores.
            present: the lambdas in use, which it takes more than noise to leave; None at first.
        """
        problem = placement.problem

        def with_site(name: str, lam: Centering, number: float) -> Centering:
            end = jnp.full_like(lam.loc[name], number)
            return Centering({**lam.loc, name: end}, {**lam.scale, name: end})

        choice = self.decide(
            lambda lam: float(self.criterion.cost(placement, pilot, lam)),
            (problem.centering(0.0), problem.centering(1.0)),
            problem.honoured(self.criterion.fit(placement, pilot)),
            [functools.partial(with_site, name) for name in placement.free],
            present,
        )
        return dataclasses.replace(choice, kappa=shares(placement, pilot))

    def decide(
        self,
        cost: Callable[[Lambda], float],
        ends: tuple[Lambda, Lambda],
        fitted: Lambda,
        snaps: Sequence[Callable[[Lambda, float], Lambda]],
        present: Lambda | None,
    ) -> Choice:
        """Choose among lambdas of any form.

        Args:
            cost: of lambdas, 0 or more.
            ends: lambda = 0 and lambda = 1 everywhere.
            fitted: what the criterion holds for best; an end may be better.
            snaps: of each block that may be at 0 or 1 alone: the lambdas, with that block at a number.
            present: the lambdas in use; None at first.
        """
        noncentered, centered = costs = [cost(end) for end in ends]
        least, lam = min(zip([*costs, cost(fitted)], [*ends, fitted], strict=True), key=lambda pair: pair[0])
        margin = max(self.relative * least, self.criterion.slack)
        chosen = least
        for snap in snaps:
            tried = [snap(lam, end) for end in (0.0, 1.0)]
            price, cheaper = min(((cost(one), one) for one in tried), key=lambda pair: pair[0])
            if price <= least + margin:
                chosen, lam = price, cheaper
        kept = False
        if present is not None and (here := cost(present)) <= chosen + self.hysteresis * margin:
            kept, chosen, lam = True, here, present
        return Choice(
            lam=lam,
            noncentered=np.asarray(noncentered),
            centered=np.asarray(centered),
            least=np.asarray(least),
            chosen=np.asarray(chosen),
            kept=np.asarray(kept),
            criterion=type(self.criterion).__name__,
        )


def parameterize(
    key: PRNGKeyArray,
    placement: Placement,
    target: TiltedTarget,
    policy: Policy | None = None,
    kernel: AbstractKernel | None = None,
    length: Length | None = None,
    rounds: int = 2,
    progress: Callable[[PyTree], Iterable[PyTree]] = iter,
) -> tuple[Choice, Trial]:
    """Choose coordinates for long chains: a pilot in non-centered ones, a choice, and so on from what was chosen.

    Args:
        key: a key.
        placement: the program.
        target: of its base coordinates, such as `posterior_target`.
        policy: how to choose; `Policy()` by default.
        kernel: of the pilots; NUTS by default.
        length: of each pilot.
        rounds: pilots; all but the first are in the coordinates chosen last, which hysteresis keeps.
        progress: goes through the rounds and shows how far they are, as `tqdm` does.

    Returns:
        The choice, and the last pilot that it was made from.

    Raises:
        RecipeError: no round.
    """
    if rounds < 1:
        raise RecipeError(f"found {rounds} rounds; expected 1 or more, a pilot each.")
    policy, kernel = policy or Policy(), kernel or NUTS()
    choice: Choice | None = None
    for one in progress(jax.random.split(key, rounds)):
        key_pilot, _ = jax.random.split(one)
        present = None if choice is None else choice.lam
        made = trial(
            key_pilot, placement, target, kernel, present or placement.problem.centering(0.0), length or Length()
        )
        choice = policy.choose(placement, scored(target, pooled(made.u)), present)
    assert choice is not None
    return choice, made
