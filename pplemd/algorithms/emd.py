"""EM distillation: chains of the teacher's tilted distribution (E-step), whose ends the generator follows (M-step).

Read from top to bottom: what is drawn, what is learned from it, which coordinates the chains move in, how these and
step sizes are found, and what says whether all is well. Source of all: arXiv:2405.16852.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from pplemd.algorithms.distillation import HEALTH_BATCH, AbstractDistillation, DistillationContext
from pplemd.algorithms.reparameterization import Reparameterization
from pplemd.conditions import Condition
from pplemd.dsl import Centering, Problem, Program
from pplemd.errors import RecipeError
from pplemd.inference import (
    Adaptation,
    Cancellation,
    Chain,
    Coordinates,
    Draw,
    Frame,
    Langevin,
    Reference,
    StepSizes,
    Student,
    difference,
    emd_target,
    jacobian_scale,
)
from pplemd.keys import named
from pplemd.learning.alarms import Watched
from pplemd.learning.algorithm import Figures, Loss, StepInput
from pplemd.learning.health import chain_figures, mean_square
from pplemd.learning.state import TrainState
from pplemd.learning.training import Training
from pplemd.parameterization import Choice, XDraws, choose_x


class Batch(eqx.Module):
    """What the E-step hands to the M-step.

    Attributes:
        draw: the ends of the chains, with a leading batch dimension.
        sigma: their noise levels.
        conditions: one for each, or None.
        start: the noise that the chains started from; health looks at it, the M-step does not.
    """

    draw: Draw
    sigma: Float[Array, " batch"]
    conditions: Condition
    start: Float[Array, "batch ..."]


class Tuning(eqx.Module):
    """What chains are tuned by while the student is trained.

    Attributes:
        step_sizes: the kernel's step sizes by sigma, where they are adapted.
        centering: lambda of x_sigma by range of sigma, where it is chosen.
    """

    step_sizes: StepSizes | None = None
    centering: Float[Array, " bins"] | None = None


class EMD(AbstractDistillation[Batch]):
    """EM distillation, the default: a chain samples (x_sigma, z) under the teacher, g(z_K) follows.

    With K = 1 and latents that do not move it is `DiffInstruct`, its gradient multiplied by the chain's step size; with
    long chains and no cancellation the gradient of KL(q || p). The paper's EMD-1 and EMD-16 have a `chain.length` of 1
    and 16.

    Source: arXiv:2405.16852, algorithm 1 and equation 11.

    Attributes:
        chain: the E-step: kernel, length, noise cancellation.
        adaptation: how a kernel without a step size finds one, by range of sigma.
        reparameterization: when and how the coordinates of x_sigma are chosen from the chains' own draws, by range of
            sigma, where the latents move and the program leaves it open (`em.generate(..., centered="auto")`); None for
            (eps, z).
        move_latents: whether the chain moves the latents beside eps.
    """

    chain: Chain = Chain(Langevin(Coordinates(noise=0.4**2, latents=0.004**2)), length=4)
    adaptation: Adaptation = Adaptation()
    reparameterization: Reparameterization | None = Reparameterization(every=500, rounds=16)
    move_latents: bool = True

    def __check_init__(self):
        if self.chain.kernel.step_size is None and self.chain.kernel.wanted_acceptance is None:
            raise RecipeError("EMD's kernel has no step size, and it says nothing that one could be adapted by.")

    def draw(self, context: DistillationContext, now: StepInput, key: PRNGKeyArray) -> Batch:
        """The E-step: chains from fresh draws, one sigma for each; their ends are in base coordinates."""
        begun, program = self.noised(context, now, key), now.networks["generator"]
        student = Student(context.problem, program, now.networks["score"])
        tuning: Tuning = now.tuning

        def one(chain_key, sigma, condition, eps, latents):
            chain = self._chain(context, tuning.step_sizes, sigma, chain_key, program, condition)
            if not self.move_latents:
                law = emd_target(context.teacher, student, sigma, condition, latents)
                return _with_latents(chain.run(chain_key, law, Coordinates(eps, None)), latents)
            start, frame = Coordinates(eps, latents), self.frame(context, program, sigma, condition, tuning.centering)
            if frame is None:
                law = emd_target(context.teacher, student, sigma, condition)
                any_not_normal = any(site.base == "prior" for site in context.problem.sites)
                free = Reference(law.log_base, chain.reference_start(start)) if any_not_normal else None
                return chain.run(chain_key, law, start, free)
            law = frame.target(difference(context.teacher, student, sigma, condition))
            draw = chain.run(chain_key, law, frame.from_base(start), frame.reference(chain, start))
            ends = (frame.to_base(draw.position), frame.to_base(draw.coupled))
            return eqx.tree_at(lambda d: (d.position, d.coupled), draw, ends)

        keys = jax.random.split(jax.random.split(key, 4)[3], context.training.batch)  # the others drew where they start
        draw = context.each(one, keys, begun.sigma, begun.conditions, begun.noise, begun.latents)
        return Batch(draw, begun.sigma, begun.conditions, begun.noise)

    def loss(self, program: Program, context: DistillationContext, now: StepInput, rows: Batch) -> Loss:
        """The M-step: half the weighted squared distance from g(z_K) to where the chain pulled it.

        loss = 1/2 mean v(sigma) |g(z_K) - stop_gradient(g(z_K) + sigma eps~)|^2, eps~ the chain's noise less that
        of its coupled chain. Its gradient is that of the complete-data log-likelihood of x_sigma given z, up to the
        noise that the coupled chain cancels. Where the two are paired, it is the loss at the chain's (z_K, eps_K) less
        that at the coupled chain's (z'_K, nu_K). `pull` is the mean square of sigma eps~.

        Source: arXiv:2405.16852, equation 11.
        """

        def term(latents, noise, sigma, condition):
            x = context.problem.generate(program, latents, condition)
            return 0.5 * self.weighting(sigma) * jnp.sum((x - jax.lax.stop_gradient(x + sigma * noise)) ** 2)

        def one(draw, sigma, condition):
            residual, end, coupled = draw.residual.noise, draw.position, draw.coupled
            pull = jnp.mean((sigma * residual) ** 2)
            if not self.chain.cancel.paired:
                return term(end.latents, residual, sigma, condition), pull
            return term(end.latents, end.noise, sigma, condition) - term(
                coupled.latents, coupled.noise, sigma, condition
            ), pull

        losses, pulls = jax.vmap(one)(rows.draw, rows.sigma, rows.conditions)
        return jnp.mean(losses), {
            "pull": jnp.mean(pulls),
            "acceptance": jnp.mean(rows.draw.acceptance),
            "divergences": jnp.mean(rows.draw.divergences),
            "latent_norm": mean_square(rows.draw.position.latents),
            "noise_norm": mean_square(rows.draw.position.noise),
        }

    # which coordinates chains move in, with which step sizes

    def frame(
        self,
        context: DistillationContext,
        program: Program,
        sigma: Float[Array, ""],
        condition: Condition,
        centering: Float[Array, " bins"] | None,
    ) -> Frame | None:
        """The coordinates of a chain at one sigma; None for base coordinates.

        Latents move in base coordinates, but for those that say how centered they are.

        Args:
            context: of the training.
            program: the networks.
            sigma: noise level.
            condition: that of the chain, or None.
            centering: lambdas of x_sigma by range of sigma, where they are chosen.
        """
        problem = context.problem
        own = {site.name for site in problem.sites if site.eligible and not site.free}
        declared, output = problem.centering(), problem.output
        latents = Centering(*({name: part[name] for name in own} for part in (declared.loc, declared.scale)))
        if output.centered != "auto":
            x = jnp.asarray(output.centered, output.dtype)
            x = x.reshape(output.shape) if x.ndim else x
            return Frame(problem, program, sigma, condition, x, latents) if output.centered != 0.0 or own else None
        if centering is None and not own:
            return None
        x = jnp.zeros(()) if centering is None else centering[self.adaptation.bin_of(sigma)]
        return Frame(problem, program, sigma, condition, x, latents)

    def _chain(
        self,
        context: DistillationContext,
        sizes: StepSizes | None,
        sigma: Float[Array, ""],
        key: PRNGKeyArray,
        program: Program,
        condition: Condition,
    ) -> Chain:
        """The chain, with the adapted step sizes of its sigma.

        Latents' are scaled by the Jacobian at other latents than the chain's own: steps that depended on the start
        would leave more draws where they are short than the distribution has there.
        """
        if sizes is None:
            return self.chain
        size = self.adaptation.step_size(sizes, sigma)
        if not self.move_latents:
            return self.chain.with_step_size(Coordinates(size, None))
        elsewhere = context.problem.draw(named(key, "elsewhere"), program, condition)
        scales = jacobian_scale(lambda u: context.problem.generate(program, u, condition), elsewhere, sigma, key)
        return self.chain.with_step_size(Coordinates(size, jax.tree.map(lambda scale: size * scale, scales)))

    def begin(self, context: DistillationContext, networks: dict[str, PyTree]) -> tuple[PyTree, PyTree]:
        """Step sizes where they are adapted, coordinates where they are chosen: (eps, z) at first."""
        kernel, sizes = self.chain.kernel, None
        if kernel.step_size is None:
            assert kernel.wanted_acceptance is not None  # seen above
            sizes = self.adaptation.start(kernel.wanted_acceptance)
        chooses = self.adjusts_every(context) is not None
        return None, Tuning(sizes, jnp.zeros(self.adaptation.bins) if chooses else None)

    def keep(
        self, context: DistillationContext, before: StepInput, drawn: dict[str, PyTree], networks: dict[str, PyTree]
    ) -> tuple[PyTree, PyTree]:
        """Step sizes nearer to the acceptance that the kernel wants."""
        batch: Batch = drawn["generator"].drawn
        tuning, wanted = before.tuning, self.chain.kernel.wanted_acceptance
        if tuning.step_sizes is None or wanted is None:
            return None, tuning
        sizes = self.adaptation.update(tuning.step_sizes, batch.sigma, batch.draw.acceptance, wanted)
        return None, Tuning(sizes, tuning.centering)

    def adjusts_every(self, context: DistillationContext) -> int | None:
        """How often coordinates are chosen, where they are."""
        free = self.move_latents and context.problem.output.centered == "auto"
        return self.reparameterization.every if free and self.reparameterization is not None else None

    def adjust(
        self, context: DistillationContext, key: PRNGKeyArray, state: TrainState
    ) -> tuple[TrainState, dict[str, float]]:
        """The state with lambda of x_sigma chosen from E-steps of its own, and the figures of the choice.

        What is in use is left where it costs clearly more.
        """
        if self.adjusts_every(context) is None:
            return state, {}
        choice = self.choose(context, key, state, state.step / context.training.steps)
        lam = jnp.asarray(choice.lam, state.tuning.centering.dtype)
        seen = [number for number, cost in enumerate(choice.chosen) if np.isfinite(cost)]
        lambdas = {f"lambda_x_{self.adaptation.middles[one]:.3g}": float(choice.lam[one]) for one in seen}
        costs = {"noncentered": choice.noncentered, "centered": choice.centered, "chosen": choice.chosen}
        figures = lambdas | {f"cost_x_{name}": float(np.nansum(cost)) for name, cost in costs.items()}
        return dataclasses.replace(state, tuning=Tuning(state.tuning.step_sizes, lam)), figures

    def choose(
        self, context: DistillationContext, key: PRNGKeyArray, state: TrainState, progress: Float[Array, ""]
    ) -> Choice:
        """Choose lambda of x_sigma, by range of sigma, from the ends of some E-steps' chains.

        Args:
            context: of the training.
            key: a key.
            state: whose networks and tuning are used.
            progress: of the training, 0 to 1.
        """
        assert self.reparameterization is not None
        draws = self.pilot(context, key, state, progress)
        bins = np.asarray(self.adaptation.bin_of(jnp.asarray(draws.sigma)))
        return choose_x(self.reparameterization.policy, draws, bins, np.asarray(state.tuning.centering))

    def pilot(
        self, context: DistillationContext, key: PRNGKeyArray, state: TrainState, progress: Float[Array, ""]
    ) -> XDraws:
        """Ends of the chains of some E-steps, with their scores."""
        assert self.reparameterization is not None
        keys = jax.random.split(key, self.reparameterization.rounds)
        found = _scored(self, context, keys, state, progress)
        sigma, (eps, drift, score), latents = jax.tree.map(np.asarray, found)
        return XDraws(sigma, eps, drift, score, latents)

    # whether all is well

    def health(
        self, context: DistillationContext, state: TrainState, key: PRNGKeyArray, batch: int = HEALTH_BATCH
    ) -> Figures:
        """Figures of chains, their noise cancelled whole, and of the scores: see `chain_figures`, `score_figures`."""
        small, key_chains = self.small(context, batch), jax.random.split(key, 6)[0]
        whole = dataclasses.replace(self, chain=dataclasses.replace(self.chain, cancel=Cancellation.ALL))
        ends = whole.draw(small, StepInput.at(state, state.step / context.training.steps), key_chains)
        of_chains = chain_figures(ends.draw, ends.start, self.move_latents)
        return {**of_chains, **super().health(context, state, key, batch)}

    def counts(self) -> dict[str, int]:
        """Steps of a chain, and updates of the score network."""
        return {"kernel_steps_per_chain": self.chain.length, **super().counts()}

    def coordinates(self, problem: Problem) -> str:
        """How x_sigma is placed in the E-step, for people."""
        if not self.move_latents:
            return "latents do not move: no choice"
        if problem.output.centered != "auto":
            return f"centered {problem.output.centered}, declared"
        return "(eps, z)" if self.reparameterization is None else "from (eps, z), by sigma: auto"

    def by_sigma(self, state: TrainState) -> dict[str, tuple[list[float], list[float]]]:
        """Step sizes that were found, and lambda of x_sigma."""
        tuning, middles, found = state.tuning, list(self.adaptation.middles), {}
        if tuning.step_sizes is not None:
            found["Step size"] = (middles, np.exp(np.asarray(tuning.step_sizes.log_size, float)).tolist())
        if tuning.centering is not None:
            found["Lambda of x"] = (middles, np.asarray(tuning.centering, float).tolist())
        return found

    def watched(self, training: Training) -> Watched:
        """What the rules of alarms know of this training, its chains among it."""
        return dataclasses.replace(super().watched(training), chain=self.chain, moves_latents=self.move_latents)

    def shown(self) -> tuple[str, ...]:
        """As of every distillation; acceptance where the kernel may refuse."""
        adjusted = ("acceptance",) if self.chain.kernel.wanted_acceptance is not None else ()
        return ("pull", "score_lag", *adjusted, "run_recall", "run_modes")


@eqx.filter_jit
def _scored(
    algorithm: EMD, context: DistillationContext, keys: Key[Array, " rounds"], state: TrainState, progress: Array
) -> tuple[Array, tuple[Array, Array, Array], dict[str, tuple[Array, Array, Array]]]:
    """Sigma; eps, h and the score of eps; by site z, its score and J_h^T of the noise's score; all flat."""
    program, problem = state.networks["generator"], context.problem
    student = Student(problem, program, state.networks["score"])

    def one(position, sigma, condition):
        def drift(latents):
            return problem.generate(program, latents, condition) / sigma

        score = emd_target(context.teacher, student, sigma, condition).score(position)
        h, pull_back = jax.vjp(drift, position.latents)
        (pulled,) = pull_back(score.noise)
        return (position.noise, h, score.noise), jax.tree.map(
            lambda *three: three, position.latents, score.latents, pulled
        )

    def many(key):
        batch = algorithm.draw(context, StepInput.at(state, progress), key)
        return batch.sigma, *jax.vmap(one)(batch.draw.position, batch.sigma, batch.conditions)

    sigma, noise, latents = jax.lax.map(many, keys)
    flat = jax.tree.map(lambda leaf: leaf.reshape(sigma.size, -1), (noise, latents))
    return sigma.reshape(-1), *flat


def _with_latents(draw: Draw, latents: dict[str, Array]) -> Draw:
    """The draw of a chain over eps alone, with the latents that did not move, its own and its coupled chain's."""
    ends = [Coordinates(end.noise, latents) for end in (draw.position, draw.coupled)]
    return eqx.tree_at(lambda d: (d.position, d.coupled), draw, tuple(ends))
