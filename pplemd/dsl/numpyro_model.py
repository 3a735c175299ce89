"""A NumPyro model with its data, traced once, as a program is: its density in any partially centered coordinates."""

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.custom_batching import custom_vmap
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar
from numpyro import handlers
from numpyro.distributions.transforms import biject_to
from numpyro.infer import init_to_uniform
from numpyro.infer.util import constrain_fn, helpful_support_errors, potential_energy
from numpyro.primitives import Messenger

from pplemd.conditions import Condition
from pplemd.dsl import transport
from pplemd.dsl.effects import how_centered, imputed, unmask
from pplemd.dsl.graph import hoisted, inlined, origin_of, origins
from pplemd.dsl.locations import place_of
from pplemd.dsl.posterior_checks import check_data, check_sites, is_declared, is_latent
from pplemd.dsl.problem import AbstractLatents, Centering, Site, Values
from pplemd.dsl.transport import LocationScale
from pplemd.errors import TeacherError


class Reading(Messenger):
    """The handler around a model and the handlers that its user put around it.

    It makes data JAX's arrays: NumPyro compares NumPy's with traced bounds by NumPy, which fails.

    Attributes:
        given: parameters and latents whose values those handlers substitute.
    """

    def __init__(self, model: Callable) -> None:
        super().__init__(model)
        self.given: set[str] = set()
        self._before: str | None = None  # the observation just before

    def process_message(self, msg: Any) -> None:
        """Note what has a value; give what `obs_mask` imputes its whole distribution (see `masks.unmasked`)."""
        if msg["type"] == "param" and msg["value"] is not None:
            self.given.add(msg["name"])
        if msg["type"] != "sample":
            return
        if msg["is_observed"]:
            self._before, msg["value"] = msg["name"], jnp.asarray(msg["value"])
            return
        if msg["value"] is not None:
            self.given.add(msg["name"])
        if imputed(msg["name"], self._before):
            msg["fn"] = unmask(msg["fn"])


def first_run(model: Callable, key: PRNGKeyArray, args: tuple, kwargs: Mapping[str, Any]) -> tuple[dict, Reading]:
    """Run a model with each latent at a random value of its support, as NumPyro's NUTS starts: priors may be improper.

    Returns:
        Its sites as NumPyro records them, and the handler that saw them.
    """

    def start(site: Any) -> Any:
        return None if site["value"] is not None else init_to_uniform(site)

    reading = Reading(model)
    started = handlers.substitute(handlers.seed(reading, key), substitute_fn=start)
    return dict(handlers.trace(started).get_trace(*args, **kwargs)), reading


@contextlib.contextmanager
def ran(name: str, warned: list[str]) -> Iterator[None]:
    """Run a model under NumPyro's own rules of types and ranks; its errors are reported as mistakes of the model.

    Args:
        name: the model's.
        warned: what it warns of is put here, each sentence once.
    """
    try:
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("ignore")  # of what will be deprecated, whose place is not the user's
            for kind in (UserWarning, RuntimeWarning, FutureWarning):
                warnings.simplefilter("always", kind)
            yield
    except TeacherError:
        raise
    except Exception as error:
        message = str(error).strip().split("\n", 1)[0].rstrip(".")
        raise TeacherError(
            f"{place_of(error)}: the model {name} raised {type(error).__name__}: {message}; expected it to run with "
            "the arguments given to em.posterior(model, *args, **kwargs). Give the data that the model takes."
        ) from error
    warned += [word for word in dict.fromkeys(str(one.message) for one in caught) if word not in warned]


