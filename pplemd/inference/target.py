"""The one law that every E-step samples: base noise, tilted by a potential of what it is pushed to."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from pplemd.errors import PplemdError
from pplemd.inference.potential import AbstractPotential, Potential


class Point(eqx.Module):
    """What a law's score needs and finds at one position; kernels keep it, so that nothing is asked twice.

    Attributes:
        position: u, coordinates of the law.
        x: T(u).
        slope: gradient of U at x.
        score: gradient of log rho at u.
    """

    position: PyTree
    x: Array
    slope: Array
    score: PyTree


class TiltedLaw(eqx.Module):
    """rho(u) proportional to base(u) exp(-U(T(u))), for one u.

    The gradient needs no Jacobian term: grad log rho = grad log base - J_T(u)^T grad U(T(u)). EM distillation,
    refiners of a generator, tilted priors and posteriors differ in T, U and the base alone.

    Source: arXiv:2405.16852, section 3.2 (reparameterised E-step); arXiv:2010.00654, equation 7.

    Attributes:
        push: T, from coordinates u (any pytree of arrays) to x.
        potential: U.
        log_base: log density of the base, from u to a scalar; a constant may be missing.
        hold: where some coordinates are dear to move: given u, the law of the others alone, its coordinates those of
            u with None for what is held. None where nothing is.
        together: u -> (T(u), log base), where both share work; asked instead of push and log_base by `visit`.
        climbs_on: what leads from far out to where the law has its mass, where its own score may not: in other
            coordinates the density as it was in the first ones, since a log-determinant may grow without end.
    """

    push: Callable[[PyTree], Array]
    potential: AbstractPotential
    log_base: Callable[[PyTree], Array]
    hold: "Callable[[PyTree], Held] | None" = None
    together: Callable[[PyTree], tuple[Array, Array]] | None = None
    climbs_on: "TiltedLaw | None" = None

    def visit(self, u: PyTree) -> Point:
        """One push, one gradient of U, one pull-back."""
        if self.together is not None:
            (x, base), pull_back = jax.vjp(self.together, u)
            slope = self.potential.gradient(x)
            return Point(u, x, slope, pull_back((-slope, jnp.ones_like(base)))[0])
        x, pull_back = jax.vjp(self.push, u)
        slope = self.potential.gradient(x)
        (tilt,) = pull_back(slope)
        return Point(u, x, slope, jax.tree.map(lambda free, tilted: free - tilted, jax.grad(self.log_base)(u), tilt))

    def score(self, u: PyTree) -> PyTree:
        """Gradient of log rho at one u."""
        return self.visit(u).score

    def log_density(self, u: PyTree) -> Float[Array, ""]:
        """Log rho at one u, up to a constant.

        Raises:
            PplemdError: where only the gradient of U is known.
        """
        return self.log_base(u) - self._energy(self.push(u))

    def gain(self, start: Point, end: Point) -> Float[Array, ""]:
        """Log rho(end) - log rho(start), base and potential each by itself: a constant of one does not round the other.

        Raises:
            PplemdError: where only the gradient of U is known.
        """
        fall = self._energy(start.x) - self._energy(end.x)
        return self.log_base(end.position) - self.log_base(start.position) + fall

    def _energy(self, x: Array) -> Float[Array, ""]:
        if not isinstance(self.potential, Potential):
            raise PplemdError(
                "this target knows only the gradient of its potential, so it has no density. Correct by line "
                "integrals of the score, HMC(correction=LineIntegral()), or not at all, HMC(step_size, "
                "correction=Unadjusted())."
            )
        return self.potential.value(x)


class Held(eqx.Module):
    """A law of some of the coordinates, given the others.

    Attributes:
        law: the law.
        position: its coordinates: those of the whole, with None in place of what is held.
    """

    law: TiltedLaw
    position: PyTree


def placed(law: TiltedLaw, change: Callable[[PyTree], tuple[PyTree, Array]]) -> TiltedLaw:
    """The law in other coordinates v: rho(u(v)) |det du/dv|. Kernels need no change, potentials are asked no more.

    Where coordinates are held, u of what is held may depend on v of what is held alone.

    Args:
        law: of u.
        change: v -> (u, log|det du/dv|), as `Problem.place`.
    """
    inner_hold = law.hold

    def log_base(v: PyTree) -> Array:
        u, log_det = change(v)
        return law.log_base(u) + log_det

    def hold(v: PyTree) -> Held:
        assert inner_hold is not None
        inner = inner_hold(change(v)[0])

        def whole(free: PyTree) -> PyTree:
            return _by_held(inner.position, free, v)

        def free(every: PyTree) -> PyTree:
            return _by_held(inner.position, every, None)

        def change_free(position: PyTree) -> tuple[PyTree, Array]:
            u, log_det = change(whole(position))
            return free(u), log_det

        return Held(placed(inner.law, change_free), free(v))

    def together(v: PyTree) -> tuple[Array, Array]:
        u, log_det = change(v)
        return law.push(u), law.log_base(u) + log_det

    def push(v: PyTree) -> Array:
        return law.push(change(v)[0])

    inner = law if law.climbs_on is None else law.climbs_on
    guide = TiltedLaw(lambda v: inner.push(change(v)[0]), inner.potential, lambda v: inner.log_base(change(v)[0]))
    return TiltedLaw(push, law.potential, log_base, None if inner_hold is None else hold, together, guide)


def _by_held(pattern: PyTree, free: PyTree, held: PyTree) -> PyTree:
    """A tree with `held` where the pattern has None, and with `free` elsewhere."""
    nothing = jax.tree.map(lambda _: None, pattern, is_leaf=_is_none) if held is None else held

    def chosen(kept, other, whole):
        return whole if kept is None else other

    return jax.tree.map(chosen, pattern, free, nothing, is_leaf=_is_none)


def _is_none(leaf) -> bool:
    return leaf is None


def log_normal(u: PyTree) -> Float[Array, ""]:
    """Log density of independent standard normals on a pytree, without its constant."""
    return -0.5 * jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(leaf**2), u))


def standard_normal() -> TiltedLaw:
    """The law that is left without a potential: independent standard normals, of any structure; the twin's law."""
    return untilted(log_normal)


def untilted(log_base: Callable[[PyTree], Array]) -> TiltedLaw:
    """The law that is left without a potential, in any coordinates: that of its base."""
    return TiltedLaw(lambda u: jnp.zeros(()), Potential(jnp.zeros_like), log_base)
