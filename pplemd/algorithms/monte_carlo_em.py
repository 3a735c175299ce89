"""Monte Carlo EM: a program fitted to what it observes, its latents drawn from their posterior.

Read from top to bottom: the chains' moves (E-step), the ascent at where they are (M-step), what is kept, and the choice
of the latents' coordinates.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from pplemd.algorithms.convergence import AbstractClimb, Draws, HowFitted, Positions, fit_alarms, remaining
from pplemd.algorithms.reparameterization import Reparameterization, figures
from pplemd.dsl import Centering, Problem, Program
from pplemd.errors import RecipeError
from pplemd.inference import (
    HMC,
    Adaptation,
    Cancellation,
    Chain,
    StepSizes,
    TiltedTarget,
    climbed,
    posterior_target,
    transformed,
)
from pplemd.keys import named
from pplemd.learning.alarms import Alarm, History
from pplemd.learning.algorithm import AbstractAlgorithm, Context, Figures, Loss, StepInput, Update
from pplemd.learning.optimisers import FORMS, AbstractOptimiser, Newton
from pplemd.learning.state import TrainState, copied, followed
from pplemd.learning.training import Training
from pplemd.parameterization import Pilot, Placement

ONE = 1.0  # stands for sigma where step sizes are adapted by sigma: a posterior has none
MEMORY = 0.95  # decay of the running variances, at first
FULL_PACE = 200  # steps in which step sizes and variances are found; then their gains fall as 1 / step


class FitContext(Context):
    """What is fixed for a fit.

    Attributes:
        problem: the traced program; of one row of its plate where a step looks at some rows.
    """

    problem: Problem

    @property
    def by_row(self) -> bool:
        """Whether each row of a plate has a chain of its own, and a step looks at some rows."""
        return any(plate.rows < plate.size for plate in self.problem.plates)

    def of(self, number: Int[Array, ""]) -> Problem:
        """The problem of one chain: of all data, or of row `number`."""
        return self.problem.at({self.problem.plates[0].name: number[None]}) if self.by_row else self.problem


class Tuning(eqx.Module):
    """What the chains of a fit are tuned by.

    Attributes:
        centering: lambdas of the sites.
        step_sizes: the kernel's step size, where it is adapted.
        variances: of each coordinate over chains of the same distribution, the kernel's inverse mass; None where each
            row has a distribution of its own, or the step size is given.
    """

    centering: Centering
    step_sizes: StepSizes | None
    variances: Positions | None


class Moved(eqx.Module):
    """Chains that a step has moved.

    Attributes:
        rows: which chains.
        positions: where they are, in the chains' coordinates.
        climbing: the same in the coordinates that the M-step climbs in.
        acceptance: of their transitions.
        divergences: of their transitions.
    """

    rows: Int[Array, " chains"]
    positions: Positions
    climbing: Positions
    acceptance: Float[Array, " chains"]
    divergences: Float[Array, " chains"]


class MonteCarloEM(AbstractAlgorithm[FitContext]):
    """Monte Carlo EM: chains of the latents' posterior go on from step to step, the program ascends at where they are.

    The state's `memory` is where each chain is: one chain for each row of the program's plate, or some of all data.

    Source: Wei and Tanner 1990 (Monte Carlo EM); arXiv:1402.0480, section 5 (in either form of the latents).

    Attributes:
        minibatches: whether a step looks at `training.batch` rows of the program's one plate, each with a chain of its
            own; else at all data together.
        chains: chains of the latents, where all data are looked at together.
        chain: the E-step, which goes on from where the last one of the same chain ended.
        adaptation: how a kernel without a step size finds one.
        centering: 0 for non-centered latents, 1 for centered ones, or between, for every site that may be either; where
            coordinates are chosen, that is where it starts.
        reparameterization: when and how the sites' coordinates are chosen from the chains' own draws; None keeps them
            as they start.
        optimiser: of the program's networks and parameters: Newton's steps where they are few, else Adam's. Clipped
            gradients of few draws, whose noise is skewed, would not be 0 on average where the likelihood is greatest.
        average: decay of the averaged program.
    """

    minibatches: bool = False
    chains: int = 8
    chain: Chain = Chain(HMC(), 2, Cancellation.NONE)
    adaptation: Adaptation = Adaptation(bins=1)
    centering: float = 0.0
    reparameterization: Reparameterization | None = Reparameterization()
    optimiser: AbstractOptimiser = Newton()
    average: float = 0.99

    def __check_init__(self):
        if self.chain.cancel.paired or self.chain.cancel.initial or self.chain.cancel.injected:
            raise RecipeError(
                "a fit learns from draws of the posterior, with nothing cancelled: Chain(..., em.Cancellation.NONE)."
            )
        if self.chains < 1:
            raise RecipeError(f"Monte Carlo EM needs chains >= 1; found chains={self.chains}.")
        if not 0 <= self.centering <= 1:
            raise RecipeError(f"Monte Carlo EM needs 0 <= centering <= 1; found centering={self.centering}.")
        if not 0 <= self.average < 1:
            raise RecipeError(f"Monte Carlo EM needs 0 <= average < 1; found average={self.average}.")

    def optimisers(self) -> dict[str, AbstractOptimiser]:
        """The program's."""
        return {"program": self.optimiser}

    def averages(self) -> dict[str, float]:
        """The program's."""
        return {"program": self.average}

    def parameters(self, context: FitContext, name: str, network: PyTree) -> PyTree:
        """What the trace says that a program trains; NumPy's arrays are data."""
        return context.problem.split(network)[0]

    def updates(self) -> tuple[Update, ...]:
        """One: the M-step at the ends of the E-step."""
        return (Update("program", self.draw, self.loss, parts=("E-step", "M-step")),)

    def begin(self, context: FitContext, networks: dict[str, PyTree]) -> tuple[PyTree, PyTree]:
        """Chains at draws of the prior, that have climbed where all data are looked at; step sizes and coordinates."""
        program, kernel = networks["program"], self.chain.kernel
        count = context.problem.plates[0].size if context.by_row else self.chains
        centering = copied(context.problem.centering(self.centering))  # loc and scale may share buffers

        def start(key: PRNGKeyArray, number: Array) -> Positions:
            problem = context.of(number)
            drawn = problem.draw(key, program)
            if not context.by_row:
                drawn = climbed(named(key, "climb of a fit"), posterior_target(problem, program), drawn).position
            return problem.from_base(program, drawn, centering)

        keys = jax.random.split(jax.random.fold_in(jax.random.key(context.training.seed), 1), count)
        starts = jax.vmap(start)
        if context.by_row:
            starts = jax.jit(starts)  # reads no data that it does not need
        positions = starts(keys, jnp.arange(count))
        sizes = None
        if kernel.step_size is None:
            assert kernel.wanted_acceptance is not None
            sizes = self.adaptation.start(kernel.wanted_acceptance)
        shared = sizes is not None and not context.by_row and count > 2
        variances = jax.tree.map(lambda leaf: jnp.ones(leaf.shape[1:]), positions) if shared else None
        return positions, Tuning(centering, sizes, variances)

    # the E-step

    def draw(self, context: FitContext, now: StepInput) -> Moved:
        """Move the chains of some rows, or all, from where they are."""
        key_rows, key_chain = jax.random.split(now.key)
        rows, program = self.rows(context, key_rows, now.memory), now.networks["program"]
        before = jax.tree.map(lambda leaf: leaf[rows], now.memory)
        after, acceptance, divergences = self.moved(context, now, key_chain, rows, before)
        climbing = self.recast(context, program, rows, after, now.tuning.centering, self.form(context, now))
        return Moved(rows, after, climbing, acceptance, divergences)

    def moved(
        self, context: FitContext, now: StepInput, key: PRNGKeyArray, rows: Int[Array, " chains"], positions: Positions
    ) -> tuple[Positions, Float[Array, " chains"], Float[Array, " chains"]]:
        """Where chains end that go on from these positions, their acceptance, and their divergences."""
        chain, tuning, program = self.chain, now.tuning, now.networks["program"]
        if tuning.step_sizes is not None:
            size = self.adaptation.step_size(tuning.step_sizes, jnp.asarray(ONE))
            scales = None if tuning.variances is None else jax.tree.map(jnp.sqrt, tuning.variances)
            chain = chain.with_step_size(size if scales is None else jax.tree.map(lambda s: size * s, scales))

        def one(chain_key, number, position):
            draw = chain.run(chain_key, self.law(context, program, number, tuning.centering), position)
            return draw.position, draw.acceptance, draw.divergences

        return jax.vmap(one)(jax.random.split(key, rows.shape[0]), rows, positions)

    def law(self, context: FitContext, program: Program, number: Int[Array, ""], centering: Centering) -> TiltedTarget:
        """The posterior of a chain's latents: of all data, or of row `number`, in the centering's coordinates."""
        problem = context.of(number)
        return transformed(posterior_target(problem, program), lambda v: problem.to_base(program, v, centering))

    def rows(self, context: FitContext, key: PRNGKeyArray, positions: Positions) -> Int[Array, " chains"]:
        """Which chains a step moves: all, or those of some rows."""
        count = jax.tree.leaves(positions)[0].shape[0]
        if not context.by_row or context.training.batch >= count:
            return jnp.arange(count)
        return jax.random.choice(key, count, (context.training.batch,), replace=False)

    # the M-step

    def loss(self, program: Program, context: FitContext, now: StepInput, rows: Moved) -> Loss:
        """Minus the mean complete-data log-likelihood over chains, in the coordinates of the M-step."""
        lam = self.form(context, now)
        loss = self.of_positions(program, context, rows.rows, rows.climbing, lam)
        begun = jax.lax.stop_gradient(program)
        log_dets = jax.vmap(lambda number, v: context.of(number).to_base(begun, v, lam)[1])(rows.rows, rows.climbing)
        return loss, {
            "log_joint": -loss - jnp.mean(log_dets),
            "acceptance": jnp.mean(rows.acceptance),
            "divergences": jnp.mean(rows.divergences),
        }

    def of_positions(
        self, program: Program, context: FitContext, rows: Int[Array, " chains"], climbing: Positions, lam: Centering
    ) -> Float[Array, ""]:
        """Minus the mean complete-data log-likelihood at positions in the coordinates of lam."""

        def one(number, position):
            return self.law(context, program, number, lam).log_density(position)

        return -jnp.mean(jax.vmap(one)(rows, jax.lax.stop_gradient(climbing)))

    def form(self, context: FitContext, now: StepInput) -> Centering:
        """The coordinates of an M-step: those of the chains, or non-centered and centered ones in turn."""
        parameters = jax.tree.leaves(self.parameters(context, "program", now.networks["program"]))
        if not self.optimiser.interleaves(sum(leaf.size for leaf in parameters)):
            return now.tuning.centering
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, now.step % FORMS), now.tuning.centering)

    def recast(
        self,
        context: FitContext,
        program: Program,
        rows: Int[Array, " chains"],
        positions: Positions,
        old: Centering,
        new: Centering,
    ) -> Positions:
        """Positions of chains in other coordinates."""
        if old is new:
            return positions

        def one(number: Array, v: Positions) -> Positions:
            problem = context.of(number)
            return problem.from_base(program, problem.to_base(program, v, old)[0], new)

        return jax.vmap(one)(rows, positions)

    def keep(
        self, context: FitContext, before: StepInput, drawn: dict[str, PyTree], networks: dict[str, PyTree]
    ) -> tuple[PyTree, PyTree]:
        """Where the chains are, in the new program's coordinates; step size and variances after a step's adaptation."""
        moved, tuning, wanted = drawn["program"], before.tuning, self.chain.kernel.wanted_acceptance
        lam = self.form(context, before)
        after = self.recast(context, networks["program"], moved.rows, moved.climbing, lam, tuning.centering)
        positions = jax.tree.map(lambda all_, new: all_.at[moved.rows].set(new), before.memory, after)
        pace = FULL_PACE / jnp.maximum(before.step, FULL_PACE)  # chains that adapt to where they have been err by it
        sizes, variances = tuning.step_sizes, tuning.variances
        if sizes is not None and wanted is not None:
            at = jnp.full_like(moved.acceptance, ONE)
            sizes = self.adaptation.update(sizes, at, moved.acceptance, wanted, pace)
        if variances is not None:
            seen = jax.tree.map(lambda leaf: jnp.var(leaf, axis=0, ddof=1), after)
            variances = optax.incremental_update(seen, variances, (1 - MEMORY) * pace)
        return positions, Tuning(tuning.centering, sizes, variances)

    def figures(self, context: FitContext, networks: dict[str, PyTree]) -> Figures:
        """Single parameters, by their paths."""
        parameters = self.parameters(context, "program", networks["program"])
        return {f"parameter_{path}": number for path, number in followed(parameters).items()}

    def health(self, context: FitContext, state: TrainState, key: PRNGKeyArray) -> Figures:
        """The averaged program's single parameters, by their paths."""
        return self.figures(context, state.averages)

    def conclusion(self, context: FitContext, state: TrainState, key: PRNGKeyArray) -> dict[str, float]:
        """Of few parameters, what one more M-step at the averaged program would gain; see `remaining`."""
        program = state.averages["program"]
        parameters, _ = context.problem.split(program)
        if sum(leaf.size for leaf in jax.tree.leaves(parameters)) > Newton().most:
            return {}
        learners = {"program": dataclasses.replace(state.learners["program"], module=program)}
        climb = _Climb(self, context, StepInput.at(dataclasses.replace(state, learners=learners), jnp.ones(())))
        at, unravel = ravel_pytree(parameters)
        rows = jax.tree.leaves(state.memory)[0].shape[0] if context.by_row else 1
        left = remaining(climb, at, unravel, state.memory, rows, named(key, "remaining"))
        found = {"gain": float(left.gain), "gain_error": float(left.error)}
        for what, parts in (("move", left.move), ("loss_of", left.loss)):
            found |= {f"{what}_{path}": float(number) for path, number in followed(parts).items()}
        return found

    def alarms(self, training: Training, history: History, rows: int = 1) -> tuple[Alarm, ...]:
        """At the end of a fit, that it has not converged."""
        return fit_alarms(history, self.how(training), rows)

    def how(self, training: Training) -> HowFitted:
        """What a verdict of convergence names."""
        return HowFitted(training, self.optimiser, self.chains, self.minibatches)

    def counts(self) -> dict[str, int]:
        """Steps of a chain."""
        return {"kernel_steps_per_chain": self.chain.length}

    def shown(self) -> tuple[str, ...]:
        """Whether it climbs and whether its chains move."""
        return ("log_joint", "gradient_norm", "acceptance")

    # the choice of the latents' coordinates

    def adjusts_every(self, context: FitContext) -> int | None:
        """How often coordinates are chosen."""
        return None if self.reparameterization is None else self.reparameterization.every

    def adjust(self, context: FitContext, key: PRNGKeyArray, state: TrainState) -> tuple[TrainState, dict[str, float]]:
        """The state in coordinates that are chosen from draws of its chains, and the figures of the choice.

        What is in use, at first what the fit starts with, is left where it costs clearly more.
        """
        problem, schedule = context.problem, self.reparameterization
        if schedule is None or not any(site.free for site in problem.sites):
            return state, {}
        state, pilot = self.pilot(context, jax.random.split(key)[0], state)
        placement = Placement(problem, state.networks["program"])
        choice = schedule.policy.choose(placement, pilot, state.tuning.centering)
        lam = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), choice.lam, state.tuning.centering)
        positions, variances = self.replaced(context, state, pilot, lam)
        tuning = Tuning(copied(lam), state.tuning.step_sizes, variances)
        return dataclasses.replace(state, memory=positions, tuning=tuning), figures(choice)

    @eqx.filter_jit
    def pilot(self, context: FitContext, key: PRNGKeyArray, state: TrainState) -> tuple[TrainState, Pilot]:
        """E-steps one after the other at one program: the state after them, and their draws with scores.

        Of all chains, or of some rows, whose distributions are groups of their own.
        """
        assert self.reparameterization is not None
        count, rounds = jax.tree.leaves(state.memory)[0].shape[0], self.reparameterization.rounds
        key_rows, key_chain = jax.random.split(key)
        some = min(self.reparameterization.rows, count) if context.by_row else count
        rows = jax.random.choice(key_rows, count, (some,), replace=False) if context.by_row else jnp.arange(count)
        now, program = StepInput.at(state, jnp.zeros(())), state.networks["program"]

        def one(positions, round_key):
            after = self.moved(context, now, round_key, rows, positions)[0]
            return after, after

        def scored(number, v):
            problem = context.of(number)
            u = problem.to_base(program, v, state.tuning.centering)[0]
            return u, posterior_target(problem, program).score(u)

        begun = jax.tree.map(lambda leaf: leaf[rows], state.memory)
        end, draws = jax.lax.scan(one, begun, jax.random.split(key_chain, rounds))
        by_row = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), draws)
        u, score = jax.vmap(lambda number, many: jax.vmap(lambda v: scored(number, v))(many))(rows, by_row)
        u, score = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (u, score))
        positions = jax.tree.map(lambda all_, new: all_.at[rows].set(new), state.memory, end)
        pilot = Pilot(u, score, rows=jnp.repeat(rows, rounds), groups=some) if context.by_row else Pilot(u, score)
        return dataclasses.replace(state, memory=positions), pilot

    @eqx.filter_jit
    def replaced(
        self, context: FitContext, state: TrainState, pilot: Pilot, lam: Centering
    ) -> tuple[Positions, Positions | None]:
        """Where the chains are, in the coordinates of lam, and variances there, which are those of a pilot."""
        program = state.networks["program"]

        def variances(u):
            v = jax.vmap(lambda one: context.problem.from_base(program, one, lam))(u)
            return jax.tree.map(lambda leaf: jnp.var(leaf, axis=0) + 1e-12, v)  # of a coordinate that never moved

        numbers = jnp.arange(jax.tree.leaves(state.memory)[0].shape[0])
        positions = self.recast(context, program, numbers, state.memory, state.tuning.centering, lam)
        return positions, None if state.tuning.variances is None else variances(pilot.u)


