"""What stands for the score of a noised density that is known without noise alone."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LogDensity = Callable[[Float[Array, "..."]], Float[Array, ""]]


class AbstractNoised(eqx.Module):
    """A rule that takes log q and gives a stand-in for the gradient of log q_sigma."""

    @abstractmethod
    def __call__(self, log_q: LogDensity, x_sigma: Float[Array, "..."], sigma: Float[Array, ""]) -> Float[Array, "..."]:
        """The score that stands for that of q_sigma.

        Args:
            log_q: log q of one x, up to a constant.
            x_sigma: one point.
            sigma: noise level, in data units.
        """


class Unnoised(AbstractNoised):
    """The score of q itself, whatever sigma: grad log q(x_sigma).

    The E-step then samples q in place of q_sigma, and the student minimises KL(q || p_theta,sigma): at a sigma that
    does not go to 0 its noised samples match q, so that its own lack the variance sigma^2. As sigma -> 0 nothing is
    lost. One gradient.
    """

    def __call__(self, log_q: LogDensity, x_sigma: Float[Array, "..."], sigma: Float[Array, ""]) -> Float[Array, "..."]:
        """Grad log q at x_sigma."""
        return jax.grad(log_q)(x_sigma)


class Quadratic(AbstractNoised):
    """The score of q_sigma by Newton steps towards the mode of q(x) N(x_sigma; x, sigma^2 I), each a local quadratic.

    With H minus the Hessian of log q, and |H| the same with the absolute values of its eigenvalues, one step gives

        (I + sigma^2 |H|)^-1 grad log q(x_sigma)

    exact for a Gaussian at every sigma. Where log q is concave the heat equation has, with s the score of q,

        score of q_sigma = s - sigma^2 H s - (sigma^2 / 2) grad tr(H) + O(sigma^4)

    of which this lacks the third derivatives alone. Where it is not concave the quadratic has no noised density; a step
    along negative curvature is then as short as one along positive curvature. More steps ask the score nearer to the
    mean of x given x_sigma. On mixtures of Gaussians (docs/benchmarks/teachers.md) the error of two steps is 0 to four
    tenths of that of `Unnoised`; in a funnel, where the score of q reaches 1e5, it stays of order 10.

    A step costs a gradient, as many Hessian-vector products as x has numbers, and an eigendecomposition: for x of some
    hundred numbers or more, take `Unnoised` and a small sigma.

    Source: arXiv:1406.2572, equation 13 (saddle-free Newton), for the absolute values.

    Attributes:
        steps: Newton steps.
    """

    steps: int = eqx.field(static=True, default=2)

    def __call__(self, log_q: LogDensity, x_sigma: Float[Array, "..."], sigma: Float[Array, ""]) -> Float[Array, "..."]:
        """The score at the point that the steps end at."""
        start = x_sigma.reshape(-1)

        def flat(x: Array) -> Array:
            return log_q(x.reshape(x_sigma.shape))

        def step(_: Int[Array, ""], pull: Array) -> Array:
            x = start + sigma**2 * pull
            values, vectors = jnp.linalg.eigh(-jax.hessian(flat)(x))
            along = vectors.T @ (jax.grad(flat)(x) - pull)
            return pull + vectors @ (along / (1 + sigma**2 * jnp.abs(values)))

        return jax.lax.fori_loop(0, self.steps, step, jnp.zeros_like(start)).reshape(x_sigma.shape)
