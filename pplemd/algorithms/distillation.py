"""What all distillations share: fresh samples, noised; the student's score network; a tie to the teacher's own map."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.algorithms.anchor import Anchor, Pairs, anchor_loss
from pplemd.conditions import AbstractConditionPrior, Condition
from pplemd.devices import over_rows
from pplemd.diffusion import AbstractSigmas, AbstractWeighting, LogNormal, UniformWeight
from pplemd.dsl import Problem, Program
from pplemd.errors import RecipeError
from pplemd.keys import named
from pplemd.learning.alarms import Alarm, History, Watched, alarms
from pplemd.learning.algorithm import AbstractAlgorithm, Context, Figures, Loss, RowsT, StepInput, Update
from pplemd.learning.denoising import Noise, default_weight, drawn_noise, matching_loss
from pplemd.learning.health import Samples, score_figures
from pplemd.learning.optimisers import AbstractOptimiser, Adam
from pplemd.learning.state import TrainState
from pplemd.learning.training import Training
from pplemd.teachers import AbstractDenoiser, AbstractTeacher, denoise

LEAST = 1e-5  # of a mean distance that is divided by, in data units: the floor of SiD's published code
HEALTH_BATCH = 64  # chains and samples that figures of health are of


class DistillationContext(Context):
    """What is fixed for a distillation.

    Attributes:
        problem: the traced program.
        teacher: the prior q.
        conditions: the prior of its conditions, or None.
        prepared: what its algorithm drew before the first step, by name.
    """

    problem: Problem
    teacher: AbstractTeacher
    conditions: AbstractConditionPrior | None = None
    prepared: dict[str, PyTree] = eqx.field(default_factory=dict)

    def fresh(self, program: Program, key: PRNGKeyArray) -> "Fresh":
        """Draws of the program's latents, with draws of its conditions."""
        key_conditions, key_latents = jax.random.split(key)
        count = self.training.batch
        conditions = None if self.conditions is None else self.conditions.draw(key_conditions, count)
        draw = jax.vmap(lambda k, condition: self.problem.draw(k, program, condition))
        return Fresh(over_rows(draw, jax.random.split(key_latents, count), conditions), conditions)


class Fresh(eqx.Module):
    """Fresh draws of the program's latents.

    Attributes:
        latents: base coordinates by site, with a leading batch dimension.
        conditions: one for each, or None.
    """

    latents: dict[str, Array]
    conditions: Condition


class Noised(eqx.Module):
    """Fresh latents, and the noise that takes x = g(z) to x_sigma = x + sigma eps.

    Attributes:
        latents: base coordinates by site.
        noise: eps, in x's shape.
        sigma: noise levels, in data units.
        conditions: one for each, or None.
    """

    latents: dict[str, Float[Array, "batch ..."]]
    noise: Float[Array, "batch ..."]
    sigma: Float[Array, " batch"]
    conditions: Condition


