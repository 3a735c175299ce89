"""Whether a sampler of posteriors is right: simulation-based calibration."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.dsl import Centering, Problem, Program
from pplemd.errors import ProgramError, RecipeError
from pplemd.inference.kernels import NUTS, AbstractKernel
from pplemd.inference.long_chains import climbed, long_chains
from pplemd.inference.target import posterior_target, transformed

Values = dict[str, Array]


# (key, problem, program, start, draws) -> base coordinates by site, (draw, ...); the start is a draw of the prior
Sampler = Callable[[PRNGKeyArray, Problem, Program, Values, int], Values]


class ChainSampler(eqx.Module):
    """One of pplemd's own long chains, thinned.

    Attributes:
        kernel: the transition.
        lam: in whose coordinates it moves; None for base coordinates.
        warm_up: transitions that adapt.
        thin: transitions between kept draws; so many that those are nearly independent.
    """

    kernel: AbstractKernel = NUTS()
    lam: Centering | None = None
    warm_up: int = eqx.field(static=True, default=200)
    thin: int = eqx.field(static=True, default=10)

    def __call__(self, key: PRNGKeyArray, problem: Problem, program: Program, start: Values, draws: int) -> Values:
        """Draw from the posterior of the problem's data."""
        lam = Centering({}, {}) if self.lam is None else self.lam
        base = posterior_target(problem, program)
        target = transformed(base, lambda v: problem.to_base(program, v, lam))
        begun = problem.from_base(program, climbed(key, base, start).position, lam)
        starts = jax.tree.map(lambda leaf: leaf[None], begun)
        run = long_chains(key, target, self.kernel, starts, self.warm_up, draws * self.thin)
        kept = jax.tree.map(lambda leaf: leaf[0, self.thin - 1 :: self.thin], run.positions)
        return jax.vmap(lambda v: problem.to_base(program, v, lam)[0])(kept)


class Calibration(eqx.Module):
    """Ranks of true latents among draws of their posterior: uniform on 0 to `draws` where the sampler is right.

    Attributes:
        ranks: by site, how many draws lie below the true value, by replicate and element.
        draws: of each replicate.
    """

    ranks: dict[str, Int[Array, "replicate ..."]]
    draws: int = eqx.field(static=True)

    def histograms(self, bins: int = 8) -> dict[str, Int[np.ndarray, "bin ..."]]:
        """Counts of ranks, by site, in bins of equal shares.

        Raises:
            RecipeError: where draws + 1 is no multiple of the bins.
        """
        if (self.draws + 1) % bins:
            raise RecipeError(
                f"ranks from 0 to {self.draws} do not fill {bins} equal bins; expected a divisor of {self.draws + 1}. "
                "With 63 draws, 2, 4, 8, 16 and 32 bins will do."
            )
        wide = (self.draws + 1) // bins
        return {
            name: np.stack([np.sum(np.asarray(ranks) // wide == one, axis=0) for one in range(bins)])
            for name, ranks in self.ranks.items()
        }

    def p_values(self, bins: int = 8) -> dict[str, Float[Array, "..."]]:
        """Of a chi-square test for uniform ranks, by site and element; small where the sampler is wrong."""
        found = {}
        for name, counts in self.histograms(bins).items():
            even = counts.sum(axis=0) / bins
            statistic = ((counts - even) ** 2 / even).sum(axis=0)
            found[name] = gammaincc(0.5 * (bins - 1), jnp.asarray(0.5 * statistic, jnp.float32))
        return found

    def p_value(self, bins: int = 8) -> float:
        """The least p of all elements, times their number (Bonferroni), at most 1: one test of the whole."""
        every = jnp.concatenate([one.reshape(-1) for one in self.p_values(bins).values()])
        return min(1.0, float(jnp.min(every)) * every.size)


@eqx.filter_jit
def calibration(
    key: PRNGKeyArray,
    problem: Problem,
    program: Program,
    sampler: Sampler | None = None,
    replicates: int = 200,
    draws: int = 63,
) -> Calibration:
    """Draw latents from the prior, data given them, and latents from the posterior of those data; rank the first.

    The rank of a true latent among draws of its posterior is uniform if they are that. All replicates run side by side
    in one compilation. Draws that depend on each other make ranks pile up at both ends.

    Args:
        key: a key.
        problem: a traced program that observes data.
        program: its networks.
        sampler: of the posterior; NUTS in base coordinates by default.
        replicates: how many, 200 or more for a test with power.
        draws: of each posterior.

    Raises:
        ProgramError: where the program looks at some rows of a plate only.

    Source: Talts, Betancourt, Simpson, Vehtari & Gelman 2018, arXiv:1804.06788, algorithm 1.
    """
    partial = [plate.name for plate in problem.plates if plate.rows != plate.size]
    if partial:
        raise ProgramError(
            f"calibration simulates all data of a program; {problem.name} was traced to look at some rows of "
            f"{', '.join(partial)}. Trace it without rows=."
        )
    using = ChainSampler() if sampler is None else sampler

    def one(replicate_key: PRNGKeyArray) -> Values:
        key_true, key_data, key_start, key_run = jax.random.split(replicate_key, 4)
        true = problem.draw(key_true, program)
        seen = problem.given(problem.simulate(key_data, program, true))
        u = using(key_run, seen, program, problem.draw(key_start, program), draws)
        values = jax.vmap(lambda each: problem.latents(program, each))(u)
        truth = problem.latents(program, true)
        return jax.tree.map(lambda those, this: jnp.sum(those < this[None], axis=0), values, truth)

    return Calibration(jax.vmap(one)(jax.random.split(key, replicates)), draws)