class _Climb(AbstractClimb):
    """The complete-data log-likelihood at the averaged program, negated."""

    algorithm: MonteCarloEM
    context: FitContext
    now: StepInput

    def value(self, theta: Float[Array, " p"], form: int, draws: Draws) -> Float[Array, ""]:
        """At the chains' positions, in one form of the latents."""
        (rows, after), program, old = draws, self.now.networks["program"], self.now.tuning.centering
        moving, fixed = self.context.problem.split(program)
        lam = jax.tree.map(lambda leaf: jnp.full_like(leaf, form), old)
        climbing = self.algorithm.recast(self.context, program, rows, after, old, lam)
        moved = eqx.combine(ravel_pytree(moving)[1](theta), fixed)
        return self.algorithm.of_positions(moved, self.context, rows, climbing, lam)

    def moved(self, positions: Positions, key: PRNGKeyArray) -> tuple[Positions, Draws]:
        """Chains of some rows, or all, go on."""
        key_rows, key_chain = jax.random.split(key)
        rows = self.algorithm.rows(self.context, key_rows, positions)
        before = jax.tree.map(lambda leaf: leaf[rows], positions)
        after = self.algorithm.moved(self.context, self.now, key_chain, rows, before)[0]
        return jax.tree.map(lambda all_, new: all_.at[rows].set(new), positions, after), (rows, after)