class Denoised(eqx.Module):
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
        conditions: one for each, or None.
        sigma: noise levels, in data units.
        pull: a displacement of x, in data units where the algorithm does not rescale it.
    """

    latents: dict[str, Float[Array, "batch ..."]]
    conditions: Condition
    sigma: Float[Array, " batch"]
    pull: Float[Array, "batch ..."]


class ScoreUpdates(eqx.Module):
    """How the student's score network follows it.

    Attributes:
        optimiser: its optimiser.
        sigmas: noise levels that it is trained at.
        weighting: loss weight by sigma; by default `EDMWeight` where the network predicts the noise or a part of it, of
            the denoiser's own sigma_data or 0.5; `InverseVarianceWeight(0.5)` where it predicts x itself, or nothing is
            known of what it predicts.
        count: updates for each update of the generator (1 to 10 in the literature).

    Raises:
        RecipeError: a count below 1.
    """

    optimiser: AbstractOptimiser = Adam(learning_rate=2e-3, final=0.02)
    sigmas: AbstractSigmas = LogNormal(mean=-0.8, std=1.2)
    weighting: AbstractWeighting | None = None
    count: int = 2

    def __check_init__(self):
        if self.count < 1:
            raise RecipeError(f"score updates need count >= 1; found count={self.count}.")


class Tied(eqx.Module, Generic[RowsT]):
    """What one update of the generator is drawn from.

    Attributes:
        drawn: what the algorithm drew.
        pairs: noise and samples of the teacher that the generator is tied to, or None.
    """

    drawn: RowsT
    pairs: Pairs | None


class AbstractDistillation(AbstractAlgorithm[DistillationContext], Generic[RowsT]):
    """A generator that learns from a teacher, and where it needs one a score network that follows the generator.

    Attributes:
        sigmas: noise levels of samples, or of chains.
        weighting: v(sigma) of the generator's loss; uniform is w(sigma) = sigma^2 on the KL.
        generator: optimiser of the program's networks.
        score: how the student's score network follows.
        anchor: a tie to the teacher's own map from noise to samples, against lost modes; None for none.
        average: decay of the averaged program that is sampled and evaluated.
        learns_score: whether the algorithm evaluates the student's score network; else there is none.
    """

    sigmas: AbstractSigmas = LogNormal(mean=-0.8, std=1.2)
    weighting: AbstractWeighting = UniformWeight()
    generator: AbstractOptimiser = Adam(learning_rate=1e-3, final=0.02)
    score: ScoreUpdates = ScoreUpdates()
    anchor: Anchor | None = None
    average: float = 0.998
    learns_score: ClassVar[bool] = True

    def __check_init__(self):
        if not 0 <= self.average < 1:
            raise RecipeError(f"{type(self).__name__} needs 0 <= average < 1; found average={self.average}.")

    @abstractmethod
    def draw(self, context: DistillationContext, now: StepInput, key: PRNGKeyArray) -> RowsT:
        """Everything random of the generator's update, and what needs no gradient."""

    @abstractmethod
    def loss(self, program: Program, context: DistillationContext, now: StepInput, rows: RowsT) -> Loss:
        """The generator's loss, and figures of it; `pull` is among them.

        `pull` is the mean square of how far samples are drawn, in data units where the algorithm says so.
        """

    def optimisers(self) -> dict[str, AbstractOptimiser]:
        """Those of the generator and of the score network."""
        score = {"score": self.score.optimiser} if self.learns_score else {}
        return {"generator": self.generator, **score}

    def averages(self) -> dict[str, float]:
        """The generator's."""
        return {"generator": self.average}

    def updates(self) -> tuple[Update, ...]:
        """The score network's, then the generator's."""
        follow = Update("score", self._samples, self._matching, self.score.count, ("score update", "score update"))
        learn = Update("generator", self._tied, self._tied_loss, parts=("E-step", "generator update"))
        return (follow, learn) if self.learns_score else (learn,)

    def noised(self, context: DistillationContext, now: StepInput, key: PRNGKeyArray) -> Noised:
        """Fresh latents and noise: where chains of this key start."""
        keys = jax.random.split(key, 4)  # the last is the chains' own
        sigma = self.sigmas.sample(keys[0], (context.training.batch,), now.progress)
        fresh = context.fresh(now.networks["generator"], keys[1])
        eps = jax.random.normal(keys[2], (context.training.batch, *context.problem.output.shape))
        return Noised(fresh.latents, eps, sigma, fresh.conditions)

    def denoised(self, program: Program, context: DistillationContext, now: StepInput, rows: Noised) -> Denoised:
        """The samples of some latents, noised and denoised by both; differentiable in the program, through it all."""

        def one(latents, noise, sigma, condition):
            x = context.problem.generate(program, latents, condition)
            x_sigma = x + sigma * noise
            teacher = denoise(context.teacher, x_sigma, sigma, condition)
            return Denoised(x, teacher, now.networks["score"].denoise(x_sigma, sigma, condition))

        return context.each(one, rows.latents, rows.noise, rows.sigma, rows.conditions)

    def toward(self, program: Program, context: DistillationContext, rows: Pulled) -> Loss:
        """Half the weighted squared distance from g(z) to where it is pulled; its gradient is -v(sigma) pull . dg."""

        def one(latents, sigma, pull, condition):
            x = context.problem.generate(program, latents, condition)
            return 0.5 * self.weighting(sigma) * jnp.sum((x - jax.lax.stop_gradient(x + pull)) ** 2)

        losses = jax.vmap(one)(rows.latents, rows.sigma, rows.pull, rows.conditions)
        return jnp.mean(losses), {"pull": jnp.mean(rows.pull**2)}

    def _samples(self, context: DistillationContext, now: StepInput) -> tuple[Fresh, Noise]:
        """Fresh samples of the student (never corrected ones), and noise, for the score network."""
        key_fresh, key_noise = jax.random.split(named(now.key, "score", now.repeat))
        shape = (context.training.batch, *context.problem.output.shape)
        noise, _ = drawn_noise(key_noise, shape, self.score.sigmas, now.progress)
        return context.fresh(now.networks["generator"], key_fresh), noise

    def _matching(
        self, network: AbstractDenoiser, context: DistillationContext, now: StepInput, rows: tuple[Fresh, Noise]
    ) -> Loss:
        """Denoising score matching on samples of the student."""
        (fresh, noise), program = rows, now.networks["generator"]
        x = jax.vmap(lambda u, condition: context.problem.generate(program, u, condition))(
            fresh.latents, fresh.conditions
        )
        weighting = self.score.weighting or default_weight(network)
        loss = matching_loss(network, x, noise, fresh.conditions, weighting)
        return loss, {"score_loss": loss}

    def _tied(self, context: DistillationContext, now: StepInput) -> Tied[RowsT]:
        pairs: Pairs | None = context.prepared.get("pairs")
        some = None if pairs is None else pairs.batch(named(now.key, "anchor"), context.training.batch)
        return Tied(self.draw(context, now, named(now.key, "generator")), some)

    def _tied_loss(self, program: Program, context: DistillationContext, now: StepInput, rows: Tied[RowsT]) -> Loss:
        """The algorithm's loss and the anchor's."""
        loss, figures = self.loss(program, context, now, rows.drawn)
        if rows.pairs is None or self.anchor is None:
            return loss, figures
        tie = anchor_loss(program, context.problem, rows.pairs)
        return loss + self.anchor.weight * tie, {**figures, "anchor": tie}

    def preparation(self) -> str | None:
        """The anchor's pairs."""
        return None if self.anchor is None else f"{self.anchor.count:,} pairs of noise and teacher samples"

    def prepare(
        self, context: DistillationContext, key: PRNGKeyArray, advance: Callable[[float], None]
    ) -> dict[str, PyTree]:
        """Draw them."""
        if self.anchor is None:
            return {}
        key_pairs = named(key, "pairs")
        return {"pairs": self.anchor.pairs(key_pairs, context.teacher, context.problem, context.conditions, advance)}

    def health(
        self, context: DistillationContext, state: TrainState, key: PRNGKeyArray, batch: int = HEALTH_BATCH
    ) -> Figures:
        """Figures of the scores at fresh samples, where there is a score network; see `score_figures`."""
        if not self.learns_score:
            return {}
        small, progress, program = (
            self.small(context, batch),
            state.step / context.training.steps,
            state.networks["generator"],
        )
        count = small.training.batch
        _, key_fresh, key_learned, *keys = jax.random.split(key, 6)  # the first is the chains'
        key_latents, key_sigma, key_eps = jax.random.split(key_fresh, 3)
        fresh = small.fresh(program, key_latents)
        x = small.each(
            lambda u, condition: context.problem.generate(program, u, condition), fresh.latents, fresh.conditions
        )
        sigma = self.sigmas.sample(key_sigma, (count,), progress)
        samples = Samples(x, sigma, jax.random.normal(key_eps, x.shape), fresh.conditions)
        learned = self.score.sigmas.sample(key_learned, (count,), progress)
        score = state.networks["score"]
        weighting = self.score.weighting or default_weight(score)
        parts = small.training.microbatches
        return score_figures(context.teacher, score, samples, learned, weighting, jnp.stack(keys), parts)

    def alarms(self, training: Training, history: History, rows: int = 1) -> tuple[Alarm, ...]:
        """Those of every training, of the score network, and of samples that lose what they had."""
        return alarms(history, self.watched(training))

    def watched(self, training: Training) -> Watched:
        """What the rules of alarms know of this training."""
        return Watched(training, score_updates=self.score.count if self.learns_score else None)

    def shown(self) -> tuple[str, ...]:
        """How far samples are pulled, whether the score network follows, and what samples have."""
        return ("pull", "score_lag", "run_recall", "run_modes")

    def counts(self) -> dict[str, int]:
        """Updates of the score network."""
        return {"score_updates": self.score.count} if self.learns_score else {}

    def coordinates(self, problem: Problem) -> str:
        """How x_sigma is placed in the E-step, for people; nothing where there is none."""
        return ""

    def by_sigma(self, state: TrainState) -> dict[str, tuple[list[float], list[float]]]:
        """What was tuned by range of sigma, by name: the middles of the ranges, and values."""
        return {}

    def small(self, context: DistillationContext, batch: int) -> DistillationContext:
        """The context with so many samples, in microbatches of the training's size."""
        training = dataclasses.replace(context.training, batch=batch, microbatches=context.training.parts(batch))
        return dataclasses.replace(context, training=training)
