"""EM distillation's E-step as a tilted target: the student's noised samples, tilted towards the teacher."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from pplemd.conditions import Condition
from pplemd.dsl import Centering, Problem, Program
from pplemd.inference.chain import Chain, Reference
from pplemd.inference.target import AbstractPotential, Conditional, ScorePotential, TiltedTarget
from pplemd.teachers import AbstractTeacher


class Coordinates(eqx.Module):
    """Base coordinates of the E-step; also a number for each block, where step sizes are meant.

    Attributes:
        noise: eps, the standard noise that takes x to x_sigma; in a frame, what stands for it.
        latents: base coordinates of the program's latents by site; None where the target is conditional on them.
    """

    noise: PyTree
    latents: PyTree


class Student(eqx.Module):
    """The student as the E-step sees it.

    Attributes:
        problem: the traced program.
        program: its networks.
        score_network: its noised density's score, s_p.
    """

    problem: Problem
    program: Program
    score_network: AbstractTeacher


class Frame(eqx.Module):
    """The coordinates that one chain at one sigma moves in: v = eps + lambda g(z) / sigma, beside z in its own.

    lambda = 0 is (eps, z); lambda = 1 is (x_sigma / sigma, z): given z, v has unit variance whatever lambda and sigma,
    so that step sizes keep their meaning. The change of coordinates has determinant 1, times that of the latents'.

    Source: arXiv:2405.16852, section 3.2, compares (x, z) and (eps, z); between them arXiv:1906.03028.

    Attributes:
        problem: the traced program.
        program: its networks.
        sigma: noise level, in data units.
        condition: the class of the chain, or None.
        x: lambda of x_sigma, a number or one for each element.
        latents: lambdas of the latents' own sites.
    """

    problem: Problem
    program: Program
    sigma: Float[Array, ""]
    condition: Condition
    x: Float[Array, "..."]
    latents: Centering

    def from_base(self, u: Coordinates) -> Coordinates:
        """V at base coordinates u."""
        x = self.problem.generate(self.program, u.latents, self.condition)
        latents = self.problem.from_base(self.program, u.latents, self.latents, self.condition)
        return Coordinates(u.noise + self.x * x / self.sigma, latents)

    def to_base(self, v: Coordinates) -> Coordinates:
        """Base coordinates u at v."""
        u, _, x = self.see(v)
        return Coordinates(v.noise - self.x * x / self.sigma, u)

    def see(self, v: Coordinates) -> tuple[dict[str, Array], Array, Array]:
        """Base coordinates of the latents, their log-determinant, and x = g(z), each once."""
        u, log_det = self.problem.to_base(self.program, v.latents, self.latents, self.condition)
        return u, log_det, self.problem.generate(self.program, u, self.condition)

    def log_reference(self, v: Coordinates) -> Float[Array, ""]:
        """Log of the base density, latents from their prior and eps normal, at v."""
        u, log_det, x = self.see(v)
        noise = v.noise - self.x * x / self.sigma
        return self.problem.log_base(self.program, u, self.condition) + _log_noise(noise) + log_det

    def target(self, potential: AbstractPotential) -> TiltedTarget:
        """The base density tilted by a potential of x_sigma; g is evaluated once, and pulled back once."""

        def together(v: Coordinates) -> tuple[Array, Array]:
            u, log_det, x = self.see(v)
            noise = v.noise - self.x * x / self.sigma
            base = self.problem.log_base(self.program, u, self.condition) + _log_noise(noise) + log_det
            return x + self.sigma * noise, base

        def conditional(v: Coordinates) -> Conditional:
            x = jax.lax.stop_gradient(self.see(v)[2])

            def still(part: Coordinates) -> tuple[Array, Array]:
                noise = part.noise - self.x * x / self.sigma
                return x + self.sigma * noise, _log_noise(noise)

            target = TiltedTarget(lambda p: still(p)[0], potential, lambda p: still(p)[1], None, still)
            return Conditional(target, Coordinates(v.noise, None))

        guide = TiltedTarget(lambda v: together(v)[0], potential, lambda v: together(v)[1] - self.see(v)[1])
        return TiltedTarget(lambda v: together(v)[0], potential, self.log_reference, conditional, together, guide)

    def reference(self, chain: Chain, u: Coordinates) -> Reference:
        """The target and the start of the coupled chain, where the chain starts at base coordinates u."""
        return Reference(self.log_reference, self.from_base(chain.reference_start(u)))


def emd_target(
    teacher: AbstractTeacher,
    student: Student,
    sigma: Float[Array, ""],
    condition: Condition,
    given: dict[str, Array] | None = None,
) -> TiltedTarget:
    """The target rho(eps, z) proportional to [q / p_theta](g(z) + sigma eps) N(eps; 0, I) p(z) at one sigma.

    Args:
        teacher: q, through its score.
        student: p_theta, through its generator and score network.
        sigma: noise level, in data units.
        condition: the class of this chain, or None.
        given: base coordinates of the latents, where the target is conditional on them: a target of eps alone.

    Source: arXiv:2405.16852, equations 9 and 10 (the reparameterised E-step), here with x_sigma = x + sigma eps.
    """
    problem, program = student.problem, student.program
    frozen = None if given is None else problem.generate(program, given, condition)

    def push(u: Coordinates) -> Array:
        x = problem.generate(program, u.latents, condition) if frozen is None else frozen
        return x + sigma * u.noise

    def log_base(u: Coordinates) -> Array:
        latents = problem.log_base(program, u.latents, condition) if frozen is None else 0.0
        return latents + _log_noise(u.noise)

    def conditional(u: Coordinates) -> Conditional:
        return Conditional(emd_target(teacher, student, sigma, condition, u.latents), Coordinates(u.noise, None))

    potential = difference(teacher, student, sigma, condition)
    return TiltedTarget(push, potential, log_base, conditional if given is None else None)


def difference(
    teacher: AbstractTeacher, student: Student, sigma: Float[Array, ""], condition: Condition
) -> ScorePotential:
    """U = log p_theta,sigma - log q_sigma, through the difference of the scores."""

    def slope(x_sigma: Array) -> Array:
        return student.score_network.score(x_sigma, sigma, condition) - teacher.score(x_sigma, sigma, condition)

    return ScorePotential(slope)


def _log_noise(noise: Array) -> Float[Array, ""]:
    return jnp.sum(jax.scipy.stats.norm.logpdf(noise))
