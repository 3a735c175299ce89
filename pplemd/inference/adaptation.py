"""Step sizes that tune themselves: by acceptance, for each range of sigma, while a student is trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from pplemd.errors import RecipeError
from pplemd.keys import named


class StepSizes(eqx.Module):
    """Step sizes of the E-step's kernel by bin of log sigma, on their way to a wanted acceptance.

    Attributes:
        log_size: log h of each bin.
        acceptance: running mean of each bin's acceptance.
    """

    log_size: Float[Array, " bins"]
    acceptance: Float[Array, " bins"]


class Adaptation(eqx.Module):
    """Robbins-Monro steps on log h: log h <- log h + rate (acceptance - wanted), a bin at a time.

    The gain does not decay: the target moves as the student does, and its chains start anew; those of fits go on from
    where they adapted, and slow it down (`update`'s pace). Chains of one step share their bin's h, which is that of the
    steps before: within a chain it is constant. Of latents it is scaled by the Jacobian at a draw of the prior that is
    not the chain's own (`jacobian_scale`), so that it does not depend on where the chain starts.

    Source: Andrieu and Thoms 2008, equation 20, per range of sigma.

    Attributes:
        bins: how many ranges of log sigma.
        low: lower end of the ranges, in data units; sigmas below share the first.
        high: upper end; sigmas above share the last.
        initial: h at the start (u is standard normal a priori).
        rate: gain of one EM step.
    """

    bins: int = eqx.field(static=True, default=8)
    low: float = eqx.field(static=True, default=0.02)
    high: float = eqx.field(static=True, default=20.0)
    initial: float = eqx.field(static=True, default=0.5)
    rate: float = eqx.field(static=True, default=0.1)

    def __check_init__(self):
        if self.bins < 1 or not 0 < self.low < self.high or self.initial <= 0 or self.rate <= 0:
            raise RecipeError(
                "an adaptation needs bins >= 1, 0 < low < high, initial > 0 and rate > 0; found "
                f"bins={self.bins}, low={self.low}, high={self.high}, initial={self.initial}, rate={self.rate}."
            )

    def start(self, wanted: float) -> StepSizes:
        """Step sizes before the first step."""
        real = jnp.result_type(float)  # said, so that the first state has the type of the next: one compilation
        return StepSizes(jnp.full(self.bins, jnp.log(self.initial), real), jnp.full(self.bins, wanted, real))

    def bin_of(self, sigma: Float[Array, "*batch"]) -> Int[Array, "*batch"]:
        """The range that a sigma lies in."""
        place = jnp.log(sigma / self.low) / jnp.log(self.high / self.low) * self.bins
        return jnp.clip(place.astype(jnp.int32), 0, self.bins - 1)

    @property
    def middles(self) -> tuple[float, ...]:
        """The sigma in the middle of each range, by its logarithm."""
        ratio = self.high / self.low
        return tuple(self.low * ratio ** ((number + 0.5) / self.bins) for number in range(self.bins))

    def step_size(self, sizes: StepSizes, sigma: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """H for each sigma."""
        return jnp.exp(sizes.log_size)[self.bin_of(sigma)]

    def update(
        self,
        sizes: StepSizes,
        sigma: Float[Array, " batch"],
        acceptance: Float[Array, " batch"],
        wanted: float,
        pace: Float[Array, ""] | float = 1.0,
    ) -> StepSizes:
        """Step sizes after chains at these sigmas had these mean acceptances; NaN counts as 0.

        A bin's gain is that of its chains, at most `rate`: one that saw few moves little, one that saw none stays.
        All gains are multiplied by `pace`, which has to decay where chains go on from where they adapted.
        """
        place = self.bin_of(sigma)
        count = jnp.zeros(self.bins).at[place].add(1.0)
        total = jnp.zeros(self.bins).at[place].add(jnp.nan_to_num(acceptance))
        mean = jnp.where(count > 0, total / jnp.maximum(count, 1.0), sizes.acceptance)
        gain = pace * self.rate * jnp.minimum(1.0, count / 4)  # the mean of 4 acceptances errs by less than .25
        log_size = jnp.clip(sizes.log_size + gain * (mean - wanted), jnp.log(1e-4), jnp.log(10.0))
        return StepSizes(log_size, sizes.acceptance + gain * (mean - sizes.acceptance))


def jacobian_scale(push, u: PyTree, sigma: Float[Array, ""], key) -> PyTree:
    """Steps of a push's arguments beside that of the noise: (1 + |J|^2 / sigma^2)^(-1/2) each, by one pull-back.

    u's prior has precision 1, and x_sigma = T(u) + sigma eps informs of u with precision J^T J / sigma^2; |J|^2 is the
    mean of its diagonal over a site's n numbers, |J^T v|^2 / n for one standard normal v.

    Args:
        push: T, from a pytree to x.
        u: where to look; a leaf for each site.
        sigma: noise level.
        key: a key for the probe.

    Returns:
        A number for each site, of u's structure: sites that move x much take short steps.
    """
    x, pull_back = jax.vjp(push, u)
    (pulled,) = pull_back(jax.random.normal(named(key, "probe"), x.shape, x.dtype))
    return jax.tree.map(lambda leaf: jax.lax.rsqrt(1 + jnp.mean(leaf**2) / sigma**2), pulled)
