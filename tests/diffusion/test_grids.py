"""The grid runs from high to low, evenly in the rho-th root, and ends with 0."""

import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import karras_grid
from pplemd.errors import RecipeError


@pytest.mark.parametrize("rho", [1.0, 7.0])
def test_ends_and_spacing(rho: float) -> None:
    grid = karras_grid(18, 0.002, 80.0, rho)
    assert grid.shape == (19,)
    assert grid.dtype == jnp.float32
    assert grid[-1] == 0
    np.testing.assert_allclose(grid[jnp.asarray([0, 17])], [80.0, 0.002], rtol=1e-4)
    roots = np.asarray(grid[:-1], np.float64) ** (1 / rho)
    np.testing.assert_allclose(np.diff(roots), (roots[-1] - roots[0]) / 17, rtol=1e-3)
    assert (np.diff(grid) < 0).all()


def test_one_step_goes_from_the_top_to_zero() -> None:
    np.testing.assert_allclose(karras_grid(1, 0.002, 80.0), [80.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("arguments", [(0, 0.1, 1.0), (4, 0.0, 1.0), (4, 2.0, 1.0), (4, 0.1, 1.0, 0.0)])
def test_bad_arguments_are_named(arguments: tuple[float, ...]) -> None:
    with pytest.raises(RecipeError, match="karras_grid"):
        karras_grid(*arguments)
