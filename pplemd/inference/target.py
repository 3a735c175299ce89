"""The one target that every E-step samples: a base density, tilted by a potential of what it is pushed to."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from pplemd.conditions import Condition
from pplemd.dsl import Problem, Program
from pplemd.errors import PplemdError


class AbstractPotential(eqx.Module):
    """U(x), up to a constant."""

    @abstractmethod
    def gradient(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gradient of U at one x."""


class Potential(AbstractPotential):
    """A potential whose value is known.

    Attributes:
        value: U, from one x to a scalar.
    """

    value: Callable[[Array], Array]

    def gradient(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gradient of U, by automatic differentiation."""
        return jax.grad(self.value)(x)


class ScorePotential(AbstractPotential):
    """A potential known through its gradient alone, as between a teacher's and a student's score.

    Attributes:
        slope: the gradient of U, from one x to an array of its shape.
    """

    slope: Callable[[Array], Array]

    def gradient(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gradient of U, as given."""
        return self.slope(x)


class Point(eqx.Module):
    """What a target's score needs and finds at one position; kernels keep it, so that nothing is evaluated twice.

    Attributes:
        position: u, coordinates of the target.
        x: T(u).
        slope: gradient of U at x.
        score: gradient of log rho at u.
    """

    position: PyTree
    x: Array
    slope: Array
    score: PyTree


class TiltedTarget(eqx.Module):
    """rho(u) proportional to base(u) exp(-U(T(u))), for one u.

    The gradient needs no Jacobian term: grad log rho = grad log base - J_T(u)^T grad U(T(u)). EM distillation,
    refiners of a generator, tilted priors and posteriors differ in T, U and the base alone.

    Source: arXiv:2405.16852, section 3.2 (reparameterised E-step); arXiv:2010.00654, equation 7.

    Attributes:
        push: T, from coordinates u (any pytree of arrays) to x.
        potential: U.
        log_base: log density of the base, from u to a scalar; a constant may be missing.
        conditional: where some coordinates are expensive to move: given u, the conditional target of the others, its
            coordinates those of u with None for what it is conditional on. None where no coordinates are expensive.
        together: u -> (T(u), log base), where both share work; `visit` evaluates it in place of push and log_base.
        climbs_on: what leads from far out to where the target has its mass, where its own score may not: in other
            coordinates the density as it was in the first ones, since a log-determinant may grow without end.
    """

    push: Callable[[PyTree], Array]
    potential: AbstractPotential
    log_base: Callable[[PyTree], Array]
    conditional: "Callable[[PyTree], Conditional] | None" = None
    together: Callable[[PyTree], tuple[Array, Array]] | None = None
    climbs_on: "TiltedTarget | None" = None

    def visit(self, u: PyTree) -> Point:
        """One push, one gradient of U, one pull-back."""
        if self.together is not None:
            (x, base), pull_back = jax.vjp(self.together, u)
            slope = self.potential.gradient(x)
            return Point(u, x, slope, pull_back((-slope, jnp.ones_like(base)))[0])
        x, pull_back = jax.vjp(self.push, u)
        slope = self.potential.gradient(x)
        (tilt,) = pull_back(slope)
        return Point(u, x, slope, jax.tree.map(lambda base, tilted: base - tilted, jax.grad(self.log_base)(u), tilt))

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


class Conditional(eqx.Module):
    """The conditional target of a block of coordinates, given the others.

    Attributes:
        target: the target.
        position: its coordinates: those of the whole, with None in place of what it is conditional on.
    """

    target: TiltedTarget
    position: PyTree


def transformed(target: TiltedTarget, change: Callable[[PyTree], tuple[PyTree, Array]]) -> TiltedTarget:
    """The target in other coordinates v: rho(u(v)) |det du/dv|.

    Kernels need no change, and potentials are evaluated no more often.

    Where a conditional target is given some coordinates, their u may depend on their v alone.

    Args:
        target: of u.
        change: v -> (u, log|det du/dv|), as `Problem.to_base`.
    """
    inner_conditional = target.conditional

    def log_base(v: PyTree) -> Array:
        u, log_det = change(v)
        return target.log_base(u) + log_det

    def conditional(v: PyTree) -> Conditional:
        assert inner_conditional is not None
        inner = inner_conditional(change(v)[0])

        def whole(block: PyTree) -> PyTree:
            return _by_block(inner.position, block, v)

        def block(every: PyTree) -> PyTree:
            return _by_block(inner.position, every, None)

        def change_block(position: PyTree) -> tuple[PyTree, Array]:
            u, log_det = change(whole(position))
            return block(u), log_det

        return Conditional(transformed(inner.target, change_block), block(v))

    def together(v: PyTree) -> tuple[Array, Array]:
        u, log_det = change(v)
        return target.push(u), target.log_base(u) + log_det

    def push(v: PyTree) -> Array:
        return target.push(change(v)[0])

    inner = target if target.climbs_on is None else target.climbs_on
    guide = TiltedTarget(lambda v: inner.push(change(v)[0]), inner.potential, lambda v: inner.log_base(change(v)[0]))
    return TiltedTarget(
        push, target.potential, log_base, None if inner_conditional is None else conditional, together, guide
    )


def _by_block(pattern: PyTree, block: PyTree, given: PyTree) -> PyTree:
    """A tree with `given` where the pattern has None, and with `block` elsewhere."""
    nothing = jax.tree.map(lambda _: None, pattern, is_leaf=_is_none) if given is None else given

    def chosen(kept, other, whole):
        return whole if kept is None else other

    return jax.tree.map(chosen, pattern, block, nothing, is_leaf=_is_none)


def _is_none(leaf) -> bool:
    return leaf is None


def log_normal(u: PyTree) -> Float[Array, ""]:
    """Log density of independent standard normals on a pytree, without its constant."""
    return -0.5 * jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(leaf**2), u))


