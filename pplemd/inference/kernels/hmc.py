"""Hamiltonian Monte Carlo, one leapfrog step or several."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.mcmc import hmc, integrators, metrics
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray, PyTree

from pplemd.inference.corrections import AbstractCorrection, Exact
from pplemd.inference.kernels.base import AbstractKernel, Info, State
from pplemd.inference.kernels.step_sizes import per_leaf
from pplemd.inference.target import TiltedLaw


class HMC(AbstractKernel):
    """Fresh momenta, `leapfrogs` steps of velocity Verlet, one decision; BlackJAX's hmc.

    With one leapfrog step it is the Metropolis-adjusted Langevin algorithm, gamma = step_size^2 / 2.

    Attributes:
        step_size: leapfrog step, a number or one for each block of coordinates.
        leapfrogs: leapfrog steps per transition.
        correction: how proposals are decided; `Exact()` wants a potential whose value is known.
    """

    step_size: PyTree
    leapfrogs: int = eqx.field(static=True, default=1)
    correction: AbstractCorrection = Exact()

    def init(self, target: TiltedLaw, position: PyTree) -> State:
        """Density and gradient at the start."""
        start = hmc.init(position, self.correction.log_density(target))
        return State(position, (start.logdensity, start.logdensity_grad))

    def step(self, key: PRNGKeyArray, state: State, target: TiltedLaw) -> tuple[State, Info]:
        """One transition."""
        proposal = partial(hmc.hmc_proposal, sample_proposal=self.correction.decide)
        kernel = hmc.build_kernel(build_proposal=proposal)
        new, info = kernel(
            key,
            hmc.HMCState(state.position, *state.memory),
            self.correction.log_density(target),
            1.0,
            self._inverse_mass(state.position),
            self.leapfrogs,
        )
        return State(new.position, (new.logdensity, new.logdensity_grad)), Info(
            jnp.asarray(info.acceptance_rate), jnp.asarray(info.is_accepted), info.momentum
        )

    def shadow(self, twin: PyTree, info: Info, injected: float) -> PyTree:
        """The same momenta through the same leapfrogs of the standard normal; a rejected step leaves the twin."""
        metric = metrics.default_metric(self._inverse_mass(twin))
        leapfrog = integrators.velocity_verlet(_log_normal, metric.kinetic_energy)
        momentum = jax.tree.map(lambda p: injected * p, info.noise)
        start: Any = integrators.IntegratorState(twin, momentum, *jax.value_and_grad(_log_normal)(twin))
        end = jax.lax.fori_loop(0, self.leapfrogs, lambda _, state: leapfrog(state, 1.0), start)
        return jax.tree.map(lambda new, old: jnp.where(info.accepted, new, old), end.position, twin)

    def _inverse_mass(self, position: PyTree) -> PyTree:
        """A leapfrog step h per block is the inverse mass h^2 at unit step."""
        sizes = per_leaf(self.step_size, position)
        return ravel_pytree(jax.tree.map(lambda u, h: jnp.full_like(u, h**2), position, sizes))[0]


def _log_normal(u: PyTree) -> jax.Array:
    """Log density of the standard normal on a pytree, without its constant."""
    return -0.5 * jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(leaf**2), u))
