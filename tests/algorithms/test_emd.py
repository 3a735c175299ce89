"""The EM step on tiny programs: what it returns, what it leaves alone, and that it learns."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from training_steps import chains, distilling, m_step

from pplemd.algorithms import ScoreUpdates
from pplemd.algorithms.emd import Batch
from pplemd.conditions import AbstractCondition, Classes, Labels
from pplemd.diffusion import EDMWeight, LogUniform, PowerWeight, UniformWeight
from pplemd.dsl import Program, generate, latent, trace
from pplemd.inference import Cancellation, Chain, Coordinates, Draw, Langevin
from pplemd.learning import Adam
from pplemd.networks import MLP
from pplemd.teachers import AbstractDenoiser, GaussianMixture, one_step

CHAIN = Chain(Langevin(Coordinates(0.16, 0.01)), 2)
SIGMAS = LogUniform(0.3, 2.0)


def noisy(tree, scale=0.3):
    """A network at an arbitrary point: its parameters moved away from their start."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    moved = [leaf + scale * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


class Line(Program):
    """x = a z."""

    a: jax.Array

    def __call__(self):
        return generate("x", self.a * latent("z", dist.Normal(jnp.zeros(1), 1.0)))


class Copy(Program):
    """The teacher's denoiser, asked once; a label where there are classes."""

    net: eqx.Module

    def __call__(self, label):
        return generate("x", self.net(latent("z", dist.Normal(jnp.zeros(2), 1.0)), label))


class Tower(Program):
    """Two latents, the second's scale learned and dependent on the first."""

    net: MLP
    spread: jax.Array

    def __call__(self):
        top = latent("top", dist.Normal(jnp.zeros(2), 1.0))
        low = latent("low", dist.Normal(top, jnp.exp(self.spread)))
        return generate("x", self.net(jnp.concatenate([top, low])))


class LinearDenoiser(AbstractDenoiser):
    """The exact denoiser of N(0, e^(2 log_std)), with one parameter."""

    log_std: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(1,))
    condition: AbstractCondition | None = eqx.field(static=True, default=None)

    def denoise(self, x_sigma, sigma, label=None, key=None):
        variance = jnp.exp(2 * self.log_std)
        return variance / (variance + sigma**2) * x_sigma

    def score(self, x_sigma, sigma, label=None):
        return (self.denoise(x_sigma, sigma) - x_sigma) / sigma**2


class Centres(AbstractDenoiser):
    """The exact denoiser of N(m_label, e^(2 log_std) I) in the plane, its centres and spread trained."""

    centres: jax.Array
    log_std: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    condition: AbstractCondition | None = eqx.field(static=True, default=Classes(3))

    def denoise(self, x_sigma, sigma, label=None, key=None):
        variance = jnp.exp(2 * self.log_std)
        centre = self.centres[0 if label is None else label]
        return (variance * x_sigma + sigma**2 * centre) / (variance + sigma**2)

    def score(self, x_sigma, sigma, label=None):
        return (self.denoise(x_sigma, sigma, label) - x_sigma) / sigma**2


TEACHER = Centres(jnp.array([[1.0, 0.0], [9.0, 9.0], [-1.0, 0.5]]), jnp.asarray(-0.7))
OTHER = noisy(TEACHER)
SCORE = ScoreUpdates(sigmas=SIGMAS, weighting=EDMWeight(0.8))


@cache
def labelled_step(frozen=False):
    program = Copy(one_step(TEACHER, 2.0))
    numbers = {"chain": CHAIN, "sigmas": SIGMAS, "score": SCORE, "move_latents": not frozen, "average": 0.5}
    problem, prior = trace(program, shape=(2,), condition=Classes(3)), Labels((1.0, 0.0, 2.0))
    return distilling(problem, TEACHER, prior, steps=10, batch=16, **numbers), program


@eqx.filter_jit
def e_step(step, program, score_network, key):
    return chains(step, program, score_network, key)


@eqx.filter_jit
def run(step, state, key):
    return step(state, key)


