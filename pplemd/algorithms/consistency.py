"""Consistency distillation: one network that gives the same sample all along a trajectory of the teacher's ODE."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.algorithms.distillation import AbstractDistillation, DistillationContext
from pplemd.conditions import Condition
from pplemd.diffusion import heun, karras_grid
from pplemd.dsl import Program
from pplemd.errors import RecipeError
from pplemd.keys import named
from pplemd.learning.algorithm import Loss, StepInput
from pplemd.learning.state import average, copied
from pplemd.teachers import HeunSampler, OneStep, denoise, sample

TOGETHER = 1024  # samples of the teacher that are drawn side by side, by one compiled program


class Pool(eqx.Module):
    """Samples of the teacher.

    Attributes:
        x: the samples.
        conditions: one for each, or None.
    """

    x: Float[Array, "count ..."]
    conditions: Condition


class Steps(eqx.Module):
    """One step of the teacher's ODE for each sample, and what the target network makes of its end.

    Attributes:
        x_sigma: where the step starts.
        sigma: its noise level there, in data units.
        conditions: one for each, or None.
        target: the clean sample that the target network sees from the step's end.
    """

    x_sigma: Float[Array, "batch ..."]
    sigma: Float[Array, " batch"]
    conditions: Condition
    target: Float[Array, "batch ..."]


class Consistency(AbstractDistillation[Steps]):
    """Loss E[v(sigma_n+1) |f(x_n+1, sigma_n+1) - f_target(x_n, sigma_n)|^2 / 2], x_n one Heun step of the teacher down.

    f is the denoiser of the program's `em.OneStep`, evaluated at every level of Karras' grid from `low` to sigma*; the
    generator is f at sigma*. So sigma* should be large against the data: sigma* z must look like x + sigma* eps (80 for
    images in the paper). The target is a moving average of the program, apart from the one that is sampled.
    Samples to noise come from the teacher, drawn once: no data are needed. The score network is not trained.

    Source: arXiv:2303.01469, algorithm 2, with the squared distance and lambda(sigma) = v(sigma).
    Departs: the boundary condition f(x, low) = x is put into the target, not into coefficients c_skip and c_out.

    Attributes:
        levels: noise levels of the grid, N.
        low: the lowest, in data units.
        decay: of the target's moving average, mu.
        count: samples of the teacher.
        sampler: how they are drawn, where the teacher does not draw itself.
    """

    levels: int = eqx.field(static=True, default=18)
    low: float = 0.002
    decay: float = 0.95
    count: int = 8192
    sampler: HeunSampler = HeunSampler()
    learns_score: ClassVar[bool] = False

    def __check_init__(self):
        if self.levels < 2 or not self.low > 0 or not 0 <= self.decay < 1 or self.count < 1:
            raise RecipeError(
                "consistency distillation needs levels >= 2, low > 0, 0 <= decay < 1 and count >= 1; found "
                f"levels={self.levels}, low={self.low}, decay={self.decay}, count={self.count}."
            )

    def preparation(self) -> str:
        """Samples of the teacher, and the anchor's pairs."""
        samples, pairs = f"{self.count:,} samples of the teacher", super().preparation()
        return samples if pairs is None else f"{pairs}, {samples}"

    def prepare(
        self, context: DistillationContext, key: PRNGKeyArray, advance: Callable[[float], None]
    ) -> dict[str, PyTree]:
        """Draw them."""
        pairs, conditions = super().prepare(context, key, advance), context.conditions
        key_conditions, key_x = jax.random.split(named(key, "pool"))
        chosen = None if conditions is None else conditions.draw(key_conditions, self.count)
        parts = []
        for number, first in enumerate(range(0, self.count, TOGETHER)):
            some = None if chosen is None else chosen[first : first + TOGETHER]
            size = min(TOGETHER, self.count - first)
            parts.append(sample(jax.random.fold_in(key_x, number), context.teacher, size, some, self.sampler))
            advance(min(1.0, (first + TOGETHER) / self.count))
        return {**pairs, "pool": Pool(jnp.concatenate(parts), chosen)}

    def begin(self, context: DistillationContext, networks: dict[str, PyTree]) -> tuple[PyTree, PyTree]:
        """The target program: a copy."""
        return copied(networks["generator"]), None

    def keep(
        self, context: DistillationContext, before: StepInput, drawn: dict[str, PyTree], networks: dict[str, PyTree]
    ) -> tuple[PyTree, PyTree]:
        """The moving average of the program."""
        return average(before.memory, networks["generator"], self.decay), None

    def draw(self, context: DistillationContext, now: StepInput, key: PRNGKeyArray) -> Steps:
        """Noised samples of the teacher, one step of its ODE, and the target network at its end."""
        key_x, key_level, key_noise = jax.random.split(key, 3)
        target, pool = consistency_map(now.memory), context.prepared["pool"]
        grid = karras_grid(self.levels, self.low, target.sigma)[: self.levels]  # from sigma* down to `low`
        chosen = jax.random.randint(key_x, (context.training.batch,), 0, len(pool.x))
        x, conditions = jax.tree.map(lambda leaf: leaf[chosen], (pool.x, pool.conditions))
        number = jax.random.randint(key_level, (context.training.batch,), 0, self.levels - 1)
        noise = jax.random.normal(key_noise, x.shape, x.dtype)

        def one(x, eps, number, condition):
            above, below = grid[number], grid[number + 1]
            x_above = x + above * eps
            x_below = heun(
                lambda x, sigma: denoise(context.teacher, x, sigma, condition), x_above, jnp.stack([above, below])
            )
            clean = jnp.where(number == self.levels - 2, x_below, target.denoiser.denoise(x_below, below, condition))
            return x_above, above, clean

        x_sigma, sigma, clean = context.each(one, x, noise, number, conditions)
        return Steps(x_sigma, sigma, conditions, clean)

    def loss(self, program: Program, context: DistillationContext, now: StepInput, rows: Steps) -> Loss:
        """Half the weighted squared distance to the target; `pull` is the mean square of what is left."""
        network = consistency_map(program).denoiser

        def one(x_sigma, sigma, condition, target):
            gap = network.denoise(x_sigma, sigma, condition) - jax.lax.stop_gradient(target)
            return 0.5 * self.weighting(sigma) * jnp.sum(gap**2), jnp.mean(gap**2)

        losses, gaps = jax.vmap(one)(rows.x_sigma, rows.sigma, rows.conditions, rows.target)
        return jnp.mean(losses), {"pull": jnp.mean(gaps)}


def consistency_map(program: Program) -> OneStep:
    """The one denoiser of a program that is evaluated once at sigma*.

    Raises:
        RecipeError: where the program has none, or several.
    """
    parts = jax.tree.leaves(program, is_leaf=lambda part: isinstance(part, OneStep))
    found = [part for part in parts if isinstance(part, OneStep)]
    if len(found) != 1:
        raise RecipeError(
            f"consistency distillation trains a denoiser at every noise level, so that the program needs one "
            f"em.one_step(teacher, sigma=80.0) among its fields; found {len(found)} in {type(program).__name__}. "
            "Build the program with one, or choose another algorithm."
        )
    return found[0]
