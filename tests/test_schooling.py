"""Getting a declared teacher ready: guidance is put on what was taught, and is no part of the teaching."""

import equinox as eqx
import numpy as np

import pplemd as em
from pplemd.schooling import ready_teacher, taught_digest


def test_guidance_is_put_on_the_cached_teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    draw = np.random.default_rng(0)
    split = em.data.Split(draw.uniform(-1, 1, (8, 2)).astype(np.float32), np.arange(8, dtype=np.int32) % 2)
    data, recipe = em.data.Dataset(split, split, 2), em.TeachRecipe(steps=2, batch=4, label_dropout=0.5)

    def network(key):
        return em.networks.ResidualMLP((2,), width=4, blocks=1, classes=2, key=key)

    plain, guided = em.teach(network, data, recipe), em.teach(network, data, recipe, em.Guidance(2.0))
    assert taught_digest(plain) == taught_digest(guided)
    first, second = (ready_teacher(taught, em.Silent()) for taught in (plain, guided))
    assert isinstance(first, em.Denoiser)
    assert eqx.tree_equal(second, em.Guided(first, em.Guidance(2.0)))
    assert len(list(tmp_path.glob("teacher-*"))) == 1
    assert taught_digest(em.teach(network, data, em.TeachRecipe(steps=2, batch=4))) != taught_digest(plain)
