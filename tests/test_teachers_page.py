"""The code of docs/teachers.md runs as it stands, in order, as one file."""

import re
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "importers"))
from look_alikes import state_dict_zip

PAGE = Path(__file__).parents[1] / "docs" / "teachers.md"


def group_norm(x: np.ndarray, groups: int) -> np.ndarray:
    flat = x.reshape(groups, -1)
    return ((flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)).reshape(x.shape)


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))
    return np.einsum("chwij,ocij->ohw", windows, kernel) + bias[:, None, None]


def module(w: dict[str, np.ndarray], x: np.ndarray, t: float) -> np.ndarray:
    """The page's PyTorch module, channels first."""
    h = convolved(x, w["first.weight"], w["first.bias"])
    h = h + (w["time.weight"][:, 0] * t / 1000 + w["time.bias"])[:, None, None]
    h = group_norm(h, 4) * w["norm.weight"][:, None, None] + w["norm.bias"][:, None, None]
    return convolved(h / (1 + np.exp(-h)), w["last.weight"], w["last.bias"])


def state_dict() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = {
        "first.weight": (16, 1, 3, 3), "first.bias": (16,), "time.weight": (16, 1), "time.bias": (16,),
        "norm.weight": (16,), "norm.bias": (16,), "last.weight": (1, 16, 3, 3), "last.bias": (1,),
    }  # fmt: skip
    return {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the page's code leaves behind, run where its files are."""
    folder, weights = tmp_path_factory.mktemp("page"), state_dict()
    x, t = np.random.default_rng(1).standard_normal((1, 8, 8)).astype(np.float32), np.float32(700)
    (folder / "eps.pt").write_bytes(state_dict_zip(weights))
    out = module(weights, x, float(t)).astype(np.float32)
    np.savez(folder / "recorded.npz", x=np.moveaxis(x, 0, -1), t=t, out=np.moveaxis(out, 0, -1))
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
            exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.mark.slow
def test_the_module_is_the_original(page):
    """The page compares the numbers itself; here they are compared with those of another time, too."""
    other = module(state_dict(), np.moveaxis(np.asarray(page["x"]), -1, 0), 10.0)
    found = page["network"](page["x"], jnp.asarray(10.0))
    np.testing.assert_allclose(np.moveaxis(np.asarray(found), -1, 0), other, rtol=1e-4, atol=1e-4)
    assert page["brought"].shape == (8, 8, 1)


def test_the_function_is_the_exact_denoiser(page):
    """Of N(0, 0.25): D = x_sigma .25 / (.25 + sigma^2)."""
    for sigma in (0.1, 1.0, 5.0):
        x = jnp.full((8, 8, 1), 0.7)
        found = page["teacher"].denoise(x, jnp.asarray(sigma))
        np.testing.assert_allclose(found, x * 0.25 / (0.25 + sigma**2), rtol=2e-3)


def test_the_models_are_declared(page):
    assert page["student"].teacher.architecture == "diffusers"
    assert page["guided"].then is not None
    assert [site.name for site in page["from_torch"].plan().problem.sites] == ["z"]
