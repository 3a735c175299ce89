"""One step of Monte Carlo EM: a program fitted to what it observes, its latents drawn from their posterior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.dsl import Centering, Problem, Program
from pplemd.errors import RecipeError
from pplemd.inference import StepSizes, TiltedLaw, climbed, placed, posterior_law
from pplemd.learning.choosing import figures
from pplemd.learning.fit_recipe import FitRecipe
from pplemd.learning.learner import Learner, average, copied, descend, followed, learner, warmed
from pplemd.learning.loop import AbstractState
from pplemd.learning.newton import FORMS
from pplemd.learning.optimisers import norm
from pplemd.parameterization import Pilot, Placement, Situation

ONE = 1.0  # stands for sigma where step sizes are adapted by sigma: a posterior has none
FIT_PARTS = ("E-step", "M-step")  # of a step, named in its trace
CLIMB = 2**31 - 5  # folded into the key of a chain's start
MEMORY = 0.95  # decay of the running variances, at first
FULL_PACE = 200  # steps in which step sizes and variances are found; then their gains fall as 1 / step


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
        centering = copied(self.problem.centering(self.recipe.centering))  # loc and scale may share buffers

        def start(key: PRNGKeyArray, number: Array) -> dict[str, Array]:
            problem = self._of(number)
            drawn = problem.draw(key, program)
            if self.recipe.rows is None:
                drawn = climbed(jax.random.fold_in(key, CLIMB), posterior_law(problem, program), drawn).position
            return problem.displace(program, drawn, centering)

        keys = jax.random.split(jax.random.fold_in(jax.random.key(self.recipe.seed), 1), count)
        positions = jax.vmap(start)(keys, jnp.arange(count))
        kernel = self.recipe.chain.kernel
        sizes = None
        if kernel.step_size is None:
            assert kernel.wanted_acceptance is not None
            sizes = self.recipe.adaptation.start(kernel.wanted_acceptance)
        shared = sizes is not None and self.recipe.rows is None and count > 2
        variances = jax.tree.map(lambda leaf: jnp.ones(leaf.shape[1:]), positions) if shared else None
        fresh = learner(program, self._optimiser, lambda one: self.problem.split(one)[0])
        return FitState(jnp.zeros((), jnp.int32), fresh, copied(program), positions, centering, sizes, variances)

    def __call__(self, state: FitState, key: PRNGKeyArray) -> tuple[FitState, dict[str, Float[Array, ""]]]:
        """One step: move the chains of some rows, ascend the complete-data likelihood at where they are."""
        key_rows, key_chain = jax.random.split(key)
        rows = self.rows(key_rows, state)
        program = state.learner.module
        before = jax.tree.map(lambda leaf: leaf[rows], state.positions)
        with jax.named_scope(FIT_PARTS[0]):
            after, acceptance, divergences = self.e_step(program, key_chain, rows, before, state)
        with jax.named_scope(FIT_PARTS[1]):
            fitted, gradient, log_joint, after = self.m_step(state, rows, after)
        metrics = {
            "log_joint": log_joint,
            "gradient_norm": norm(gradient),
            "acceptance": jnp.mean(acceptance),
            "divergences": jnp.mean(divergences),
            **{f"parameter_{path}": number for path, number in followed(self.problem.split(program)[0]).items()},
            "skipped": (fitted.skipped - state.learner.skipped).astype(jnp.float32),
        }
        positions = jax.tree.map(lambda all_, new: all_.at[rows].set(new), state.positions, after)
        moving, fixed = self.problem.split(fitted.module)
        kept, _ = self.problem.split(state.average)
        averaged = eqx.combine(average(kept, moving, warmed(self.recipe.ema, state.step)), fixed)
        pace = FULL_PACE / jnp.maximum(state.step, FULL_PACE)  # chains that adapt to where they have been err by it
        sizes = self._adapted(state.step_sizes, acceptance, pace)
        variances = _running(state.variances, after, pace)
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

    def m_step(
        self, state: FitState, rows: Int[Array, " chains"], positions: dict
    ) -> tuple[Learner, Program, Float[Array, ""], dict[str, Array]]:
        """The learner after an M-step, the gradient, log p(y, u), and the positions in the new program's coordinates.

        Draws are held in the coordinates in which the likelihood is climbed: those of the chains, or non-centered and
        centered ones in turn.
        """
        program, lam = state.learner.module, self._form(state)
        held = self.recast(program, rows, positions, state.centering, lam)
        moving, fixed = self.problem.split(program)
        loss, gradient = eqx.filter_value_and_grad(
            lambda moving: self.loss(eqx.combine(moving, fixed), rows, held, lam)
        )(moving)
        fitted = descend(state.learner, gradient, self._optimiser, lambda one: self.loss(one, rows, held, lam))
        log_dets = jax.vmap(lambda number, v: self._of(number).place(program, v, lam)[1])(rows, held)
        return (
            fitted,
            gradient,
            -loss - jnp.mean(log_dets),
            self.recast(fitted.module, rows, held, lam, state.centering),
        )

    def choose(self, key: PRNGKeyArray, state: FitState) -> tuple[FitState, dict[str, float]]:
        """The state in coordinates that are chosen from draws of its chains, and the figures of the choice.

        Not part of the compiled step: what it changes are arrays of the state. What is in use, at first what the recipe
        starts with, is left where it costs clearly more.
        """
        choosing, problem = self.recipe.choosing, self.problem
        if choosing is None or not any(site.free for site in problem.sites):
            return state, {}
        key_pilot, key_choice = jax.random.split(key)
        state, pilot = self.pilot(key_pilot, state)
        situation = Situation(Placement(problem, state.learner.module), pilot)
        choice = choosing.policy.choose(key_choice, situation, state.centering)
        lam = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), choice.lam, state.centering)
        moved = self.moved(state, pilot, lam)
        return eqx.tree_at(lambda s: s.centering, moved, copied(lam)), figures(choice)

    @eqx.filter_jit
    def pilot(self, key: PRNGKeyArray, state: FitState) -> tuple[FitState, Pilot]:
        """E-steps one after the other at one program: the state after them, and their draws with scores.

        Of all chains, or of some rows, whose laws are groups of their own.
        """
        assert self.recipe.choosing is not None
        count, rounds = jax.tree.leaves(state.positions)[0].shape[0], self.recipe.choosing.rounds
        key_rows, key_chain = jax.random.split(key)
        single = self.recipe.rows is None
        some = count if single else min(self.recipe.choosing.rows, count)
        rows = jnp.arange(count) if single else jax.random.choice(key_rows, count, (some,), replace=False)
        program = state.learner.module

        def one(positions, round_key):
            after = self.e_step(program, round_key, rows, positions, state)[0]
            return after, after

        def scored(number, v):
            problem = self._of(number)
            u = problem.place(program, v, state.centering)[0]
            return u, posterior_law(problem, program).score(u)

        begun = jax.tree.map(lambda leaf: leaf[rows], state.positions)
        end, draws = jax.lax.scan(one, begun, jax.random.split(key_chain, rounds))
        by_row = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), draws)
        u, score = jax.vmap(lambda number, many: jax.vmap(lambda v: scored(number, v))(many))(rows, by_row)
        u, score = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (u, score))
        positions = jax.tree.map(lambda all_, new: all_.at[rows].set(new), state.positions, end)
        pilot = Pilot(u, score) if single else Pilot(u, score, rows=jnp.repeat(rows, rounds), groups=some)
        return eqx.tree_at(lambda s: s.positions, state, positions), pilot

    @eqx.filter_jit
    def moved(self, state: FitState, pilot: Pilot, lam: Centering) -> FitState:
        """The state with its chains where they are, in the coordinates of lam; variances are those of a pilot."""
        program = state.learner.module

        def variances(u):
            v = jax.vmap(lambda one: self.problem.displace(program, one, lam))(u)
            return jax.tree.map(lambda leaf: jnp.var(leaf, axis=0) + 1e-12, v)  # of a coordinate that never moved

        count = jax.tree.leaves(state.positions)[0].shape[0]
        positions = self.recast(program, jnp.arange(count), state.positions, state.centering, lam)
        spread = None if state.variances is None else variances(pilot.u)
        return eqx.tree_at(
            lambda s: (s.positions, s.centering, s.variances),
            state,
            (positions, lam, spread),
            is_leaf=lambda leaf: leaf is None,
        )

    def loss(self, program: Program, rows: Int[Array, " chains"], positions: dict, centering: Centering) -> Array:
        """Minus the mean complete-data log-likelihood over chains, in the centering's coordinates."""

        def one(number, position):
            return self.law(program, number, centering).log_density(position)

        return -jnp.mean(jax.vmap(one)(rows, jax.lax.stop_gradient(positions)))

    def rows(self, key: PRNGKeyArray, state: FitState) -> Int[Array, " chains"]:
        """Which chains a step moves: all, or those of some rows."""
        count = jax.tree.leaves(state.positions)[0].shape[0]
        if self.recipe.rows is None or self.recipe.rows >= count:
            return jnp.arange(count)
        return jax.random.choice(key, count, (self.recipe.rows,), replace=False)

    def _form(self, state: FitState) -> Centering:
        """The coordinates of an M-step."""
        parameters, _ = self.problem.split(state.learner.module)
        if not self.recipe.optimiser.interleaves(sum(leaf.size for leaf in jax.tree.leaves(parameters))):
            return state.centering
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, state.step % FORMS), state.centering)

    def recast(
        self, program: Program, rows: Int[Array, " chains"], positions: dict, old: Centering, new: Centering
    ) -> dict[str, Array]:
        """Positions of chains in other coordinates."""
        if old is new:
            return positions

        def one(number: Array, v: dict[str, Array]) -> dict[str, Array]:
            problem = self._of(number)
            return problem.displace(program, problem.place(program, v, old)[0], new)

        return jax.vmap(one)(rows, positions)

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

    def _adapted(
        self, sizes: StepSizes | None, acceptance: Float[Array, " chains"], pace: Float[Array, ""]
    ) -> StepSizes | None:
        wanted = self.recipe.chain.kernel.wanted_acceptance
        if sizes is None or wanted is None:
            return sizes
        return self.recipe.adaptation.update(sizes, jnp.full_like(acceptance, ONE), acceptance, wanted, pace)


def _running(
    variances: dict[str, Array] | None, positions: dict[str, Array], pace: Float[Array, ""]
) -> dict[str, Array] | None:
    """Running means of the variance over chains."""
    if variances is None:
        return None
    seen = jax.tree.map(lambda leaf: jnp.var(leaf, axis=0, ddof=1), positions)
    return optax.incremental_update(seen, variances, (1 - MEMORY) * pace)
