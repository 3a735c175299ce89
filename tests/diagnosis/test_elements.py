import numpy as np

from pplemd.diagnosis.arviz_draws import ALL_UP_TO, autocorrelation, judged, lag_one, split_rhat


def autoregressive(rho, shape, seed=0):
    """A stationary AR(1) along axis 1, of unit variance."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    for i in range(1, shape[1]):
        x[:, i] = rho * x[:, i - 1] + np.sqrt(1 - rho**2) * x[:, i]
    return x


def test_a_small_site_is_judged_whole():
    x = autoregressive(0.0, (4, 20, ALL_UP_TO))
    chosen = judged(x)
    np.testing.assert_array_equal(chosen.x, x)
    np.testing.assert_array_equal(chosen.index, np.arange(ALL_UP_TO))


def test_a_big_site_keeps_what_is_worst():
    x = autoregressive(0.0, (4, 200, 2000)).astype(np.float32)
    x[0, :, 700] += 2.0  # one chain elsewhere
    x[..., 1300] = autoregressive(0.9, (4, 200), seed=1)
    x[..., 30] = 0.0  # constant
    chosen = judged(x)
    assert chosen.x.shape == (4, 200, ALL_UP_TO)
    assert len(set(chosen.index)) == 254
    assert {30, 700, 1300} <= set(chosen.index)
    np.testing.assert_array_equal(chosen.x[..., :254], x[..., chosen.index])


def test_what_moves_together_hides_in_every_element_and_shows_in_the_mean():
    x = autoregressive(0.0, (4, 400, 2000))
    slow = autoregressive(0.98, (4, 400), seed=1)
    x += 0.1 * slow[..., None]  # 1 % of each element's variance, 95 % of the variance of their mean
    mean, square = np.moveaxis(judged(x).x[..., 254:], 2, 0)
    assert np.median(lag_one(x)) < 0.05
    assert lag_one(mean[..., None])[0] > 0.85
    np.testing.assert_allclose(square, np.mean(x**2, axis=2))


def test_split_rhat_sees_chains_apart_and_drift():
    x = autoregressive(0.0, (4, 1000, 3))
    x[2, :, 1] += 1.0
    x[:, :500, 2] += 1.0
    near, apart, drift = split_rhat(x)
    assert abs(near - 1) < 0.01
    assert apart > 1.05
    assert drift > 1.1
    assert np.isnan(split_rhat(np.zeros((2, 8, 1))))[0]


def test_autocorrelation_is_the_known_one():
    rho, length = 0.8, 20_000
    found = autocorrelation(autoregressive(rho, (4, length)), 10)
    assert found.shape == (4, 10)
    # s.d. of an autocorrelation is at most sqrt((1 + 2 sum rho^2) / n), Bartlett
    tolerance = 4 * np.sqrt((1 + 2 * rho**2 / (1 - rho**2)) / length)
    np.testing.assert_allclose(found, np.broadcast_to(rho ** np.arange(10), (4, 10)), atol=tolerance)
    np.testing.assert_allclose(found[:, 1].mean(), lag_one(autoregressive(rho, (4, length))[..., None])[0], atol=1e-3)
    assert autocorrelation(np.ones((2, 8)) * np.arange(8), 100).shape == (2, 8)
