"""One step of EM distillation: score update, E-step, M-step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.devices import mean_over_rows, over_rows
from pplemd.diffusion import AbstractWeighting
from pplemd.dsl import Problem, Program
from pplemd.errors import RecipeError
from pplemd.inference import StepSizes
from pplemd.learning.anchor import Pairs, anchor_loss
from pplemd.learning.e_step import NOT_TUNED, Batch, EStep, Fresh, Tuning, x_figures
from pplemd.learning.em_state import EMState
from pplemd.learning.labels import Labels
from pplemd.learning.learner import Learner, average, copied, descend, learner, warmed
from pplemd.learning.methods import AbstractScene, Loss, Moment, Noised
from pplemd.learning.microbatches import ResultT, averaged, mapped
from pplemd.learning.optimisers import norm
from pplemd.learning.recipe import Recipe
from pplemd.learning.score_matching import Noise, default_weight, drawn_noise, matching_loss
from pplemd.teachers import AbstractDenoiser, AbstractTeacher

ANCHOR = 2**31 - 1  # folded into a step's key, beyond the keys of its split
PARTS = ("score update", "E-step", "generator update")  # of a step, named in its trace


class EMStep(AbstractScene):
    """(state, key) -> (state, metrics), for one problem under one recipe, by the recipe's method.

    Attributes:
        problem: the traced program.
        teacher: the prior q.
        recipe: how to distil.
        labels: the label prior, or None.
        pairs: what the recipe's anchor ties the generator to, or None.
        pool: what the recipe's method drew before the first step, or None.

    Raises:
        RecipeError: where the batch cannot be cut into the microbatches asked for.
    """

    problem: Problem
    teacher: AbstractTeacher
    recipe: Recipe
    labels: Labels | None
    pairs: Pairs | None = None
    pool: PyTree = None

    def __check_init__(self) -> None:
        batch, parts = self.recipe.batch, self.recipe.compute.accumulate
        if batch % parts:  # seen here, not by the recipe: both may be changed, one after the other
            raise RecipeError(
                "the recipe's batch must be a multiple of compute.accumulate, the microbatches that it is cut into; "
                f"found batch={batch}, compute.accumulate={parts}. Set either: --set batch=N, or "
                "--set compute.accumulate=N."
            )

    def init(self, program: Program, score_network: AbstractDenoiser) -> EMState:
        """The state before the first step."""
        return EMState(
            jnp.zeros((), jnp.int32),
            learner(program, self._generator_optimiser),
            learner(score_network, self._score_optimiser),
            copied(program),
            self.recipe.adaptation.start(self._wanted) if self._adapts else None,
            jnp.zeros(self.recipe.adaptation.bins) if self.sampling.chooses else None,
            self.recipe.method.begin(program),
        )

    def __call__(self, state: EMState, key: PRNGKeyArray) -> tuple[EMState, dict[str, Float[Array, ""]]]:
        """One step: fit the student's score, draw what the method needs (EMD: the E-step), descend its loss."""
        key_score, key_draw = jax.random.split(key)
        progress, method = state.step / self.recipe.steps, self.recipe.method
        program, score, score_metrics = state.generator.module, state.score, {}
        if method.learns_score:
            with jax.named_scope(PARTS[0]):
                score, score_loss = self._update_score(score, program, key_score, progress)
                score_metrics = {"score_loss": score_loss}
        moment = Moment(program, score.module, state.memory, progress, state.tuning)
        with jax.named_scope(PARTS[1]):
            drawn = method.draw(self, moment, key_draw)
        with jax.named_scope(PARTS[2]):
            gradient, figures = self._gradient(moment, drawn, jax.random.fold_in(key, ANCHOR))
            generator = descend(state.generator, gradient, self._generator_optimiser)
        metrics = {**score_metrics, **figures, "gradient_norm": norm(gradient)}
        skipped = generator.skipped + score.skipped - state.generator.skipped - state.score.skipped
        metrics["skipped"] = skipped.astype(jnp.float32)
        smoothed = average(state.average, generator.module, warmed(self.recipe.ema, state.step))
        sizes, memory = self._adapted(state.step_sizes, drawn), method.remember(state.memory, generator.module)
        return EMState(state.step + 1, generator, score, smoothed, sizes, state.centering, memory), metrics

    def _gradient(self, moment: Moment, drawn: PyTree, key: PRNGKeyArray) -> tuple[Program, dict[str, Array]]:
        """The generator's gradient by the method, and its figures; with the anchor's where there is one."""
        anchor, problem = self.recipe.anchor, self.problem

        def slope(some: PyTree, tied_to: Pairs | None) -> tuple[Program, dict[str, Array]]:
            gradient, figures = eqx.filter_grad(self.recipe.method.loss, has_aux=True)(
                moment.program, self, moment, some
            )
            if tied_to is None or anchor is None:
                return gradient, figures
            tie, back = eqx.filter_value_and_grad(anchor_loss)(moment.program, problem, tied_to)
            return jax.tree.map(lambda g, b: g + anchor.weight * b, gradient, back), {**figures, "anchor": tie}

        return self._mean(slope, drawn, None if self.pairs is None else self.pairs.batch(key, self.recipe.batch))

    def _mean(self, function: Callable[..., ResultT], *rows: Any) -> ResultT:
        """The mean over a batch of what is a mean over some of its rows: device by device, microbatch by microbatch."""
        return mean_over_rows(lambda *some: averaged(function, some, self.recipe.compute.accumulate), *rows)

    def each(self, function: Callable[..., ResultT], *rows: Any) -> ResultT:
        """A function of one sample, over rows: device by device, microbatch by microbatch."""
        compute, batch = self.recipe.compute, self.batch

        def some_of(*some: Any) -> ResultT:
            count = jax.tree.leaves(some)[0].shape[0]
            return mapped(function, some, compute.parts(count, batch))

        return over_rows(some_of, *rows)

    @property
    def batch(self) -> int:
        """Samples of one step."""
        return self.recipe.batch

    def weight(self, sigma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """v(sigma) of the generator's loss."""
        return self.recipe.weighting(sigma)

    def noised(self, program: Program, key: PRNGKeyArray, progress: Array) -> Noised:
        """Fresh latents and noise: those that the chains of an E-step of the same key would start from."""
        return self.sampling.noised(program, key, progress)

    def chains(self, moment: Moment, key: PRNGKeyArray) -> Batch:
        """The E-step at a moment of the training."""
        return self.e_step(moment.program, moment.score, key, moment.progress, moment.tuning)

    def m_step(self, program: Program, batch: Batch) -> Loss:
        """The M-step's loss, the E-step's pull, and figures of the chains."""
        loss, pull = m_step_loss(program, self.problem, batch, self.recipe.weighting)
        return loss, {
            "pull": pull,
            "acceptance": jnp.mean(batch.draw.acceptance),
            "divergences": jnp.mean(batch.draw.divergences),
            "latent_norm": mean_square(batch.draw.position.latents),
            "noise_norm": mean_square(batch.draw.position.noise),
        }

    @property
    def _adapts(self) -> bool:
        """Whether step sizes are found, not given."""
        return self.recipe.method.chains and self.recipe.chain.kernel.step_size is None

    @property
    def _wanted(self) -> float:
        """The acceptance that the kernel wants; the recipe has seen to it that there is one."""
        wanted = self.recipe.chain.kernel.wanted_acceptance
        assert wanted is not None
        return wanted

    def _adapted(self, sizes: StepSizes | None, batch: PyTree) -> StepSizes | None:
        if sizes is None:
            return None
        return self.recipe.adaptation.update(sizes, batch.sigma, batch.draw.acceptance, self._wanted)

    @property
    def _generator_optimiser(self) -> optax.GradientTransformation:
        return self.recipe.generator.transformation(self.recipe.steps)

    @property
    def _score_optimiser(self) -> optax.GradientTransformation:
        return self.recipe.score.optimiser.transformation(self.recipe.steps * self.recipe.score_updates)

    def _update_score(
        self, score: Learner, program: Program, key: PRNGKeyArray, progress: Array
    ) -> tuple[Learner, Float[Array, ""]]:
        """Denoising score matching on fresh samples of the student (never on corrected ones)."""
        recipe = self.recipe.score

        def update(current: Learner, update_key: PRNGKeyArray) -> tuple[Learner, Array]:
            key_fresh, key_noise = jax.random.split(update_key)
            shape = (self.recipe.batch, *self.problem.output.shape)
            noise, _ = drawn_noise(key_noise, shape, recipe.sigmas, progress)

            def part(some: Fresh, noise: Noise) -> tuple[Array, AbstractDenoiser]:
                x = jax.vmap(lambda u, label: self.problem.generate(program, u, label))(some.latents, some.labels)
                weighting = recipe.weighting or default_weight(current.module)
                return eqx.filter_value_and_grad(matching_loss)(current.module, x, noise, some.labels, weighting)

            loss, gradient = self._mean(part, self.fresh(program, key_fresh), noise)
            return descend(current, gradient, self._score_optimiser), loss

        losses = []
        for update_key in jax.random.split(key, self.recipe.score_updates):
            score, loss = update(score, update_key)
            losses.append(loss)
        return score, jnp.mean(jnp.stack(losses))

    @property
    def sampling(self) -> EStep:
        """The E-step alone."""
        return EStep(self.problem, self.teacher, self.recipe, self.labels)

    def fresh(self, program: Program, key: PRNGKeyArray) -> Fresh:
        """Draws of the program's latents, with labels of the label prior."""
        return self.sampling.fresh(program, key)

    def e_step(
        self,
        program: Program,
        score_network: AbstractTeacher,
        key: PRNGKeyArray,
        progress: Array,
        tuning: Tuning = NOT_TUNED,
    ) -> Batch:
        """Chains of the tilted law from fresh draws, one sigma for each; their ends are in base coordinates."""
        return self.sampling.run(program, score_network, key, progress, tuning)

    def choose(self, key: PRNGKeyArray, state: EMState) -> tuple[EMState, dict[str, float]]:
        """The state with lambda of x_sigma chosen from E-steps of its own, and the figures of the choice.

        Not part of the compiled step: what it changes is an array of the state. What is in use, (eps, z) at first, is
        left where it costs clearly more.
        """
        if state.centering is None:
            return state, {}
        student = (state.generator.module, state.score.module)
        progress = state.step / self.recipe.steps
        choice = self.sampling.choose(key, student, progress, state.tuning)
        lam = jnp.asarray(choice.lam, state.centering.dtype)
        found = x_figures(choice, self.recipe.adaptation.middles)
        return dataclasses.replace(state, centering=lam), found


def m_step_loss(
    program: Program, problem: Problem, batch: Batch, weighting: AbstractWeighting
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Half the weighted squared distance from g(z_K) to where the chain pulled it, and the mean square of that pull.

    loss = 1/2 mean v(sigma) |g(z_K) - stop_gradient(g(z_K) + sigma eps~)|^2, eps~ the chain's noise less its twin's.
    Its gradient is that of the complete-data log-likelihood of x_sigma given z, up to the noise that the twin cancels.
    Where chain and twin are paired, it is the loss at the chain's (z_K, eps_K) less that at the twin's (z'_K, nu_K).

    Source: arXiv:2405.16852, equation 11.
    """

    def term(latents, noise, sigma, label):
        x = problem.generate(program, latents, label)
        return 0.5 * weighting(sigma) * jnp.sum((x - jax.lax.stop_gradient(x + sigma * noise)) ** 2)

    def one(draw, sigma, label):
        residual, end, twin = draw.residual.noise, draw.position, draw.twin
        pull = jnp.mean((sigma * residual) ** 2)
        if not batch.paired:
            return term(end.latents, residual, sigma, label), pull
        return term(end.latents, end.noise, sigma, label) - term(twin.latents, twin.noise, sigma, label), pull

    losses, pulls = jax.vmap(one)(batch.draw, batch.sigma, batch.labels)
    return jnp.mean(losses), jnp.mean(pulls)


def mean_square(tree) -> Float[Array, ""]:
    """Mean square over all entries of a pytree: 1 where they are standard normal."""
    leaves = jax.tree.leaves(tree)
    return sum(jnp.sum(leaf**2) for leaf in leaves) / sum(leaf.size for leaf in leaves)
