"""Halving and doubling against matrices written out, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError
from pplemd.networks.layers import check_taps, decimated, downsampled, margin, padded, upsampled

TAPS = [(1, 1), (1, 3, 3, 1), (1, 2, 3, 4, 5, 7)]


def halving(size: int, taps: tuple[int, ...]) -> np.ndarray:
    """y_i = sum_j f_j x_{2i + j - margin}, zeros beyond the border."""
    matrix = np.zeros((size // 2, size))
    for row in range(size // 2):
        for j, tap in enumerate(taps):
            column = 2 * row + j - (len(taps) - 1) // 2
            if 0 <= column < size:
                matrix[row, column] = tap / sum(taps)
    return matrix


@pytest.mark.parametrize("taps", TAPS)
def test_matrices(taps: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    down = np.einsum("ai,bj,ijc->abc", halving(4, taps), halving(6, taps), x)
    up = 4 * np.einsum("ia,jb,ijc->abc", halving(8, taps), halving(12, taps), x)
    np.testing.assert_allclose(jax.jit(lambda x: downsampled(x, taps))(x), down, atol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda x: upsampled(x, taps))(x), up, atol=1e-6)


def test_two_equal_taps_average_and_repeat() -> None:
    x = jnp.arange(8.0).reshape(2, 4, 1)
    np.testing.assert_array_equal(downsampled(x)[..., 0], [[2.5, 4.5]])
    np.testing.assert_array_equal(upsampled(x[:, :1])[..., 0], [[0, 0], [0, 0], [4, 4], [4, 4]])


def test_padding_apart_is_padding_inside() -> None:
    x = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4, 1)), jnp.float32)
    assert margin((1, 3, 3, 1)) == 1
    np.testing.assert_array_equal(decimated(padded(x, 1), (1, 3, 3, 1)), downsampled(x, (1, 3, 3, 1)))


@pytest.mark.parametrize("taps", [(), (1,), (1, 2, 1), (1, -1)])
def test_filters_that_shift_or_vanish_are_refused(taps: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match="resampling filter"):
        check_taps("a network", taps)
