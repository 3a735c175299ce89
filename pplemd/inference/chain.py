"""A short chain and its twin: the E-step for any target."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.kernels import AbstractKernel
from pplemd.inference.target import TiltedLaw


class Cancellation(eqx.Module):
    """Which of the chain's noise its twin takes back.

    The twin nu is the same chain on the standard normal: same start (`initial`), same injected noise (`injected`), same
    decisions. What is left, u - nu, is what the potential did.

    Source: arXiv:2405.16852, section 3.3.

    Attributes:
        initial: cancel the noise that the chain started from.
        injected: cancel the noise that the kernel injected.
    """

    initial: bool = True
    injected: bool = True


ALL = Cancellation(True, True)
INJECTED = Cancellation(False, True)
INITIAL = Cancellation(True, False)
NONE = Cancellation(False, False)


class Draw(eqx.Module):
    """Where one chain ended.

    Attributes:
        position: coordinates u_K, a pytree.
        residual: u_K - nu_K, the same structure: the position with its noise cancelled.
        acceptance: mean acceptance probability along the chain.
    """

    position: PyTree
    residual: PyTree
    acceptance: Float[Array, ""]


class Chain(eqx.Module):
    """`length` transitions of a kernel from a given start, beside the twin.

    Attributes:
        kernel: the transition.
        length: K, how many transitions.
        cancel: which noise the twin takes back.

    Raises:
        RecipeError: where the length is not positive.
    """

    kernel: AbstractKernel
    length: int = eqx.field(static=True)
    cancel: Cancellation = ALL

    def __check_init__(self):
        if self.length < 1:
            raise RecipeError(f"a chain needs at least one step; found length={self.length}.")

    def run(self, key: PRNGKeyArray, target: TiltedLaw, start: PyTree) -> Draw:
        """Run one chain.

        Args:
            key: a key.
            target: the law to sample.
            start: coordinates to start from, a pytree of arrays.
        """
        initial, injected = float(self.cancel.initial), float(self.cancel.injected)

        def transition(carry, step_key):
            state, twin = carry
            state, info = self.kernel.step(step_key, state, target)
            return (state, self.kernel.shadow(twin, info, injected)), info.acceptance

        first = (self.kernel.init(target, start), jax.tree.map(lambda u: initial * u, start))
        (state, twin), acceptance = jax.lax.scan(transition, first, jax.random.split(key, self.length))
        residual = jax.tree.map(jnp.subtract, state.position, twin)
        return Draw(state.position, residual, jnp.mean(acceptance))
