"""The typed value of a program: its sites, their centering, and its densities and maps as pure functions."""

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree, Scalar
from numpyro.distributions import Distribution

from pplemd.conditions import AbstractCondition, Condition, classes_of
from pplemd.dsl import transport
from pplemd.dsl.graph import Graph, Inputs
from pplemd.dsl.support import Support, bounded
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
        """Raise where its distribution cannot have given some of the data.

        Raises:
            ProgramError: where it cannot; traced data are taken as they are.
        """
        fault = self.support.fault(data)
        if fault is not None:
            raise ProgramError(f"{self.place}: observation {self.name!r} {fault}")

    def draw(self, key: Key[Array, ""], distribution: Distribution, like: PyTree) -> Array:
        """Draw data of its distribution, real ones or whole numbers of the type that was observed.

        Raises:
            ProgramError: where the distribution cannot be drawn from.
        """
        try:
            value = sample(key, distribution)
            return value.astype(like.dtype) if distribution.is_discrete else value  # real ones may be given as integers
        except Exception as error:  # of NumPyro's samplers, and of distributions of the user's own
            said = (str(error).strip() or "(no message)").split("\n", 1)[0].rstrip(".")
            raise ProgramError(
                f"{self.place}: data of observation {self.name!r} cannot be simulated: {self.family} raised "
                f"{type(error).__name__}: {said}; expected a law that can be drawn from. A fit needs none; for draws, "
                "look at the types of its parameters: totals and counts are integers."
            ) from error


