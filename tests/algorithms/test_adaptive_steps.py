"""The EM step with kernels that find their own step sizes: found, kept in the state, saved and restored."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from training_steps import chains, distilling

from pplemd.algorithms import ScoreUpdates
from pplemd.algorithms.emd import Tuning
from pplemd.conditions import AbstractCondition
from pplemd.diffusion import EDMWeight, LogUniform
from pplemd.dsl import Program, generate, latent, trace
from pplemd.inference import Adaptation, Cancellation, Chain, Coordinates, Langevin, StepSizes, mala
from pplemd.learning import Adam, Training, Watcher, fit
from pplemd.storage.checkpoints import Checkpoints
from pplemd.teachers import AbstractDenoiser, GaussianMixture

SIGMAS = LogUniform(0.2, 2.0)
BINS = Adaptation(bins=4, low=0.02, high=2.0, rate=0.2)  # the first two never see a chain


class Plane(Program):
    """x = a z in the plane."""

    a: jax.Array

    def __call__(self):
        return generate("x", self.a * latent("z", dist.Normal(jnp.zeros(2), 1.0)))


class Bent(Program):
    """x = tanh(4 z): it moves much near zero, and nowhere else."""

    a: jax.Array

    def __call__(self):
        return generate("x", jnp.tanh(4 * self.a * latent("z", dist.Normal(jnp.zeros(1), 1.0))))


class Round(AbstractDenoiser):
    """The exact denoiser of N(0, e^(2 log_std) I), with one parameter."""

    log_std: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    condition: AbstractCondition | None = eqx.field(static=True, default=None)

    def denoise(self, x_sigma, sigma, label=None, key=None):
        variance = jnp.exp(2 * self.log_std)
        return variance / (variance + sigma**2) * x_sigma

    def score(self, x_sigma, sigma, label=None):
        return (self.denoise(x_sigma, sigma) - x_sigma) / sigma**2


START = 0.4
PROBLEM = trace(Plane(jnp.ones(())), shape=(2,))


def em_step(chain, steps, batch=128):
    score = ScoreUpdates(optimiser=Adam(0.02), sigmas=SIGMAS, weighting=EDMWeight(1.0))
    numbers = {"chain": chain, "adaptation": BINS, "sigmas": SIGMAS, "generator": Adam(0.02), "score": score}
    teacher = GaussianMixture([[0.0, 0.0]], 1.0)
    return distilling(PROBLEM, teacher, steps=steps, batch=batch, log_every=4, average=0.95, **numbers)


def begin(step):
    return step.init({"generator": Plane(jnp.asarray(START)), "score": Round(jnp.log(jnp.asarray(START)))})


@pytest.mark.slow
@pytest.mark.parametrize("chain", [Chain(mala(), 2), Chain(mala(), 2, Cancellation.PAIRED)], ids=["all", "paired"])
def test_a_program_is_learned_with_step_sizes_that_are_found(chain):
    step, count = em_step(chain, 400), 400

    @eqx.filter_jit
    def train(state, keys):
        return jax.lax.scan(lambda now, key: step(now, key), state, keys)

    last, metrics = train(begin(step), jax.random.split(jax.random.key(0), count))
    assert all(np.isfinite(values).all() for values in metrics.values())
    acceptance = np.asarray(metrics["acceptance"])
    assert abs(acceptance[:5].mean() - 0.574) > 0.1  # it had to be found
    assert abs(acceptance[-100:].mean() - 0.574) < 0.02
    np.testing.assert_allclose(last.tuning.step_sizes.acceptance[2:], 0.574, atol=0.06)
    np.testing.assert_array_equal(last.tuning.step_sizes.log_size[:2], BINS.start(0.574).log_size[:2])
    assert float(jnp.abs(last.tuning.step_sizes.log_size[2:] - jnp.log(0.5)).min()) > 0.1
    assert abs(float(last.averages["generator"].a) - 1) < 0.1


def test_given_step_sizes_are_not_adapted():
    assert begin(em_step(Chain(Langevin(Coordinates(0.1, 0.1)), 1), 2)).tuning.step_sizes is None
    assert begin(em_step(Chain(mala(0.3), 1), 2)).tuning.step_sizes is None


@pytest.mark.slow
def test_the_step_sizes_that_were_found_are_used():
    step = em_step(Chain(mala(), 1), 2)
    state = begin(step)
    run = eqx.filter_jit(step)
    tiny = eqx.tree_at(lambda s: s.tuning.step_sizes.log_size, state, jnp.full(4, jnp.log(1e-3)))
    huge = eqx.tree_at(lambda s: s.tuning.step_sizes.log_size, state, jnp.full(4, jnp.log(9.0)))
    found = [float(run(each, jax.random.key(1))[1]["acceptance"]) for each in (tiny, huge)]
    assert found[0] > 0.99
    assert found[1] < 0.1


@pytest.mark.slow
def test_ends_have_the_prior_s_law_where_the_student_is_the_teacher_though_the_jacobian_varies():
    # steps scaled by the Jacobian at the chain's own start give a mean of z^2 of .79 here
    teacher = GaussianMixture([[0.0]], 1.0)
    numbers = {"chain": Chain(mala(), 4), "adaptation": BINS, "sigmas": LogUniform(0.2, 0.21)}
    step = distilling(trace(Bent(jnp.ones(())), shape=(1,)), teacher, steps=1, batch=8_000, **numbers)
    run = eqx.filter_jit(lambda key: chains(step, Bent(jnp.ones(())), teacher, key, tuning))
    tuning = Tuning(step_sizes=StepSizes(jnp.full(4, jnp.log(1.5)), jnp.full(4, 0.574)))
    z = run(jax.random.key(0)).draw.position.latents["z"]
    assert abs(float(jnp.mean(z**2)) - 1) < 4 * np.sqrt(2 / z.size)


def rhythm(steps):
    return Training(steps=steps, log_every=4, sample_every=100, checkpoint_every=100)


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_step_sizes_that_it_had(tmp_path):
    step, key = em_step(Chain(mala(), 1), 8, batch=16), jax.random.key(2)
    whole = fit(step, begin(step), key, rhythm(8), Watcher())
    for steps in (5, 8):  # the first saves at its end
        checkpoints = Checkpoints(tmp_path)
        last = fit(step, begin(step), key, rhythm(steps), Watcher(), checkpoints)
        checkpoints.close()
    assert eqx.tree_equal(last, whole)
    assert float(jnp.abs(last.tuning.step_sizes.log_size[2:] - jnp.log(0.5)).min()) > 0.01
