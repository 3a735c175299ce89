"""Figures of laws that are known, and a file that ArviZ opens."""

import dataclasses
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from pplemd.diagnosis import arviz_draws, chain_record
from pplemd.diagnosis.chain_record import Chains
from pplemd.errors import DataError

CHAINS, DRAWS = 4, 1000


def autoregressive(rho, rng, shape=()):
    x = rng.standard_normal((CHAINS, DRAWS, *shape))
    for i in range(1, DRAWS):
        x[:, i] = rho * x[:, i - 1] + math.sqrt(1 - rho**2) * x[:, i]
    return x


def chains(sigma=0.5, rho=0.6, seed=0, **changed):
    rng = np.random.default_rng(seed)
    eps = rng.standard_normal((CHAINS, DRAWS, 2, 3)).astype(np.float32)
    eps[..., 1, 2] = autoregressive(rho, rng)
    fields = {
        "sigma": sigma,
        "draws": {"eps": eps, "z": 10 * autoregressive(rho, rng)},
        "acceptance": rng.uniform(0.6, 1.0, (CHAINS, DRAWS)),
        "diverging": rng.uniform(size=(CHAINS, DRAWS)) < 0.01,
        "energy": rng.standard_normal((CHAINS, DRAWS)),
        "gradients": 3 * DRAWS,
        **changed,
    }
    return Chains(**fields)


@pytest.fixture(scope="module")
def rows():
    return arviz_draws.table([chains(2.0), chains(0.5)])


def test_rows_are_by_site_and_sigma(rows):
    assert [(row.site, row.sigma) for row in rows] == [("eps", 0.5), ("eps", 2.0), ("z", 0.5), ("z", 2.0)]
    run = chains()
    for row in rows:
        assert (row.chains, row.draws, row.still) == (CHAINS, DRAWS, 0)
        assert row.divergences == run.diverging.sum() > 0
        assert row.acceptance == pytest.approx(0.8, abs=0.02)


def test_the_worst_element_gives_the_figures(rows):
    eps, _, z, _ = rows
    assert eps.worst[0] == (1, 2)
    assert len(eps.worst) == 3
    assert z.worst == ((),)
    # an AR(1) of rho = 0.6 has n (1 - rho) / (1 + rho) = n / 4 effective draws; the estimate's s.d. is about 7 %
    for row in (eps, z):
        assert row.ess_bulk == pytest.approx(CHAINS * DRAWS / 4, rel=0.3)
        assert row.ess_per_gradient == row.ess_bulk / (CHAINS * 3 * DRAWS)
        assert 0.999 < row.r_hat < 1.02
        assert row.mcse_over_sd == pytest.approx(1 / math.sqrt(row.ess_bulk), rel=0.1)
        assert row.ess_tail < CHAINS * DRAWS
    assert z.mcse_mean == pytest.approx(10 * eps.mcse_mean, rel=0.3)
    assert z.e_bfmi == pytest.approx(2.0, abs=0.4)  # independent energies: E[(e - e')^2] / var = 2


def test_chains_apart_are_seen_and_slow_energies():
    run = chains()
    run.draws["eps"][0, :, 0, 0] += 3.0
    slow = dataclasses.replace(run, energy=autoregressive(0.99, np.random.default_rng(1)))
    eps, z = arviz_draws.table([slow])
    assert eps.r_hat > 1.1
    assert eps.worst[0] == (0, 0)
    assert z.r_hat < 1.02
    assert z.e_bfmi < 0.1


