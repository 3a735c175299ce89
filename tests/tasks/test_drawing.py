"""Samples resampled by importance weights: as many as these are worth, and none by weights to be distrusted."""

import numpy as np
import pytest
from PIL import Image

import pplemd as em
from pplemd.diagnosis import pareto_smoothed
from pplemd.errors import DataError
from pplemd.tasks import drawing
from pplemd.tasks.importance import Weighted
from pplemd.tasks.results import Distilled

TAIL = {"good": 4.0, "bad": 1.1}  # index of the ratios' Pareto law: k is one over it


@pytest.fixture
def corrected(monkeypatch):
    """Samples of a run whose draws have Pareto weights."""

    def of(name, count, insist=False):
        def importance(distilled, teacher, count, seed):
            log_ratios = np.random.default_rng(seed).standard_exponential(count) / TAIL[name]
            return Weighted(np.arange(count, dtype=np.float32)[:, None], log_ratios, *pareto_smoothed(log_ratios))

        monkeypatch.setattr(drawing, "importance", importance)
        return drawing.corrected_samples(
            object.__new__(Distilled), em.GaussianMixture(np.eye(1), 1.0), count, insist=insist
        )

    return of


def test_no_more_are_made_than_the_weights_are_worth(corrected):
    samples, weighted = corrected("good", 200)
    assert weighted.reliable
    assert len(samples.x) == 200
    samples, weighted = corrected("bad", 8000, True)
    assert len(samples.x) == int(weighted.effective) < 8000


def test_weights_that_cannot_be_relied_on_are_used_when_asked_twice(corrected, tmp_path):
    with pytest.raises(DataError, match=r"Pareto k = .*do not rely on .* ask twice: --correct --correct"):
        corrected("bad", 500)
    samples, weighted = corrected("bad", 500, True)
    drawing.save_samples(tmp_path / "x.npz", samples, (1,), weighted)
    drawing.save_samples(tmp_path / "x.png", samples, (1,), weighted)
    with np.load(tmp_path / "x.npz") as arrays:
        told = {name: arrays[name] for name in arrays.files if name != "x"}
    assert told["pareto_k"] == pytest.approx(weighted.k_hat)
    assert told["effective_draws"] == pytest.approx(weighted.effective)
    assert "NOT RELIABLE" in str(told["correction"])
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.text["pareto_k"] == str(weighted.k_hat)


@pytest.mark.parametrize("classes", [1, 3, 10, 16, 17, 1000])
def test_classes_beside_the_teacher_are_all_drawn_or_some_evenly_apart(classes):
    some = drawing.some_classes(classes)
    assert len(some) == min(classes, drawing.MOST_ROWS)
    assert some[0] == 0
    assert some[-1] == classes - 1
    apart = np.diff(some)
    assert apart.size == 0 or (apart.min() >= 1 and apart.max() - apart.min() <= 1)