@pytest.mark.slow
def test_a_score_network_equal_to_the_teacher_pulls_nowhere():
    step, program = labelled_step()
    batch = e_step(step, program, TEACHER, jax.random.key(1))
    assert float(jnp.abs(batch.draw.residual.noise).max()) < 1e-5
    pulled = e_step(step, program, OTHER, jax.random.key(1))
    assert float(jnp.abs(pulled.draw.residual.noise).max()) > 1e-2
    assert set(np.unique(batch.conditions)) == {0, 2}
    assert bool(jnp.all((batch.sigma >= 0.3) & (batch.sigma <= 2.0)))


@pytest.mark.slow
def test_frozen_latents_come_back_as_they_were():
    (frozen, program), (moving, _) = labelled_step(True), labelled_step()
    crawl = Langevin(Coordinates(0.16, 1e-30))
    slow = eqx.tree_at(lambda s: s.algorithm.chain.kernel, moving, crawl)
    held, moved = (e_step(step, program, OTHER, jax.random.key(2)) for step in (frozen, slow))
    assert jnp.array_equal(held.draw.position.latents["z"], moved.draw.position.latents["z"])
    assert not np.any(held.draw.residual.latents["z"])
    assert jnp.array_equal(held.conditions, moved.conditions)
    np.testing.assert_allclose(held.draw.residual.noise, moved.draw.residual.noise, atol=1e-5)
    assert float(jnp.abs(held.draw.residual.noise).max()) > 1e-2


@pytest.mark.slow
def test_a_step_updates_everything_once():
    step, program = labelled_step()
    before = step.init({"generator": program, "score": OTHER})
    after, metrics = run(step, before, jax.random.key(3))
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert int(after.step) == 1
    counts = [
        int(value) for _, value in optax.tree_utils.tree_get_all_with_path(after.learners["score"].memory, "count")
    ]
    assert set(counts) == {2}  # score updates of one step
    assert not eqx.tree_equal(after.networks["generator"], before.networks["generator"])
    assert not eqx.tree_equal(after.networks["score"], before.networks["score"])
    assert set(metrics) == {
        *("score_loss", "pull", "gradient_norm", "acceptance", "divergences", "latent_norm", "noise_norm", "skipped")
    }
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert float(metrics["acceptance"]) == 1
    assert 0.3 < float(metrics["latent_norm"]) < 2  # mean squares of standard normals
    expected = jax.tree.map(
        lambda old, new: 0.1 * old + 0.9 * new, before.averages["generator"], after.networks["generator"]
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.averages["generator"], expected
    )
    assert int(after.skipped_in_a_row) == 0


def test_a_teacher_that_returns_nan_is_counted_and_changes_no_generator():
    step, program = labelled_step()
    broken = eqx.tree_at(lambda s: s.context.teacher, step, jax.tree.map(lambda leaf: leaf * jnp.nan, TEACHER))
    before = broken.init({"generator": program, "score": OTHER})
    after, metrics = run(broken, before, jax.random.key(4))
    assert np.isnan(float(metrics["gradient_norm"]))
    assert eqx.tree_equal(after.networks["generator"], before.networks["generator"])
    assert int(after.skipped_in_a_row) == int(after.learners["generator"].skipped) == 1
    assert int(after.learners["score"].skipped) == 0


def test_steps_of_one_key_are_one_step():
    step, program = labelled_step()
    state = step.init({"generator": program, "score": OTHER})
    one, two, other = (run(step, state, jax.random.key(key))[0] for key in (8, 8, 9))
    assert eqx.tree_equal(one, two)
    assert not eqx.tree_equal(one, other)


@pytest.mark.slow
def test_hierarchical_latents_move_and_their_scale_is_trained():
    program = Tower(MLP((4,), (2,), 8, 1, key=jax.random.key(0)), jnp.asarray(-0.5))
    teacher, plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [3.0, 1.0]), Centres(OTHER.centres, OTHER.log_std)
    problem = trace(program, shape=(2,))
    step = distilling(problem, teacher, steps=10, batch=16, chain=CHAIN, sigmas=SIGMAS, score=SCORE)
    batch = e_step(step, program, plain, jax.random.key(5))
    assert {name: leaf.shape for name, leaf in batch.draw.position.latents.items()} == {"top": (16, 2), "low": (16, 2)}
    assert batch.conditions is None
    assert min(float(jnp.abs(leaf).max()) for leaf in batch.draw.residual.latents.values()) > 1e-4
    slope = eqx.filter_jit(eqx.filter_grad(lambda p, step, batch: m_step(step, p, batch), has_aux=True))
    gradient, _ = slope(program, step, batch)
    assert abs(float(gradient.spread)) > 1e-5


