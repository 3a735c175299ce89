"""The typed value of a program: its sites, and its densities and maps as pure functions."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree, Scalar
from numpyro.distributions import Distribution

from pplemd.conditions import AbstractCondition, Condition, classes_of
from pplemd.dsl import transport
from pplemd.dsl.centering import AbstractLatents, Centering, Values
from pplemd.dsl.graph import Graph
from pplemd.dsl.inputs import Inputs
from pplemd.dsl.sites import Observed, Output, Plate, Site, check_given
from pplemd.dsl.support import bounded
from pplemd.errors import ProgramError


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
            ProgramError: no such observation, other shapes, or data that its law cannot have given.
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
            ProgramError: a law that cannot be drawn from.
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
