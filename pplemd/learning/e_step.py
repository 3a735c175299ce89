"""The E-step of EM distillation: chains from fresh draws, in which coordinates, with which step sizes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.devices import over_rows
from pplemd.dsl import Centering, Problem, Program
from pplemd.inference import (
    PROBE,
    Chain,
    Coordinates,
    Draw,
    Frame,
    Free,
    StepSizes,
    Student,
    difference,
    emd_law,
    jacobian_scale,
)
from pplemd.learning.choosing import Choosing
from pplemd.learning.labels import Labels
from pplemd.learning.methods import Noised
from pplemd.learning.microbatches import mapped
from pplemd.learning.recipe import Recipe
from pplemd.parameterization import XChoice, XDraws, choose_x
from pplemd.teachers import AbstractTeacher


class Fresh(eqx.Module):
    """Fresh draws of the program's latents.

    Attributes:
        latents: base coordinates by site, with a leading batch dimension.
        labels: a class for each, or None.
    """

    latents: dict[str, Array]
    labels: Int[Array, " batch"] | None


class Batch(eqx.Module):
    """What the E-step hands to the M-step.

    Attributes:
        draw: the ends of the chains, with a leading batch dimension.
        sigma: their noise levels.
        labels: their classes, or None.
        paired: whether the twin's noise is taken away at the twin's own latents.
        start: the noise that the chains started from; health looks at it, the M-step does not.
    """

    draw: Draw
    sigma: Float[Array, " batch"]
    labels: Int[Array, " batch"] | None
    paired: bool = eqx.field(static=True, default=False)
    start: Float[Array, "batch ..."] | None = None


class Tuning(eqx.Module):
    """What chains are tuned by while the student is trained.

    Attributes:
        step_sizes: the kernel's step sizes by sigma, where they are adapted.
        centering: lambda of x_sigma by range of sigma, where it is chosen.
    """

    step_sizes: StepSizes | None = None
    centering: Float[Array, " bins"] | None = None


NOT_TUNED = Tuning()
ELSEWHERE = PROBE - 1  # of a chain's key: the latents that its step sizes are scaled at


class EStep(eqx.Module):
    """Chains of the tilted law, and the choice of their coordinates.

    Attributes:
        problem: the traced program.
        teacher: the prior q.
        recipe: how to distil.
        labels: the label prior, or None.
    """

    problem: Problem
    teacher: AbstractTeacher
    recipe: Recipe
    labels: Labels | None

    @property
    def chooses(self) -> bool:
        """Whether the coordinates of x_sigma are chosen."""
        recipe = self.recipe
        moves = recipe.method.chains and not recipe.frozen
        return moves and self.problem.output.centered == "auto" and recipe.choosing is not None

    def frame(
        self, program: Program, sigma: Array, label: Array | None, centering: Float[Array, " bins"] | None
    ) -> Frame | None:
        """The coordinates of a chain at one sigma; None for base coordinates.

        Latents move in base coordinates, but for those that say how centered they are.

        Args:
            program: the networks.
            sigma: noise level.
            label: the class of the chain, or None.
            centering: lambdas of x_sigma by range of sigma, where they are chosen.
        """
        own = {site.name for site in self.problem.sites if site.eligible and not site.free}
        declared = self.problem.centering()
        latents = Centering(*({name: part[name] for name in own} for part in (declared.loc, declared.scale)))
        output = self.problem.output
        if output.centered != "auto":
            x = jnp.asarray(output.centered, output.dtype)
            x = x.reshape(output.shape) if x.ndim else x
            return Frame(self.problem, program, sigma, label, x, latents) if output.centered != 0.0 or own else None
        if centering is None and not own:
            return None
        x = jnp.zeros(()) if centering is None else centering[self.recipe.adaptation.bin_of(sigma)]
        return Frame(self.problem, program, sigma, label, x, latents)

    def fresh(self, program: Program, key: PRNGKeyArray) -> Fresh:
        """Draws of the program's latents, with labels of the label prior."""
        key_labels, key_latents = jax.random.split(key)
        labels = None if self.labels is None else self.labels.draw(key_labels, self.recipe.batch)
        keys = jax.random.split(key_latents, self.recipe.batch)
        draw = jax.vmap(lambda k, label: self.problem.draw(k, program, label))
        return Fresh(over_rows(draw, keys, labels), labels)

    def noised(self, program: Program, key: PRNGKeyArray, progress: Array) -> Noised:
        """Fresh latents and noise: where the chains of this key start."""
        keys = jax.random.split(key, 4)  # the last is the chains' own
        sigma = self.recipe.sigmas.sample(keys[0], (self.recipe.batch,), progress)
        fresh = self.fresh(program, keys[1])
        eps = jax.random.normal(keys[2], (self.recipe.batch, *self.problem.output.shape))
        return Noised(fresh.latents, eps, sigma, fresh.labels)

    def run(
        self,
        program: Program,
        score_network: AbstractTeacher,
        key: PRNGKeyArray,
        progress: Array,
        tuning: Tuning = NOT_TUNED,
    ) -> Batch:
        """Chains of the tilted law from fresh draws, one sigma for each; their ends are in base coordinates."""
        begun = self.noised(program, key, progress)
        student = Student(self.problem, program, score_network)

        def one(chain_key, sigma, label, eps, latents):
            chain = self._chain(tuning.step_sizes, sigma, chain_key, program, label)
            if self.recipe.frozen:
                law = emd_law(self.teacher, student, sigma, label, latents)
                return _with_latents(chain.run(chain_key, law, Coordinates(eps, None)), latents)
            frame, start = self.frame(program, sigma, label, tuning.centering), Coordinates(eps, latents)
            if frame is None:
                law = emd_law(self.teacher, student, sigma, label)
                free = Free(law.log_base, chain.untold(start)) if self._any_not_normal else None
                return chain.run(chain_key, law, start, free)
            law = frame.law(difference(self.teacher, student, sigma, label))
            draw = chain.run(chain_key, law, frame.enter(start), frame.free(chain, start))
            return eqx.tree_at(
                lambda d: (d.position, d.twin), draw, (frame.leave(draw.position), frame.leave(draw.twin))
            )

        keys = jax.random.split(jax.random.split(key, 4)[3], self.recipe.batch)
        starts = (keys, begun.sigma, begun.labels, begun.noise, begun.latents)
        draw = over_rows(lambda *some: mapped(one, some, self.recipe.compute.accumulate), *starts)
        return Batch(draw, begun.sigma, begun.labels, self.recipe.chain.cancel.paired, begun.noise)

    @property
    def _any_not_normal(self) -> bool:
        """Whether a latent's base is its prior, so that chains without a potential keep that, not the normal law."""
        return any(site.base == "prior" for site in self.problem.sites)

    def _chain(
        self, sizes: StepSizes | None, sigma: Array, key: PRNGKeyArray, program: Program, label: Array | None
    ) -> Chain:
        """The recipe's chain, with the adapted step sizes of its sigma.

        Latents' are scaled by the Jacobian at other latents than the chain's own: steps that told of the start would
        leave more draws where they are short than the law has there.
        """
        if sizes is None:
            return self.recipe.chain
        size = self.recipe.adaptation.step_size(sizes, sigma)
        if self.recipe.frozen:
            return self.recipe.chain.with_step_size(Coordinates(size, None))
        elsewhere = self.problem.draw(jax.random.fold_in(key, ELSEWHERE), program, label)
        scales = jacobian_scale(lambda u: self.problem.generate(program, u, label), elsewhere, sigma, key)
        return self.recipe.chain.with_step_size(Coordinates(size, jax.tree.map(lambda scale: size * scale, scales)))

    @property
    def choosing(self) -> Choosing:
        """How coordinates are chosen; only where they are."""
        assert self.recipe.choosing is not None
        return self.recipe.choosing

    def choose(
        self, key: PRNGKeyArray, student: tuple[Program, AbstractTeacher], progress: Array, tuning: Tuning
    ) -> XChoice:
        """Choose lambda of x_sigma, by range of sigma, from the ends of some E-steps' chains.

        Args:
            key: a key.
            student: the program and its score network.
            progress: of the training, 0 to 1.
            tuning: what is in use.
        """
        assert tuning.centering is not None
        draws = self.pilot(key, student, progress, tuning)
        bins = np.asarray(self.recipe.adaptation.bin_of(jnp.asarray(draws.sigma)))
        return choose_x(self.choosing.policy, draws, bins, np.asarray(tuning.centering))

    def pilot(
        self, key: PRNGKeyArray, student: tuple[Program, AbstractTeacher], progress: Array, tuning: Tuning
    ) -> XDraws:
        """Ends of the chains of some E-steps, with their scores."""
        keys = jax.random.split(key, self.choosing.rounds)
        sigma, (eps, drift, score), latents = jax.tree.map(np.asarray, _scored(self, keys, student, progress, tuning))
        return XDraws(sigma, eps, drift, score, latents)


