"""Chains come back from their file as they went into it."""

import dataclasses

import numpy as np
import pytest
import xarray

from pplemd.diagnosis import Chains, load_chains, save_chains, save_groups
from pplemd.errors import DataError


def chains(sigma, seed=0):
    rng = np.random.default_rng(seed)
    draws = {"eps": rng.normal(size=(2, 30, 4, 3)).astype(np.float32), "z": rng.normal(size=(2, 30))}
    diverging = rng.uniform(size=(2, 30)) < 0.2
    return Chains(sigma, draws, rng.uniform(size=(2, 30)), diverging, rng.normal(size=(2, 30)), 90 + seed)


@pytest.mark.parametrize("runs", [[chains(2.0, 1), chains(0.5)], [chains(None)]], ids=["by sigma", "of a posterior"])
def test_chains_come_back(tmp_path, runs):
    save_chains(tmp_path / "chains.nc", runs)
    found = load_chains(tmp_path / "chains.nc", 10_000)
    for run, again in zip(sorted(runs, key=lambda run: run.sigma or 0.0), found, strict=True):
        for field in dataclasses.fields(run):
            expected, value = getattr(run, field.name), getattr(again, field.name)
            if field.name == "draws":
                assert expected.keys() == value.keys()
                for site in expected:
                    np.testing.assert_array_equal(value[site], expected[site])
                    assert value[site].dtype == expected[site].dtype
            else:
                np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("sigma", [0.5, None])
def test_sites_of_any_names_come_back_under_their_own(tmp_path, sigma):
    """Names that netCDF keeps for itself, and names that would be the same in the file."""
    ranks = {"a/b": 0, "a.b": 1, "a.b_": 0, "chain": 0, "sigma": 1, "x": 2, "x_dim_0": 0, "x_dim_1": 1, "site": 0}
    rng = np.random.default_rng(0)
    draws = {name: rng.normal(size=(2, 30, *range(2, 2 + rank))) for name, rank in ranks.items()}
    save_chains(tmp_path / "chains.nc", [dataclasses.replace(chains(sigma), draws=draws)])
    (found,) = load_chains(tmp_path / "chains.nc", 10_000)
    assert found.draws.keys() == draws.keys()
    for site, x in draws.items():
        np.testing.assert_array_equal(found.draws[site], x)
    save_groups(tmp_path / "draws.nc", {"posterior": draws})
    with xarray.open_dataset(tmp_path / "draws.nc", group="posterior", engine="h5netcdf") as kept:
        assert {kept[name].attrs["site"] for name in kept.data_vars} == draws.keys()
        for variable in kept.data_vars.values():
            np.testing.assert_array_equal(variable.values, draws[variable.attrs["site"]])


def test_a_file_of_many_numbers_is_not_read(tmp_path):
    save_chains(tmp_path / "chains.nc", [chains(0.5)])
    with pytest.raises(DataError, match="at most 100"):
        load_chains(tmp_path / "chains.nc", 100)
