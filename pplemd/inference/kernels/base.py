"""What a kernel is: a transition that leaves a target (nearly) invariant, and one of the chain coupled to it."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.target import TiltedTarget, log_normal, without_potential

LogDensity = Callable[[PyTree], Array]


class State(eqx.Module):
    """What the next transition of one chain needs.

    It holds no log density: a sum of gains over the chain's life would keep the size of where the chain began, and with
    it the rounding there, 1 nat in 32 bits after 1e7. Each transition counts from its own start (`Info.gain`).

    Attributes:
        position: coordinates u, a pytree of arrays.
        memory: what else the kernel carries from step to step (a Point, a momentum), or None.
    """

    position: PyTree
    memory: Any = None


class Info(eqx.Module):
    """What diagnostics, adaptation and the coupled chain need of one transition.

    Attributes:
        acceptance: acceptance probability, 1 for kernels that accept everything.
        accepted: whether the chain moved to the proposal.
        diverging: whether the proposal's energy was off by more than BlackJAX's threshold, or not a number.
        energy: Hamiltonian of the transition, log rho counted from where it began; minus the gain for kernels without
            momenta.
        gain: log rho where the chain is now, less log rho where the transition began, as far as the kernel's correction
            knows it.
        evaluations: gradients of U that the transition took.
        noise: what was injected, in the kernel's own terms: Langevin's kick, HMC's momentum, or None.
    """

    acceptance: Float[Array, ""]
    accepted: Bool[Array, ""]
    diverging: Bool[Array, ""]
    energy: Float[Array, ""]
    gain: Float[Array, ""]
    evaluations: Any
    noise: PyTree


class AbstractKernel(eqx.Module):
    """A transition kernel for one chain; batch by vmap.

    Attributes:
        step_size: h, the length of a move in u (where u is standard normal a priori): a number, a number for each block
            of coordinates, or one for each element; None leaves it to adaptation.
    """

    step_size: eqx.AbstractVar[PyTree]

    @property
    @abstractmethod
    def wanted_acceptance(self) -> float | None:
        """What adaptation aims at; None for kernels that accept everything and say nothing."""

    @abstractmethod
    def init(self, key: PRNGKeyArray, target: TiltedTarget, position: PyTree) -> State:
        """The state of a chain that starts at a position; the key is for kernels that carry a momentum."""

    @abstractmethod
    def step(self, key: PRNGKeyArray, state: State, target: TiltedTarget) -> tuple[State, Info]:
        """One transition."""

    @abstractmethod
    def couple(
        self, key: PRNGKeyArray, coupled: State, info: Info, injected: float, reference: LogDensity = log_normal
    ) -> State:
        """The same transition without a potential: same noise (times `injected`), same decision.

        Args:
            key: the key of the chain's transition.
            coupled: state of the coupled chain; its position has the chain's structure.
            info: what the chain's transition recorded.
            injected: 1 to share the chain's noise, 0 to leave it out.
            reference: log density of the coupled chain's target: the base density of the chain's.

        Source: arXiv:2405.16852, section 3.3 (noise cancellation), for any kernel.
        """


def with_common_noise(
    kernel: Any, key: PRNGKeyArray, coupled: State, injected: float, reference: LogDensity = log_normal
) -> State:
    """One transition of the coupled chain: common random numbers, its own decisions.

    By itself it is an exact chain of the base density, so it takes nothing but noise away. Where the chain's target has
    no potential either, the two chains are one.

    Raises:
        RecipeError: where only the initial noise shall be cancelled: the injected one cannot be left out.
    """
    if not injected:
        raise RecipeError(
            f"{type(kernel).__name__} does not report its noise, so its coupled chain shares all of it: use "
            "Cancellation(initial=..., injected=True)."
        )
    return kernel.step(key, coupled, without_potential(reference))[0]


def per_leaf(step_size: PyTree, position: PyTree) -> PyTree:
    """One step size for each leaf of a position.

    Args:
        step_size: a number, or a prefix of the position's structure with a number (or array) for each of its blocks.
        position: the coordinates.

    Raises:
        RecipeError: where the step size was left to adaptation and nobody adapted it.
    """
    if step_size is None:
        raise RecipeError("this kernel has no step size. Give one, Langevin(0.16) say, or adapt it before it is used.")
    return jax.tree.map(lambda size, block: jax.tree.map(lambda _: size, block), step_size, position)


def inverse_mass(step_size: PyTree, position: PyTree) -> Float[Array, " n"]:
    """The diagonal inverse mass h^2, which makes a unit leapfrog step as long as steps h; raveled for BlackJAX."""

    def squared(u: Array, h: Array | float) -> Array:
        return jnp.broadcast_to(jnp.asarray(h, u.dtype) ** 2, u.shape)

    return ravel_pytree(jax.tree.map(squared, position, per_leaf(step_size, position)))[0]


def sized(kernel, step_size: PyTree):
    """The same kernel with another step size."""
    return eqx.tree_at(lambda k: k.step_size, kernel, step_size, is_leaf=lambda leaf: leaf is None)
