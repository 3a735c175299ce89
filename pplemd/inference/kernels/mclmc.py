"""Microcanonical Langevin Monte Carlo."""

import equinox as eqx
import jax.numpy as jnp
from blackjax.mcmc import mclmc
from blackjax.mcmc.integrators import IntegratorState, isokinetic_velocity_verlet
from blackjax.util import generate_unit_vector, pytree_size
from jaxtyping import PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.corrections import AbstractCorrection, Automatic
from pplemd.inference.kernels.base import AbstractKernel, Info, LogDensity, State, inverse_mass, with_common_noise
from pplemd.inference.kernels.hmc import energised
from pplemd.inference.target import TiltedTarget, log_normal


class MCLMC(AbstractKernel):
    """Motion of constant kinetic energy whose direction is slowly refreshed; BlackJAX's mclmc, unadjusted.

    Everything is accepted; the acceptance reported is what Metropolis's rule would have said of the energy error, so
    that adaptation keeps the bias small.

    Source: Robnik et al., arXiv:2212.08549.

    Attributes:
        step_size: length of a move, a number or one for each block of coordinates, per sqrt(dimension); None leaves it
            to adaptation.
        refresh: moves after which the direction is forgotten.
        correction: where the energy error that is reported comes from.
        target_acceptance: what adaptation aims at: energy errors of a few hundredths.
    """

    step_size: PyTree = None
    refresh: float = 8.0
    correction: AbstractCorrection = Automatic()
    target_acceptance: float = eqx.field(static=True, default=0.95)

    @property
    def wanted_acceptance(self) -> float | None:
        """The target acceptance."""
        return self.target_acceptance

    def init(self, key: PRNGKeyArray, target: TiltedTarget, position: PyTree) -> State:
        """A random direction, and the score at the start.

        Raises:
            RecipeError: where the target has one dimension, where a direction cannot be refreshed.
        """
        if pytree_size(position) < 2:
            raise RecipeError("MCLMC needs a target of two dimensions or more; found 1. Use HMC or NUTS.")
        return State(position, (generate_unit_vector(key, position), target.visit(position)))

    def step(self, key: PRNGKeyArray, state: State, target: TiltedTarget) -> tuple[State, Info]:
        """One step, accepted unless it is not finite."""
        momentum, point = state.memory
        root = jnp.sqrt(pytree_size(state.position))
        kernel = mclmc.build_kernel(energised(isokinetic_velocity_verlet, target, self.correction))
        start = IntegratorState(state.position, momentum, jnp.zeros(()), point)
        mass = inverse_mass(self.step_size, state.position)
        new, info = kernel(key, start, None, mass, self.refresh * root, root)
        fine = jnp.asarray(info.nonans)
        error = jnp.where(fine, info.energy_change, jnp.inf)
        return State(new.position, (new.momentum, new.logdensity_grad)), Info(
            jnp.minimum(1.0, jnp.exp(-error)),
            fine,
            ~fine,
            error,
            jnp.asarray(new.logdensity),
            self.correction.evaluations(target),
            None,
        )

    def couple(
        self, key: PRNGKeyArray, coupled: State, info: Info, injected: float, reference: LogDensity = log_normal
    ) -> State:
        """Common random numbers."""
        return with_common_noise(self, key, coupled, injected, reference)
