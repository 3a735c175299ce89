"""Runs to report on, and what might be drawn of them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from pplemd.report import RaisedAlarm, ReportData

sys.path.insert(0, str(Path(__file__).parent))  # what lies beside the tests is imported by path

from made_runs import Made  # noqa: E402


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


@pytest.fixture
def images():
    """What is drawn of a generator of images."""
    rng = np.random.default_rng(0)

    def some(*count):
        return rng.uniform(-1, 1, (*count, 8, 8, 1)).astype(np.float32)

    return ReportData(
        step=200,
        shape=(8, 8, 1),
        samples=some(30),
        reference=some(30),
        between=some(8, 10),
        corrections={"sigma = 0.5": (some(12), some(12))},
        by_sigma={"Step size": ([0.1, 1.0, 10.0], [0.1, 0.2, 0.5])},
        alarms=(RaisedAlarm("score_lag", 50, "score_lag is 1.2", "it lags", "--set algorithm.score.count=4"),),
    )


@pytest.fixture
def points():
    """What is drawn of a generator of points in the plane."""
    rng = np.random.default_rng(0)

    def some(*count):
        return rng.normal(size=(*count, 2)).astype(np.float32)

    corrections = {f"sigma = {sigma}": (some(50), some(50)) for sigma in (0.1, 1)}
    return ReportData(
        step=200, shape=(2,), samples=some(300), reference=some(300), between=some(8, 20), corrections=corrections
    )
