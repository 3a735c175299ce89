"""A denoiser whose last class stands for no class."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.conditions import AbstractCondition, Classes, Condition
from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDenoiser
from pplemd.teachers.wrapper import AbstractWrapper, with_classes


class NullClassDenoiser(AbstractWrapper):
    """A denoiser whose last class was taught as no class: that one stands for None, and for -1.

    Attributes:
        denoiser: of a law with two classes or more.
    """

    denoiser: AbstractDenoiser

    def __check_init__(self) -> None:
        if (self.denoiser.classes or 0) < 2:
            raise TeacherError(
                f"NullClassDenoiser needs a denoiser with 2 classes or more; found a {type(self.denoiser).__name__} "
                f"with classes={self.denoiser.classes}. {with_classes(self.denoiser)}, that of no class counted; or "
                "leave NullClassDenoiser out, where no class is the lack of a condition."
            )

    @property
    def condition(self) -> AbstractCondition | None:
        """Classes: one fewer than the denoiser's."""
        return Classes((self.denoiser.classes or 0) - 1)

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """Posterior mean of x, of the last class where there is none."""
        null = (self.denoiser.classes or 0) - 1
        label = jnp.asarray(null if condition is None else condition)
        return self.denoiser.denoise(x_sigma, sigma, jnp.where((label >= 0) & (label < null), label, null), key)