@pytest.mark.parametrize("slope", [-0.01, 0.0, 0.01])
def test_energies_that_drift_the_same_way_in_every_chain(slope):
    along = slope * np.arange(DRAWS)
    run = chains()
    row = arviz_draws.table([dataclasses.replace(run, energy=run.energy + along)])[0]
    # the middles of the first and the last quarter are 3 / 4 of the draws apart; a quarter drifts by 1 / 4 of them
    spread = math.sqrt(1 + (slope * DRAWS / 4) ** 2 / 12)
    assert row.energy_drift == pytest.approx(0.75 * slope * DRAWS / spread, rel=0.1, abs=0.2)
    opposed = run.energy + along * np.array([1, 1, 1, -1])[:, None]
    assert abs(arviz_draws.table([dataclasses.replace(run, energy=opposed)])[0].energy_drift) < 0.2


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_what_cannot_be_judged_is_nan_and_the_worst(value):
    run = chains()
    run.draws["eps"][:, :, 0, 1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eps, z = arviz_draws.table([dataclasses.replace(run, energy=np.full((CHAINS, DRAWS), value))])
    assert eps.worst[0] == (0, 1)
    for name in ("r_hat", "ess_bulk", "ess_tail", "ess_per_gradient", "mcse_mean", "e_bfmi"):
        assert math.isnan(getattr(eps, name))
    assert np.isfinite([z.r_hat, z.ess_bulk]).all()


def test_images_are_judged_in_time_and_found():
    run = chains()
    x = np.random.default_rng(2).standard_normal((CHAINS, DRAWS, 16, 16, 3)).astype(np.float32)
    x[1, :, 4, 5, 2] += 2.0
    (row,) = arviz_draws.table([dataclasses.replace(run, draws={"eps": x})])
    assert row.worst[0] == (4, 5, 2)
    assert row.r_hat > 1.1


def test_arviz_opens_the_file(tmp_path):
    path = tmp_path / "deep" / "chains.nc"
    low, high = chains(0.5), chains(2.0, seed=1)
    run = {"block/sigma": low.draws["z"], **low.draws, "sigma": low.draws["z"]}
    low, high = dataclasses.replace(low, draws=run), dataclasses.replace(high, draws={**run, "eps": high.draws["eps"]})
    chain_record.save_chains(path, [high, low])
    data = arviz_draws._arviz().from_netcdf(str(path), engine="h5netcdf")
    eps = data.posterior["eps"]
    assert eps.dims == ("chain", "draw", "sigma", "eps_dim_0", "eps_dim_1")
    assert eps.dtype == np.float32
    np.testing.assert_array_equal(data.posterior["sigma"], [0.5, 2.0])
    np.testing.assert_array_equal(eps.sel(sigma=2.0), high.draws["eps"])
    np.testing.assert_array_equal(data.posterior["block.sigma"].sel(sigma=0.5), low.draws["z"])
    assert set(data.posterior.data_vars) == {"eps", "z", "block.sigma", "sigma_"}
    stats = data.sample_stats
    for name, field in (("acceptance_rate", "acceptance"), ("diverging", "diverging"), ("energy", "energy")):
        assert stats[name].dims == ("chain", "draw", "sigma")
        np.testing.assert_array_equal(stats[name].sel(sigma=0.5), getattr(low, field))
    assert stats["diverging"].dtype == bool
    assert list(stats.attrs["gradients_per_chain"]) == [3 * DRAWS] * 2
    assert [entry.name for entry in path.parent.iterdir()] == ["chains.nc"]


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "chains.nc"
    chain_record.save_chains(path, [chains()])
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="no space left"):
        chain_record.save_chains(path, [chains(seed=1)])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["chains.nc"]


@pytest.mark.slow
def test_arviz_is_imported_when_it_is_needed():
    code = "import sys, pplemd.diagnosis; sys.exit('arviz' in sys.modules or 'xarray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0


def test_a_pareto_tail_has_its_shape():
    rng = np.random.default_rng(4)
    heavy, light = rng.pareto(1 / 0.9, 20_000) + 1, rng.uniform(1, 2, 20_000)
    for ratios, low, high in ((heavy, 0.75, 1.05), (light, -2.0, 0.2)):
        log_weights, k_hat = arviz_draws.pareto_smoothed(np.log(ratios))
        assert low < k_hat < high
        assert abs(np.exp(log_weights).sum() - 1) < 1e-6
        order = np.argsort(ratios)
        assert np.all(np.diff(log_weights[order]) > -1e-9)
    np.testing.assert_allclose(log_weights[order][:1000], np.log(light[order][:1000] / light.sum()), atol=1e-2)


