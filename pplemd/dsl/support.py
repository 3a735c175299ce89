"""Whether data lie where the distribution that they are observed under has any density.

NumPyro scores what lies outside of a support as it comes, without a word: Bernoulli data coded 1 and 2 have
probabilities above 1. A support, and data, that depend on no latent and on nothing trained are checked before anything
is computed; where a bound moves, the density outside is 0.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, PyTree
from numpyro.distributions import constraints, transforms

from pplemd.dsl.graph import Parameters
from pplemd.dsl.transport import innermost, promotion, scored
from pplemd.errors import PplemdError, ProgramError

ROUNDING = 1e-3  # nats: log-probabilities of sure events, in 32 bits
_WORDS = {
    type(constraints.boolean): "0 or 1",
    type(constraints.real): "finite numbers",
    type(constraints.nonnegative_integer): "whole numbers from 0",
    type(constraints.positive_integer): "whole numbers from 1",
    type(constraints.simplex): "numbers from 0 that sum to 1",
    type(constraints.positive_definite): "symmetric positive definite matrices",
    type(constraints.corr_matrix): "correlation matrices",
    type(constraints.corr_cholesky): "Cholesky factors of correlation matrices",
    type(constraints.lower_cholesky): "Cholesky factors, lower triangular",
    type(constraints.ordered_vector): "numbers in increasing order",
    type(constraints.sphere): "vectors of length 1",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Support:
    """What is known of an observation's support before anything is computed. Compared by identity.

    Attributes:
        family: class of the distribution, without wrappers.
        constraint: NumPyro's, of one event; bounds that are not known are infinite. None where nothing is known.
        seen: which of the data are looked at; it broadcasts with them.
        discrete: whether the distribution has probabilities.
        moving: whether the support depends on latents, or on what is trained.
    """

    family: str
    constraint: constraints.Constraint | None
    seen: np.ndarray
    discrete: bool
    moving: bool

    def fault(self, data: PyTree) -> str | None:
        """What is wrong with data, to be said after their name; None where nothing is, or they are traced."""
        if isinstance(data, jax.core.Tracer):
            return None
        values = np.array(data)
        real = np.issubdtype(values.dtype, np.inexact)
        wrong = np.asarray(~np.isfinite(values) & self.seen if real else np.zeros(values.shape, bool))
        if wrong.any():
            return (
                f"has {_counted(wrong)} values that are not finite (the first at {_first(wrong)}). Leave missing rows "
                "out, mask them (distribution.mask(present)), or declare them as latents."
            )
        if self.constraint is None or values.size == 0:
            return None
        # which events NumPyro's constraint takes, as they are or in 64 bits, where sums are rounded less
        assert self.constraint is not None
        wide = values.astype(np.float64)
        inside = np.asarray(self.constraint(wide))
        if values.dtype == np.float32:  # tolerances of unit vectors go by the type
            inside = inside | np.asarray(self.constraint(values))
        if self.constraint.is_discrete:
            inside = inside & np.asarray(wide % 1 == 0).all(axis=tuple(range(inside.ndim, wide.ndim)))
        inside = np.asarray(inside)
        of_event = tuple(range(inside.ndim, values.ndim))
        wrong = np.asarray(~inside & np.broadcast_to(self.seen, values.shape).any(axis=of_event))
        if not wrong.any():
            return None
        first = _first(wrong)
        return (
            f"has {_counted(wrong)} values outside of the support of its {self.family} (the first, "
            f"{_shown(values[first])}, at {first}); expected {_words(self.constraint, first, wrong.shape)}. "
            f"{_repair(self.constraint)}"
        )


def or_nan(array: PyTree) -> np.ndarray:
    """An array; of a mere shape, NaN, which stands for what is not known."""
    return np.full(array.shape, np.nan) if isinstance(array, jax.ShapeDtypeStruct) else np.asarray(array)


def check_probability(log_prob: PyTree, name: str, error: type[PplemdError] = ProgramError) -> None:
    """Raise where a log-probability of discrete data is above 0, as no probability's is.

    Args:
        log_prob: of data that were observed, of any shape.
        name: of the observation.
        error: what to raise.
    """
    found = float(np.max(np.asarray(log_prob), initial=-np.inf))
    if found > ROUNDING:
        raise error(
            f"the discrete observation {name!r} has log-probabilities up to {found:.6g}; expected none above 0, since "
            "no probability is above 1. Look for probabilities of its law that are negative, above 1 or sum to more."
        )


def support_of(parameters: Parameters, arrays: Sequence[PyTree]) -> Support:
    """The support of an observation's distribution.

    Args:
        parameters: what is static of the distribution.
        arrays: of its arrays the values, and for those that are not known before a run, NaN.
    """
    distribution = parameters.distribution(arrays)
    return _support(distribution, _core(distribution), scored(distribution))


def support_of_rows(parameters: Parameters, arrays: Sequence[PyTree], by_row: Sequence[bool], rank: int) -> Support:
    """The support of an observation of many rows, whose distribution has arrays of each row's own.

    Args:
        parameters: what is static of one row's distribution.
        arrays: as for `support_of`.
        by_row: which of them have a first axis of rows.
        rank: dimensions of one row's data.
    """
    kinds: list[Any] = []

    def one(row: list[Any]) -> tuple[list[Any], Any]:
        distribution = parameters.distribution(row)
        bounds, kind = jax.tree.flatten(_core(distribution))
        kinds.append(kind)
        return bounds, scored(distribution)

    def aligned(leaf: Any, rank: int) -> np.ndarray:  # with the rows' data, from the right
        return np.asarray(leaf).reshape(len(leaf), *(1,) * (rank - np.ndim(leaf) + 1), *np.shape(leaf)[1:])

    with promotion():
        bounds, seen = jax.vmap(one, in_axes=([0 if rows else None for rows in by_row],))(list(arrays))
    first = parameters.distribution([array[0] if rows else array for array, rows in zip(arrays, by_row, strict=True)])
    core = _core(first)
    events = 0 if core is None else core.event_dim
    core = jax.tree.unflatten(kinds[0], [aligned(bound, rank - events) for bound in bounds])
    return _support(first, core, aligned(seen, rank))


def _core(distribution: dist.Distribution) -> constraints.Constraint | None:
    """The constraint of one event, elementwise where it is of independent elements."""
    core = distribution.support
    while isinstance(core, constraints.independent):
        core = core.base_constraint
    return core


def _support(distribution: dist.Distribution, core: constraints.Constraint | None, seen: Any) -> Support:
    moving, core = (False, None) if core is None else _bounded(core)
    return Support(type(innermost(distribution)).__name__, core, seen, bool(distribution.is_discrete), moving)


def _bounded(core: constraints.Constraint) -> tuple[bool, constraints.Constraint | None]:
    """Whether a constraint's bounds are not all known, and the constraint without those."""
    children, structure = jax.tree.flatten(core)
    unknown = [np.isnan(np.asarray(child, np.float64)).any() for child in children]
    if not any(unknown):
        return False, core
    names = core.tree_flatten()[1][0]
    open_ends = {"lower_bound": -np.inf, "upper_bound": np.inf}
    if core.event_dim or len(names) != len(children) or not open_ends.keys() >= set(names):
        return True, None
    ends = [open_ends[name] if lost else child for name, child, lost in zip(names, children, unknown, strict=True)]
    return True, jax.tree.unflatten(structure, ends)