def left_out(
    model: Callable, key: PRNGKeyArray, args: tuple, kwargs: Mapping[str, Any], latents: list[str]
) -> dict[str, str]:
    """Which latents are data that were not given: latent -> the argument, None, that they would have come by.

    Each argument that is None is replaced by something, to see which latent it makes an observation. Where the model
    does not run with it, a latent of the argument's own name is taken for it.

    Args:
        model: the model.
        key: of its run.
        args: its arguments.
        kwargs: the same.
        latents: names of its latents.
    """
    try:
        bound = inspect.signature(model).bind(*args, **kwargs)
    except (TypeError, ValueError):  # no signature: a function of C
        return {}
    bound.apply_defaults()
    found: dict[str, str] = {}
    for argument in [name for name, value in bound.arguments.items() if value is None]:
        for stand_in in (object(), np.ones(())):  # the second where the model makes it an array first
            bound.arguments[argument] = stand_in
            observed, whole = _observed(handlers.seed(model, key), bound)
            if whole or not observed.isdisjoint(latents):
                break
        bound.arguments[argument] = None
        found |= dict.fromkeys(observed if whole else observed | {argument}, argument)
    return {site: found[site] for site in latents if site in found}


def _observed(model: Callable, bound: inspect.BoundArguments) -> tuple[set[str], bool]:
    """Names of a model's observations as far as it runs, and whether it runs to its end."""
    sites, whole = handlers.trace(handlers.substitute(model, substitute_fn=init_to_uniform)), False
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
        sites(*bound.args, **bound.kwargs)
        whole = True
    return {name for name, site in sites.trace.items() if site.get("is_observed")}, whole


def in_own_mode(function: Callable, kind: Any) -> Callable:
    """Return a function that is computed in its own mode, derivatives of every order too.

    JAX runs a derivative's transposed operations, and the operations of a loop that is mapped, in the mode of whoever
    transforms them, which would round them or mix types. Here the derivative is a Jacobian that is itself such a
    function, and the mapped function is mapped in its own mode; what comes out is in the type of the first argument.

    Args:
        function: of arrays, of which those of floating type are taken in the type ``kind``; gives a pytree of arrays.
        kind: float32 or float64.
    """
    wide = jnp.dtype(kind) == jnp.float64

    @functools.wraps(function)
    def evaluate(first: Array, *others: Array | None) -> PyTree:
        args = (first, *others)
        if first.dtype == jnp.dtype(kind) and bool(jax.config.read("jax_enable_x64")) == wide:
            return function(*args)
        given = [i for i, one in enumerate(args) if one is not None]

        def of_arguments(*arrays: Array) -> PyTree:
            found = dict(zip(given, arrays, strict=True))
            return function(*(found.get(i) for i in range(len(args))))

        return _differentiable(of_arguments, kind)(*(jnp.asarray(args[i]) for i in given))

    return evaluate


def _differentiable(function: Callable, kind: Any) -> Callable:
    """The function in its own mode, its Jacobians too."""
    there = jax.custom_jvp(_opaque(function, kind))

    @there.defjvp
    def _(at: tuple[Array, ...], along: tuple[Array, ...]) -> tuple[PyTree, PyTree]:
        moved = tuple(i for i, one in enumerate(at) if jnp.issubdtype(one.dtype, jnp.floating))

        def slopes(*args: Array) -> tuple[PyTree, ...]:
            return tuple(jax.jacrev(function, i)(*args) for i in moved)

        pushed = [
            jax.tree.map(lambda rows, i=i: jnp.tensordot(rows, along[i], at[i].ndim), slope)
            for i, slope in zip(moved, _differentiable(slopes, kind)(*at), strict=True)
        ]
        return there(*at), jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *pushed)

    return there


def _opaque(function: Callable, kind: Any) -> Callable:
    """The function in its own mode, into which no map of the caller's looks."""
    wide = jnp.dtype(kind) == jnp.float64

    @custom_vmap
    def there(*args: Array) -> PyTree:
        integers = jax.dtypes.canonicalize_dtype(jnp.int64)

        def back(leaf: Array) -> Array:
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf.astype(args[0].dtype)
            return leaf.astype(integers) if leaf.dtype == jnp.int64 else leaf

        with jax.enable_x64(True):  # where there are both types
            own = [one.astype(kind) if jnp.issubdtype(one.dtype, jnp.floating) else one for one in args]
        with jax.enable_x64(wide):
            found = function(*own)
        with jax.enable_x64(True):
            return jax.tree.map(back, found)

    @there.def_vmap
    def _(size: int, mapped: list[bool], *args: Array) -> tuple[PyTree, PyTree]:
        axes = tuple(0 if one else None for one in mapped)
        found = _opaque(jax.vmap(function, in_axes=axes, axis_size=size), kind)(*args)
        return found, jax.tree.map(lambda leaf: True, found)

    return there


