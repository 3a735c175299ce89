"""How healthy a distillation is, seen from one state: its chains, its scores, and what the score network knows."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from pplemd.diffusion import AbstractWeighting, denoised_from_score
from pplemd.dsl import Program
from pplemd.inference import ALL, Point, ScorePotential, TiltedLaw, gauss_legendre
from pplemd.learning.em_state import EMState
from pplemd.learning.em_step import Batch, EMStep, mean_square
from pplemd.learning.microbatches import averaged, mapped
from pplemd.learning.score_matching import Noise, default_weight, matching_loss
from pplemd.networks import Computing, computed
from pplemd.teachers import AbstractDenoiser, AbstractTeacher, DenoiserFunction

Field = Callable[[Float[Array, "..."]], Float[Array, "..."]]

POINTS = 5  # of Gauss-Legendre on a side: exact to degree 9; a side of sigma is short against the noised law's features
SMALLEST = 1e-12  # stands for a drift of zero, which would make a ratio infinite
NATS = 1e-2  # a log ratio that decides no proposal: closed loops of less are rounding, not curl


class Noised(eqx.Module):
    """Fresh samples of the student, noised by the law of the E-step.

    Attributes:
        x: the samples.
        x_sigma: the same with noise.
        sigma: a noise level for each.
        labels: a class for each, or None.
    """

    x: Float[Array, "batch ..."]
    x_sigma: Float[Array, "batch ..."]
    sigma: Float[Array, " batch"]
    labels: Int[Array, " batch"] | None


class HealthCheck(eqx.Module):
    """(state, key) -> figures of health, from draws of its own; the training does not notice.

    Chains are as the step computes them. The scores are looked at in 32 bits, so that rounding is not taken for curl,
    and in microbatches of the step's size.

    Attributes:
        step: the EM step under way.
        batch: chains and samples that the figures are of.
    """

    step: EMStep
    batch: int = eqx.field(static=True, default=64)

    def __call__(self, state: EMState, key: PRNGKeyArray) -> dict[str, Float[Array, ""]]:
        """The figures.

        noise_to_drift, noise_chi2, latents_chi2 (where latents move): of chains as the E-step runs them; of a method
        without chains there are none, and of one without a score network there are no figures at all.
        score_gap: root mean square of sigma (s_q - s_p) at fresh samples, over their entries; 0 where the two agree.
        score_lag: see `score_lag`. curl_*, loop_*: means of `curl` and `closed_loop` over fresh noised samples.
        """
        key_chains, key_fresh, key_sigma, key_lag, key_curl, key_loop = jax.random.split(key, 6)
        progress, program, score = state.step / self.step.recipe.steps, state.generator.module, state.score.module
        small = self._small()
        learned, method = small.recipe.score, small.recipe.method
        figures = {}
        if method.chains:
            batch = small.e_step(program, score, key_chains, progress, state.tuning)
            figures = chain_figures(batch, small.recipe.frozen)
        if not method.learns_score:
            return figures
        seen = _noised(small, program, key_fresh, progress)
        teacher, score = computed((small.teacher, score), Computing())
        parts = small.recipe.compute.accumulate
        samples = (seen.x, learned.sigmas.sample(key_sigma, (self.batch,), progress), seen.labels)
        figures["score_gap"] = _score_gap(teacher, score, seen, parts)
        weighting = learned.weighting or default_weight(score)
        figures["score_lag"] = score_lag(score, teacher, key_lag, samples, weighting, parts)
        for name, known in (("teacher", teacher), ("student", score)):
            figures[f"curl_{name}"] = _mean_curl(known, key_curl, seen, parts)
            figures[f"loop_{name}"] = _mean_loop(known, key_loop, seen, parts)
        return figures

    def _small(self) -> EMStep:
        """The step with `batch` chains, their noise cancelled whole: the chains are the same, and the rest is drift."""
        recipe = self.step.recipe
        chain = dataclasses.replace(recipe.chain, cancel=ALL)
        compute = dataclasses.replace(recipe.compute, accumulate=recipe.compute.parts(self.batch, recipe.batch))
        smaller = dataclasses.replace(recipe, batch=self.batch, chain=chain, compute=compute)
        return dataclasses.replace(self.step, recipe=smaller)


def chain_figures(batch: Batch, held: bool) -> dict[str, Float[Array, ""]]:
    """What the ends of chains tell of them.

    noise_to_drift: root mean square of how far the twin went, over that of the residual eps_K - nu_K: how much of a
        chain's movement is noise, for one part of what it learns.
    noise_chi2, latents_chi2: `chi2` of eps_K and of z_K. At the optimum the chains start in their law, N(0, I), and
        stay there; large figures early are the tilt towards the teacher, growing ones a kernel that does not hold it.

    Args:
        batch: the ends of chains, with their start, their noise cancelled whole.
        held: whether the latents did not move; then there is no latents_chi2.

    Source: arXiv:2405.16852, section 3.3, for twin and residual.
    """
    assert batch.start is not None
    drift = _root_mean_square(batch.draw.residual.noise)
    figures = {
        "noise_to_drift": _root_mean_square(batch.draw.twin.noise - batch.start) / jnp.maximum(drift, SMALLEST),
        "noise_chi2": chi2(batch.draw.position.noise),
    }
    return figures if held else figures | {"latents_chi2": chi2(batch.draw.position.latents)}


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
    x, sigma, labels = samples

    def denoise(x_sigma, sigma, label=None):
        return denoised_from_score(teacher.score(x_sigma, sigma, label), x_sigma, sigma)

    other = DenoiserFunction(denoise, teacher.shape, teacher.classes)
    eps = jax.random.normal(jax.random.split(key)[0], x.shape)

    def losses(x, noise, labels):
        return tuple(matching_loss(known, x, noise, labels, weighting) for known in (score, other))

    own, others = averaged(losses, (x, Noise(sigma, eps), labels), parts)
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
    law = TiltedLaw(lambda x: x, ScorePotential(lambda x: -field(x)), lambda x: jnp.zeros(()))

    def side(a: Array, b: Array) -> Array:
        start, end = (Point(x, x, x, x) for x in (a, b))  # the rule asks the field inside the side alone
        return gauss_legendre(POINTS).gain(law, start, end)

    sides = jax.vmap(side)(corners, jnp.roll(corners, -1, axis=0))
    return jnp.abs(jnp.sum(sides)) / jnp.maximum(jnp.sum(jnp.abs(sides)), NATS)


def triangle(key: PRNGKeyArray, x: Float[Array, "..."], side: Float[Array, ""]) -> Float[Array, "3 ..."]:
    """Three corners around x in random directions, side / sqrt(2) away: about `side` apart in many dimensions."""
    directions = jax.random.normal(key, (3, *x.shape))
    return x[None] + side / jnp.sqrt(2.0) * jax.vmap(lambda d: d / _norm(d))(directions)


def _noised(step: EMStep, program: Program, key: PRNGKeyArray, progress: Array) -> Noised:
    key_fresh, key_sigma, key_eps = jax.random.split(key, 3)
    fresh = step.fresh(program, key_fresh)
    parts = step.recipe.compute.accumulate
    x = mapped(lambda u, label: step.problem.generate(program, u, label), (fresh.latents, fresh.labels), parts)
    sigma = step.recipe.sigmas.sample(key_sigma, (step.recipe.batch,), progress)
    return Noised(x, x + jax.vmap(jnp.multiply)(sigma, jax.random.normal(key_eps, x.shape)), sigma, fresh.labels)


def _score_gap(teacher: AbstractTeacher, score: AbstractTeacher, seen: Noised, parts: int) -> Float[Array, ""]:
    def one(x_sigma, sigma, label):
        return sigma * (teacher.score(x_sigma, sigma, label) - score.score(x_sigma, sigma, label))

    return _root_mean_square(mapped(one, (seen.x_sigma, seen.sigma, seen.labels), parts))


def _mean_curl(known: AbstractTeacher, key: PRNGKeyArray, seen: Noised, parts: int) -> Float[Array, ""]:
    def one(x_sigma, sigma, label, v):
        return curl(lambda x: known.score(x, sigma, label), x_sigma, v)

    probes = jax.random.normal(key, seen.x.shape)
    return jnp.mean(mapped(one, (seen.x_sigma, seen.sigma, seen.labels, probes), parts))


def _mean_loop(known: AbstractTeacher, key: PRNGKeyArray, seen: Noised, parts: int) -> Float[Array, ""]:
    def one(corner_key, x_sigma, sigma, label):
        return closed_loop(lambda x: known.score(x, sigma, label), triangle(corner_key, x_sigma, sigma))

    keys = jax.random.split(key, len(seen.x))
    return jnp.mean(mapped(one, (keys, seen.x_sigma, seen.sigma, seen.labels), parts))


def _norm(x: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(x**2))


def _root_mean_square(x: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(x**2))