def bounded(distribution: dist.Distribution, value: PyTree, log_prob: Array) -> Array:
    """Log-densities at a value, -inf outside of a support that depends on latents or on what is trained."""
    with promotion():
        seen = jnp.asarray(scored(distribution))
        inside = _within(distribution, jnp.asarray(value))
        seen = jnp.broadcast_to(seen, jnp.shape(value)).reshape((*jnp.shape(inside), -1)).any(axis=-1)
        return jnp.where(inside | ~seen, log_prob, -jnp.inf)


def _within(distribution: dist.Distribution, value: Any) -> Bool[Array, "..."]:
    """Whether events lie in the support; a scale that is not known yet may turn an affine map over."""
    core = innermost(distribution)
    if isinstance(core, dist.TransformedDistribution) and core is distribution:
        parts = core.transforms
        if all(isinstance(part, transforms.AffineTransform) for part in parts):
            for part in reversed(parts):
                value = part.inv(value)
            return _within(core.base_dist, value)
    if isinstance(distribution, dist.Independent):
        inside = _within(distribution.base_dist, value)
        return inside.all(axis=tuple(range(inside.ndim - distribution.reinterpreted_batch_ndims, inside.ndim)))
    if isinstance(distribution, dist.ExpandedDistribution | dist.MaskedDistribution):
        return _within(distribution.base_dist, value)
    assert distribution.support is not None
    return jnp.asarray(distribution.support(value))


def _counted(wrong: Bool[np.ndarray, "..."]) -> str:
    return f"{int(wrong.sum()):,} of {wrong.size:,}"


def _first(wrong: Bool[np.ndarray, "..."]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(wrong)[0])


def _shown(value: np.ndarray | np.generic) -> str:
    return np.array2string(np.asarray(value), precision=6, threshold=8, separator=", ").replace("\n", "")


def _words(core: constraints.Constraint, first: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """What a constraint takes at one place, in words."""
    if type(core) in _WORDS:
        return _WORDS[type(core)]
    low, high = (
        None if bound is None else float(np.broadcast_to(np.asarray(bound, np.float64), shape)[first])
        for bound in (getattr(core, name, None) for name in ("lower_bound", "upper_bound"))
    )
    if isinstance(core, constraints.multinomial):
        return f"whole numbers from 0 that sum to {high:g}"
    kind = "whole numbers" if core.is_discrete else "numbers"
    from_, to = ("above", "below") if isinstance(core, _OPEN) and not isinstance(core, _CLOSED) else ("from", "to")
    ends = [f"{word} {end:.7g}" for word, end in ((from_, low), (to, high)) if end is not None and np.isfinite(end)]
    return f"{kind} {' '.join(ends)}" if ends else repr(core)


_OPEN = (constraints.greater_than, constraints.less_than, constraints.open_interval)
_CLOSED = (constraints.greater_than_eq, constraints.less_than_eq)


def _repair(core: constraints.Constraint) -> str:
    if type(core) is type(constraints.boolean):
        return "Code them 0 and 1, or leave missing ones out by a mask (distribution.mask(present))."
    if type(core) is type(constraints.simplex):
        return "Divide each vector by its sum, or choose another law."
    if isinstance(core, constraints.integer_interval):
        return "Count classes from 0; leave what is missing out by a mask (distribution.mask(present))."
    return "Repair the data, choose a law that may give them, or leave them out by a mask (distribution.mask(present))."