TRIES = 100  # starts of which one must have a finite density: as many as NumPyro gives itself
Coordinates = Callable[[Array, Array, Array], Any]  # v, lambda_loc and lambda_scale, each flat, sites by name


class Traced(eqx.Module):
    """A function of a NumPyro model, traced with its data; these are arguments of whatever is compiled with it.

    Attributes:
        constants: large arrays that the model was given or closed over.
        opened: the traced function, of the constants and the coordinates.
        structure: of what it gives.
        whole: the same of the coordinates alone, its constants within, for the other mode of 32 or 64 bits.
        wide: whether it was traced in the mode of 64 bits.
    """

    constants: tuple[Array, ...]
    opened: jex.ClosedJaxpr = eqx.field(static=True)
    structure: PyTree = eqx.field(static=True)
    whole: Callable[[Array, Array, Array], PyTree] = eqx.field(static=True)
    wide: bool = eqx.field(static=True)

    def __call__(self, v: Array, loc: Array, scale: Array) -> PyTree:
        """What it gives at v; lambda_loc and lambda_scale are flat, as v is."""
        kind = jnp.dtype(jnp.float64 if self.wide else jnp.float32)
        if v.dtype != kind or bool(jax.config.read("jax_enable_x64")) != self.wide:
            return self.whole(v, loc, scale)
        return jax.tree.unflatten(self.structure, jex.jaxpr_as_fun(self.opened)(*self.constants, v, loc, scale))