@pytest.mark.parametrize("rounding", [0.0, 3e-5])
def test_ratios_that_are_alike_need_no_tail(rounding):
    """Of a sampler that is its target but for the rounding of 32 bits."""
    ratios = 5.0 + rounding * np.round(np.random.default_rng(0).uniform(-1, 1, 2000), 1)
    log_weights, k_hat = arviz_draws.pareto_smoothed(ratios)
    assert k_hat == 0
    np.testing.assert_allclose(log_weights, -np.log(2000), atol=1e-4)
    cut = np.where(np.arange(2000) % 2, -np.inf, ratios)  # half of them outside of the target
    log_weights, k_hat = arviz_draws.pareto_smoothed(cut)
    assert k_hat == 0
    np.testing.assert_allclose(log_weights[::2], -np.log(1000), atol=1e-4)


@pytest.mark.parametrize("top", [[3.0], [1.0, 2.0, 3.0]])
def test_a_tail_of_few_different_ratios_has_no_shape(top):
    ratios = np.zeros(2000)
    ratios[::100] = np.resize(top, 20)
    log_weights, k_hat = arviz_draws.pareto_smoothed(ratios)
    assert np.isnan(k_hat)
    np.testing.assert_allclose(log_weights, ratios - np.log(np.exp(ratios).sum()))


@pytest.mark.parametrize(
    "ratios",
    [
        np.zeros(10),
        np.array([np.nan] * 50),
        np.array([np.inf] * 50),
        np.array([-np.inf] * 50),
        np.array([-np.inf] * 50 + [0.0] * 10),
    ],
)
def test_ratios_that_give_no_weights_are_refused(ratios):
    with pytest.raises(DataError, match="expected 30 or more"):
        arviz_draws.pareto_smoothed(ratios)


def test_draws_are_one_chain_for_arviz(tmp_path):
    values = {"mu": np.arange(5.0), "a/theta": np.ones((5, 2, 3)), "draw": np.zeros(5)}
    chain = {name: value[None] for name, value in values.items()}
    chain_record.save_groups(tmp_path / "draws.nc", {"posterior": chain}, {"pareto_k": 0.3})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz

        read = arviz.from_netcdf(tmp_path / "draws.nc")
        group = read["posterior"]
        assert group["mu"].dims == ("chain", "draw")
        np.testing.assert_array_equal(group["mu"].values, values["mu"][None])
        assert group["a.theta"].shape == (1, 5, 2, 3)
        assert group["draw_"].shape == (1, 5)
        assert group.attrs["pareto_k"] == 0.3


@pytest.mark.parametrize("values", [{}, {"a": np.zeros((1, 0))}, {"a": np.zeros((1, 2)), "b": np.zeros((1, 3))}])
def test_draws_of_unlike_counts_are_refused(tmp_path, values):
    with pytest.raises(DataError, match="expected one count above 0"):
        chain_record.save_groups(tmp_path / "draws.nc", {"posterior": values})


def test_chains_of_a_law_without_sigma_have_no_such_dimension(tmp_path):
    run = chains(None)
    (row, _) = arviz_draws.table([run])
    assert (row.sigma, row.where, arviz_draws.table([chains(0.5)])[0].where) == (None, "", " at sigma = 0.5")
    chain_record.save_chains(tmp_path / "chains.nc", [run])
    data = arviz_draws._arviz().from_netcdf(str(tmp_path / "chains.nc"), engine="h5netcdf")
    assert data["posterior"]["z"].dims == ("chain", "draw")
    np.testing.assert_allclose(data["sample_stats"]["energy"].values, run.energy)
