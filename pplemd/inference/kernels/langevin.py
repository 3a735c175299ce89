"""The paper's kernel: unadjusted overdamped Langevin dynamics."""

import jax
import jax.numpy as jnp
from blackjax.sgmcmc.diffusions import overdamped_langevin
from jaxtyping import PRNGKeyArray, PyTree

from pplemd.inference.kernels.base import AbstractKernel, Info, State
from pplemd.inference.kernels.step_sizes import per_leaf
from pplemd.inference.target import TiltedLaw


class Langevin(AbstractKernel):
    """u <- u + gamma grad log rho(u) + sqrt(2 gamma) n.

    Source: arXiv:2405.16852, equation 7 and algorithm 1; the step is BlackJAX's Euler step of the diffusion.

    Attributes:
        step_size: gamma, a number or one for each block of coordinates (dimensionless: u is standard normal a priori).
    """

    step_size: PyTree

    def init(self, target: TiltedLaw, position: PyTree) -> State:
        """A Langevin chain remembers its position alone."""
        return State(position)

    def step(self, key: PRNGKeyArray, state: State, target: TiltedLaw) -> tuple[State, Info]:
        """One step, always accepted."""
        position = self._move(key, state.position, target.score(state.position), 1.0)
        return State(position), Info(jnp.ones(()), jnp.ones((), bool), key)

    def shadow(self, twin: PyTree, info: Info, injected: float) -> PyTree:
        """Nu <- (1 - gamma) nu + sqrt(2 gamma) n, the paper's book-kept noise."""
        temperature = injected**2  # noise enters as sqrt(2 gamma temperature) n
        return self._move(info.noise, twin, jax.tree.map(jnp.negative, twin), temperature)

    def _move(self, key: PRNGKeyArray, position: PyTree, score: PyTree, temperature: float) -> PyTree:
        """One Euler step per block, with the noise that `key` stands for; the increment is whitened by sqrt(gamma)."""
        root = jax.tree.map(lambda size: size**0.5, per_leaf(self.step_size, position))
        noise_free = jax.tree.map(jnp.zeros_like, position)
        drift = jax.tree.map(jnp.multiply, root, score)
        increment = overdamped_langevin()(key, noise_free, drift, 1.0, temperature)
        return jax.tree.map(lambda u, r, step: u + r * step, position, root, increment)
