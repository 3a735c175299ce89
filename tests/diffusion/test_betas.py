"""Schedules by name have the alphas of their sources; with no data left at the end, all but the last are shifted."""

import numpy as np
import pytest

from pplemd.diffusion import (
    cosine_betas,
    linear_betas,
    linear_schedule,
    scaled_linear_betas,
    schedule_of,
    sigmoid_betas,
    step_grid,
)
from pplemd.errors import RecipeError


def test_linear_is_the_linear_schedule() -> None:
    assert schedule_of(linear_betas(1000, 1e-4, 0.02)).alphas_cumprod == linear_schedule().alphas_cumprod


def test_ends_and_middles() -> None:
    scaled, logistic = scaled_linear_betas(101, 0.01, 0.04), sigmoid_betas(101, 0.1, 0.3)
    np.testing.assert_allclose(scaled[[0, 50, 100]], [0.01, 0.0225, 0.04])  # .15 is midway from .1 to .2
    np.testing.assert_allclose(logistic[50], 0.2)
    np.testing.assert_allclose(logistic[[0, 100]], [0.1 + 0.2 / (1 + np.exp(6)), 0.3 - 0.2 / (1 + np.exp(6))])


def test_cosine_gives_the_cosine() -> None:
    alphas = np.asarray(schedule_of(cosine_betas(1000)).alphas_cumprod)
    times = np.arange(1, 999) / 1000
    expected = np.cos(np.pi / 2 * (times + 0.008) / 1.008) ** 2 / np.cos(np.pi / 2 * 0.008 / 1.008) ** 2
    np.testing.assert_allclose(alphas[:998], expected, rtol=1e-9)
    assert cosine_betas(1000)[-1] == 0.999


def test_no_data_at_the_end() -> None:
    betas = linear_betas(1000, 1e-4, 0.02)
    plain, shifted = (np.sqrt(schedule_of(betas, zero).alphas_cumprod) for zero in (False, True))
    assert shifted[0] == pytest.approx(plain[0])
    np.testing.assert_allclose(
        np.diff(shifted[:-1]) / np.diff(plain[:-1]), plain[0] / (plain[0] - plain[-1]), rtol=1e-6
    )
    assert shifted[-1] == pytest.approx(shifted[-2] / 2)


def test_what_gives_no_schedule_is_named() -> None:
    for betas in ([], [0.1], [0.1, 0.0], [0.1, 1.5]):
        with pytest.raises(RecipeError, match="alphas_cumprod has"):
            schedule_of(betas)


@pytest.mark.parametrize(
    ("spacing", "steps", "offset", "chosen", "after"),
    [
        ("leading", 4, 0, [750, 500, 250, 0], [500, 250, 0, None]),
        ("leading", 4, 1, [751, 501, 251, 1], [501, 251, 1, None]),
        ("leading", 3, 0, [666, 333, 0], [333, 0, None]),
        ("trailing", 4, 0, [999, 749, 499, 249], [749, 499, 249, None]),
        ("trailing", 3, 0, [999, 666, 332], [666, 333, None]),  # 333 down, which is not where the next one begins
        ("trailing", 7, 0, [999, 856, 713, 570, 428, 285, 142], [857, 714, 571, 428, 286, 143, 0]),
        ("linspace", 4, 0, [999, 666, 333, 0], [749, 416, 83, None]),
        ("trailing", 1, 0, [999], [None]),
    ],
)
def test_grids_of_time_steps(spacing: str, steps: int, offset: int, chosen: list[int], after: list[int | None]) -> None:
    sigmas = linear_schedule().sigmas
    for to_zero, lowest in ((True, 0.0), (False, sigmas[0])):
        grid = step_grid(linear_schedule(), steps, spacing, offset, to_zero)
        np.testing.assert_allclose(grid.visited, sigmas[chosen], rtol=1e-6)
        np.testing.assert_allclose(grid.reached, [lowest if at is None else sigmas[at] for at in after], rtol=1e-6)


@pytest.mark.parametrize("arguments", [(0,), (1001,), (4, "cubic"), (1000, "leading", 1)])
def test_impossible_grids_are_named(arguments: tuple) -> None:
    with pytest.raises(RecipeError, match="step_grid"):
        step_grid(linear_schedule(), *arguments)