def check_given(program: str, observed: Sequence[Observed], data: Mapping[str, ArrayLike]) -> None:
    """Raise unless data are of observations, of their shapes, and lie where their distributions have a density.

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


Values = Mapping[str, Float[Array, "..."]]


class Centering(eqx.Module):
    """lambda of every reparameterized site, by element: 1 centered, 0 non-centered.

    Array leaves, so that one compilation serves all values. A site without entry keeps its base coordinates.

    Source: Papaspiliopoulos, Roberts & Skold 2007 (partial non-centering); arXiv:1906.03028.

    Attributes:
        loc: by site, of its base shape: how much of its location is left in the coordinate.
        scale: by site, of its base shape: what power of its scale is left in the coordinate.
    """

    loc: dict[str, Float[Array, "..."]]
    scale: dict[str, Float[Array, "..."]]

    def __check_init__(self) -> None:
        if self.loc.keys() != self.scale.keys():
            raise ProgramError(
                f"a Centering was given loc for {sorted(self.loc)} and scale for {sorted(self.scale)}; expected both "
                "for the same sites. Give each site the same array twice where they are tied."
            )


class AbstractLatents(eqx.Module):
    """Latents in base coordinates u and, those that are eligible, in partially centered coordinates v.

    All coordinates are dictionaries by site, of one sample. What is trained comes as `program`.

    Attributes:
        name: what they are latents of.
        sites: each of them, in order of declaration.
    """

    name: eqx.AbstractVar[str]
    sites: eqx.AbstractVar[tuple[Site, ...]]

    @abstractmethod
    def draw(self, key: Key[Array, ""], program: PyTree, condition: Condition = None) -> dict[str, Float[Array, "..."]]:
        """Draw base coordinates that a chain may start from."""

    @abstractmethod
    def log_base(self, program: PyTree, u: Values, condition: Condition = None) -> Float[Scalar, ""]:
        """Return the log-density of base coordinates under the prior."""

    @abstractmethod
    def latents(self, program: PyTree, u: Values, condition: Condition = None) -> dict[str, Float[Array, "..."]]:
        """Return the values of the latents at base coordinates u."""

    @abstractmethod
    def to_base(
        self, program: PyTree, v: Values, lam: Centering, condition: Condition = None
    ) -> tuple[dict[str, Float[Array, "..."]], Float[Scalar, ""]]:
        """Return base coordinates u and log|det du/dv| at partially centered coordinates v."""

    @abstractmethod
    def from_base(
        self, program: PyTree, u: Values, lam: Centering, condition: Condition = None
    ) -> dict[str, Float[Array, "..."]]:
        """Return partially centered coordinates v at base coordinates u."""

    def centering(self, loc: float = 0.0, scale: float | None = None) -> Centering:
        """Return one lambda for every element of every eligible site: 0 non-centered, 1 centered.

        A site that says how centered it is keeps its own.

        Args:
            loc: lambda_loc.
            scale: lambda_scale; lambda_loc where it is not given.
        """

        def filled(number: float) -> dict[str, Array]:
            return {site.name: jnp.full(site.base_shape, number, site.dtype) for site in self.sites if site.eligible}

        return self.honoured(Centering(filled(loc), filled(loc if scale is None else scale)))

    def honoured(self, lam: Centering) -> Centering:
        """Return the same lambdas, with those that are declared (`centered=`) in their places."""
        own = {
            site.name: jnp.broadcast_to(
                jnp.asarray(site.centered, site.dtype).reshape(-1), (math.prod(site.base_shape),)
            ).reshape(site.base_shape)
            for site in self.sites
            if site.name in lam.loc and site.eligible and not site.free
        }
        return Centering({**lam.loc, **own}, {**lam.scale, **own})


class Problem(AbstractLatents):
    """A traced program. It holds no parameters: every function takes the program, so that an EMA of it serves as well.

    The functions evaluate the traced jaxpr for one sample, with no effect handler; they can be jitted, vmapped and
    differentiated. Base coordinates u and latents z are dictionaries by site name. A condition is one
    value of its form, or None.

    Attributes:
        name: class of the program.
        sites: its latents, in order of declaration.
        generated: its generated value; None where it only observes.
        condition: the form of what conditions it; None where nothing does.
        graph: the traced program.
        observed: its observations, in order of declaration.
        plates: its plates.
        trained: of each leaf of the program, whether it is trained; NumPy's arrays are data.
        inputs: data and large constants, and which rows of the plates are looked at (see `at`).
        single: whether it was traced for one row of its data.
        data: of observations whose data are others than those declared (see `given`).
    """

    name: str = eqx.field(static=True)
    sites: tuple[Site, ...]
    generated: Output | None
    condition: AbstractCondition | None = eqx.field(static=True)
    graph: Graph = eqx.field(static=True)
    observed: tuple[Observed, ...] = ()
    plates: tuple[Plate, ...] = ()
    trained: tuple[bool, ...] = eqx.field(static=True, default=())
    inputs: Inputs = Inputs()
    single: bool = eqx.field(static=True, default=False)
    data: dict[str, Array] = eqx.field(default_factory=dict)

    @property
    def classes(self) -> int | None:
        """How many classes, where what conditions it is a class."""
        return classes_of(self.condition)

    @property
    def output(self) -> Output:
        """The generated value.

        Raises:
            ProgramError: the program generates none.
        """
        if self.generated is None:
            raise ProgramError(
                f'{self.name} generates nothing; expected a generate("x", value) in its __call__, which is what is '
                "drawn and looked at."
            )
        return self.generated

    def at(self, rows: Mapping[str, Int[Array, " rows"]]) -> "Problem":
        """Return the problem of some rows of its plates, by plate; for one that was traced to look at some."""
        return eqx.tree_at(lambda p: p.inputs, self, self.inputs.at(rows, self.single))

    def given(self, data: Mapping[str, ArrayLike]) -> "Problem":
        """Return the problem with other data, by observation.

        Raises:
            ProgramError: no such observation, other shapes, or data that its distribution cannot have given.
        """
        check_given(self.name, self.observed, data)
        arrays = {name: jnp.asarray(one) for name, one in data.items()}
        return eqx.tree_at(lambda p: p.data, self, arrays, is_leaf=lambda leaf: leaf is self.data)

    def split(self, program: PyTree) -> tuple[PyTree, PyTree]:
        """Return what of a program is trained, and the rest: two of its structure, None where the other has a leaf."""
        return eqx.partition(program, jax.tree.unflatten(jax.tree.structure(program), self.trained))

    def draw(self, key: Key[Array, ""], program: PyTree, condition: Condition = None) -> dict[str, Float[Array, "..."]]:
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
        self._walk(program, condition, fill, needed)
        return {site.name: coordinates[site.name] for site in self.sites}

    def log_base(self, program: PyTree, u: Values, condition: Condition = None) -> Float[Scalar, ""]:
        """Return the log-density of base coordinates, constants included."""
        return self._sum(program, u, condition, transport.log_base, transport.push)

    def latents(self, program: PyTree, u: Values, condition: Condition = None) -> dict[str, Float[Array, "..."]]:
        """Return the values z = T(u) of the latents."""
        values: dict[str, Array] = {}

        def fill(index: int, distribution: Distribution) -> Array:
            name = self.sites[index].name
            values[name] = transport.push(distribution, u[name])
            return values[name]

        self._check(u, "base_shape")
        self._walk(program, condition, fill, len(self.sites))
        return values

    def generate(self, program: PyTree, u: Values, condition: Condition = None) -> Float[Array, "..."]:
        """Return the generated value x = g(T(u)), without noise."""
        self._check(u, "base_shape")
        value = self._walk(program, condition, lambda i, d: transport.push(d, u[self.sites[i].name]), None)
        assert value is not None
        return value

    def log_prior(self, program: PyTree, latents: Values, condition: Condition = None) -> Float[Scalar, ""]:
        """Return log p(z) = sum over sites of log p(z_i | parents), in the model's own coordinates."""
        return self._sum(program, latents, condition, transport.log_prior, lambda _, z: z)

    def to_base(
        self, program: PyTree, v: Values, lam: Centering, condition: Condition = None
    ) -> tuple[dict[str, Float[Array, "..."]], Float[Scalar, ""]]:
        """Return base coordinates u and log|det du/dv| at partially centered coordinates v, parents in place first.

        Args:
            program: of the structure that was traced.
            v: by site, of the base shapes: loc mu + tau^scale (theta - mu) / tau where lam has an entry, else u.
            lam: lambdas of sites that are eligible.
            condition: of this sample.

        Raises:
            ProgramError: lambdas of a site that is not eligible, or of another shape.
        """
        u, log_det = dict(v), [jnp.zeros(())]

        def fill(index: int, distribution: Distribution) -> Array:
            name = self.sites[index].name
            if name in lam.loc:
                u[name], term = transport.to_base(distribution, v[name], lam.loc[name], lam.scale[name])
                log_det.append(term)
            return transport.push(distribution, u[name])

        self._check(v, "base_shape")
        self._walk(program, condition, fill, self._changed(lam))
        return u, jnp.sum(jnp.stack(log_det))

    def from_base(
        self, program: PyTree, u: Values, lam: Centering, condition: Condition = None
    ) -> dict[str, Float[Array, "..."]]:
        """Return partially centered coordinates v at base coordinates u: the inverse of ``to_base``."""
        v = dict(u)

        def fill(index: int, distribution: Distribution) -> Array:
            name = self.sites[index].name
            if name in lam.loc:
                v[name] = transport.from_base(distribution, u[name], lam.loc[name], lam.scale[name])
            return transport.push(distribution, u[name])

        self._check(u, "base_shape")
        self._walk(program, condition, fill, self._changed(lam))
        return v

    def _changed(self, lam: Centering) -> int:
        """Return how many sites there are up to the last that is reparameterized."""
        eligible = {site.name: site.base_shape for site in self.sites if site.eligible}
        for name, loc in lam.loc.items():
            found = (jnp.shape(loc), jnp.shape(lam.scale[name]))
            if found != (eligible.get(name),) * 2:
                raise ProgramError(
                    f"{self.name} was given lambdas of shapes {found} for site {name!r}; expected lambdas of eligible "
                    f"sites alone, of their base shapes, {eligible}. Start from Problem.centering()."
                )
        return max((index + 1 for index, site in enumerate(self.sites) if site.name in lam.loc), default=0)

    def log_likelihoods(
        self, program: PyTree, u: Values, condition: Condition = None
    ) -> dict[str, Float[Array, "..."]]:
        """Return log p(y | z = T(u)) of every observation, of its data's batch shape."""
        terms: dict[str, Array] = {}

        def see(index: int, distribution: Distribution, data: Any) -> Any:
            name = self.observed[index].name
            seen = self.data.get(name, data)
            terms[name] = transport.log_prob(distribution, seen)
            if self.observed[index].support.moving:
                terms[name] = bounded(distribution, seen, terms[name])
            return seen

        self._see(program, u, condition, see)
        return terms

    def log_likelihood(self, program: PyTree, u: Values, condition: Condition = None) -> Float[Scalar, ""]:
        """Return log p(y | z = T(u)), summed over all observations."""
        terms = self.log_likelihoods(program, u, condition).values()
        return jnp.sum(jnp.stack([jnp.sum(term) for term in terms]))

    def simulate(
        self, key: Key[Array, ""], program: PyTree, u: Values, condition: Condition = None, but: Collection[str] = ()
    ) -> dict[str, Array]:
        """Draw data given the latents at base coordinates u, but of some observations: the predictive of one draw.

        Raises:
            ProgramError: a distribution that cannot be drawn from.
        """
        drawn: dict[str, Array] = {}

        def see(index: int, distribution: Distribution, data: Any) -> Any:
            one = self.observed[index]
            if one.name not in but:
                drawn[one.name] = one.draw(jax.random.fold_in(key, index), distribution, data)
            return drawn.get(one.name, data)

        self._see(program, u, condition, see)
        return drawn

    def _see(self, program: PyTree, u: Values, condition: Condition, see: Any) -> None:
        self._check(u, "base_shape")
        self._walk(program, condition, lambda i, d: transport.push(d, u[self.sites[i].name]), None, see)

    def _sum(
        self,
        program: PyTree,
        given: Values,
        condition: Condition,
        term: Callable[[Distribution, Array], Array],
        value: Callable[[Distribution, Array], Array],
    ) -> Array:
        terms: list[Array] = []

        def fill(index: int, distribution: Distribution) -> Array:
            coordinate = given[self.sites[index].name]
            terms.append(term(distribution, coordinate))
            return value(distribution, coordinate)

        self._check(given, "base_shape" if term is transport.log_base else "shape")
        self._walk(program, condition, fill, len(self.sites))
        return jnp.sum(jnp.stack(terms))

    def _walk(
        self, program: PyTree, condition: Condition, fill: Any, latents: int | None, see: Any = None
    ) -> Array | None:
        if (condition is None) != (self.condition is None):
            expected = "condition=None" if self.condition is None else self.condition.words
            raise ProgramError(
                f"{self.name} was evaluated with the condition {condition!r}; expected {expected}, as it was traced. "
                "Pass the condition of each sample, or trace it again with another form."
            )
        return self.graph.walk(program, condition, self.inputs, fill, latents, see or self._declared_data)

    def _declared_data(self, index: int, distribution: Distribution, data: Any) -> Any:
        return self.data.get(self.observed[index].name, data)

    def _check(self, given: Values, which: str) -> None:
        found = {name: jnp.shape(value) for name, value in given.items()}
        expected = {site.name: getattr(site, which) for site in self.sites}
        if found != expected:
            raise ProgramError(
                f"{self.name} was evaluated at sites of shape {found}; expected {expected}, for one sample. "
                "Batch with jax.vmap."
            )
