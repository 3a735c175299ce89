"""Step sizes that adapt while a student is trained: what moves a bin, where it rests, and the scale of the latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError
from pplemd.inference import Adaptation, Chain, Potential, StepSizes, TiltedTarget, barkers, jacobian_scale, mala

WANTED = 0.6
FOUR = Adaptation(bins=4, low=0.01, high=100.0, initial=0.5, rate=0.2)  # a decade each


def test_bins_are_equal_ranges_of_log_sigma():
    sigma = jnp.asarray([1e-9, 0.005, 0.011, 0.09, 0.11, 0.9, 1.1, 9.0, 11.0, 99.0, 101.0, 1e9])
    np.testing.assert_array_equal(FOUR.bin_of(sigma), [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3])
    assert int(FOUR.bin_of(sigma[4])) == 1
    assert int(jnp.max(Adaptation(bins=1).bin_of(sigma))) == 0


def test_each_sigma_has_the_step_of_its_bin():
    sizes = StepSizes(jnp.log(jnp.asarray([0.1, 0.2, 0.3, 0.4])), jnp.zeros(4))
    np.testing.assert_allclose(FOUR.step_size(sizes, jnp.asarray([50.0, 0.02, 0.5])), [0.4, 0.1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(FOUR.step_size(FOUR.start(WANTED), jnp.asarray(0.3)), 0.5, rtol=1e-6)


def test_a_bin_moves_by_its_own_chains_and_an_empty_one_stays():
    sigma = jnp.asarray([0.02, 0.03, 0.04, 0.05, 0.2, 2.0, 2.0, 2.0, 2.0, 2.0])  # 4, 1, 5 and no chains
    acceptance = jnp.asarray([0.9, 1.0, 0.8, 0.9, 0.2, *5 * [jnp.nan]])
    start = FOUR.start(WANTED)
    after = FOUR.update(start, sigma, acceptance, WANTED)
    change = np.array([0.2 * (0.9 - WANTED), 0.2 / 4 * (0.2 - WANTED), 0.2 * (0.0 - WANTED), 0.0])  # NaN counts as 0
    np.testing.assert_allclose(after.log_size - start.log_size, change, atol=1e-6)
    np.testing.assert_allclose(after.acceptance - start.acceptance, change, atol=1e-6)
    assert after.log_size[3] == start.log_size[3]


@pytest.mark.slow
def test_sizes_stay_within_reason():
    sigma = jnp.full(8, 1.1)
    low = high = FOUR.start(WANTED)
    for _ in range(300):
        low, high = (FOUR.update(s, sigma, jnp.full(8, a), WANTED) for s, a in ((low, jnp.nan), (high, 1.0)))
    np.testing.assert_allclose(jnp.exp(low.log_size[2]), 1e-4, rtol=1e-4)
    np.testing.assert_allclose(jnp.exp(high.log_size[2]), 10.0, rtol=1e-4)


@pytest.mark.parametrize(
    "numbers", [{"bins": 0}, {"low": 0.0}, {"low": 3.0, "high": 2.0}, {"initial": 0.0}, {"rate": -1.0}], ids=str
)
def test_numbers_that_cannot_be(numbers):
    with pytest.raises(RecipeError, match=next(iter(numbers))):
        Adaptation(**numbers)


DIM, COUNT = 6, 128


def normal(precision):
    """N(0, 1 / precision) in each coordinate."""
    return TiltedTarget(lambda u: u, Potential(lambda x: 0.5 * (precision - 1) * jnp.sum(x**2)), lambda u: -0.5 * u @ u)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [mala(), barkers()], ids=["mala", "barkers"])
def test_each_range_of_sigma_comes_to_the_wanted_acceptance(kernel):
    """At precision 1 + 1 / sigma^2 the acceptance is a function of h^2 precision: bins must agree on that."""
    adaptation = Adaptation(bins=3, low=0.1, high=100.0, rate=0.3)
    sigma = jnp.repeat(jnp.asarray([0.2, 2.0, 20.0]), COUNT)
    precision = 1 + 1 / sigma**2

    def chain(key, sigma, precision, sizes):
        key_start, key_run = jax.random.split(key)
        moving = Chain(kernel, 2).with_step_size(adaptation.step_size(sizes, sigma))
        return moving.run(key_run, normal(precision), jax.random.normal(key_start, (DIM,)) / jnp.sqrt(precision))

    @jax.jit
    def adapted(sizes, keys):
        def step(sizes, key):
            draws = jax.vmap(chain, (0, 0, 0, None))(jax.random.split(key, len(sigma)), sigma, precision, sizes)
            sizes = adaptation.update(sizes, sigma, draws.acceptance, kernel.wanted_acceptance)
            return sizes, (sizes.log_size, draws.acceptance.reshape(3, -1).mean(axis=1))

        return jax.lax.scan(step, sizes, keys)

    start, keys = adaptation.start(kernel.wanted_acceptance), jax.random.split(jax.random.key(0), 300)
    last, (sizes, acceptance) = adapted(start, keys)
    settled = np.asarray(acceptance[150:])
    assert abs(np.asarray(acceptance[0]) - kernel.wanted_acceptance).max() > 0.15  # it had to be found
    error = settled.std(axis=0) / np.sqrt(len(settled))
    assert np.all(np.abs(settled.mean(axis=0) - kernel.wanted_acceptance) < 4 * error + 0.005)
    np.testing.assert_allclose(last.acceptance, settled.mean(axis=0), atol=0.05)
    whitened = np.exp(np.asarray(sizes[150:]).mean(axis=0)) * np.sqrt(np.asarray(precision[::COUNT]))
    np.testing.assert_allclose(whitened / whitened[0], 1.0, atol=0.05)


@pytest.mark.slow
def test_the_latents_scale_is_that_of_the_closed_form():
    """x = A u: the mean over probes of |A^T v|^2 / n is |A|^2 / n, of the columns of each site."""
    matrix, sigma = jax.random.normal(jax.random.key(1), (5, 3)) * jnp.asarray([[1.0, 1.0, 9.0]]), jnp.asarray(0.7)
    u = {"a": jnp.ones(2), "b": jnp.ones(())}

    def push(u):
        return matrix @ jnp.append(u["a"], u["b"])

    keys = jax.random.split(jax.random.key(2), 4000)
    scales = jax.vmap(lambda key: jacobian_scale(push, u, sigma, key))(keys)
    for site, columns in (("a", matrix[:, :2]), ("b", matrix[:, 2:])):
        found = (1 / np.asarray(scales[site], np.float64) ** 2 - 1) * 0.7**2
        expected = float(jnp.mean(jnp.sum(columns**2, axis=0)))
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(found))
        assert found.std() < 2 * expected  # one probe tells the order of magnitude
    still = jacobian_scale(lambda u: 0.0 * u["a"], u, sigma, keys[0])
    np.testing.assert_allclose(still["a"], 1.0)
    np.testing.assert_allclose(still["b"], 1.0)


def test_the_probe_shares_no_noise_with_a_chain():
    """The i-th key of a split is fold_in(key, i), which is what a caller hands over: the probe goes elsewhere."""
    parent = jax.random.key(3)
    key = jax.random.split(parent, 4)[1]
    scale = jacobian_scale(lambda u: u, jnp.ones(1), jnp.ones(()), jax.random.fold_in(parent, 1))
    probe = np.sqrt(1 / np.asarray(scale, np.float64) ** 2 - 1)
    assert abs(probe - abs(float(jax.random.normal(key, (1,))[0]))) > 1e-3
