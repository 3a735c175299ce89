"""From costs to a choice of coordinates: snap to the ends, keep what is good enough, and say why."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from pplemd.dsl import Centering
from pplemd.errors import RecipeError
from pplemd.inference import NUTS, AbstractKernel, Run, TiltedTarget, bulk_ess, climbed, long_chains, r_hat
from pplemd.parameterization.fisher import (
    AbstractCriterion,
    Change,
    Fisher,
    Pilot,
    Placement,
    Values,
    flat,
    scored,
    shares,
)


class Trial(eqx.Module):
    """Chains in the coordinates of one lambda, and how they mix.

    Mixing is judged by the latents' values, whatever the coordinates; ranks serve, so units do not matter.

    Attributes:
        u: base coordinates of the kept draws, leading dimensions chain and draw.
        run: the chains, in the coordinates of lambda.
        ess: least effective sample size of an element, over all chains.
        r_hat: largest R-hat of an element.
        gradients: of the kept draws, over all chains.
        sound: r_hat < 1.05 and no divergence.
    """

    u: Values
    run: Run
    ess: Float[Array, ""]
    r_hat: Float[Array, ""]
    gradients: Float[Array, ""]
    sound: Bool[Array, ""]

    @property
    def rate(self) -> Float[Array, ""]:
        """Least effective sample size per gradient."""
        return self.ess / self.gradients


class Length(eqx.Module):
    """How long a trial is.

    Attributes:
        chains: side by side.
        warm_up: transitions that adapt and are thrown away.
        draws: kept transitions of each chain.
    """

    chains: int = eqx.field(static=True, default=4)
    warm_up: int = eqx.field(static=True, default=200)
    draws: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        if self.chains < 1 or self.warm_up < 0 or self.draws < 4:
            raise RecipeError(
                f"found a pilot of {self.chains} chains, {self.warm_up} warm-up transitions and {self.draws} draws; "
                "expected 1, 0 and 4 or more, as many as halves of chains need."
            )


@eqx.filter_jit
def trial(
    key: PRNGKeyArray,
    placement: Placement,
    target: TiltedTarget,
    kernel: AbstractKernel,
    lam: Centering,
    length: Length,
) -> Trial:
    """Run chains in the coordinates of lambda; compiled once for all lambdas of a target.

    Args:
        key: a key.
        placement: the program.
        target: of its base coordinates.
        kernel: the transition.
        lam: whose coordinates.
        length: how long.
    """
    change = Change(placement, lam)
    problem, program = placement.problem, placement.program
    key_start, key_run = jax.random.split(key)

    def start(start_key: PRNGKeyArray) -> Values:
        return change.inverse(climbed(start_key, target, problem.draw(start_key, program)).position)

    starts = jax.vmap(start)(jax.random.split(key_start, length.chains))
    run = long_chains(key_run, placement.target(target, lam), kernel, starts, length.warm_up, length.draws)
    u = jax.vmap(jax.vmap(lambda v: change(v)[0]))(run.positions)
    values = jax.vmap(jax.vmap(lambda one: flat(problem.latents(program, one))))(u)
    moving = jnp.any(values != values[:1, :1], axis=(0, 1))  # others never do, such as those of a triangle
    moving = moving | ~jnp.any(moving)
    apart = jnp.max(jnp.where(moving, r_hat(values), 1.0))
    ess = jnp.min(jnp.where(moving, bulk_ess(values), jnp.inf))
    sound = (apart < 1.05) & ~jnp.any(run.diverging)
    return Trial(u, run, ess, apart, jnp.sum(run.gradients), sound)


def pooled(u: Values) -> Values:
    """Draws of all chains in one dimension."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), u)


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


def described(choice: Choice) -> list[str]:
    """One line for each site: its lambdas and kappas; then the costs that they were chosen by."""
    lines = [_site(name, choice) for name in choice.lam.loc]
    costs = {"0": choice.noncentered, "1": choice.centered, "best": choice.least, "chosen": choice.chosen}
    listed = ", ".join(f"{name} {float(cost):.3g}" for name, cost in costs.items())
    lines.append(f"{choice.criterion}: cost at lambda {listed}" + ("; kept from before" if choice.kept else ""))
    return lines


def _site(name: str, choice: Choice) -> str:
    loc, scale = choice.lam.loc[name], choice.lam.scale[name]
    if jnp.array_equal(loc, scale):
        both = f"lambda {_span(loc)}"
    else:
        both = f"lambda {_span(loc)} of loc, {_span(scale)} of scale"
    kind = {0.0: "non-centered, ", 1.0: "centered, "}.get(float(loc.ravel()[0]), "") if jnp.ptp(loc) == 0 else ""
    return f"{name}: {kind}{both}, kappa {_span(choice.kappa[name])}"


def _span(values: Array) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.2g}" if high - low < 0.005 else f"{low:.2g} to {high:.2g}"
