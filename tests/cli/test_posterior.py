"""A posterior through the commands: distilled, judged by chains, drawn for ArviZ in the model's own names."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

FILE = str(Path(__file__).parent / "tiny_posterior.py")
NETCDF = ["sample", "run", "-n", "300", "--format", "netcdf", "--seed", "1", "--json"]


@pytest.fixture(scope="module")
def driven(new_shell):
    shell = new_shell()
    said = shell.drive(
        {
            "distill": ["distill", FILE, "--out", "run", "--json"],
            "plain": [*NETCDF],
            "corrected": [*NETCDF, "--correct", "--out", "corrected.nc"],
            "arrays": ["sample", "run", "-n", "300", "--seed", "1", "--out", "x.npz"],
        }
    )
    assert [code for code, _, _ in said.values()] == [0, 0, 0, 0], said
    return shell.folder, said


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        return arviz.from_netcdf(path)["posterior"].load()


def test_a_run_ends_with_figures_beside_the_chains(driven):
    figures = json.loads(driven[1]["distill"][1])
    for who in ("floor", "teacher", "student"):
        assert set(figures[who]) >= {"mean_error", "sd_error", "mmd", "c2st"}
    assert figures["teacher"]["mean_error"] < 0.4  # 400 draws, four numbers


def test_draws_are_in_the_model_s_own_names(driven):
    folder, _ = driven
    draws = read(folder / "run" / "sample.nc")
    assert {name: x.shape for name, x in draws.data_vars.items()} == {
        "mean": (1, 300), "spread": (1, 300), "band": (1, 300, 2),
    }  # fmt: skip
    with np.load(folder / "x.npz") as arrays:
        np.testing.assert_allclose(draws["mean"][0], arrays["x"][:, 0], rtol=1e-6)
        np.testing.assert_allclose(draws["spread"][0], np.exp(arrays["x"][:, 1]), rtol=1e-5)
    expected = draws["mean"].values[..., None] + np.array([-2.0, 2.0]) * draws["spread"].values[..., None]
    np.testing.assert_allclose(draws["band"], expected, rtol=1e-4, atol=1e-5)
    assert draws.attrs["step"] == 20


def test_corrected_draws_tell_their_k(driven):
    folder, said = driven
    told = json.loads(said["corrected"][1])
    draws = read(folder / "corrected.nc")
    assert draws.attrs["pareto_k"] == pytest.approx(told["pareto_k"])
    assert 0 < told["effective_draws"] <= 10_000
    assert "Pareto k" in said["corrected"][2]
    assert draws["mean"].shape == (1, 300)
