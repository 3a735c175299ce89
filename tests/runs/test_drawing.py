"""Samples resampled by importance weights: as many as these are worth, and none by weights to be distrusted."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pplemd.diagnosis import pareto_smoothed
from pplemd.errors import DataError
from pplemd.runs import drawing
from pplemd.runs.loading import Loaded
from pplemd.tasks.importance import Weighted

TAIL = {"good": 4.0, "bad": 1.1}  # index of the ratios' Pareto law: k is one over it


@pytest.fixture
def loaded(monkeypatch):
    """A run whose draws have Pareto weights."""

    def of(name):
        def importance(distilled, teacher, count, seed):
            log_ratios = np.random.default_rng(seed).standard_exponential(count) / TAIL[name]
            return Weighted(np.arange(count, dtype=np.float32)[:, None], log_ratios, *pareto_smoothed(log_ratios))

        monkeypatch.setattr(drawing, "importance", importance)
        found = object.__new__(Loaded)
        for field, value in {"distilled": None, "plan": SimpleNamespace(teacher=None)}.items():
            object.__setattr__(found, field, value)
        return found

    return of


def test_no_more_are_made_than_the_weights_are_worth(loaded):
    samples, weighted = drawing.corrected_samples(loaded("good"), 200)
    assert weighted.reliable
    assert len(samples.x) == 200
    samples, weighted = drawing.corrected_samples(loaded("bad"), 8000, insist=True)
    assert len(samples.x) == int(weighted.effective) < 8000


def test_weights_that_cannot_be_relied_on_are_used_when_asked_twice(loaded, tmp_path):
    with pytest.raises(DataError, match=r"Pareto k = .*do not rely on .* ask twice: --correct --correct"):
        drawing.corrected_samples(loaded("bad"), 500)
    samples, weighted = drawing.corrected_samples(loaded("bad"), 500, insist=True)
    drawing.save_samples(tmp_path / "x.npz", samples, (1,), weighted)
    drawing.save_samples(tmp_path / "x.png", samples, (1,), weighted)
    with np.load(tmp_path / "x.npz") as arrays:
        told = {name: arrays[name] for name in arrays.files if name != "x"}
    assert told["pareto_k"] == pytest.approx(weighted.k_hat)
    assert told["effective_draws"] == pytest.approx(weighted.effective)
    assert "NOT RELIABLE" in str(told["correction"])
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.text["pareto_k"] == str(weighted.k_hat)
