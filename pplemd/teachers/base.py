"""What a teacher is: the score of its distribution at every noise level, and what else it may know."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.conditions import AbstractCondition, Condition, classes_of
from pplemd.diffusion import score_from_denoised

LogDensity = Callable[[Float[Array, "..."]], Float[Array, ""]]


class AbstractNoised(eqx.Module):
    """A rule that takes log q and gives a stand-in for the gradient of log q_sigma."""

    @abstractmethod
    def __call__(self, log_q: LogDensity, x_sigma: Float[Array, "..."], sigma: Float[Array, ""]) -> Float[Array, "..."]:
        """The score that stands for that of q_sigma.

        Args:
            log_q: log q of one x, up to a constant.
            x_sigma: one point.
            sigma: noise level, in data units.
        """


class Unnoised(AbstractNoised):
    """The score of q itself, whatever sigma: grad log q(x_sigma).

    The E-step then samples q in place of q_sigma, and the student minimises KL(q || p_theta,sigma): at a sigma that
    does not go to 0 its noised samples match q, so that its own lack the variance sigma^2. As sigma -> 0 nothing is
    lost. One gradient.
    """

    def __call__(self, log_q: LogDensity, x_sigma: Float[Array, "..."], sigma: Float[Array, ""]) -> Float[Array, "..."]:
        """Grad log q at x_sigma."""
        return jax.grad(log_q)(x_sigma)


class Quadratic(AbstractNoised):
    """The score of q_sigma by Newton steps towards the mode of q(x) N(x_sigma; x, sigma^2 I), each a local quadratic.

    With H minus the Hessian of log q, and |H| the same with the absolute values of its eigenvalues, one step gives

        (I + sigma^2 |H|)^-1 grad log q(x_sigma)

    exact for a Gaussian at every sigma. Where log q is concave the heat equation has, with s the score of q,

        score of q_sigma = s - sigma^2 H s - (sigma^2 / 2) grad tr(H) + O(sigma^4)

    of which this lacks the third derivatives alone. Where it is not concave the quadratic has no noised density; a step
    along negative curvature is then as short as one along positive curvature. More steps evaluate the score nearer to
    the mean of x given x_sigma. On mixtures of Gaussians (docs/benchmarks/teachers.md) the error of two steps is 0 to
    four tenths of that of `Unnoised`; in a funnel, where the score of q reaches 1e5, it stays of order 10.

    A step costs a gradient, as many Hessian-vector products as x has numbers, and an eigendecomposition: for x of some
    hundred numbers or more, take `Unnoised` and a small sigma.

    Source: arXiv:1406.2572, equation 13 (saddle-free Newton), for the absolute values.

    Attributes:
        steps: Newton steps.
    """

    steps: int = eqx.field(static=True, default=2)

    def __call__(self, log_q: LogDensity, x_sigma: Float[Array, "..."], sigma: Float[Array, ""]) -> Float[Array, "..."]:
        """The score at the point that the steps end at."""
        start = x_sigma.reshape(-1)

        def flat(x: Array) -> Array:
            return log_q(x.reshape(x_sigma.shape))

        def step(_: Int[Array, ""], pull: Array) -> Array:
            x = start + sigma**2 * pull
            values, vectors = jnp.linalg.eigh(-jax.hessian(flat)(x))
            along = vectors.T @ (jax.grad(flat)(x) - pull)
            return pull + vectors @ (along / (1 + sigma**2 * jnp.abs(values)))

        return jax.lax.fori_loop(0, self.steps, step, jnp.zeros_like(start)).reshape(x_sigma.shape)


class AbstractTeacher(eqx.Module):
    """A prior q(x), known through the score of its noised distribution q_sigma, x_sigma = x + sigma * eps.

    Attributes:
        shape: the shape of one x.
        condition: the form of what conditions the distribution, or None.
    """

    if TYPE_CHECKING:  # mypy takes an AbstractVar for a field, which no property may implement

        @property
        def shape(self) -> tuple[int, ...]: ...  # noqa: D102
        @property
        def condition(self) -> AbstractCondition | None: ...  # noqa: D102
    else:
        shape: eqx.AbstractVar[tuple[int, ...]]
        condition: eqx.AbstractVar[AbstractCondition | None]

    @property
    def classes(self) -> int | None:
        """How many classes condition the distribution, where what conditions it is a class."""
        return classes_of(self.condition)

    @abstractmethod
    def score(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
    ) -> Float[Array, "..."]:
        """Gradient of log q_sigma(x_sigma | condition) in x_sigma, for one x_sigma of the teacher's shape."""


class AbstractDrawnTeacher(AbstractTeacher):
    """A teacher that draws of itself, without a chain or a reverse diffusion."""

    @abstractmethod
    def draw(self, key: PRNGKeyArray, condition: Condition = None) -> Float[Array, "..."]:
        """One noiseless draw of q."""


class AbstractExactTeacher(AbstractDrawnTeacher):
    """A teacher whose noised densities and own draws are known in closed form."""

    @abstractmethod
    def log_density(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
    ) -> Float[Array, ""]:
        """Log q_sigma(x_sigma | condition), normalised, for one x_sigma."""


class AbstractDensity(AbstractTeacher):
    """A teacher whose density q is known without noise, and whose noised score is not known.

    The E-step's target wants grad log q_sigma; `noised` stands for it. With `Unnoised` the E-step samples q
    itself, and the student minimises KL(q || p_theta,sigma), which is KL(q || p_theta) only as sigma -> 0; `Quadratic`,
    the default, removes what it can of that bias. Either way let sigma slide towards 0 (`em.CoarseToFine`): at sigma =
    0.1 s.d. the samples of the first lack half a percent of their s.d.

    Attributes:
        noised: what stands for the score of q_sigma.
    """

    if TYPE_CHECKING:  # as above

        @property
        def noised(self) -> AbstractNoised: ...  # noqa: D102
    else:
        noised: eqx.AbstractVar[AbstractNoised]

    @abstractmethod
    def log_q(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        """Log q of one noiseless x, up to a constant."""

    def score(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
    ) -> Float[Array, "..."]:
        """What `noised` makes of grad log q at x_sigma."""
        return self.noised(self.log_q, x_sigma, sigma)


class AbstractDenoiser(AbstractTeacher):
    """A teacher that is a denoiser: D(x_sigma, sigma) = E[x | x_sigma]."""

    @abstractmethod
    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """Posterior mean of x for one x_sigma; a key is the randomness of training (dropout), None otherwise."""

    def score(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
    ) -> Float[Array, "..."]:
        """(D - x_sigma) / sigma^2, by Tweedie's formula."""
        return score_from_denoised(self.denoise(x_sigma, sigma, condition), x_sigma, sigma)
