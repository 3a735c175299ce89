"""The No-U-Turn sampler."""

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.mcmc import hmc, integrators, nuts
from jaxtyping import PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.corrections import AbstractCorrection, Automatic, Unadjusted
from pplemd.inference.kernels.base import AbstractKernel, Info, LogDensity, State, inverse_mass, with_common_noise
from pplemd.inference.kernels.hmc import energised
from pplemd.inference.target import TiltedTarget, log_normal


class NUTS(AbstractKernel):
    """Trajectories that double until they turn, a point drawn from each; BlackJAX's nuts.

    Under vmap every chain waits for the longest trajectory of the batch.

    Source: Hoffman and Gelman 2014; Betancourt 2017 (multinomial draws).

    Attributes:
        step_size: leapfrog step, a number or one for each block of coordinates; None leaves it to adaptation.
        doublings: most doublings of a trajectory: at most 2^doublings leapfrogs.
        correction: where the energies come from.
        target_acceptance: what adaptation aims at.
    """

    step_size: PyTree = None
    doublings: int = eqx.field(static=True, default=6)
    correction: AbstractCorrection = Automatic()
    target_acceptance: float = eqx.field(static=True, default=0.8)

    def __check_init__(self) -> None:
        if isinstance(self.correction, Unadjusted):
            raise RecipeError(
                "NUTS draws from its trajectory by the energies of its points, which Unadjusted() leaves out. Take "
                "HMC(step_size, correction=Unadjusted()), or leave the correction out."
            )

    @property
    def wanted_acceptance(self) -> float | None:
        """The target acceptance."""
        return self.target_acceptance

    def init(self, key: PRNGKeyArray, target: TiltedTarget, position: PyTree) -> State:
        """The score at the start."""
        return State(position, target.visit(position))

    def step(self, key: PRNGKeyArray, state: State, target: TiltedTarget) -> tuple[State, Info]:
        """One transition."""
        kernel = nuts.build_kernel(energised(integrators.velocity_verlet, target, self.correction))
        start = hmc.HMCState(state.position, jnp.zeros(()), state.memory)
        mass = inverse_mass(self.step_size, state.position)
        new, info = kernel(key, start, None, 1.0, mass, self.doublings)
        evaluations = info.num_integration_steps * self.correction.evaluations(target)
        return State(new.position, new.logdensity_grad), Info(
            jnp.clip(info.acceptance_rate, 0.0, 1.0),
            _differs(new.position, state.position),
            jnp.asarray(info.is_divergent),
            jnp.asarray(info.energy),
            jnp.asarray(new.logdensity),
            evaluations,
            None,
        )

    def couple(
        self, key: PRNGKeyArray, coupled: State, info: Info, injected: float, reference: LogDensity = log_normal
    ) -> State:
        """Common random numbers."""
        return with_common_noise(self, key, coupled, injected, reference)


def _differs(new: PyTree, old: PyTree) -> jax.Array:
    """Whether anything of a position changed."""
    return jax.tree.reduce(jnp.logical_or, jax.tree.map(lambda a, b: jnp.any(a != b), new, old))
