"""What a program declares, as records: latents, observations, plates, and the generated value."""

from collections.abc import Mapping, Sequence
from typing import Literal

import equinox as eqx
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Key, PyTree
from numpyro.distributions import Distribution

from pplemd.dsl.support import Support
from pplemd.dsl.transport import sample
from pplemd.errors import ProgramError

Centered = float | tuple[float, ...] | Literal["auto"]  # a number, one for each element in order, or left to be chosen


class Site(eqx.Module):
    """A latent of a program.

    Attributes:
        name: unique in the program.
        shape: of its value.
        dtype: of its value.
        base_shape: of its base coordinates u.
        family: class of its distribution, without wrappers: "Normal".
        parents: latents that its parameters depend on directly (not through another latent).
        learned: its parameters depend on a trained array of the program directly.
        conditioned: its parameters depend on the condition directly.
        eligible: it may be (re)parameterized: a location-scale family with real support, of numbers or of vectors, or a
            transform of one, whose location or scale depends on another latent or on a trained array.
        base: "normal" where its value is a push of u ~ N(0, I), "prior" where u is its unconstrained value.
        plates: those that it was declared in, the innermost last.
        centered: as declared; "auto" where it is left to be chosen, or cannot be.
    """

    name: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: DTypeLike = eqx.field(static=True)
    base_shape: tuple[int, ...] = eqx.field(static=True)
    family: str = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    learned: bool = eqx.field(static=True)
    conditioned: bool = eqx.field(static=True)
    eligible: bool = eqx.field(static=True)
    base: Literal["normal", "prior"] = eqx.field(static=True)
    plates: tuple[str, ...] = eqx.field(static=True, default=())
    centered: Centered = eqx.field(static=True, default="auto")

    @property
    def free(self) -> bool:
        """Whether its lambda is to be chosen."""
        return self.eligible and self.centered == "auto"


class Observed(eqx.Module):
    """An observation of a program.

    Attributes:
        name: unique in the program.
        shape: of its data.
        family: class of its distribution, without wrappers.
        parents: latents that its parameters depend on directly.
        learned: its parameters depend on a trained array of the program directly.
        plates: those that it was declared in, the innermost last.
        place: where it was declared.
        support: where its data may lie, as far as it is known before anything is computed.
    """

    name: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    family: str = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    learned: bool = eqx.field(static=True)
    plates: tuple[str, ...] = eqx.field(static=True)
    place: str = eqx.field(static=True)
    support: Support = eqx.field(static=True)

    def check(self, data: PyTree) -> None:
        """Raise where its law cannot have given some of the data.

        Raises:
            ProgramError: where it cannot; traced data are taken as they are.
        """
        fault = self.support.fault(data)
        if fault is not None:
            raise ProgramError(f"{self.place}: observation {self.name!r} {fault}")

    def draw(self, key: Key[Array, ""], distribution: Distribution, like: PyTree) -> Array:
        """Draw data of its law, real ones or whole numbers of the type that was observed.

        Raises:
            ProgramError: where the law cannot be drawn from.
        """
        try:
            value = sample(key, distribution)
            return value.astype(like.dtype) if distribution.is_discrete else value  # real ones may be given as integers
        except Exception as error:  # of NumPyro's samplers, and of laws of the user's own
            said = (str(error).strip() or "(no message)").split("\n", 1)[0].rstrip(".")
            raise ProgramError(
                f"{self.place}: data of observation {self.name!r} cannot be simulated: {self.family} raised "
                f"{type(error).__name__}: {said}; expected a law that can be drawn from. A fit needs none; for draws, "
                "look at the types of its parameters: totals and counts are integers."
            ) from error


def check_given(program: str, observed: Sequence[Observed], data: Mapping[str, ArrayLike]) -> None:
    """Raise unless data are of observations, of their shapes, and lie where their laws have a density.

    Args:
        program: what it is called.
        observed: its observations.
        data: by name.

    Raises:
        ProgramError: where they are not.
    """
    shapes = {one.name: one.shape for one in observed}
    found = {name: np.shape(one) for name, one in data.items()}
    if not found.items() <= shapes.items():
        raise ProgramError(
            f"{program} was given data of shapes {found}; expected some of its observations, {shapes}, of one sample. "
            "Give them by name, and batch with jax.vmap."
        )
    for one in observed:
        if one.name in data:
            one.check(data[one.name])


class Plate(eqx.Module):
    """Independent rows of a program.

    Attributes:
        name: unique in the program.
        size: how many rows there are.
        rows: how many are looked at together.
    """

    name: str = eqx.field(static=True)
    size: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)


class Output(eqx.Module):
    """The generated value of a program.

    Attributes:
        name: unique in the program.
        shape: of one sample, the teacher's.
        dtype: of one sample.
        parents: latents that it depends on directly.
        conditioned: it depends on the condition directly.
        centered: as declared: of x with noise, given the latents; "auto" where it is left to be chosen.
    """

    name: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: DTypeLike = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    conditioned: bool = eqx.field(static=True)
    centered: Centered = eqx.field(static=True, default="auto")
