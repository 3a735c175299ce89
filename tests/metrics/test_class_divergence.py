import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import class_kl


def test_closed_form():
    # histogram (1/2, 1/4, 1/4) against (1/4, 1/4, 1/2): 1/2 ln 2 - 1/4 ln 2
    found = class_kl(np.array([0, 0, 1, 2]), np.array([0.25, 0.25, 0.5]), 3)
    assert found == pytest.approx(0.25 * np.log(2.0), abs=1e-5)
    assert class_kl(np.array([0, 1, 1, 2]), np.array([0.25, 0.5, 0.25]), 3) == pytest.approx(0.0, abs=1e-9)


def test_direction_and_dropped_classes():
    kept = np.repeat(np.arange(9), 10)
    assert class_kl(kept, np.full(10, 0.1), 10) == pytest.approx(-np.log(0.9), abs=1e-5)
    few, many = class_kl(np.zeros(8, int), np.array([0.9, 0.1]), 2), class_kl(np.ones(8, int), np.array([0.9, 0.1]), 2)
    assert few == pytest.approx(np.log(1 / 0.9), abs=1e-5)
    assert many == pytest.approx(np.log(10.0), abs=1e-4)


def test_a_class_that_the_reference_lacks_costs_a_finite_amount():
    found = class_kl(np.ones(5, int), np.array([1.0, 0.0]), 2)
    assert found == pytest.approx(np.log((1.0 + 2e-6) / 1e-6), rel=1e-9)


def test_sampling_noise_has_the_documented_size():
    rng = np.random.default_rng(0)
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    found = [class_kl(rng.choice(4, 400, p=shares), shares, 4) for _ in range(400)]
    # 2 n KL is chi-squared with 3 degrees of freedom: mean 3, variance 6
    assert np.mean(found) == pytest.approx(3.0 / 800.0, abs=4.0 * np.sqrt(6.0) / 800.0 / 20.0)


@pytest.mark.parametrize(
    ("labels", "shares", "classes"),
    [
        (np.array([0, 2]), np.array([0.5, 0.5]), 2),
        (np.array([-1, 0]), np.array([0.5, 0.5]), 2),
        (np.zeros(0, int), np.array([0.5, 0.5]), 2),
        (np.array([0]), np.array([0.5, 0.6]), 2),
        (np.array([0]), np.array([1.5, -0.5]), 2),
        (np.array([0]), np.array([np.nan, 1.0]), 2),
        (np.array([0]), np.array([0.5, 0.5]), 3),
    ],
)
def test_refuses(labels, shares, classes):
    with pytest.raises(DataError):
        class_kl(labels, shares, classes)
