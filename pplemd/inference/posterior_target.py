"""The posterior of a program's latents, given what it observes, as a tilted target."""

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from pplemd.conditions import Condition
from pplemd.dsl import Problem, Program
from pplemd.inference.potential import Potential
from pplemd.inference.target import TiltedTarget


class Posterior(eqx.Module):
    """The parts of a posterior as a target. A record, so that targets of one problem share compilations.

    Attributes:
        problem: a traced program that observes data.
        program: its networks.
        condition: where the program takes one.
    """

    problem: Problem
    program: Program
    condition: Condition

    def push(self, u: PyTree) -> Float[Array, " n"]:
        """The identity, flat."""
        return ravel_pytree(u)[0]

    def energy(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """-log p(y | T(u)) at a flat u."""
        shapes = {site.name: jnp.zeros(site.base_shape, site.dtype) for site in self.problem.sites}
        return -self.problem.log_likelihood(self.program, ravel_pytree(shapes)[1](x), self.condition)

    def log_base(self, u: PyTree) -> Float[Array, ""]:
        """Log-density of base coordinates."""
        return self.problem.log_base(self.program, u, self.condition)


def posterior_target(problem: Problem, program: Program, condition: Condition = None) -> TiltedTarget:
    """The target p(z | y) in base coordinates: rho(u) proportional to p(u) p(y | T(u)), whose density is known.

    T is the identity here, on one flat x: the potential is U(u) = -log p(y | T(u)).

    Args:
        problem: a traced program that observes data.
        program: its networks.
        condition: where the program takes one.

    Source: arXiv:1306.0733, section 3 (the auxiliary form: latents as functions of independent noise).
    """
    parts = Posterior(problem, program, condition)
    return TiltedTarget(parts.push, Potential(parts.energy), parts.log_base)