class NumpyroModel(AbstractLatents):
    """A NumPyro model and its data. Base coordinates u are non-centered; of sites that are not eligible, unconstrained.

    Its functions take coordinates v and their lambdas, in which they were traced; no effect handler runs in them.

    Attributes:
        name: the model's.
        sites: its latents, in order of declaration; base shapes are those of unconstrained values.
        density: log joint density of latents and data at v, log-determinants included.
        prior: the same of the latents alone.
        values: latents and deterministic sites, in the model's own names.
        moments: location and scale of each eligible site at v.
        start: base coordinates of finite density and slope.
        notes: what is assumed, in sentences.
        said: sites of which the user says how centered they are.
        digest: SHA-256 of the traced density and its data, which settle the posterior.
    """

    name: str = eqx.field(static=True)
    sites: tuple[Site, ...] = eqx.field(static=True)
    density: Coordinates
    prior: Coordinates
    values: Coordinates
    moments: Coordinates
    start: Float[Array, " d"]
    notes: tuple[str, ...] = eqx.field(static=True)
    digest: str = eqx.field(static=True)
    said: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def units(self) -> tuple[str, ...]:
        """Eligible sites of constant location and scale that no user placed: lambda is a choice of units."""
        return tuple(one.name for one in self.sites if one.eligible and not one.free and one.name not in self.said)

    def at(self, function: Coordinates, lam: Centering) -> "InCoordinates":
        """One of the functions in the coordinates of lam, from one flat v; lambdas count to 32 bits."""
        return InCoordinates(function, *(one.astype(jnp.float32) for one in self._spread(lam)))

    def log_joint(self, u: Values) -> Float[Scalar, ""]:
        """Log joint density of latents and data at base coordinates, their log-determinants included."""
        return self._evaluate(self.density, u, Centering({}, {}))

    def draw(self, key: PRNGKeyArray, program: PyTree, condition: Condition = None) -> dict[str, Array]:
        """Base coordinates uniform on (-2, 2), as NumPyro's chains start; near `start` where these have no density."""
        wide = jax.random.uniform(key, self.start.shape, self.start.dtype, -2.0, 2.0)
        value, slope = jax.value_and_grad(lambda flat: self.log_joint(self.by_site(flat)))(wide)
        good = jnp.isfinite(value) & jnp.all(jnp.isfinite(slope))
        return self.by_site(jnp.where(good, wide, self.start + 0.05 * wide))

    def log_base(self, program: PyTree, u: Values, condition: Condition = None) -> Float[Scalar, ""]:
        """Log-density of base coordinates under the prior."""
        return self._evaluate(self.prior, u, Centering({}, {}))

    def latents(self, program: PyTree, u: Values, condition: Condition = None) -> dict[str, Array]:
        """Values of the latents at base coordinates."""
        found = self._evaluate(self.values, u, Centering({}, {}))
        return {site.name: found[site.name] for site in self.sites}

    def to_base(
        self, program: PyTree, v: Values, lam: Centering, condition: Condition = None
    ) -> tuple[dict[str, Array], Float[Scalar, ""]]:
        """Base coordinates and log|det du/dv| at v."""
        u, log_det = dict(v), jnp.zeros(())
        for name, of in self._evaluate(self.moments, v, lam).items():
            if name in lam.loc:
                u[name] = of.standard(v[name], lam.loc[name], lam.scale[name])
                log_det = log_det - of.log_det(lam.scale[name])
        return u, log_det

    def from_base(self, program: PyTree, u: Values, lam: Centering, condition: Condition = None) -> dict[str, Array]:
        """V at base coordinates."""
        found = self._evaluate(self.moments, u, Centering({}, {}))
        moved = {name: found[name].partly(u[name], lam.loc[name], lam.scale[name]) for name in lam.loc}
        return {**u, **moved}

    def by_site(self, flat: Float[Array, " d"]) -> dict[str, Array]:
        """Coordinates by site of a flat row."""
        return ravel_pytree({site.name: jnp.zeros(site.base_shape, flat.dtype) for site in self.sites})[1](flat)

    def declared(self, centered: PyTree) -> "NumpyroModel":
        """The same, its eligible sites centered as its user says.

        Args:
            centered: True, False, a number of [0, 1] or "auto" for all of them; or by site, where an array counts by
                element too.

        Raises:
            ProgramError: where it is none of that.
            TeacherError: where a site that it names cannot be centered.
        """
        eligible = [site.name for site in self.sites if site.eligible]
        by_site = centered if isinstance(centered, Mapping) else dict.fromkeys(eligible, centered)
        said = {name: one for name, one in by_site.items() if not (isinstance(one, str) and one == "auto")}
        for name in by_site:
            if name not in eligible:
                raise TeacherError(
                    f"the model {self.name} was given centered= for {name!r}; expected latents of location-scale "
                    f"families: {', '.join(eligible) or 'it has none'}. Leave the others out; they stay as the model "
                    "declares them."
                )
        sites = tuple(
            dataclasses.replace(site, centered=how_centered(site.name, said[site.name], site.base_shape, True))
            if site.name in said
            else site
            for site in self.sites
        )
        return dataclasses.replace(self, sites=sites, said=tuple(said))

    def _spread(self, lam: Centering) -> tuple[Array, Array]:
        """Lambdas of each coordinate, flat; 0 where it has none."""
        zeros = {site.name: jnp.zeros(site.base_shape, self.start.dtype) for site in self.sites}
        return ravel_pytree({**zeros, **lam.loc})[0], ravel_pytree({**zeros, **lam.scale})[0]

    def _evaluate(self, function: Coordinates, v: Values, lam: Centering) -> Any:
        return function(ravel_pytree(dict(v))[0], *self._spread(lam))


class InCoordinates(eqx.Module):
    """A function of a NumPyro model in coordinates that are fixed.

    Attributes:
        function: of v, lambda_loc and lambda_scale.
        loc: lambda_loc of each coordinate.
        scale: lambda_scale.
    """

    function: Coordinates
    loc: Float[Array, " d"]
    scale: Float[Array, " d"]

    def __call__(self, v: Float[Array, " d"]) -> PyTree:
        """The function at one v."""
        return self.function(v, self.loc.astype(v.dtype), self.scale.astype(v.dtype))


