"""Getting a declared teacher ready: guidance is put on what was taught, and is no part of the teaching."""

import contextlib

import equinox as eqx
import jax
import numpy as np
import pytest

import pplemd as em
from pplemd.report.progress import SilentProgress
from pplemd.storage.compiled import cached_arrays
from pplemd.storage.folder import locked
from pplemd.tasks import teacher_training
from pplemd.tasks.teacher_training import is_ready, ready_teacher

DRAW = np.random.default_rng(0)
SPLIT = em.data.Split(DRAW.uniform(-1, 1, (8, 2)).astype(np.float32), np.arange(8, dtype=np.int32) % 2)
DATA, GUIDANCE = em.data.Dataset(SPLIT, SPLIT, 2), em.Guidance(2.0, 0.1)


def taught(guidance=None, rate=0.1):
    return em.teach(
        lambda key: em.networks.ResidualMLP((2,), width=4, blocks=1, classes=2, key=key),
        DATA,
        em.ScoreMatching(condition_dropout=rate),
        em.Training(steps=2, batch=4),
        guidance,
    )


def test_guidance_is_put_on_the_teacher_that_was_taught_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    leaves, structure = jax.tree.flatten(taught().build())
    known = [DRAW.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    cached_arrays(taught().key, lambda: {str(i): leaf for i, leaf in enumerate(known)})
    assert is_ready(taught())
    plain, guided = ready_teacher(taught(), em.Silent()), ready_teacher(taught(GUIDANCE), em.Silent())
    assert eqx.tree_equal(plain, jax.tree.unflatten(structure, [jax.numpy.asarray(leaf) for leaf in known]))
    assert eqx.tree_equal(guided, em.Guided(plain, GUIDANCE))


def test_a_teacher_that_would_be_taught_is_not_ready(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    assert not is_ready(taught())
    assert is_ready(em.GaussianMixture(np.eye(2), 0.2))
    assert not is_ready(em.imported("a checkpoint"))
    assert not is_ready(em.imported("a checkpoint").at(tmp_path / "gone"))
    assert is_ready(em.imported("a checkpoint").at(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow_for("stopped")
@pytest.mark.parametrize("ends", [True, False], ids=["taught", "stopped"])
def test_a_teacher_that_another_process_teaches_is_waited_for(tmp_path, monkeypatch, ends):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    monkeypatch.setattr(teacher_training, "POLL", 0.01)
    key = taught().key
    known = {str(i): np.full(leaf.shape, 3.0, leaf.dtype) for i, leaf in enumerate(jax.tree.leaves(taught().build()))}
    lock = locked(tmp_path / f"{key[:48]}.partial")
    said, steps = [], []

    class RaisedAlarm(em.Silent):
        def say(self, sentence):
            said.append(sentence)

        @contextlib.contextmanager
        def progress(self, title, total, shown=()):
            yield Seen(title)

    class Seen(SilentProgress):
        def __init__(self, title):
            self.title = title

        def to(self, done):
            steps.append((self.title, done))
            if self.title == "teacher, in another process" and len(steps) == 3:  # the other process ends
                if ends:
                    cached_arrays(key, lambda: known)
                lock.close()

    found = ready_teacher(taught(), RaisedAlarm())
    assert len(said) == 1
    assert "another process is teaching" in said[0]
    assert steps[:3] == [("teacher, in another process", 0)] * 3
    assert steps[3:] == ([] if ends else [("teacher", 1), ("teacher", 2)])
    same = all(bool((leaf == 3.0).all()) for leaf in jax.tree.leaves(eqx.filter(found, eqx.is_inexact_array)))
    assert same == ends


def test_the_rate_of_dropped_labels_makes_another_teacher():
    assert taught(rate=0.2).digest() != taught(rate=0.1).digest() == taught(GUIDANCE).digest()