def standard_normal() -> TiltedTarget:
    """Independent standard normals, of any structure: what is left of a target without its potential."""
    return without_potential(log_normal)


def without_potential(log_base: Callable[[PyTree], Array]) -> TiltedTarget:
    """The target of a base density alone, in any coordinates: no potential."""
    return TiltedTarget(lambda u: jnp.zeros(()), Potential(jnp.zeros_like), log_base)


class Posterior(eqx.Module):
    """The parts of a posterior as a target. A record, so that targets of one problem share compilations.

    Attributes:
        problem: a traced program that observes data.
        program: its networks.
        condition: where the program takes one.
    """

    problem: Problem
    program: Program
    condition: Condition

    def push(self, u: PyTree) -> Float[Array, " n"]:
        """The identity, flat."""
        return ravel_pytree(u)[0]

    def energy(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """-log p(y | T(u)) at a flat u."""
        shapes = {site.name: jnp.zeros(site.base_shape, site.dtype) for site in self.problem.sites}
        return -self.problem.log_likelihood(self.program, ravel_pytree(shapes)[1](x), self.condition)

    def log_base(self, u: PyTree) -> Float[Array, ""]:
        """Log-density of base coordinates."""
        return self.problem.log_base(self.program, u, self.condition)


def posterior_target(problem: Problem, program: Program, condition: Condition = None) -> TiltedTarget:
    """The target p(z | y) in base coordinates: rho(u) proportional to p(u) p(y | T(u)), whose density is known.

    T is the identity here, on one flat x: the potential is U(u) = -log p(y | T(u)).

    Args:
        problem: a traced program that observes data.
        program: its networks.
        condition: where the program takes one.

    Source: arXiv:1306.0733, section 3 (the auxiliary form: latents as functions of independent noise).
    """
    parts = Posterior(problem, program, condition)
    return TiltedTarget(parts.push, Potential(parts.energy), parts.log_base)