def numpyro_model(model: Callable, args: tuple[PyTree, ...], kwargs: Mapping[str, Any]) -> NumpyroModel:
    """Trace a NumPyro model with its data.

    Raises:
        TeacherError: where the model cannot be run with these arguments, has no latent, a latent that is discrete or
            known exactly, a parameter of NumPyro's whose value is not substituted, a subsampled plate, data scored
            more often than they are there, or no start of finite density.
    """
    name = getattr(getattr(model, "func", model), "__name__", type(model).__name__)  # of a functools.partial, too
    key_trace, key_start = jax.random.split(jax.random.key(0))  # of the start alone: the density has no randomness
    notes: list[str] = []

    def seeded(*args: Any, **kwargs: Any) -> Any:
        return handlers.seed(Reading(model), key_trace)(*args, **kwargs)  # a new one for each trace: it keeps its key

    with ran(name, notes):
        sites, reading = first_run(model, key_trace, args, kwargs)
        latents = [site for site, message in sites.items() if is_latent(message)]
        absent = left_out(model, key_trace, args, kwargs, latents)
    notes += check_sites(name, sites, reading.given, absent)

    def at(values: dict[str, Array]) -> dict[str, Any]:
        return handlers.trace(handlers.substitute(seeded, data=values)).get_trace(*args, **kwargs)

    with ran(name, notes):
        check_data(name, sites, at)
        zeros = _unconstrained(sites, latents)
        found = _sites(sites, latents, zeros, at)
        movable = [site.name for site in found if site.eligible]
        flat, unravel = ravel_pytree(zeros)

        def moved(v: Array, loc: Array, scale: Array) -> Moved:
            lam = Centering(*({one: unravel(many)[one] for one in movable} for many in (loc, scale)))
            handler = Moved(seeded, unravel(v), lam)
            constrain_fn(handler, args, kwargs, unravel(v))
            return handler

        def density(model: Callable, v: Array, loc: Array, scale: Array) -> Array:
            there = moved(v, loc, scale)
            return sum(there.log_dets, -potential_energy(model, args, kwargs, there.x))

        def values(v: Array, loc: Array, scale: Array) -> dict[str, Array]:
            return constrain_fn(seeded, args, kwargs, moved(v, loc, scale).x, return_deterministic=True)

        seen = [site for site, message in sites.items() if message["type"] == "sample" and message["is_observed"]]
        unseen = handlers.block(seeded, hide=seen)
        functions: list[Callable[..., Any]] = [
            functools.partial(density, seeded),
            functools.partial(density, unseen),
            values,
            lambda v, loc, scale: moved(v, loc, scale).moments,
        ]
        joint, *traced = [jax.make_jaxpr(one, return_shape=True)(flat, flat, flat) for one in functions]
    run = [_running(closed, shapes, flat.dtype) for closed, shapes in (joint, *traced)]
    start = _start(name, key_start, lambda x: run[0](x, jnp.zeros_like(x), jnp.zeros_like(x)), flat.size)
    return NumpyroModel(name, found, run[0], run[1], run[2], run[3], start, tuple(notes), _digest(joint[0]))


class Moved(Messenger):
    """The handler that gives each eligible site its value at partially centered coordinates, parents first.

    Attributes:
        x: unconstrained values of all latents.
        moments: location and scale of each eligible site.
        log_dets: log|det dx/dv| of each.
    """

    def __init__(self, model: Callable, v: dict[str, Array], lam: Centering) -> None:
        super().__init__(model)
        self.x, self._lam = dict(v), lam
        self.moments: dict[str, LocationScale] = {}
        self.log_dets: list[Array] = []

    def postprocess_message(self, msg: PyTree) -> None:
        """Put a value in the place of that which was substituted."""
        name = msg.get("name")  # a loop has none
        if msg["type"] != "sample" or name not in self._lam.loc:
            return
        v, law = self.x[name], msg["fn"]
        self.moments[name] = transport.moments(law, v)
        self.x[name], log_det = transport.to_unconstrained(law, v, self._lam.loc[name], self._lam.scale[name])
        self.log_dets.append(log_det)
        msg["value"] = biject_to(law.support)(self.x[name])


