"""The posterior of a program's latents, given what it observes, as a tilted law."""

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int

from pplemd.dsl import Problem, Program
from pplemd.inference.potential import Potential
from pplemd.inference.target import TiltedLaw


def posterior_law(problem: Problem, program: Program, label: Int[Array, ""] | None = None) -> TiltedLaw:
    """The law p(z | y) in base coordinates: rho(u) proportional to p(u) p(y | T(u)), whose density is known.

    T is the identity here, on one flat x: the potential is U(u) = -log p(y | T(u)).

    Args:
        problem: a traced program that observes data.
        program: its networks.
        label: where the program takes one.

    Source: arXiv:1306.0733, section 3 (the auxiliary form: latents as functions of independent noise).
    """
    shapes = {site.name: jnp.zeros(site.base_shape, site.dtype) for site in problem.sites}
    unravel = ravel_pytree(shapes)[1]
    return TiltedLaw(
        lambda u: ravel_pytree(u)[0],
        Potential(lambda x: -problem.log_likelihood(program, unravel(x), label)),
        lambda u: problem.log_base(program, u, label),
    )
