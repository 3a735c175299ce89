"""Priors over conditions: what they draw, and which values they refuse."""

import jax
import numpy as np
import pytest

from pplemd.conditions import Classes, Labels, Listed, Tokens
from pplemd.errors import RecipeError

PROMPTS = {"tokens": np.array([[1, 2, 0], [3, 0, 0]], np.int32), "mask": np.array([[1, 1, 0], [1, 0, 0]], bool)}


@pytest.mark.parametrize("weights", [[1.0, 3.0, 0.0, 4.0], (2, 6, 0, 8)])
def test_labels_are_drawn_by_their_weights(weights):
    count = 20_000
    drawn = np.asarray(Labels(weights).draw(jax.random.key(0), count))
    share = np.bincount(drawn, minlength=4) / count
    expected = np.array(weights) / np.sum(weights)
    assert drawn.dtype == np.int32
    assert share[2] == 0
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / count) + 1e-12)


def test_listed_values_are_drawn_alike_and_whole():
    drawn = Listed(PROMPTS).draw(jax.random.key(0), 10_000)
    first = np.asarray(drawn["tokens"][:, 0])
    assert abs(np.mean(first == 1) - 0.5) < 4 * 0.5 / 100
    np.testing.assert_array_equal(drawn["mask"], PROMPTS["mask"][(first == 3).astype(int)])


def test_one_of_each_in_turn():
    np.testing.assert_array_equal(Labels([1, 0, 2]).in_turn(5), [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(Listed(PROMPTS).in_turn(3)["tokens"][:, 0], [1, 3, 1])


def test_a_prior_fits_a_form():
    assert Labels([1, 1]).fits(Classes(2))
    assert not Labels([1, 1]).fits(Classes(3))
    assert Listed(PROMPTS).fits(Tokens(3, 10))
    assert not Listed(PROMPTS).fits(Tokens(4, 10))
    assert not Listed(PROMPTS).fits(Classes(3))


@pytest.mark.parametrize("values", [{}, {"a": np.ones(3), "b": np.ones(2)}, np.float32(1), np.ones((0, 2))])
def test_values_without_one_length_are_refused(values):
    with pytest.raises(RecipeError, match="one leading dimension of 1 or more"):
        Listed(values)


def test_uniform_labels_are_uniform():
    found = np.bincount(np.asarray(Labels.uniform(3).draw(jax.random.key(1), 9000))) / 9000
    assert np.all(np.abs(found - 1 / 3) < 4 * np.sqrt(2 / 9 / 9000))


@pytest.mark.parametrize("weights", [(), (1.0, -0.5), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)], ids=str)
def test_labels_refuse(weights):
    with pytest.raises(RecipeError, match="weights"):
        Labels(weights)
