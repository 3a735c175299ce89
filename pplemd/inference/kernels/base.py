"""What a kernel is: a transition that leaves a target (nearly) invariant, and its twin."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from pplemd.inference.target import TiltedLaw


class State(eqx.Module):
    """What the next transition of one chain needs.

    Attributes:
        position: coordinates u, a pytree of arrays.
        memory: what the kernel carries from step to step (cached densities and gradients), or None.
    """

    position: PyTree
    memory: Any = None


class Info(eqx.Module):
    """What diagnostics and the twin need of one transition.

    Attributes:
        acceptance: acceptance probability, 1 for kernels that accept everything.
        accepted: whether the chain moved to the proposal.
        noise: what was injected, in the kernel's own terms: the key of Langevin's noise, HMC's momentum.
    """

    acceptance: Float[Array, ""]
    accepted: Bool[Array, ""]
    noise: PyTree


class AbstractKernel(eqx.Module):
    """A transition kernel for one chain; batch by vmap."""

    @abstractmethod
    def init(self, target: TiltedLaw, position: PyTree) -> State:
        """The state of a chain that starts at a position."""

    @abstractmethod
    def step(self, key: PRNGKeyArray, state: State, target: TiltedLaw) -> tuple[State, Info]:
        """One transition."""

    @abstractmethod
    def shadow(self, twin: PyTree, info: Info, injected: float) -> PyTree:
        """The same transition on the standard normal: same noise (times `injected`), same decision.

        Args:
            twin: position of the twin, of the same structure as the chain's.
            info: what the chain's transition recorded.
            injected: 1 to share the chain's noise, 0 to leave it out.

        Source: arXiv:2405.16852, section 3.3 (noise cancellation), for any kernel.
        """
