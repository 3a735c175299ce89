"""Whether a proposal is accepted, and by what ratio: of densities, of line integrals of scores, or none."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc.proposal import static_binomial_sampling
from jaxtyping import Array, Float

from pplemd.inference.target import Point, Potential, TiltedTarget


class AbstractCorrection(eqx.Module):
    """How a kernel learns by how much one point is likelier than another, and what it does about it."""

    @abstractmethod
    def gain(self, target: TiltedTarget, start: Point, end: Point) -> Float[Array, ""]:
        """Log rho(end) - log rho(start)."""

    @abstractmethod
    def decide(self, key, energy_gain, current, proposed):
        """BlackJAX's sample_proposal: the chosen state and (accepted, acceptance probability, None)."""

    @abstractmethod
    def evaluations(self, target: TiltedTarget) -> int:
        """Gradients of U that one move costs, that of its end included."""


class Exact(AbstractCorrection):
    """Metropolis's rule with the target's own density, for potentials whose value is known."""

    def gain(self, target: TiltedTarget, start: Point, end: Point) -> Float[Array, ""]:
        """Difference of log densities."""
        return target.gain(start, end)

    def decide(self, key, energy_gain, current, proposed):
        """Accept with probability min(1, exp(energy_gain))."""
        return static_binomial_sampling(key, energy_gain, current, proposed)

    def evaluations(self, target: TiltedTarget) -> int:
        """The gradient at the end; values are not counted."""
        return 1


class LineIntegral(AbstractCorrection):
    """Metropolis's rule with scores alone: U(x') - U(x) = integral over r in [0, 1] of grad U(x + r dx) . dx.

    The base's part is exact; the integral is taken on the straight line in x, where it needs no generator and no
    pull-back, by quadrature.

    Source: arXiv:2307.14012, section 3.2. Departs: straight in x instead of along the leapfrog path in u; not the
    trapezoid rule, which on a leapfrog step is exact for normals only.

    Attributes:
        nodes: where grad U is evaluated, in [0, 1]; at 0 and 1 it is known already.
        weights: the quadrature's.
    """

    nodes: tuple[float, ...] = eqx.field(static=True, default=(0.0, 0.5, 1.0))
    weights: tuple[float, ...] = eqx.field(static=True, default=(1 / 6, 4 / 6, 1 / 6))

    def gain(self, target: TiltedTarget, start: Point, end: Point) -> Float[Array, ""]:
        """The base's difference less the line integral of grad U."""
        step = end.x - start.x
        known = {0.0: start.slope, 1.0: end.slope}
        inner = [node for node in self.nodes if node not in known]
        gradients = jax.vmap(lambda r: target.potential.gradient(start.x + r * step))(jnp.asarray(inner, step.dtype))
        slopes = known | {node: gradients[place] for place, node in enumerate(inner)}
        rise = sum(weight * jnp.sum(slopes[node] * step) for node, weight in zip(self.nodes, self.weights, strict=True))
        return target.log_base(end.position) - target.log_base(start.position) - rise

    def decide(self, key, energy_gain, current, proposed):
        """Accept with probability min(1, exp(energy_gain))."""
        return static_binomial_sampling(key, energy_gain, current, proposed)

    def evaluations(self, target: TiltedTarget) -> int:
        """The gradient at the end, and at the inner nodes."""
        return 1 + len(set(self.nodes) - {0.0, 1.0})


def simpson() -> LineIntegral:
    """Simpson's rule: one gradient more a step; the rule for trajectories of several short steps."""
    return LineIntegral()


def gauss_legendre(points: int = 3) -> LineIntegral:
    """Gauss-Legendre quadrature: `points` gradients more a step, exact to degree 2 points - 1; for one long step."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return LineIntegral(tuple((0.5 * (nodes + 1)).tolist()), tuple((0.5 * weights).tolist()))


class Automatic(AbstractCorrection):
    """Exact where the potential's value is known, a line integral where only its gradient is.

    Attributes:
        line: the line integral.
    """

    line: LineIntegral = LineIntegral()

    def gain(self, target: TiltedTarget, start: Point, end: Point) -> Float[Array, ""]:
        """Log rho(end) - log rho(start)."""
        return self._chosen(target).gain(target, start, end)

    def decide(self, key, energy_gain, current, proposed):
        """Accept with probability min(1, exp(energy_gain))."""
        return static_binomial_sampling(key, energy_gain, current, proposed)

    def evaluations(self, target: TiltedTarget) -> int:
        """Those of the rule that serves this target."""
        return self._chosen(target).evaluations(target)

    def _chosen(self, target: TiltedTarget) -> AbstractCorrection:
        return Exact() if isinstance(target.potential, Potential) else self.line


class Unadjusted(AbstractCorrection):
    """Accept everything, at no cost and with a bias that grows with the step size."""

    def gain(self, target: TiltedTarget, start: Point, end: Point) -> Float[Array, ""]:
        """Not needed: 0."""
        return jnp.zeros(())

    def decide(self, key, energy_gain, current, proposed):
        """Accept."""
        return proposed, (jnp.ones((), bool), jnp.ones_like(energy_gain), None)

    def evaluations(self, target: TiltedTarget) -> int:
        """The gradient at the end."""
        return 1
