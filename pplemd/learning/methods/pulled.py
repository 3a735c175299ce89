"""What methods of distribution matching share: samples that are pulled along a direction given without a gradient."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pplemd.dsl import Program
from pplemd.learning.methods.base import AbstractScene, Loss, Moment, Noised
from pplemd.teachers import denoise

LEAST = 1e-5  # of a mean distance that is divided by, in data units: the floor of SiD's published code


class Seen(eqx.Module):
    """One sample, noised, and what teacher and student make of it.

    Attributes:
        x: g(z).
        teacher: the teacher's denoised sample, D_q(x_sigma, sigma).
        student: the student's, D_p(x_sigma, sigma).
    """

    x: Float[Array, "..."]
    teacher: Float[Array, "..."]
    student: Float[Array, "..."]

    @property
    def scale(self) -> Float[Array, ""]:
        """Mean |x - D_q| over the sample's entries, no gradient: how much of it the noise has hidden.

        Source: arXiv:2311.18828, equation 8; its form by sample.
        """
        return jax.lax.stop_gradient(jnp.maximum(jnp.mean(jnp.abs(self.x - self.teacher)), LEAST))


class Pulled(eqx.Module):
    """Latents, and where their samples are pulled.

    Attributes:
        latents: base coordinates by site.
        labels: classes, or None.
        sigma: noise levels, in data units.
        pull: a displacement of x, in data units where the method does not rescale it.
    """

    latents: dict[str, Float[Array, "batch ..."]]
    labels: Int[Array, " batch"] | None
    sigma: Float[Array, " batch"]
    pull: Float[Array, "batch ..."]


def see(program: Program, scene: AbstractScene, moment: Moment, drawn: Noised) -> Seen:
    """The samples of some latents, noised and denoised by both; differentiable in the program, through all of it."""

    def one(latents, noise, sigma, label):
        x = scene.problem.generate(program, latents, label)
        x_sigma = x + sigma * noise
        teacher = denoise(scene.teacher, x_sigma, sigma, label)
        return Seen(x, teacher, moment.score.denoise(x_sigma, sigma, label))

    return scene.each(one, drawn.latents, drawn.noise, drawn.sigma, drawn.labels)


def toward(program: Program, scene: AbstractScene, drawn: Pulled) -> Loss:
    """Half the weighted squared distance from g(z) to where it is pulled; its gradient is -v(sigma) pull . dg."""

    def one(latents, sigma, pull, label):
        x = scene.problem.generate(program, latents, label)
        return 0.5 * scene.weight(sigma) * jnp.sum((x - jax.lax.stop_gradient(x + pull)) ** 2)

    losses = jax.vmap(one)(drawn.latents, drawn.sigma, drawn.pull, drawn.labels)
    return jnp.mean(losses), {"pull": jnp.mean(drawn.pull**2)}
