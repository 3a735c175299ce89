"""The one law that every E-step samples: base noise, tilted by a potential of what it is pushed to."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PyTree

from pplemd.errors import PplemdError
from pplemd.inference.potential import AbstractPotential, Potential


class TiltedLaw(eqx.Module):
    """rho(u) proportional to base(u) exp(-U(T(u))), for one u.

    The gradient needs no Jacobian term: grad log rho = grad log base - J_T(u)^T grad U(T(u)). EM distillation,
    refiners of a generator, tilted priors and posteriors differ in T, U and the base alone.

    Source: arXiv:2405.16852, section 3.2 (reparameterised E-step); arXiv:2010.00654, equation 7.

    Attributes:
        push: T, from coordinates u (any pytree of arrays) to x.
        potential: U.
        log_base: log density of the base, from u to a scalar; a constant may be missing.
    """

    push: Callable[[PyTree], Array]
    potential: AbstractPotential
    log_base: Callable[[PyTree], Array]

    def score(self, u: PyTree) -> PyTree:
        """Gradient of log rho at one u: one push, one gradient of U, one pull-back."""
        x, pull_back = jax.vjp(self.push, u)
        (tilt,) = pull_back(self.potential.gradient(x))
        return jax.tree.map(lambda free, tilted: free - tilted, jax.grad(self.log_base)(u), tilt)

    def log_density(self, u: PyTree) -> Float[Array, ""]:
        """Log rho at one u, up to a constant.

        Raises:
            PplemdError: where only the gradient of U is known.
        """
        if not isinstance(self.potential, Potential):
            raise PplemdError(
                "this target knows only the gradient of its potential, so it has no density. Use a kernel without an "
                "exact accept/reject step: Langevin, or HMC(correction=Unadjusted())."
            )
        return self.log_base(u) - self.potential.value(self.push(u))
