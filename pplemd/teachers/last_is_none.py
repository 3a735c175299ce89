"""A denoiser one of whose classes stands for no class."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDenoiser
from pplemd.teachers.wrapper import AbstractWrapper, told_classes


class LastIsNone(AbstractWrapper):
    """A denoiser whose last class was taught as no class: without a label, or with -1, it is told that one.

    Attributes:
        denoiser: of a law with two classes or more.
    """

    denoiser: AbstractDenoiser

    def __check_init__(self) -> None:
        if (self.denoiser.classes or 0) < 2:
            raise TeacherError(
                f"LastIsNone needs a denoiser with 2 classes or more; found a {type(self.denoiser).__name__} with "
                f"classes={self.denoiser.classes}. {told_classes(self.denoiser)}, that of no class counted; or leave "
                "LastIsNone out, where no class is the lack of a label."
            )

    @property
    def classes(self) -> int | None:
        """The number of labels: one fewer than the denoiser's."""
        return (self.denoiser.classes or 0) - 1

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        label: Int[Array, ""] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """Posterior mean of x, told the last class where there is no label."""
        none = (self.denoiser.classes or 0) - 1
        told = jnp.asarray(none) if label is None else jnp.where((label >= 0) & (label < none), label, none)
        return self.denoiser.denoise(x_sigma, sigma, told, key)
