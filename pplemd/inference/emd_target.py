"""EM distillation's E-step as a tilted law: the student's noised samples, tilted towards the teacher."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from pplemd.dsl import Centering, Problem, Program
from pplemd.inference.chain import Chain, Free
from pplemd.inference.potential import AbstractPotential, ScorePotential
from pplemd.inference.target import Held, TiltedLaw
from pplemd.teachers import AbstractTeacher


class Coordinates(eqx.Module):
    """Base coordinates of the E-step; also a number for each block, where step sizes are meant.

    Attributes:
        noise: eps, the standard noise that takes x to x_sigma; in a frame, what stands for it.
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


class Frame(eqx.Module):
    """The coordinates that one chain at one sigma moves in: v = eps + lambda g(z) / sigma, beside z in its own.

    lambda = 0 is (eps, z); lambda = 1 is (x_sigma / sigma, z): given z, v has unit variance whatever lambda and sigma,
    so that step sizes keep their meaning. The change of coordinates has determinant 1, times that of the latents'.

    Source: arXiv:2405.16852, section 3.2, compares (x, z) and (eps, z); between them arXiv:1906.03028.

    Attributes:
        problem: the traced program.
        program: its networks.
        sigma: noise level, in data units.
        label: the class of the chain, or None.
        x: lambda of x_sigma, a number or one for each element.
        latents: lambdas of the latents' own sites.
    """

    problem: Problem
    program: Program
    sigma: Float[Array, ""]
    label: Int[Array, ""] | None
    x: Float[Array, "..."]
    latents: Centering

    def enter(self, u: Coordinates) -> Coordinates:
        """V at base coordinates u."""
        x = self.problem.generate(self.program, u.latents, self.label)
        latents = self.problem.displace(self.program, u.latents, self.latents, self.label)
        return Coordinates(u.noise + self.x * x / self.sigma, latents)

    def leave(self, v: Coordinates) -> Coordinates:
        """Base coordinates u at v."""
        u, _, x = self.see(v)
        return Coordinates(v.noise - self.x * x / self.sigma, u)

    def see(self, v: Coordinates) -> tuple[dict[str, Array], Array, Array]:
        """Base coordinates of the latents, their log-determinant, and x = g(z), each once."""
        u, log_det = self.problem.place(self.program, v.latents, self.latents, self.label)
        return u, log_det, self.problem.generate(self.program, u, self.label)

    def log_free(self, v: Coordinates) -> Float[Array, ""]:
        """Log density of the law without a potential, latents from their prior and eps normal, at v."""
        u, log_det, x = self.see(v)
        noise = v.noise - self.x * x / self.sigma
        return self.problem.log_base(self.program, u, self.label) + _log_noise(noise) + log_det

    def law(self, potential: AbstractPotential) -> TiltedLaw:
        """The free law tilted by a potential of x_sigma; g is asked once, and pulled back once."""

        def together(v: Coordinates) -> tuple[Array, Array]:
            u, log_det, x = self.see(v)
            noise = v.noise - self.x * x / self.sigma
            base = self.problem.log_base(self.program, u, self.label) + _log_noise(noise) + log_det
            return x + self.sigma * noise, base

        def hold(v: Coordinates) -> Held:
            x = jax.lax.stop_gradient(self.see(v)[2])

            def still(part: Coordinates) -> tuple[Array, Array]:
                noise = part.noise - self.x * x / self.sigma
                return x + self.sigma * noise, _log_noise(noise)

            law = TiltedLaw(lambda p: still(p)[0], potential, lambda p: still(p)[1], None, still)
            return Held(law, Coordinates(v.noise, None))

        guide = TiltedLaw(lambda v: together(v)[0], potential, lambda v: together(v)[1] - self.see(v)[1])
        return TiltedLaw(lambda v: together(v)[0], potential, self.log_free, hold, together, guide)

    def free(self, chain: Chain, u: Coordinates) -> Free:
        """The law and the start of the twin of a chain that starts at base coordinates u."""
        return Free(self.log_free, self.enter(chain.untold(u)))


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

    def log_base(u: Coordinates) -> Array:
        latents = problem.log_base(program, u.latents, label) if frozen is None else 0.0
        return latents + _log_noise(u.noise)

    def hold(u: Coordinates) -> Held:
        return Held(emd_law(teacher, student, sigma, label, u.latents), Coordinates(u.noise, None))

    potential = difference(teacher, student, sigma, label)
    return TiltedLaw(push, potential, log_base, hold if held is None else None)


def difference(
    teacher: AbstractTeacher, student: Student, sigma: Float[Array, ""], label: Int[Array, ""] | None
) -> ScorePotential:
    """U = log p_theta,sigma - log q_sigma, through the difference of the scores."""

    def slope(x_sigma: Array) -> Array:
        return student.score_network.score(x_sigma, sigma, label) - teacher.score(x_sigma, sigma, label)

    return ScorePotential(slope)


def _log_noise(noise: Array) -> Float[Array, ""]:
    return jnp.sum(jax.scipy.stats.norm.logpdf(noise))