SIGMA = jnp.array([0.5, 2.0, 1.0])
BATCH = Batch(
    jax.vmap(Draw)(
        Coordinates(jnp.zeros((3, 1)), {"z": jnp.array([[1.0], [-0.5], [2.0]])}),
        Coordinates(jnp.array([[-0.3], [0.2], [-0.1]]), {"z": jnp.array([[0.9], [-0.7], [2.5]])}),
        jnp.ones(3),
        jnp.zeros(3),
        jnp.ones(3),
    ),
    SIGMA,
    None,
    jnp.zeros((3, 1)),
)


@pytest.mark.parametrize("weighting", [UniformWeight(), PowerWeight(-1.0)], ids=["uniform", "power"])
def test_m_step_ascends_along_the_pull(weighting):
    """loss = mean v |sigma eps~|^2 / 2 and d loss / da = -mean v sigma eps~ z."""
    program = Line(jnp.asarray(0.7))
    step = distilling(trace(program, shape=(1,)), GaussianMixture([[0.0]], 1.0), chain=CHAIN, weighting=weighting)
    slope = eqx.filter_value_and_grad(lambda p: m_step(step, p, BATCH), has_aux=True)
    (loss, figures), gradient = slope(program)
    pulls = np.array([0.5, 2.0, 1.0]) * np.array([0.3, -0.2, 0.1])
    weights = np.array([0.5, 2.0, 1.0]) ** (0.0 if isinstance(weighting, UniformWeight) else -1.0)
    np.testing.assert_allclose(loss, (weights * pulls**2).mean() / 2, rtol=1e-5)
    np.testing.assert_allclose(figures["pull"], (pulls**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient.a, -(weights * pulls * np.array([1.0, -0.5, 2.0])).mean(), rtol=1e-5)


def test_a_paired_twin_takes_its_noise_away_at_its_own_latents():
    """d loss / da = -mean v sigma (eps z - nu z')."""
    program = Line(jnp.asarray(0.7))
    batch = eqx.tree_at(lambda b: b.draw.position.noise, BATCH, BATCH.draw.coupled.noise + 0.5)
    paired = Chain(CHAIN.kernel, 2, Cancellation.PAIRED)
    step = distilling(trace(program, shape=(1,)), GaussianMixture([[0.0]], 1.0), chain=paired)
    gradient = eqx.filter_grad(lambda p: m_step(step, p, batch), has_aux=True)(program)
    noise = np.array([-0.3, 0.2, -0.1])
    chain, coupled = (noise + 0.5) * np.array([1.0, -0.5, 2.0]), noise * np.array([0.9, -0.7, 2.5])
    np.testing.assert_allclose(gradient[0].a, -(np.array([0.5, 2.0, 1.0]) * (chain - coupled)).mean(), rtol=1e-5)


@eqx.filter_jit
def train(step, state, keys):
    return jax.lax.scan(lambda current, key: (step(current, key)[0], None), state, keys)[0]


LINE = trace(Line(jnp.ones(())), shape=(1,))


@pytest.mark.slow_for("0.3")
@pytest.mark.parametrize("start", [0.3, 2.0])
def test_a_scale_is_learned_and_the_score_network_follows(start):
    """Teacher N(0, 1), x = a z: a goes to 1 from both sides, and so does what the score network believes."""
    score = ScoreUpdates(optimiser=Adam(0.03), sigmas=SIGMAS, weighting=EDMWeight(1.0))
    numbers = {"chain": CHAIN, "sigmas": SIGMAS, "generator": Adam(0.02), "score": score, "average": 0.95}
    step = distilling(LINE, GaussianMixture([[0.0]], 1.0), steps=300, batch=256, **numbers)
    known = LinearDenoiser(jnp.log(jnp.asarray(start)))
    state = step.init({"generator": Line(jnp.asarray(start)), "score": known})
    state = train(step, state, jax.random.split(jax.random.key(7), 300))
    assert abs(abs(float(state.averages["generator"].a)) - 1) < 0.1
    assert abs(float(jnp.exp(state.networks["score"].log_std)) - 1) < 0.15
    assert int(state.step) == 300
