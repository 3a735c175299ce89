"""One step of Monte Carlo EM: a program fitted to what it observes, its latents drawn from their posterior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.dsl import Centering, Problem, Program
from pplemd.errors import RecipeError
from pplemd.inference import HMC, NONE, Adaptation, Chain, StepSizes, TiltedLaw, placed, posterior_law
from pplemd.learning.learner import Learner, average, copied, descend, learner, warmed
from pplemd.learning.loop import AbstractState
from pplemd.learning.optimisers import AbstractOptimiser, Adam

ONE = 1.0  # stands for sigma where step sizes are adapted by sigma: a posterior has none
MEMORY = 0.95  # decay of the running variances


class FitRecipe(eqx.Module):
    """How a program is fitted to its data.

    Attributes:
        steps: EM steps.
        rows: rows of the program's plate in one step; None looks at all data together.
        chains: chains of the latents, where all data are looked at together; else each row has one.
        chain: the E-step, which goes on from where the last one of the same chain ended.
        adaptation: how a kernel without a step size finds one.
        centering: 0 for non-centered latents, 1 for centered ones, or between, for every site that may be either.
        optimiser: of the program's networks and parameters.
        ema: decay of the averaged program.
        seed: seed of everything random.
        log_every: steps between lines of metrics.jsonl.
        sample_every: steps between pictures.
        checkpoint_every: steps between checkpoints.
        patience: skipped updates in a row after which the run stops.
    """

    steps: int = 2000
    rows: int | None = None
    chains: int = 8
    chain: Chain = Chain(HMC(), 2, NONE)
    adaptation: Adaptation = Adaptation(bins=1)
    centering: float = 0.0
    optimiser: AbstractOptimiser = Adam(learning_rate=1e-2, final=0.02)
    ema: float = 0.99
    seed: int = 0
    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    patience: int = 20

    def __check_init__(self):
        if self.chain.cancel.paired or self.chain.cancel.initial or self.chain.cancel.injected:
            raise RecipeError("a fit learns from draws of the posterior, with nothing cancelled: Chain(..., em.NONE).")
        for name in ("steps", "chains", "log_every", "sample_every", "checkpoint_every", "patience"):
            if getattr(self, name) < 1:
                raise RecipeError(f"the recipe needs {name} >= 1; found {name}={getattr(self, name)}.")
        if self.rows is not None and self.rows < 1:
            raise RecipeError(f"the recipe needs rows >= 1, or None for all; found rows={self.rows}.")
        if not 0 <= self.centering <= 1:
            raise RecipeError(f"the recipe needs 0 <= centering <= 1; found centering={self.centering}.")
        if not 0 <= self.ema < 1:
            raise RecipeError(f"the recipe needs 0 <= ema < 1; found ema={self.ema}.")


class FitState(AbstractState):
    """What the next step of Monte Carlo EM needs, and what a checkpoint keeps.

    Attributes:
        step: steps done.
        learner: the program under training.
        average: the program's moving average: what is kept.
        positions: where each chain is, by site, in the centering's coordinates; the first axis is chains, or rows.
        centering: lambdas of the sites.
        step_sizes: the kernel's step size, where it is adapted.
        variances: of each coordinate over chains of the same law, the kernel's inverse mass; None where each row has a
            law of its own, or the step size is given.
    """

    step: Int[Array, ""]
    learner: Learner
    average: Program
    positions: dict[str, Float[Array, "..."]]
    centering: Centering
    step_sizes: StepSizes | None
    variances: dict[str, Float[Array, "..."]] | None

    @property
    def skipped_in_a_row(self) -> Int[Array, ""]:
        """Updates skipped since the last good one."""
        return self.learner.skipped_in_a_row


class FitStep(eqx.Module):
    """(state, key) -> (state, metrics), for one problem under one recipe.

    Source: Wei and Tanner 1990 (Monte Carlo EM); arXiv:1402.0480, section 5 (in either form of the latents).

    Attributes:
        problem: the traced program; of one row of its plate where the recipe takes rows.
        recipe: how to fit.
    """

    problem: Problem
    recipe: FitRecipe

    def init(self, program: Program) -> FitState:
        """The state before the first step: chains at draws of the prior."""
        count = self.recipe.chains if self.recipe.rows is None else self._plate.size
        centering = self.problem.centering(self.recipe.centering)

        def start(key: PRNGKeyArray, number: Array) -> dict[str, Array]:
            problem = self._of(number)
            return problem.displace(program, problem.draw(key, program), centering)

        keys = jax.random.split(jax.random.fold_in(jax.random.key(self.recipe.seed), 1), count)
        positions = jax.vmap(start)(keys, jnp.arange(count))
        kernel = self.recipe.chain.kernel
        sizes = None
        if kernel.step_size is None:
            assert kernel.wanted_acceptance is not None
            sizes = self.recipe.adaptation.start(kernel.wanted_acceptance)
        shared = sizes is not None and self.recipe.rows is None and count > 2
        variances = jax.tree.map(lambda leaf: jnp.ones(leaf.shape[1:]), positions) if shared else None
        fresh = learner(program, self._optimiser)
        return FitState(jnp.zeros((), jnp.int32), fresh, copied(program), positions, centering, sizes, variances)

    def __call__(self, state: FitState, key: PRNGKeyArray) -> tuple[FitState, dict[str, Float[Array, ""]]]:
        """One step: move the chains of some rows, ascend the complete-data likelihood at where they are."""
        key_rows, key_chain = jax.random.split(key)
        rows = self._rows(key_rows, state)
        program = state.learner.module
        before = jax.tree.map(lambda leaf: leaf[rows], state.positions)
        after, acceptance, divergences = self.e_step(program, key_chain, rows, before, state)
        loss, gradient = eqx.filter_value_and_grad(self.loss)(program, rows, after, state.centering)
        fitted = descend(state.learner, gradient, self._optimiser)
        metrics = {
            "log_joint": -loss,
            "gradient_norm": optax.tree.norm(gradient),
            "acceptance": jnp.mean(acceptance),
            "divergences": jnp.mean(divergences),
            "skipped": (fitted.skipped - state.learner.skipped).astype(jnp.float32),
        }
        positions = jax.tree.map(lambda all_, new: all_.at[rows].set(new), state.positions, after)
        averaged = average(state.average, fitted.module, warmed(self.recipe.ema, state.step))
        sizes, variances = self._adapted(state.step_sizes, acceptance), _running(state.variances, after)
        return FitState(state.step + 1, fitted, averaged, positions, state.centering, sizes, variances), metrics

    def law(self, program: Program, number: Int[Array, ""], centering: Centering) -> TiltedLaw:
        """The posterior of a chain's latents: of all data, or of row `number`, in the centering's coordinates."""
        problem = self._of(number)
        return placed(posterior_law(problem, program), lambda v: problem.place(program, v, centering))

    def e_step(
        self, program: Program, key: PRNGKeyArray, rows: Int[Array, " chains"], positions: dict, state: FitState
    ) -> tuple[dict[str, Array], Array, Array]:
        """Where chains end that go on from these positions, their acceptance, and their divergences."""
        chain = self.recipe.chain
        if state.step_sizes is not None:
            size = self.recipe.adaptation.step_size(state.step_sizes, jnp.asarray(ONE))
            scales = None if state.variances is None else jax.tree.map(jnp.sqrt, state.variances)
            chain = chain.with_step_size(size if scales is None else jax.tree.map(lambda s: size * s, scales))

        def one(chain_key, number, position):
            draw = chain.run(chain_key, self.law(program, number, state.centering), position)
            return draw.position, draw.acceptance, draw.divergences

        return jax.vmap(one)(jax.random.split(key, rows.shape[0]), rows, positions)

    def loss(self, program: Program, rows: Int[Array, " chains"], positions: dict, centering: Centering) -> Array:
        """Minus the mean complete-data log-likelihood over chains, in the centering's coordinates."""

        def one(number, position):
            return self.law(program, number, centering).log_density(position)

        return -jnp.mean(jax.vmap(one)(rows, jax.lax.stop_gradient(positions)))

    def _rows(self, key: PRNGKeyArray, state: FitState) -> Int[Array, " chains"]:
        count = jax.tree.leaves(state.positions)[0].shape[0]
        if self.recipe.rows is None or self.recipe.rows >= count:
            return jnp.arange(count)
        return jax.random.choice(key, count, (self.recipe.rows,), replace=False)

    def _of(self, number: Int[Array, ""]) -> Problem:
        """The problem of one chain."""
        return self.problem if self.recipe.rows is None else self.problem.at({self._plate.name: number[None]})

    @property
    def _plate(self):
        if len(self.problem.plates) != 1:
            names = ", ".join(plate.name for plate in self.problem.plates) or "none"
            raise RecipeError(
                f"a recipe with rows={self.recipe.rows} takes some rows of the program's one plate; found {names}. "
                'Declare what is independent within one `with em.plate("rows", size) as rows`, or leave rows out.'
            )
        return self.problem.plates[0]

    @property
    def _optimiser(self) -> optax.GradientTransformation:
        return self.recipe.optimiser.transformation(self.recipe.steps)

    def _adapted(self, sizes: StepSizes | None, acceptance: Float[Array, " chains"]) -> StepSizes | None:
        wanted = self.recipe.chain.kernel.wanted_acceptance
        if sizes is None or wanted is None:
            return sizes
        return self.recipe.adaptation.update(sizes, jnp.full_like(acceptance, ONE), acceptance, wanted)


def _running(variances: dict[str, Array] | None, positions: dict[str, Array]) -> dict[str, Array] | None:
    """Running means of the variance over chains."""
    if variances is None:
        return None
    seen = jax.tree.map(lambda leaf: jnp.var(leaf, axis=0, ddof=1), positions)
    return optax.incremental_update(seen, variances, 1 - MEMORY)
