"""Each method's mean gradient on a linear-Gaussian problem with exact scores, against its divergence's.

Teacher N(0, 1), student x = a z, so that x_sigma has variance V = a^2 + sigma^2, the teacher's T = 1 + sigma^2.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problems import Linear, Normal
from training_steps import at, distilling

import pplemd as em
from pplemd.algorithms import DMD, EMD, SIM, DiffInstruct, SiD
from pplemd.dsl import trace

COUNT = 40_000
TEACHER = em.GaussianMixture(np.zeros((1, 1)), 1.0)
CASES = [(0.5, 0.5), (0.5, 2.0), (1.5, 0.5), (1.5, 2.0)]
every_case = pytest.mark.parametrize(("a", "sigma"), CASES)


def gradients(algorithm, a, sigma, count=COUNT, **options):
    """d loss / d a of each of `count` samples."""
    program, problem = Linear(jnp.asarray(a)), trace(Linear(jnp.asarray(a)), shape=(1,))
    sigmas = em.LogUniform(sigma, sigma * 1.0001)
    step = distilling(problem, TEACHER, algorithm=algorithm, batch=count, sigmas=sigmas, **options)
    now = at(program, Normal(jnp.asarray(a)))

    @eqx.filter_jit
    def all_of_them(step, now, key):
        drawn = step.algorithm.draw(step.context, now, key)

        def one(row):
            single = jax.tree.map(lambda leaf: leaf[None], row)
            return jax.grad(lambda p: step.algorithm.loss(p, step.context, now, single)[0])(now.networks["generator"]).a

        return jax.vmap(one)(drawn)

    return np.asarray(all_of_them(step, now, jax.random.key(0)), np.float64)


def assert_mean(samples, expected):
    error = samples.std() / np.sqrt(len(samples))
    assert abs(samples.mean() - expected) < 4 * error, (samples.mean(), expected, error)
    assert abs(samples.mean() + expected) > 10 * error  # so that a flipped sign fails


def variances(a, sigma):
    return a**2 + sigma**2, 1 + sigma**2


@every_case
def test_diff_instruct_descends_the_reverse_kl(a, sigma):
    """d/da KL(N(0, V) || N(0, T)) = a (1/T - 1/V), times w = sigma^2."""
    ours, theirs = variances(a, sigma)
    assert_mean(gradients(DiffInstruct(), a, sigma), sigma**2 * a * (1 / theirs - 1 / ours))


@every_case
@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.2])
def test_sid_descends_its_fisher_divergence(a, sigma, alpha):
    """sigma^4 2a ((1 - alpha) (1/V - 1/T)^2 + (1/T - 1/V) / V)."""
    ours, theirs = variances(a, sigma)
    gap = 1 / theirs - 1 / ours
    expected = sigma**4 * 2 * a * ((1 - alpha) * gap**2 + gap / ours)
    assert_mean(gradients(SiD(alpha=alpha, normalised=False), a, sigma), expected)


@every_case
def test_sid_with_alpha_one_half_is_half_the_fisher_divergence(a, sigma):
    """Of E_p |s_p - s_q|^2 = V / T^2 - 2 / T + 1 / V; by automatic differentiation."""

    def fisher(a):
        ours, theirs = variances(a, sigma)
        return ours / theirs**2 - 2 / theirs + 1 / ours

    expected = 0.5 * sigma**4 * float(jax.grad(fisher)(a))
    assert_mean(gradients(SiD(alpha=0.5, normalised=False), a, sigma), expected)


@every_case
@pytest.mark.parametrize("softness", [0.00054, 0.5])
def test_sim_descends_its_distance_of_scores(a, sigma, softness):
    """sigma^2 E_x~p [ d'(y) ds_p/da ], y = D_p - D_q = sigma^2 x (1/T - 1/V), ds_p/da = 2 a x / V^2; by quadrature."""
    ours, theirs = variances(a, sigma)
    x, weight = np.polynomial.hermite_e.hermegauss(200)
    x, weight = x * np.sqrt(ours), weight / weight.sum()
    y = sigma**2 * x * (1 / theirs - 1 / ours)
    slope = y / np.sqrt(y**2 + softness**2)
    expected = sigma**2 * np.sum(weight * slope * 2 * a * x / ours**2)
    found = gradients(SIM(softness=softness), a, sigma)
    assert_mean(found, expected)


@pytest.mark.parametrize("algorithm", [DiffInstruct(), DMD(), SiD(), SIM(softness=0.1)], ids=lambda m: type(m).__name__)
def test_at_the_optimum_every_gradient_is_zero(algorithm):
    assert np.abs(gradients(algorithm, 1.0, 0.7, count=500)).max() < 1e-4


def test_emd_of_one_held_step_is_diff_instruct():
    """Of the same draws, sample by sample: the step size times its gradient."""
    chain = em.Chain(em.Langevin(em.Coordinates(0.16, 1.0)), 1)
    ours = gradients(EMD(), 0.5, 0.5, count=300, chain=chain, move_latents=False)
    theirs = gradients(DiffInstruct(), 0.5, 0.5, count=300)
    np.testing.assert_allclose(ours, 0.16 * theirs, atol=1e-5 * np.abs(theirs).max())
    assert np.abs(theirs).max() > 0.1


@pytest.mark.slow_for("0.5")
@pytest.mark.parametrize("a", [0.5, 1.5])
def test_dmd_is_diff_instruct_with_its_pull_brought_to_one_size(a):
    """The pull of each sample over |x - D_q(x_sigma)|, which depends on the sample."""
    context = distilling(trace(Linear(jnp.asarray(a)), shape=(1,)), TEACHER, batch=400).context
    now, key = at(Linear(jnp.asarray(a)), Normal(jnp.asarray(a))), jax.random.key(1)
    plain, scaled = (algorithm.draw(context, now, key) for algorithm in (DiffInstruct(), DMD()))
    drawn = DMD().noised(context, now, key)
    x = a * drawn.latents["z"]
    hidden = np.abs(x - (x + drawn.sigma[:, None] * drawn.noise) / (1 + drawn.sigma[:, None] ** 2))
    np.testing.assert_allclose(scaled.pull, plain.pull / np.maximum(hidden, 1e-5), rtol=2e-3, atol=1e-5)
    assert np.std(hidden) > 0.1
