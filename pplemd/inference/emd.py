"""EM distillation's E-step as a tilted law: the student's noised samples, tilted towards the teacher."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from pplemd.dsl import Problem, Program
from pplemd.inference.potential import ScorePotential
from pplemd.inference.target import Held, TiltedLaw
from pplemd.teachers import AbstractTeacher


class Coordinates(eqx.Module):
    """Base coordinates of the E-step; also a number for each block, where step sizes are meant.

    Attributes:
        noise: eps, the standard noise that takes x to x_sigma.
        latents: base coordinates of the program's latents by site; None while they are held fixed.
    """

    noise: PyTree
    latents: PyTree


class Student(eqx.Module):
    """The student as the E-step sees it.

    Attributes:
        problem: the traced program.
        program: its networks.
        score_network: its noised law's score, s_p.
    """

    problem: Problem
    program: Program
    score_network: AbstractTeacher


def emd_law(
    teacher: AbstractTeacher,
    student: Student,
    sigma: Float[Array, ""],
    label: Int[Array, ""] | None,
    held: dict[str, Array] | None = None,
) -> TiltedLaw:
    """The law rho(eps, z) proportional to [q / p_theta](g(z) + sigma eps) N(eps; 0, I) p(z) at one sigma.

    Args:
        teacher: q, through its score.
        student: p_theta, through its generator and score network.
        sigma: noise level, in data units.
        label: the class of this chain, or None.
        held: base coordinates of the latents, where they do not move; then the law is over eps alone.

    Source: arXiv:2405.16852, equations 9 and 10 (the reparameterised E-step), here with x_sigma = x + sigma eps.
    """
    problem, program = student.problem, student.program
    frozen = None if held is None else problem.generate(program, held, label)

    def push(u: Coordinates) -> Array:
        x = problem.generate(program, u.latents, label) if frozen is None else frozen
        return x + sigma * u.noise

    def slope(x_sigma: Array) -> Array:
        return student.score_network.score(x_sigma, sigma, label) - teacher.score(x_sigma, sigma, label)

    def log_base(u: Coordinates) -> Array:
        latents = problem.log_base(program, u.latents, label) if frozen is None else 0.0
        return latents + jnp.sum(jax.scipy.stats.norm.logpdf(u.noise))

    def hold(u: Coordinates) -> Held:
        return Held(emd_law(teacher, student, sigma, label, u.latents), Coordinates(u.noise, None))

    return TiltedLaw(push, ScorePotential(slope), log_base, hold if held is None else None)
