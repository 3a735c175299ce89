"""Fits through the commands: fitted, judged, drawn from, diagnosed and inspected; told apart from distillations."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

pytestmark = pytest.mark.slow

FILE = str(Path(__file__).parent / "tiny_fit.py")
Y = np.array([1.1, -0.4, 0.8, 2.0, 0.3, 1.4])
GIVEN = ["--set", "given.data=" + ",".join(str(number) for number in Y)]


HMC = ["--kernel", "hmc"]  # traced faster than NUTS


@pytest.fixture(scope="module")
def driven(new_shell, ring):
    shell = new_shell()
    found = shell.drive(
        {
            "fit": ["fit", FILE, "--program", "levels", "--out", "run", "--json", *GIVEN],
            "by rows": ["fit", FILE, "--program", "rows", "--out", "rows", *GIVEN],
            "evaluate": ["evaluate", "run", "--seed", "3", "--json"],
            "netcdf": ["sample", "run", "-n", "400", "--format", "netcdf", "--json"],
            "arrays": ["sample", "rows", "-n", "400", "--out", "x.npz"],
            "diagnose": ["diagnose", "run", "--chains", "2", "--draws", "200", "--warm-up", "100", *HMC, "--json"],
            "diagnosed": ["diagnose", "rows", "--chains", "2", "--draws", "200", "--warm-up", "100", *HMC],
            "inspect": ["inspect", FILE, "--program", "rows", *GIVEN],
            "not given": ["inspect", FILE],
            "distill": ["distill", FILE, "--program", "levels", *GIVEN],
            "fit of a model": ["fit", ring],
            "few": ["sample", "run", "-n", "10", "--out", "few.npz", "--json"],
            "picture": ["sample", "rows", "-n", "9", "--out", "picture.png", "--json"],
            "label": ["sample", "run", "--label", "1"],
            "beside": ["sample", "run", "--side-by-side"],
            "sigma": ["diagnose", "run", "--sigma", "1"],
            "another": ["fit", FILE, "--program", "rows", "--out", "run", "--resume", *GIVEN],
        }
    )
    mistakes = ("not given", "distill", "fit of a model", "label", "beside", "sigma", "another")
    codes = {name: code for name, (code, _, _) in found.items()}
    assert codes == {name: 2 * (name in mistakes) for name in found}, found
    return shell.folder, found


def test_a_fit_ends_with_its_parameters_and_log_p_of_the_data(driven):
    folder, found = driven
    figures = json.loads(found["fit"][1])
    mean, spread = figures["parameters"]["mean"], np.exp(figures["parameters"]["log_spread"])
    exact = norm.logpdf(Y, mean, np.sqrt(spread**2 + 0.09)).sum()
    again = json.loads(found["evaluate"][1])
    assert again["parameters"] == figures["parameters"]
    for one in (figures, again):
        assert one["log_marginal"]["value"] == pytest.approx(exact, abs=4 * max(one["log_marginal"]["error"], 0.01))
        (theta,) = one["posterior"]
        share = spread**2 / (spread**2 + 0.09)
        np.testing.assert_allclose(theta["mean"], mean + share * (Y - mean), atol=0.15)
        np.testing.assert_allclose(theta["sd"], np.sqrt(share) * 0.3, rtol=0.3)
        assert theta["r_hat"] < 1.1
    assert again["log_marginal"]["value"] != figures["log_marginal"]["value"]
    written = json.loads((folder / "run" / "evaluation.json").read_text())
    assert written["seed"] == 3


def test_metrics_tell_the_choice_and_the_parameters(driven):
    folder, _ = driven
    lines = {
        line["step"]: line for line in map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    }
    assert sorted(lines) == [4, 5, 6, 8, 10, 12]
    for step in (5, 10):
        assert set(lines[step]) == {
            "step", "cost_noncentered", "cost_centered", "cost_least", "cost_chosen", "lambda_theta", "kappa_theta",
        }  # fmt: skip
        assert lines[step]["cost_chosen"] <= max(lines[step]["cost_noncentered"], lines[step]["cost_centered"])
    assert {"parameter_mean", "parameter_log_spread"} < set(lines[6])
    assert {"log_joint", "acceptance", "parameter_mean"} < set(lines[12])


def read(path, group):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        return arviz.from_netcdf(path)[group].load()


def test_latents_are_drawn_given_the_data_and_data_given_nothing(driven):
    folder, found = driven
    posterior = read(folder / "run" / "sample.nc", "posterior")
    assert {name: value.shape for name, value in posterior.data_vars.items()} == {"theta": (2, 200, 6)}
    assert posterior.attrs["step"] == 12
    prior = read(folder / "run" / "sample.nc", "prior_predictive")["y"].values
    figures = json.loads(found["fit"][1])["parameters"]
    assert prior.shape == (1, 400, 6)
    np.testing.assert_allclose(prior.mean(), figures["mean"], atol=0.3)
    assert abs(posterior["theta"].values.mean(axis=(0, 1)) - Y).max() < 0.5
    with np.load(folder / "x.npz") as arrays:
        assert {name: value.shape for name, value in arrays.items()} == {
            "theta": (400, 3),
            "prior_predictive.y": (400, 1),
        }
        np.testing.assert_allclose(arrays["theta"].mean(axis=0), Y[[0, 2, 5]], atol=0.4)
    assert (folder / "rows" / "samples.png").stat().st_size > 0
    assert not (folder / "run" / "samples.png").exists()  # it generates nothing


def test_a_diagnosis_tells_lambda_its_reasons_and_what_it_is_worth(driven):
    folder, found = driven
    told = json.loads(found["diagnose"][1])
    assert told["before"] > 0
    assert told["after"] > 0
    assert {"cost_noncentered", "cost_centered", "cost_chosen", "lambda_theta", "kappa_theta"} <= set(told["choice"])
    assert "kappa" in told["words"][0]
    assert [row["site"] for row in told["rows"]] == ["theta"]
    for file in ("chains.nc", "diagnosis.json", "trace.png", "energy.png"):
        assert (folder / "run" / "diagnosis" / file).stat().st_size > 0
    assert read(folder / "run" / "diagnosis" / "chains.nc", "posterior")["theta"].shape == (2, 200, 6)
    by_row = found["diagnosed"][1]
    assert "theta: lambda 1, as it is declared" in by_row
    assert "least ESS per 1,000 gradients" not in by_row  # there was nothing to choose


def test_what_is_not_a_fit_and_what_is_none_are_told_apart(driven):
    _, found = driven
    said = {name: found[name][2] for name in found}
    assert "this file asks for six numbers, separated by commas. Give it: --set given.data=VALUE" in said["not given"]
    assert "levels is an em.Fit" in said["distill"]
    assert "pplemd fit" in said["distill"]
    assert "is an em.Model" in said["fit of a model"]
    assert "pplemd distill" in said["fit of a model"]
    assert "--label and --correct are for distilled generators" in said["label"]
    assert "--sigma and --label are for distillations" in said["sigma"]
    assert "run is a run of levels, and rows was asked for; expected the same" in said["another"]
    shown = found["inspect"][1]
    assert "centered 1, declared" in shown
    assert "fitted to y (6 rows)" in shown


def test_what_is_told_is_what_is_drawn(driven):
    """Draws are as many in each chain; a picture of what a program generates needs no chain."""
    folder, found = driven
    told = json.loads(found["few"][1])
    with np.load(folder / "few.npz") as drawn:
        assert len(drawn["theta"]) == told["count"] >= 10
    assert set(json.loads(found["picture"][1])) == {"out", "count", "step"}
    assert (folder / "picture.png").stat().st_size > 0
    assert "are for distilled generators, as is --side-by-side" in found["beside"][2]
