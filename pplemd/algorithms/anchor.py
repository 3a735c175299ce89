"""A tie to the teacher's own map from noise to samples, beside what the E-step pulls."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.conditions import AbstractConditionPrior, Condition
from pplemd.dsl import Problem, Program
from pplemd.errors import RecipeError
from pplemd.teachers import AbstractTeacher, HeunSampler

TOGETHER = 1024  # trajectories that are solved side by side, by one compiled program


class Pairs(eqx.Module):
    """Noise, and the sample that the teacher's probability-flow ODE makes of it; each leaf with a leading dimension.

    Attributes:
        latents: base coordinates of the program's latent, by site: the noise, in the latent's shape.
        x: the samples.
        conditions: one for each, or None.
    """

    latents: dict[str, Float[Array, "count ..."]]
    x: Float[Array, "count ..."]
    conditions: Condition

    def batch(self, key: PRNGKeyArray, count: int) -> "Pairs":
        """So many of them, drawn with replacement."""
        chosen = jax.random.randint(key, (count,), 0, len(self.x))
        return jax.tree.map(lambda leaf: leaf[chosen], self)


class Anchor(eqx.Module):
    """Keeps the generator near the teacher's own map from noise to samples, so that it drops no part of the data.

    The E-step's pull is mode-seeking while the latents do not move; a regression on noise-sample pairs is not. It needs
    no data: the pairs are drawn from the teacher once, before the first step.

    Source: arXiv:2311.18828, section 3.3 (the regression loss of distribution matching distillation), with the squared
        distance in place of LPIPS.

    Attributes:
        weight: of the regression, beside the E-step's loss: both are half a sum of squares over the entries of x.
        count: pairs.
        sampler: how the ODE is solved.

    Raises:
        RecipeError: where weight or count is not positive.
    """

    weight: float = 0.2
    count: int = 8192
    sampler: HeunSampler = HeunSampler()

    def __check_init__(self):
        if not (0 < self.weight < math.inf and self.count >= 1):
            raise RecipeError(
                f"an anchor needs a positive weight and at least one pair; found weight={self.weight}, "
                f"count={self.count}. Leave the anchor out (anchor=None) for none."
            )

    def pairs(
        self,
        key: PRNGKeyArray,
        teacher: AbstractTeacher,
        problem: Problem,
        conditions: AbstractConditionPrior | None,
        advance: Callable[[float], None],
    ) -> Pairs:
        """Draw the pairs.

        Args:
            key: a key.
            teacher: the teacher.
            problem: the traced program; its one latent must be a push of standard normal noise of x's size.
            conditions: the prior of its conditions, or None.
            advance: called with the share that is done.

        Raises:
            RecipeError: where the program's latents are of another kind.
        """
        site = _noise_site(problem)
        key_noise, key_conditions = jax.random.split(key)
        noise = jax.random.normal(key_noise, (self.count, *teacher.shape))
        drawn = None if conditions is None else conditions.draw(key_conditions, self.count)
        parts = []
        for first in range(0, self.count, TOGETHER):
            some = jax.tree.map(lambda leaf: leaf[first : first + TOGETHER], (noise, drawn))  # noqa: B023
            parts.append(_solved(self.sampler, teacher, *some))
            advance(min(1.0, (first + TOGETHER) / self.count))
        return Pairs({site.name: noise.reshape(self.count, *site.base_shape)}, jnp.concatenate(parts), drawn)


@eqx.filter_jit
def _solved(sampler: HeunSampler, teacher: AbstractTeacher, noise: Array, conditions: Array | None) -> Array:
    return jax.vmap(lambda n, condition: sampler.solve(n, teacher, condition))(noise, conditions)


def _noise_site(problem: Problem):
    sites = problem.sites
    if len(sites) == 1 and sites[0].base == "normal" and _size(sites[0].base_shape) == _size(problem.output.shape):
        return sites[0]
    found = ", ".join(f"{site.name} of {_size(site.base_shape)} numbers" for site in sites)
    raise RecipeError(
        f"the anchor pairs the teacher's noise with the program's latent, which must be one, normal, of x's "
        f"size ({_size(problem.output.shape)} numbers); found {found}. Leave the anchor out (anchor=None), or declare "
        f'em.latent("z", dist.Normal(jnp.zeros({problem.output.shape}), 1.0)).'
    )


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def anchor_loss(program: Program, problem: Problem, pairs: Pairs) -> Float[Array, ""]:
    """Half the mean squared distance of g(noise) to the teacher's samples, summed over the entries of x."""

    def one(latents, x, condition):
        return 0.5 * jnp.sum((problem.generate(program, latents, condition) - x) ** 2)

    return jnp.mean(jax.vmap(one)(pairs.latents, pairs.x, pairs.conditions))
