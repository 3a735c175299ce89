"""Long chains of the posterior of a fitted program's latents: of all data, or of some rows side by side."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.diagnosis import Chains
from pplemd.dsl import Centering, Problem, check_probability
from pplemd.inference import (
    AbstractKernel,
    Marginal,
    Potential,
    Run,
    TiltedTarget,
    annealed_marginal,
    climbed,
    importance_marginal,
    long_chains,
    normal_proposal,
    transformed,
)
from pplemd.parameterization import Pilot, Placement
from pplemd.tasks.results import Fitted

Values = dict[str, Array]
CHECKED = 16  # draws at which probabilities are looked at
ANNEALED, LEVELS = 64, 500  # draws and transitions of annealed importance sampling, where no normal law will do


class Drawn(eqx.Module):
    """Chains of a posterior.

    Attributes:
        run: the chains, in the coordinates that they moved in.
        u: the same draws in base coordinates; leading dimensions chain and draw.
        values: the latents, by site; leading dimensions chain and draw, and row where rows are looked at.
    """

    run: Run
    u: Values
    values: Values

    def record(self) -> Chains:
        """For diagnosis: the latents' own values, whatever the coordinates."""
        run = self.run
        return Chains(
            None,
            {name: np.asarray(value) for name, value in self.values.items()},
            np.asarray(run.acceptance),
            np.asarray(run.diverging),
            np.asarray(run.energy),
            max(round(float(np.mean(run.gradients))), 1),
            run.adjusted,
        )


