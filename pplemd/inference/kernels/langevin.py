"""The paper's kernel: unadjusted overdamped Langevin dynamics."""

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.sgmcmc.diffusions import overdamped_langevin
from jaxtyping import Array, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.kernels.base import AbstractKernel, Info, LogDensity, State, per_leaf
from pplemd.inference.target import TiltedTarget, log_normal


class Langevin(AbstractKernel):
    """u <- u + gamma grad log rho(u) + sqrt(2 gamma) n.

    Source: arXiv:2405.16852, equation 7 and algorithm 1; the step is BlackJAX's Euler step of the diffusion.
    Truncation: Roberts and Tweedie 1996, section 1.4.1, here of the root mean square.

    Attributes:
        step_size: gamma, a number or one for each block of coordinates (dimensionless: u is standard normal a priori).
        truncation: the longest grad log rho of a block of coordinates, as a root mean square over its numbers (1 is
            usual at the target); longer ones are shortened to it. So one stray sample, where a density falls off
            steeply, is not all that a student learns from. None for no limit, as in the paper.

    Raises:
        RecipeError: a truncation that is not above 0.
    """

    step_size: PyTree
    truncation: float | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.truncation is not None and not self.truncation > 0:
            raise RecipeError(
                f"Langevin: truncation is {self.truncation}; expected a length above 0 (5 cuts what is five times "
                "longer than usual), or None for no limit."
            )

    @property
    def wanted_acceptance(self) -> float | None:
        """None: everything is accepted."""
        return None

    def init(self, key: PRNGKeyArray, target: TiltedTarget, position: PyTree) -> State:
        """A Langevin chain remembers its position alone."""
        return State(position)

    def step(self, key: PRNGKeyArray, state: State, target: TiltedTarget) -> tuple[State, Info]:
        """One step, always accepted."""
        zero = jax.tree.map(jnp.zeros_like, state.position)
        kick = overdamped_langevin()(key, zero, zero, 1.0)
        position = self._move(state.position, target.score(state.position), kick)
        certain, never, unknown = jnp.ones((), bool), jnp.zeros((), bool), jnp.zeros(())
        return State(position), Info(jnp.ones(()), certain, never, unknown, unknown, 1, kick)

    def couple(
        self, key: PRNGKeyArray, coupled: State, info: Info, injected: float, reference: LogDensity = log_normal
    ) -> State:
        """Nu <- (1 - gamma) nu + sqrt(2 gamma) n in base coordinates, the paper's book-kept noise."""
        kick = jax.tree.map(lambda noise: injected * noise, info.noise)
        return State(self._move(coupled.position, jax.grad(reference)(coupled.position), kick))

    def _move(self, position: PyTree, score: PyTree, kick: PyTree) -> PyTree:
        """U + gamma score + sqrt(gamma) kick, block by block; shared by the chain and its coupled chain."""
        sizes, score = per_leaf(self.step_size, position), jax.tree.map(self._truncated, score)
        return jax.tree.map(lambda u, size, s, k: u + size * s + size**0.5 * k, position, sizes, score, kick)

    def _truncated(self, score: Array) -> Array:
        """One block's score, no longer than the truncation."""
        if self.truncation is None:
            return score
        length = jnp.sqrt(jnp.mean(score**2))
        return score * (self.truncation / jnp.maximum(length, self.truncation))
