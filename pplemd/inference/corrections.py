"""Whether, and with what density, a proposal is accepted or rejected."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.mcmc.proposal import static_binomial_sampling
from jaxtyping import Array, PyTree

from pplemd.inference.target import TiltedLaw


class AbstractCorrection(eqx.Module):
    """How a Hamiltonian kernel sees a target, and how it decides on a proposal."""

    @abstractmethod
    def log_density(self, target: TiltedLaw) -> Callable[[PyTree], Array]:
        """The function that BlackJAX evaluates and differentiates."""

    @abstractmethod
    def decide(self, key, energy_gain, current, proposed):
        """BlackJAX's sample_proposal: the chosen state and (accepted, acceptance probability, None)."""


class Exact(AbstractCorrection):
    """Metropolis's rule with the target's own density, for potentials whose value is known."""

    def log_density(self, target: TiltedLaw) -> Callable[[PyTree], Array]:
        """The density of the target."""
        return target.log_density

    def decide(self, key, energy_gain, current, proposed):
        """Accept with probability min(1, exp(energy_gain))."""
        return static_binomial_sampling(key, energy_gain, current, proposed)


class Unadjusted(AbstractCorrection):
    """Accept everything: all that scores alone allow without a line integral; biased by the step size."""

    def log_density(self, target: TiltedLaw) -> Callable[[PyTree], Array]:
        """A function of value zero whose gradient is the target's score."""

        def surrogate(u: PyTree) -> Array:
            score = jax.lax.stop_gradient(target.score(jax.lax.stop_gradient(u)))
            parts = jax.tree.map(lambda s, v: jnp.sum(s * (v - jax.lax.stop_gradient(v))), score, u)
            return jax.tree.reduce(jnp.add, parts)

        return surrogate

    def decide(self, key, energy_gain, current, proposed):
        """Accept."""
        return proposed, (jnp.ones((), bool), jnp.ones_like(energy_gain), None)
