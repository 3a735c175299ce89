"""What a kernel is: a transition that leaves a target (nearly) invariant, and one of the chain coupled to it."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from pplemd.inference.target import TiltedTarget, log_normal

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