def _sites(
    messages: Mapping[str, Any],
    latents: list[str],
    zeros: dict[str, Array],
    at: Callable[[dict[str, Array]], Mapping[str, Any]],
) -> tuple[Site, ...]:
    """The latents as sites: on which others each depends, and whether it can be centered on them."""

    def parameters(values: dict[str, Array]) -> dict[str, tuple[Any, Any]]:
        found = at(values)
        return {site: (jax.tree.leaves(found[site]["fn"]), _movable(found, site)) for site in latents}

    values = {site: jnp.asarray(messages[site]["value"]) for site in latents}  # a substituted one may be a float
    closed, shapes = jax.make_jaxpr(parameters, return_shape=True)(values)
    reached = origins(closed.jaxpr, [frozenset({index}) for index in range(len(values))])
    of = [origin_of(atom, reached) for atom in closed.jaxpr.outvars]
    by_site = jax.tree.unflatten(jax.tree.structure(shapes), of)
    names = sorted(values)  # the order of JAX's dictionaries
    made = []
    for site in latents:
        every, moved = by_site[site]
        law, value = messages[site]["fn"], values[site]
        made.append(
            Site(
                name=site,
                shape=tuple(value.shape),
                dtype=zeros[site].dtype,
                base_shape=tuple(zeros[site].shape),
                family=type(transport.innermost(law)).__name__,
                parents=tuple(name for index, name in enumerate(names) if any(index in one for one in every)),
                learned=False,
                conditioned=False,
                eligible=moved is not None,
                base="prior",
                centered="auto" if any(moved or ()) else 1.0,  # constants: a change of units, left out at first
                plates=tuple(frame.name for frame in reversed(messages[site]["cond_indep_stack"])),
            )
        )
    return tuple(made)


def _movable(messages: Mapping[str, Any], site: str) -> tuple[Any, Any] | None:
    """Location and scale of a latent that may be moved; None of one whose coordinates the user's handlers chose."""
    message = messages[site]
    fixed = is_declared(messages, site) or message.get("_control_flow_done") or message["scale"] is not None
    return None if fixed else transport.location_scale(message["fn"])


def _unconstrained(sites: dict[str, Any], latents: list[str]) -> dict[str, Array]:
    """Zeros of the unconstrained shape of each latent."""
    values = {}
    for site in latents:
        law = sites[site]["fn"]
        with helpful_support_errors(sites[site], raise_warnings=True):
            transform = dist.biject_to(law.support)
        values[site] = jnp.zeros(transform.inverse_shape(law.shape()))
    return values


def _running(closed: jex.ClosedJaxpr, shapes: Any, kind: Any) -> "Traced":
    """A traced function, in the mode of 32 or 64 bits that it was traced in, without a handler."""
    structure, run = jax.tree.structure(shapes), jex.jaxpr_as_fun(closed)
    whole = in_own_mode(lambda *args: jax.tree.unflatten(structure, run(*args)), kind)
    opened, constants = hoisted(inlined(closed))
    return Traced(
        tuple(jnp.asarray(one) for one in constants), opened, structure, whole, jnp.dtype(kind) == jnp.float64
    )


def _digest(closed: jex.ClosedJaxpr) -> str:
    """SHA-256 of a traced function; addresses of Python's functions, which its text may bear, are left out."""
    total = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(closed.jaxpr)).encode())
    for array in (one for one in closed.consts if not jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key)):
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _start(name: str, key: PRNGKeyArray, density: Callable, size: int) -> Float[Array, " d"]:
    """A point uniform on (-2, 2) in every coordinate, Stan's start, of finite density and slope.

    Raises:
        TeacherError: of many there is none.
    """
    starts = jax.random.uniform(key, (TRIES, size), minval=-2.0, maxval=2.0)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(density)))(starts)
    good = jnp.isfinite(values) & jnp.all(jnp.isfinite(slopes), axis=1)
    if not bool(good.any()):
        raise TeacherError(
            f"the log density of the model {name} is {values[0]}, its slope {slopes[0]}, at a random start, and not "
            f"both are finite at any of {TRIES}; expected a finite density. Look for data outside of its "
            "distribution's support, a scale that is zero, or NaN in the data."
        )
    return starts[jnp.argmax(good)]
