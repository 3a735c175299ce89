"""Paths between latents: they keep the latents' law."""

from pathlib import Path

import jax
import numpy as np
import pytest

from pplemd.runs.declared import declare
from pplemd.tasks.report_pictures import PATHS, between, turned
from pplemd.tasks.results import Distilled

MODELS = Path(__file__).parents[1] / "cli"
KEY = jax.random.key(0)


@pytest.fixture
def generator():
    """A generator as it is before its training."""
    planned = declare(MODELS / "tiny_ring.py").distillation.plan()
    program = planned.model.build_program(planned.teacher, KEY)
    return Distilled(planned.problem, program, planned.conditions)


def test_paths_go_from_one_draw_to_another_and_keep_the_law(generator):
    start, end = (generator.problem.draw(key, generator.program) for key in jax.random.split(KEY))
    for angle, expected in ((0.0, start), (np.pi / 2, end)):
        np.testing.assert_allclose(turned(generator.problem, start, end, angle)["z"], expected["z"], atol=1e-6)
    draws = jax.vmap(lambda key: generator.problem.draw(key, generator.program))(jax.random.split(KEY, 8000))
    halves = ({"z": draws["z"][:4000]}, {"z": draws["z"][4000:]})
    middle = np.asarray(turned(generator.problem, *halves, np.pi / 4)["z"])
    assert abs(middle.std() - 1) < 4 / np.sqrt(2 * middle.size)  # four standard errors


def test_paths_are_samples_of_the_generator(generator):
    paths = between(generator, KEY, 5)
    assert paths.shape == (PATHS, 5, 2)
    assert np.isfinite(paths).all()
    assert len(np.unique(paths[:, 0], axis=0)) == PATHS
    assert not np.allclose(paths[:, 0], paths[:, -1])