class Posteriors(eqx.Module):
    """The posterior of a fitted program's latents.

    Attributes:
        fitted: the program.
        rows: which rows of its plate, each with latents of its own; None for all data together.
    """

    fitted: Fitted
    rows: Int[Array, " rows"] | None

    def law(self, lam: Centering) -> TiltedTarget:
        """The joint law of the latents of all rows, in the coordinates of lam."""
        return transformed(self._base, lambda v: self._place(v, lam))

    @property
    def _base(self) -> TiltedTarget:
        """The same in base coordinates."""
        program = self.fitted.program
        unravel = ravel_pytree(self._each(lambda of: _zeros(of)))[1]

        def energy(x: Array) -> Array:
            return -jnp.sum(self._each(lambda of, u: of.log_likelihood(program, u), unravel(x)))

        def log_base(u: Values) -> Array:
            return jnp.sum(self._each(lambda of, one: of.log_base(program, one), u))

        return TiltedTarget(lambda u: ravel_pytree(u)[0], Potential(energy), log_base)

    @eqx.filter_jit
    def chains(self, key: PRNGKeyArray, lam: Centering, kernel: AbstractKernel, wanted: tuple[int, int, int]) -> Drawn:
        """Long chains from where draws of the prior climb to, in the coordinates of lam.

        Args:
            key: a key.
            lam: whose coordinates.
            kernel: the transition.
            wanted: how many chains, warm-up and kept draws.
        """
        count, warm_up, draws = wanted
        key_start, key_run = jax.random.split(key)
        starts = jax.vmap(lambda k: self._start(k, lam))(jax.random.split(key_start, count))
        run = long_chains(key_run, self.law(lam), kernel, starts, warm_up, draws)
        u = jax.vmap(jax.vmap(lambda v: self._place(v, lam)[0]))(run.positions)
        return Drawn(run, u, jax.vmap(jax.vmap(self.values))(u))

    def values(self, u: Values) -> Values:
        """The latents' values at base coordinates; rows in the place of the plate's axis."""
        values = self._each(lambda of, one: of.latents(self.fitted.program, one), u)
        if self.rows is None or self.fitted.problem.single:
            return values
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), values)

    @eqx.filter_jit
    def pilot(self, drawn: Drawn) -> tuple[Placement, Pilot]:
        """Draws of chains with their scores, for a policy; rows are groups of their own."""
        placement = Placement(self.fitted.problem, self.fitted.program)
        u = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), drawn.u)
        score = jax.vmap(self._base_score)(u)
        if self.rows is None:
            return placement, Pilot(u, score)
        count = jax.tree.leaves(u)[0].shape[0]

        def by_row(leaf: Array) -> Array:
            return jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])

        u, score = jax.tree.map(by_row, (u, score))
        return placement, Pilot(u, score, rows=jnp.repeat(self.rows, count), groups=self.rows.shape[0])

    @eqx.filter_jit
    def marginal(self, key: PRNGKeyArray, u: Values, draws: int) -> Marginal:
        """An estimate of log p(y), of each row where rows are looked at, from draws of the posterior.

        Importance sampling from a normal law of the draws; annealed, from the prior, of rows, whose posteriors under a
        network may be far from normal, and where there are too few draws for such a law.

        Args:
            key: a key.
            u: draws of the posterior in base coordinates, a leading dimension draw.
            draws: of the estimate.
        """
        program = self.fitted.program
        count = jax.tree.leaves(u)[0].shape[0]

        def one(of: Problem, own: Values, own_key: PRNGKeyArray) -> Marginal:
            size = sum(int(np.prod(site.base_shape)) for site in of.sites)
            if self.rows is not None or count < 2 * size:
                return annealed_marginal(own_key, of, program, min(draws, ANNEALED), LEVELS)
            # of a normal law of d numbers, 1 + e times its s.d. gives weights of variance exp(2 e^2 d) - 1: here .65
            proposal = normal_proposal(own, 1.0 + min(0.2, 0.5 / size**0.5))
            return importance_marginal(own_key, of, program, proposal, draws)

        if self.rows is None:
            return one(self.fitted.problem, u, key)
        by_row = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), u)
        return self._each(one, by_row, jax.random.split(key, self.rows.shape[0]))

    def check(self, u: Values) -> None:
        """See that discrete data have probabilities.

        Args:
            u: draws in base coordinates, a leading dimension draw; some of them are looked at.

        Raises:
            ProgramError: a log-probability above 0.
        """
        discrete = [one.name for one in self.fitted.problem.observed if one.support.discrete]
        if discrete:
            terms = self._terms(jax.tree.map(lambda leaf: leaf[:: -(-len(leaf) // CHECKED)], u))
            for name in discrete:
                check_probability(terms[name], name)

    @eqx.filter_jit
    def _terms(self, u: Values) -> Values:
        program = self.fitted.program
        return jax.vmap(lambda one: self._each(lambda of, own: of.log_likelihoods(program, own), one))(u)

    def _base_score(self, u: Values) -> Values:
        program = self.fitted.program

        def log_joint(one: Values) -> Array:
            return jnp.sum(self._each(lambda of, v: of.log_likelihood(program, v) + of.log_base(program, v), one))

        return jax.grad(log_joint)(u)

    def _start(self, key: PRNGKeyArray, lam: Centering) -> Values:
        program, count = self.fitted.program, 1 if self.rows is None else self.rows.shape[0]
        key_draw, key_climb = jax.random.split(key)
        keys = key_draw if self.rows is None else jax.random.split(key_draw, count)
        drawn = self._each(lambda of, own_key: of.draw(own_key, program), keys)
        camp = climbed(key_climb, self._base, drawn)  # in coordinates in which what moves together is one number
        return self._each(lambda of, u: of.from_base(program, u, lam), camp.position)

    def _place(self, v: Values, lam: Centering) -> tuple[Values, Float[Array, ""]]:
        u, log_det = self._each(lambda of, one: of.to_base(self.fitted.program, one, lam), v)
        return u, jnp.sum(log_det)

    def _each(self, function: Callable[..., Any], *given: Any) -> Any:
        """A function of the problem, or of each row's problem and that row's part of what is given."""
        problem = self.fitted.problem
        if self.rows is None:
            return function(problem, *given)
        name = problem.plates[0].name
        return jax.vmap(lambda row, *own: function(problem.at({name: row[None]}), *own))(self.rows, *given)


def _zeros(of: Problem) -> Values:
    return {site.name: jnp.zeros(site.base_shape, site.dtype) for site in of.sites}


def posteriors(fitted: Fitted, rows: int) -> Posteriors:
    """The posterior of all data; where each row has latents of its own, of so many rows, evenly spread."""
    if not fitted.by_row:
        return Posteriors(fitted, None)
    size = fitted.problem.plates[0].size
    return Posteriors(fitted, jnp.asarray(np.linspace(0, size - 1, min(rows, size)).astype(np.int32)))
