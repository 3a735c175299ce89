"""Getting a declared teacher ready: guidance is put on what was taught, and is no part of the teaching."""

import equinox as eqx
import jax
import numpy as np

import pplemd as em
from pplemd.schooling import is_ready, ready_teacher, taught_digest
from pplemd.storage.cache import cached_arrays

DRAW = np.random.default_rng(0)
SPLIT = em.data.Split(DRAW.uniform(-1, 1, (8, 2)).astype(np.float32), np.arange(8, dtype=np.int32) % 2)
DATA, GUIDANCE = em.data.Dataset(SPLIT, SPLIT, 2), em.Guidance(2.0, 0.1)


def taught(guidance=None, rate=0.1):
    return em.teach(
        lambda key: em.networks.ResidualMLP((2,), width=4, blocks=1, classes=2, key=key),
        DATA,
        em.TeachRecipe(steps=2, batch=4, label_dropout=rate),
        guidance,
    )


def test_guidance_is_put_on_the_teacher_that_was_taught_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    leaves, structure = jax.tree.flatten(taught().build())
    known = [DRAW.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    cached_arrays(f"teacher-{taught_digest(taught())}", lambda: {str(i): leaf for i, leaf in enumerate(known)})
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


def test_the_rate_of_dropped_labels_makes_another_teacher():
    assert taught_digest(taught(rate=0.2)) != taught_digest(taught(rate=0.1)) == taught_digest(taught(GUIDANCE))
