"""The typed value of a program: its sites, and its densities and maps as pure functions."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree, Scalar
from numpyro.distributions import Distribution

from pplemd.dsl import transport
from pplemd.dsl.graph import Graph
from pplemd.errors import ProgramError

Label = Int[Array, ""] | int | None
Values = Mapping[str, Float[Array, "..."]]


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


class Output(eqx.Module):
    """The generated value of a program.

    Attributes:
        name: unique in the program.
        shape: of one sample, the teacher's.
        dtype: of one sample.
        parents: latents that it depends on directly.
        labelled: it depends on the label directly.
    """

    name: str = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    parents: tuple[str, ...] = eqx.field(static=True)
    labelled: bool = eqx.field(static=True)


class Problem(eqx.Module):
    """A traced program. Holds no arrays: every function takes the program, so that an EMA of it serves as well.

    The functions evaluate the traced jaxpr for one sample, with no effect handler; they can be jitted, vmapped and
    differentiated. Base coordinates u and latents z are dictionaries by site name. The label is an int32 scalar
    for a class-conditional problem and None for any other.

    Attributes:
        name: class of the program.
        sites: its latents, in order of declaration.
        output: its generated value.
        classes: number of classes; None without labels.
        graph: the traced program.
    """

    name: str = eqx.field(static=True)
    sites: tuple[Site, ...]
    output: Output
    classes: int | None = eqx.field(static=True)
    graph: Graph = eqx.field(static=True)

    def draw(self, key: Key[Array, ""], program: PyTree, label: Label = None) -> dict[str, Float[Array, "..."]]:
        """Draw base coordinates of one sample: u ~ N(0, I), or the unconstrained value of a draw from the prior."""
        keys = {site.name: jax.random.fold_in(key, index) for index, site in enumerate(self.sites)}
        coordinates = {
            site.name: jax.random.normal(keys[site.name], site.base_shape, site.dtype)
            for site in self.sites
            if site.base == "normal"
        }

        def fill(index: int, distribution: Distribution) -> Array:
            name = self.sites[index].name
            if name not in coordinates:
                coordinates[name] = transport.draw(keys[name], distribution)
            return transport.push(distribution, coordinates[name])

        # only what a site without a normal base depends on has to be evaluated
        needed = max((index + 1 for index, site in enumerate(self.sites) if site.base == "prior"), default=0)
        self._walk(program, label, fill, needed)
        return {site.name: coordinates[site.name] for site in self.sites}

    def log_base(self, program: PyTree, u: Values, label: Label = None) -> Float[Scalar, ""]:
        """Return the log-density of base coordinates, constants included."""
        return self._sum(program, u, label, transport.log_base, transport.push)

    def latents(self, program: PyTree, u: Values, label: Label = None) -> dict[str, Float[Array, "..."]]:
        """Return the values z = T(u) of the latents."""
        values: dict[str, Array] = {}

        def fill(index: int, distribution: Distribution) -> Array:
            name = self.sites[index].name
            values[name] = transport.push(distribution, u[name])
            return values[name]

        self._check(u, "base_shape")
        self._walk(program, label, fill, len(self.sites))
        return values

    def generate(self, program: PyTree, u: Values, label: Label = None) -> Float[Array, "..."]:
        """Return the generated value x = g(T(u)), without noise."""
        self._check(u, "base_shape")
        value = self._walk(program, label, lambda i, d: transport.push(d, u[self.sites[i].name]), None)
        assert value is not None
        return value

    def log_prior(self, program: PyTree, latents: Values, label: Label = None) -> Float[Scalar, ""]:
        """Return log p(z) = sum over sites of log p(z_i | parents), in the model's own coordinates."""
        return self._sum(program, latents, label, transport.log_prior, lambda _, z: z)

    def _sum(
        self,
        program: PyTree,
        given: Values,
        label: Label,
        term: Callable[[Distribution, Array], Array],
        value: Callable[[Distribution, Array], Array],
    ) -> Array:
        terms: list[Array] = []

        def fill(index: int, distribution: Distribution) -> Array:
            coordinate = given[self.sites[index].name]
            terms.append(term(distribution, coordinate))
            return value(distribution, coordinate)

        self._check(given, "base_shape" if term is transport.log_base else "shape")
        self._walk(program, label, fill, len(self.sites))
        return jnp.sum(jnp.stack(terms))

    def _walk(self, program: PyTree, label: Label, fill: Any, latents: int | None) -> Array | None:
        if (label is None) != (self.classes is None):
            expected = "no label (label=None)" if self.classes is None else f"a label in 0..{self.classes - 1}"
            raise ProgramError(
                f"{self.name} was evaluated with label {label!r}; expected {expected}, as it was traced with "
                f"classes={self.classes}. Pass the label of each sample, or trace it again with other classes."
            )
        return self.graph.walk(program, label, fill, latents)

    def _check(self, given: Values, which: str) -> None:
        found = {name: jnp.shape(value) for name, value in given.items()}
        expected = {site.name: getattr(site, which) for site in self.sites}
        if found != expected:
            raise ProgramError(
                f"{self.name} was evaluated at sites of shape {found}; expected {expected}, for one sample. "
                "Batch with jax.vmap."
            )
