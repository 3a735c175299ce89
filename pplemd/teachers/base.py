"""What a teacher is: the score of its law at every noise level, and what else it may know."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.diffusion import score_from_denoised


class AbstractTeacher(eqx.Module):
    """A prior q(x), known through the score of its noised law q_sigma, x_sigma = x + sigma * eps.

    Attributes:
        shape: the shape of one x.
        classes: how many class labels condition the law, or None.
    """

    if TYPE_CHECKING:  # mypy takes an AbstractVar for a field, which no property may implement

        @property
        def shape(self) -> tuple[int, ...]: ...  # noqa: D102
        @property
        def classes(self) -> int | None: ...  # noqa: D102
    else:
        shape: eqx.AbstractVar[tuple[int, ...]]
        classes: eqx.AbstractVar[int | None]

    @abstractmethod
    def score(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        label: Int[Array, ""] | None = None,
    ) -> Float[Array, "..."]:
        """Gradient of log q_sigma(x_sigma | label) in x_sigma, for one x_sigma of the teacher's shape."""


class AbstractExactTeacher(AbstractTeacher):
    """A teacher whose noised densities and own draws are known in closed form."""

    @abstractmethod
    def log_density(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        label: Int[Array, ""] | None = None,
    ) -> Float[Array, ""]:
        """Log q_sigma(x_sigma | label), normalised, for one x_sigma."""

    @abstractmethod
    def draw(self, key: PRNGKeyArray, label: Int[Array, ""] | None = None) -> Float[Array, "..."]:
        """One noiseless draw of q."""


class AbstractDenoiser(AbstractTeacher):
    """A teacher that is a denoiser: D(x_sigma, sigma) = E[x | x_sigma]."""

    @abstractmethod
    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        label: Int[Array, ""] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """Posterior mean of x for one x_sigma; a key is the randomness of training (dropout), None otherwise."""

    def score(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        label: Int[Array, ""] | None = None,
    ) -> Float[Array, "..."]:
        """(D - x_sigma) / sigma^2, by Tweedie's formula."""
        return score_from_denoised(self.denoise(x_sigma, sigma, label), x_sigma, sigma)
