import numpy as np
import pytest
import scipy.stats

from pplemd.errors import DataError
from pplemd.metrics import mixture_modes
from pplemd.metrics.mixtures import sharp_radius

MEANS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
WEIGHTS = np.array([0.2, 0.3, 0.5])
STD = np.array([0.1, 0.2, 0.1])


def _at(counts, offset=0.0):
    return np.repeat(MEANS + offset, counts, axis=0)


def test_due_shares_give_zero_divergence():
    found = mixture_modes(_at([20, 30, 50]), MEANS, WEIGHTS, STD)
    assert (found.found, found.sharp) == (3, 1.0)
    assert found.kl == pytest.approx(0.0, abs=1e-12)


def test_divergence_in_closed_form():
    found = mixture_modes(_at([50, 0, 50]), MEANS, WEIGHTS, STD)
    assert found.kl == pytest.approx(0.5 * np.log(0.5 / 0.2), rel=1e-12)
    assert found.found == 2


@pytest.mark.parametrize(("count", "modes"), [(50, 3), (49, 2)])  # due: 200 of 1,000; a quarter: 50
def test_a_mode_needs_a_quarter_of_its_due(count, modes):
    assert mixture_modes(_at([count, 450, 550 - count]), MEANS, WEIGHTS, STD).found == modes


def test_blurred_samples_are_neither_sharp_nor_found():
    blurred = np.concatenate([_at([0, 30, 50]), _at([20, 0, 0], offset=0.3)])  # 0.3 sqrt(2) is 4.2 s.d.
    found = mixture_modes(blurred, MEANS, WEIGHTS, STD)
    assert (found.found, found.sharp) == (2, 0.8)
    assert found.kl == pytest.approx(0.0, abs=1e-12)
    inside = mixture_modes(_at([20, 30, 50], offset=0.28), MEANS, WEIGHTS, STD)  # 3.96 s.d. of the narrow ones
    assert (inside.found, inside.sharp) == (3, 1.0)


def test_the_radius_is_four_in_the_plane_and_keeps_its_share_above():
    assert (sharp_radius(1), sharp_radius(2)) == (4.0, pytest.approx(4.0, rel=1e-12))
    for dimension in (3, 20, 200):
        assert scipy.stats.chi2.sf(sharp_radius(dimension) ** 2, dimension) == pytest.approx(np.exp(-8.0), rel=1e-6)


def test_images_count_as_vectors():
    assert mixture_modes(_at([20, 30, 50]).reshape(100, 2, 1, 1), MEANS, WEIGHTS, STD).found == 3


@pytest.mark.parametrize(
    ("weights", "std", "message"),
    [
        (np.array([0.5, 0.5]), STD, "3 positive shares"),
        (np.array([0.5, 0.5, 0.5]), STD, "sum 1.5"),
        (np.array([0.5, 0.5, 0.0]), STD, "positive shares"),
        (WEIGHTS, np.array([0.1, 0.0, 0.1]), "above 0"),
    ],
)
def test_refuses_parameters(weights, std, message):
    with pytest.raises(DataError, match=message):
        mixture_modes(_at([1, 1, 1]), MEANS, weights, std)


def test_refuses_samples():
    with pytest.raises(DataError, match="one size"):
        mixture_modes(np.zeros((4, 3)), MEANS, WEIGHTS, STD)
    with pytest.raises(DataError, match="1 of 4"):
        mixture_modes(np.array([[0.0, np.nan], [0, 0], [0, 0], [0, 0]]), MEANS, WEIGHTS, STD)