@eqx.filter_jit
def _scored(step: EStep, keys, student: tuple[Program, AbstractTeacher], progress: Array, tuning: Tuning):
    """Sigma; eps, h and the score of eps; by site z, its score and J_h^T of the noise's score; all flat."""
    program, score_network = student
    problem = step.problem

    def one(position, sigma, label):
        def drift(latents):
            return problem.generate(program, latents, label) / sigma

        score = emd_law(step.teacher, Student(problem, program, score_network), sigma, label).score(position)
        h, pull_back = jax.vjp(drift, position.latents)
        (pulled,) = pull_back(score.noise)
        return (position.noise, h, score.noise), jax.tree.map(
            lambda *three: three, position.latents, score.latents, pulled
        )

    def many(key):
        batch = step.run(program, score_network, key, progress, tuning)
        return batch.sigma, *jax.vmap(one)(batch.draw.position, batch.sigma, batch.labels)

    sigma, noise, latents = jax.lax.map(many, keys)
    flat = jax.tree.map(lambda leaf: leaf.reshape(sigma.size, -1), (noise, latents))
    return sigma.reshape(-1), *flat


def x_figures(choice: XChoice, middles: tuple[float, ...]) -> dict[str, float]:
    """A choice as figures for metrics.jsonl: lambda at the middle of each range of sigma that has draws, and costs."""
    seen = [number for number, cost in enumerate(choice.chosen) if np.isfinite(cost)]
    lambdas = {f"lambda_x_{middles[number]:.3g}": float(choice.lam[number]) for number in seen}
    costs = {"noncentered": choice.noncentered, "centered": choice.centered, "chosen": choice.chosen}
    return lambdas | {f"cost_x_{name}": float(np.nansum(cost)) for name, cost in costs.items()}


def _with_latents(draw: Draw, latents: dict[str, Array]) -> Draw:
    """The draw of a chain over eps alone, with the latents that were held, its own and its twin's."""
    ends = [Coordinates(end.noise, latents) for end in (draw.position, draw.twin)]
    return eqx.tree_at(lambda d: (d.position, d.twin), draw, tuple(ends))
