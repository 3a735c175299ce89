"""How healthy a distillation is, seen from one state: its chains, its scores, and what the score network knows."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from pplemd.conditions import Condition
from pplemd.diffusion import AbstractWeighting, denoised_from_score
from pplemd.inference import Draw, Point, ScorePotential, TiltedTarget, gauss_legendre
from pplemd.learning.denoising import Noise, matching_loss
from pplemd.learning.training import averaged, mapped
from pplemd.networks import NetworkPrecision, with_precision
from pplemd.teachers import AbstractDenoiser, AbstractTeacher, DenoiserFunction

Field = Callable[[Float[Array, "..."]], Float[Array, "..."]]

POINTS = 5  # of Gauss-Legendre on a side: exact to degree 9; a side of sigma is short against features of noised data
SMALLEST = 1e-12  # stands for a drift of zero, which would make a ratio infinite
NATS = 1e-2  # a log ratio that decides no proposal: closed loops of less are rounding, not curl


class Samples(eqx.Module):
    """Fresh samples of the student, and noise of the levels that they are pulled at.

    Attributes:
        x: the samples.
        sigma: a noise level for each.
        eps: standard normal noise.
        conditions: a class for each, or None.
    """

    x: Float[Array, "batch ..."]
    sigma: Float[Array, " batch"]
    eps: Float[Array, "batch ..."]
    conditions: Condition

    @property
    def x_sigma(self) -> Float[Array, "batch ..."]:
        """The samples with their noise."""
        return self.x + jax.vmap(jnp.multiply)(self.sigma, self.eps)


def score_figures(
    teacher: AbstractTeacher,
    score: AbstractDenoiser,
    samples: Samples,
    learned: Float[Array, " batch"],
    weighting: AbstractWeighting,
    keys: Key[Array, " 3"],
    parts: int,
) -> dict[str, Float[Array, ""]]:
    """Figures of the teacher's and the student's scores at fresh samples of the student.

    score_gap: root mean square of sigma (s_q - s_p), over entries; 0 where the two agree. score_lag: see `score_lag`.
    curl_*, loop_*: means of `curl` and `closed_loop`. The scores are evaluated in 32 bits, so that rounding is not
    taken for curl.

    Args:
        teacher: q.
        score: the student's score network.
        samples: fresh samples, not used in training.
        learned: noise levels of the score network's own loss, one for each sample.
        weighting: of that loss.
        keys: for its noise, for probes, and for triangles.
        parts: microbatches that the samples are cut into.
    """
    teacher, score = with_precision((teacher, score), NetworkPrecision())
    key_lag, key_curl, key_loop = keys

    def one(x_sigma, sigma, condition):
        return sigma * (teacher.score(x_sigma, sigma, condition) - score.score(x_sigma, sigma, condition))

    score_gap = _root_mean_square(mapped(one, (samples.x_sigma, samples.sigma, samples.conditions), parts))
    figures = {
        "score_gap": score_gap,
        "score_lag": score_lag(score, teacher, key_lag, (samples.x, learned, samples.conditions), weighting, parts),
    }
    for name, known in (("teacher", teacher), ("student", score)):
        figures[f"curl_{name}"] = _mean_curl(known, key_curl, samples, parts)
        figures[f"loop_{name}"] = _mean_loop(known, key_loop, samples, parts)
    return figures


def chain_figures(draw: Draw, start: Float[Array, "batch ..."], moved: bool) -> dict[str, Float[Array, ""]]:
    """What the ends of chains say of them.

    noise_to_drift: root mean square of how far the coupled chain went, over that of the residual eps_K - nu_K: how
        much of a chain's movement is noise, for one part of what it learns.
    noise_chi2, latents_chi2: `chi2` of eps_K and of z_K. At the optimum the chains start in their distribution, N(0,
    I), and
        stay there; large figures early are the tilt towards the teacher, growing ones a kernel that does not hold it.

    Args:
        draw: the ends of chains, their noise cancelled whole.
        start: the noise that they started from.
        moved: whether the latents moved; else there is no latents_chi2.

    Source: arXiv:2405.16852, section 3.3, for the coupled chain and the residual.
    """
    drift = _root_mean_square(draw.residual.noise)
    figures = {
        "noise_to_drift": _root_mean_square(draw.coupled.noise - start) / jnp.maximum(drift, SMALLEST),
        "noise_chi2": chi2(draw.position.noise),
    }
    return figures | {"latents_chi2": chi2(draw.position.latents)} if moved else figures


def chi2(tree: PyTree) -> Float[Array, ""]:
    """(mean square - 1) / sqrt(2 / n) over a pytree's n numbers: about N(0, 1) where they are standard normal.

    Source: the normal approximation of a chi-square variable of n degrees of freedom, mean n and variance 2 n.
    """
    count = sum(leaf.size for leaf in jax.tree.leaves(tree))
    return (mean_square(tree) - 1) / jnp.sqrt(2 / count)


def score_lag(
    score: AbstractDenoiser,
    teacher: AbstractTeacher,
    key: PRNGKeyArray,
    samples: tuple[Float[Array, "batch ..."], Float[Array, " batch"], Int[Array, " batch"] | None],
    weighting: AbstractWeighting,
    parts: int = 1,
) -> Float[Array, ""]:
    """The score network's denoising loss on fresh student samples over the teacher's loss on the same.

    Both see the same noise. No denoiser has less loss than the student's own; above 1 the network knows the student
    less well than the teacher does, which never saw it: then Ds points somewhere between wrong and backwards. A low
    ratio alone clears nobody: the teacher knows a student that went astray still less (see `alarms.score_lags`).

    Args:
        score: the student's score network.
        teacher: the teacher.
        key: a key for the noise.
        samples: x, sigma and labels; the samples must be the student's, and not used in training.
        weighting: loss weight by sigma.
        parts: microbatches that the samples are cut into.

    Source: arXiv:2405.16852, algorithm 1, for the loss; the ratio is this project's.
    """
    x, sigma, conditions = samples

    def denoise(x_sigma, sigma, condition=None):
        return denoised_from_score(teacher.score(x_sigma, sigma, condition), x_sigma, sigma)

    other = DenoiserFunction(denoise, teacher.shape, teacher.condition)
    eps = jax.random.normal(jax.random.split(key)[0], x.shape)

    def losses(x, noise, conditions):
        return tuple(matching_loss(known, x, noise, conditions, weighting) for known in (score, other))

    own, others = averaged(losses, (x, Noise(sigma, eps), conditions), parts)
    return own / others


def curl(field: Field, x: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, ""]:
    """|(A - A^T) v| / |A v|, A the field's Jacobian at x: 0 for every v where the field is a gradient.

    One JVP and one VJP, whatever the dimension.

    Args:
        field: a score at one sigma, from one x to an array of its shape.
        x: where to look.
        v: a probe, such as a standard normal draw.

    Source: a field is a gradient where its Jacobian is symmetric (Poincare's lemma); arXiv:2307.14012, section 3, on
        scores that are none.
    """
    _, pushed = jax.jvp(field, (x,), (v,))
    _, pull_back = jax.vjp(field, x)
    (pulled,) = pull_back(v)
    return _norm(pushed - pulled) / jnp.maximum(_norm(pushed), SMALLEST)


def closed_loop(field: Field, corners: Float[Array, "3 ..."]) -> Float[Array, ""]:
    """|sum of the line integrals along a triangle's sides| / sum of their absolute values: 0 for a gradient, at most 1.

    It is the error of a Metropolis ratio from line integrals of this field, relative to the ratio's own size.

    Args:
        field: a score at one sigma.
        corners: of the triangle.

    Source: arXiv:2307.14012, section 3.2, for the line integral; closing it is this project's check.
    """
    law = TiltedTarget(lambda x: x, ScorePotential(lambda x: -field(x)), lambda x: jnp.zeros(()))

    def side(a: Array, b: Array) -> Array:
        start, end = (Point(x, x, x, x) for x in (a, b))  # the rule evaluates the field inside the side alone
        return gauss_legendre(POINTS).gain(law, start, end)

    sides = jax.vmap(side)(corners, jnp.roll(corners, -1, axis=0))
    return jnp.abs(jnp.sum(sides)) / jnp.maximum(jnp.sum(jnp.abs(sides)), NATS)


def triangle(key: PRNGKeyArray, x: Float[Array, "..."], side: Float[Array, ""]) -> Float[Array, "3 ..."]:
    """Three corners around x in random directions, side / sqrt(2) away: about `side` apart in many dimensions."""
    directions = jax.random.normal(key, (3, *x.shape))
    return x[None] + side / jnp.sqrt(2.0) * jax.vmap(lambda d: d / _norm(d))(directions)


def mean_square(tree: PyTree) -> Float[Array, ""]:
    """Mean square over all entries of a pytree: 1 where they are standard normal."""
    leaves = jax.tree.leaves(tree)
    return sum(jnp.sum(leaf**2) for leaf in leaves) / sum(leaf.size for leaf in leaves)


def _mean_curl(known: AbstractTeacher, key: PRNGKeyArray, seen: Samples, parts: int) -> Float[Array, ""]:
    def one(x_sigma, sigma, condition, v):
        return curl(lambda x: known.score(x, sigma, condition), x_sigma, v)

    probes = jax.random.normal(key, seen.x.shape)
    return jnp.mean(mapped(one, (seen.x_sigma, seen.sigma, seen.conditions, probes), parts))


def _mean_loop(known: AbstractTeacher, key: PRNGKeyArray, seen: Samples, parts: int) -> Float[Array, ""]:
    def one(corner_key, x_sigma, sigma, condition):
        return closed_loop(lambda x: known.score(x, sigma, condition), triangle(corner_key, x_sigma, sigma))

    keys = jax.random.split(key, len(seen.x))
    return jnp.mean(mapped(one, (keys, seen.x_sigma, seen.sigma, seen.conditions), parts))


def _norm(x: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(x**2))


def _root_mean_square(x: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(x**2))
