"""The worked example of docs/teachers.md, as it stands there: the network is the one whose weights it was given."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pplemd as em
from pplemd.errors import ImporterError
from pplemd.runs.declared import declare

TEXT = (Path(__file__).parents[1] / "docs" / "teachers.md").read_text()


@pytest.fixture
def points(tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    (tmp_path / "points.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state_dict() -> dict[str, np.ndarray]:
    """What a PyTorch module of that kind holds."""
    rng, shapes = np.random.default_rng(0), {"first.weight": (64, 3), "first.bias": (64,), "last.weight": (2, 64)}
    arrays = {name: rng.uniform(-1, 1, shape) / 8 for name, shape in {**shapes, "last.bias": (2,)}.items()}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def eps(x_t: np.ndarray, step: float) -> np.ndarray:
    """PyTorch's forward, in numpy."""
    arrays = state_dict()
    hidden = arrays["first.weight"] @ np.append(x_t, step / 1000) + arrays["first.bias"]
    return arrays["last.weight"] @ (hidden / (1 + np.exp(-hidden))) + arrays["last.bias"]


GIVEN = ("given.weights=eps.npz", "steps=2", "batch=4")


def test_the_worked_example_is_the_network(points):
    np.savez("eps.npz", **state_dict())
    teacher = declare(points / "points.py", None, GIVEN).distilled_model.teacher
    step, x = 300, np.array([0.4, -0.7])
    sigma = em.diffusion.linear_schedule().sigmas[step]
    expected = x - sigma * eps(x / np.sqrt(1 + sigma**2), step)
    found = teacher.denoise(jnp.asarray(x, jnp.float32), jnp.asarray(sigma, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_worked_example_distils(points):
    np.savez("eps.npz", **state_dict())
    outcome = em.distil(points / "points.py", "run", overrides=GIVEN, narrator=em.Silent())
    assert np.isfinite(outcome.distilled.sample(jax.random.key(0), 5)).all()


def test_what_does_not_fit_is_named(points):
    arrays = {name: array for name, array in state_dict().items() if name != "last.bias"}
    np.savez("eps.npz", **arrays, other=np.zeros(2))
    with pytest.raises((ImporterError, em.PplemdError), match="missing: last.bias\n  left over: other"):
        declare(points / "points.py", None, ("given.weights=eps.npz",))
