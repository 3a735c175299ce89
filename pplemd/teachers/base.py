"""What a teacher is: the score of its law at every noise level, and what else it may know."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.conditions import AbstractCondition, Condition, classes_of
from pplemd.diffusion import score_from_denoised
from pplemd.teachers.noised import AbstractNoised


class AbstractTeacher(eqx.Module):
    """A prior q(x), known through the score of its noised law q_sigma, x_sigma = x + sigma * eps.

    Attributes:
        shape: the shape of one x.
        condition: the form of what conditions the law, or None.
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
        """How many classes condition the law, where what conditions it is a class."""
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

    The E-step's law wants grad log q_sigma; `noised` stands for it. With `Unnoised` the E-step samples q itself, and
    the student minimises KL(q || p_theta,sigma), which is KL(q || p_theta) only as sigma -> 0; `Quadratic`, the
    default, removes what it can of that bias. Either way let sigma slide towards 0 (`em.CoarseToFine`): at sigma =
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
