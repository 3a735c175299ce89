"""What a program declares, as records: latents, observations, plates, and the generated value."""

from typing import Any, Literal

import equinox as eqx

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
        labelled: its parameters depend on the label directly.
        eligible: it may be (re)parameterized: a location-scale family with real support, or a transform of one, whose
            loc or scale depends on another latent or on a trained array.
        base: "normal" where its value is a push of u ~ N(0, I), "prior" where u is its unconstrained value.
        plates: those that it was declared in, the innermost last.
        centered: as declared; "auto" where it is left to be chosen, or cannot be.
    """

    name: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    base_shape: tuple[int, ...] = eqx.field(static=True)
    family: str = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    learned: bool = eqx.field(static=True)
    labelled: bool = eqx.field(static=True)
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
    """

    name: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    family: str = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    learned: bool = eqx.field(static=True)
    plates: tuple[str, ...] = eqx.field(static=True, default=())


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
        labelled: it depends on the label directly.
        centered: as declared: of x with noise, given the latents; "auto" where it is left to be chosen.
    """

    name: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    labelled: bool = eqx.field(static=True)
    centered: Centered = eqx.field(static=True, default="auto")
