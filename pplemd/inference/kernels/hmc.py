"""Hamiltonian Monte Carlo, one leapfrog step or several, by BlackJAX's integrators made to run on scores."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.mcmc import hmc, integrators, metrics
from blackjax.mcmc.integrators import IntegratorState
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.inference.corrections import AbstractCorrection, Automatic, Unadjusted, gauss_legendre
from pplemd.inference.kernels.base import AbstractKernel, Info, LogDensity, State, inverse_mass
from pplemd.inference.target import TiltedTarget, log_normal
from pplemd.keys import named


def score_only(target: TiltedTarget) -> Callable[[PyTree], Array]:
    """A function of value zero whose gradient is the target's score, for code that differentiates a log density."""

    def surrogate(u: PyTree) -> Array:
        score = jax.lax.stop_gradient(target.score(jax.lax.stop_gradient(u)))
        parts = jax.tree.map(lambda s, v: jnp.sum(s * (v - jax.lax.stop_gradient(v))), score, u)
        return jax.tree.reduce(jnp.add, parts)

    return surrogate


def energised(factory: Callable[..., Any], target: TiltedTarget, correction: AbstractCorrection) -> Callable[..., Any]:
    """An integrator of BlackJAX whose states carry a `Point` as gradient and accumulate the correction's gains.

    The Point at the end is evaluated once more outside the integrator; the compiler sees that it is the same.

    Args:
        factory: such as `blackjax.mcmc.integrators.velocity_verlet`: (logdensity_fn, metric) -> step.
        target: the target.
        correction: knows by how much the end is likelier than the start.
    """

    def build(logdensity_fn: Any = None, *metric: Any, **named: Any) -> Callable[..., Any]:
        integrate = factory(score_only(target), *metric, **named)

        def step(state: IntegratorState, step_size: Any) -> Any:
            start: Any = state.logdensity_grad
            moved = integrate(state._replace(logdensity_grad=start.score), step_size)
            new, *rest = moved if (not isinstance(moved, IntegratorState)) else (moved,)
            end = target.visit(new.position)
            gain = correction.gain(target, start, end)
            carried = IntegratorState(new.position, new.momentum, state.logdensity + gain, end)
            return (carried, *rest) if rest else carried

        return step

    return build


class HMC(AbstractKernel):
    """Fresh momenta, `leapfrogs` steps of velocity Verlet, one decision; BlackJAX's hmc.

    With one leapfrog step it is the Metropolis-adjusted Langevin algorithm, gamma = step_size^2 / 2.

    Attributes:
        step_size: leapfrog step, a number or one for each block of coordinates; None leaves it to adaptation.
        leapfrogs: leapfrog steps per transition.
        correction: how proposals are decided; by default exact where a density is known, else by line integrals.
        target_acceptance: what adaptation aims at. 0.65 is optimal for long trajectories (Beskos et al. 2013).
        jitter: each transition's steps are longer or shorter by up to this share, drawn anew: a fixed length may be
            half a period of the target, which then never mixes. Where there is one leapfrog step, none (Neal 2011,
            section 5.4.2.2).
    """

    step_size: PyTree = None
    leapfrogs: int = eqx.field(static=True, default=4)
    correction: AbstractCorrection = Automatic()
    target_acceptance: float = eqx.field(static=True, default=0.65)
    jitter: float = eqx.field(static=True, default=0.2)

    @property
    def wanted_acceptance(self) -> float | None:
        """The target acceptance; None where nothing is rejected."""
        return None if isinstance(self.correction, Unadjusted) else self.target_acceptance

    def init(self, key: PRNGKeyArray, target: TiltedTarget, position: PyTree) -> State:
        """The score at the start."""
        return State(position, target.visit(position))

    def step(self, key: PRNGKeyArray, state: State, target: TiltedTarget) -> tuple[State, Info]:
        """One transition."""
        proposal = partial(hmc.hmc_proposal, sample_proposal=self.correction.decide)
        integrator = energised(integrators.velocity_verlet, target, self.correction)
        kernel = hmc.build_kernel(integrator, build_proposal=proposal)
        start = hmc.HMCState(state.position, jnp.zeros(()), state.memory)
        mass = inverse_mass(self.step_size, state.position)
        new, info = kernel(key, start, None, self._stretch(key), mass, self.leapfrogs)
        evaluations = self.leapfrogs * self.correction.evaluations(target)
        return State(new.position, new.logdensity_grad), Info(
            jnp.asarray(info.acceptance_rate),
            jnp.asarray(info.is_accepted),
            jnp.asarray(info.is_divergent),
            jnp.asarray(info.energy),
            jnp.asarray(new.logdensity),
            evaluations,
            info.momentum,
        )

    def couple(
        self, key: PRNGKeyArray, coupled: State, info: Info, injected: float, reference: LogDensity = log_normal
    ) -> State:
        """The same momenta through the same leapfrogs of the base density; a rejected step moves neither chain."""
        metric = metrics.default_metric(inverse_mass(self.step_size, coupled.position))
        leapfrog = integrators.velocity_verlet(reference, metric.kinetic_energy)
        momentum = jax.tree.map(lambda p: injected * p, info.noise)
        start: Any = integrators.IntegratorState(
            coupled.position, momentum, *jax.value_and_grad(reference)(coupled.position)
        )
        stretch = self._stretch(key)
        end = jax.lax.fori_loop(0, self.leapfrogs, lambda _, state: leapfrog(state, stretch), start)
        position = jax.tree.map(lambda new, old: jnp.where(info.accepted, new, old), end.position, coupled.position)
        return State(position, coupled.memory)

    def _stretch(self, key: PRNGKeyArray) -> Float[Array, ""]:
        """By what this transition's steps are longer; of the key that the chain and its coupled chain share."""
        if self.leapfrogs == 1 or self.jitter == 0:
            return jnp.ones(())
        return jax.random.uniform(named(key, "stretch"), minval=1 - self.jitter, maxval=1 + self.jitter)


def mala(
    step_size: PyTree = None, correction: AbstractCorrection | None = None, target_acceptance: float = 0.574
) -> HMC:
    """The Metropolis-adjusted Langevin algorithm: HMC of one leapfrog step h, gamma = h^2 / 2.

    Source: Roberts and Rosenthal 1998 (optimal acceptance 0.574). On scores alone it is corrected by 3-point
    Gauss-Legendre quadrature.
    """
    return HMC(step_size, 1, correction or Automatic(gauss_legendre(3)), target_acceptance)
