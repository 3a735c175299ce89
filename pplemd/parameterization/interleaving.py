"""Interleaving: a transition in one set of coordinates, then one in another."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.dsl import Centering
from pplemd.errors import RecipeError
from pplemd.inference import AbstractKernel, Info, LogDensity, Run, State, TiltedLaw, coupled, log_normal, placed, sized
from pplemd.parameterization.base import AbstractCriterion, Situation
from pplemd.parameterization.fisher import Fisher
from pplemd.parameterization.placement import Change


class Interleave(AbstractKernel):
    """A full transition in the coordinates of `changes[0]`, then one in those of `changes[1]`; positions are u.

    Mixes at least as well as the better of the two where the worse one is not much dearer; costs both.

    Source: Yu & Meng 2011 (ancillarity-sufficiency interleaving, ASIS); Gorinova et al. 2020 (with HMC, iHMC).

    Attributes:
        step_size: a factor on the step sizes of both.
        kernels: one for each set of coordinates, with step sizes of its own.
        changes: coordinates v -> u, such as centered and non-centered ones.
    """

    step_size: PyTree
    kernels: tuple[AbstractKernel, AbstractKernel]
    changes: tuple[Change, Change]

    @property
    def wanted_acceptance(self) -> None:
        """None: step sizes are found in each set of coordinates alone."""
        return

    def init(self, key: PRNGKeyArray, target: TiltedLaw, position: PyTree) -> State:
        """The start, nothing else: each transition asks for its score in its own coordinates."""
        return State(position)

    def step(self, key: PRNGKeyArray, state: State, target: TiltedLaw) -> tuple[State, Info]:
        """Both transitions."""
        key_first, key_second = jax.random.split(key)
        middle, first = self._half(key_first, 0, state, target)
        end, second = self._half(key_second, 1, middle, target)
        return end, Info(
            0.5 * (first.acceptance + second.acceptance),
            first.accepted | second.accepted,
            first.diverging | second.diverging,
            second.energy - first.gain,
            first.gain + second.gain,
            first.evaluations + second.evaluations + 2,
            None,
        )

    def _half(self, key: PRNGKeyArray, which: int, state: State, target: TiltedLaw) -> tuple[State, Info]:
        kernel, change = self.kernels[which], self.changes[which]
        kernel = sized(kernel, jax.tree.map(lambda size: size * self.step_size, kernel.step_size))
        key_start, key_step = jax.random.split(key)
        v = change.inverse(state.position)
        law = placed(target, change)
        new, info = kernel.step(key_step, kernel.init(key_start, law, v), law)
        (u, after), before = change(new.position), change(v)[1]
        kept: Any = jax.tree.map(lambda there, here: jnp.where(info.accepted, there, here), u, state.position)
        gain = jnp.where(info.accepted, info.gain + before - after, 0.0)
        return State(kept), dataclasses.replace(info, energy=info.energy - before, gain=gain)

    def shadow(
        self, key: PRNGKeyArray, twin: State, info: Info, injected: float, free: LogDensity = log_normal
    ) -> State:
        """Common random numbers: the kernel itself without the potential.

        Raises:
            RecipeError: where the injected noise shall be left out.
        """
        return coupled(self, key, twin, injected, free)


def interleave(kernel: AbstractKernel, changes: tuple[Change, Change], runs: tuple[Run, Run]) -> Interleave:
    """Alternate a kernel between two sets of coordinates, its step sizes those that chains found in each.

    Args:
        kernel: the transition.
        changes: the coordinates.
        runs: chains in each, which warmed up; the geometric mean of their step sizes serves.
    """

    def found(run: Run) -> AbstractKernel:
        return sized(kernel, jax.tree.map(lambda size: jnp.exp(jnp.mean(jnp.log(size), axis=0)), run.step_size))

    return Interleave(1.0, (found(runs[0]), found(runs[1])), changes)


class Interleaved(AbstractCriterion):
    """Alternates centered and non-centered transitions where another criterion finds neither much better.

    Where cost(0) and cost(1) are within the ratio of each other the choice alternates (`Choice.alternate`); elsewhere
    it is the judge's.

    Attributes:
        judge: the criterion that is asked.
        ratio: of the larger to the smaller of cost(0) and cost(1), up to which to alternate.
        slack: differences of cost, in the judge's unit, that do not matter.
    """

    judge: AbstractCriterion = Fisher()
    ratio: float = eqx.field(static=True, default=2.0)
    slack: float = eqx.field(static=True, default=0.5)
    from_zero: ClassVar[bool] = True

    def __check_init__(self):
        if not self.judge.from_zero:
            raise RecipeError(
                f"Interleaved() compares costs by their ratio, and those of {type(self.judge).__name__} have no zero; "
                "expected another judge, such as Fisher()."
            )

    def fit(self, key: PRNGKeyArray, situation: Situation) -> Centering:
        """The judge's lambda."""
        return self.judge.fit(key, situation)

    def cost(self, key: PRNGKeyArray, situation: Situation, lam: Centering) -> Float[Array, ""]:
        """The judge's cost."""
        return self.judge.cost(key, situation, lam)
