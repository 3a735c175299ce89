"""Kernels of BlackJAX that propose once and decide once: Barker's, and any other that a user brings."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.mcmc import barker
from jaxtyping import Array, PRNGKeyArray, PyTree

from pplemd.inference.corrections import AbstractCorrection, Automatic, gauss_legendre
from pplemd.inference.kernels.base import AbstractKernel, Info, LogDensity, State, inverse_mass, with_common_noise
from pplemd.inference.target import TiltedTarget, log_normal


class OneShot(AbstractKernel):
    """Any algorithm of BlackJAX whose state has position and logdensity, its info acceptance_rate and is_accepted.

    It is given a log density relative to where the chain stands, by the correction (straight line integrals, where only
    scores are known), with the score as its gradient.

    Attributes:
        step_size: h, a number or one for each block of coordinates; None leaves it to adaptation.
        algorithm_init: its init, (position, logdensity_fn) -> state.
        algorithm_step: (key, state, logdensity_fn, inverse_mass) -> (state, info): its kernel with all other arguments
            given; inverse_mass is diagonal, h^2, for steps of unit length.
        correction: where the ratio of densities comes from.
        target_acceptance: what adaptation aims at.
    """

    step_size: PyTree
    algorithm_init: Callable[..., Any] = eqx.field(static=True)
    algorithm_step: Callable[..., Any] = eqx.field(static=True)
    correction: AbstractCorrection = Automatic(gauss_legendre(3))
    target_acceptance: float = eqx.field(static=True, default=0.574)

    @property
    def wanted_acceptance(self) -> float | None:
        """The target acceptance."""
        return self.target_acceptance

    def init(self, key: PRNGKeyArray, target: TiltedTarget, position: PyTree) -> State:
        """The score at the start."""
        return State(position, target.visit(position))

    def step(self, key: PRNGKeyArray, state: State, target: TiltedTarget) -> tuple[State, Info]:
        """One transition."""

        def log_density(u: PyTree) -> Array:
            still = jax.lax.stop_gradient(u)
            end = jax.lax.stop_gradient(target.visit(still))
            gain = jax.lax.stop_gradient(self.correction.gain(target, state.memory, end))
            slopes = jax.tree.map(lambda s, v, w: jnp.sum(s * (v - w)), end.score, u, still)
            return gain + jax.tree.reduce(jnp.add, slopes)

        start = self.algorithm_init(state.position, log_density)
        with jax.numpy_dtype_promotion("standard"):  # BlackJAX multiplies booleans with floats
            new, info = self.algorithm_step(key, start, log_density, inverse_mass(self.step_size, state.position))
        evaluations = (
            2 * self.correction.evaluations(target) + 1
        )  # at the start, at the proposal, and where the chain is now
        return State(new.position, target.visit(new.position)), Info(
            jnp.clip(info.acceptance_rate, 0.0, 1.0),
            jnp.asarray(info.is_accepted),
            ~jnp.isfinite(info.acceptance_rate),
            -new.logdensity,
            jnp.asarray(new.logdensity),
            evaluations,
            None,
        )

    def couple(
        self, key: PRNGKeyArray, coupled: State, info: Info, injected: float, reference: LogDensity = log_normal
    ) -> State:
        """Common random numbers."""
        return with_common_noise(self, key, coupled, injected, reference)


def barkers(step_size: PyTree = None, target_acceptance: float = 0.4) -> OneShot:
    """Barker's proposal: as MALA, but robust to steps that are too long.

    Source: Livingstone and Zanella, arXiv:1908.11812 (acceptance 0.4).
    """
    kernel = barker.build_kernel()

    def step(key, state, log_density, mass):
        return kernel(key, state, log_density, 1.0, 1.0 / mass)  # its proposals are as long as 1 / sqrt of what it gets

    return OneShot(step_size, barker.init, step, target_acceptance=target_acceptance)
