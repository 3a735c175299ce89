"""Chains come back from their file as they went into it."""

import dataclasses

import numpy as np
import pytest

from pplemd.diagnosis import Chains, load_chains, save
from pplemd.errors import DataError


def chains(sigma, seed=0):
    rng = np.random.default_rng(seed)
    draws = {"eps": rng.normal(size=(2, 30, 4, 3)).astype(np.float32), "z": rng.normal(size=(2, 30))}
    diverging = rng.uniform(size=(2, 30)) < 0.2
    return Chains(sigma, draws, rng.uniform(size=(2, 30)), diverging, rng.normal(size=(2, 30)), 90 + seed)


@pytest.mark.parametrize("runs", [[chains(2.0, 1), chains(0.5)], [chains(None)]], ids=["by sigma", "of a posterior"])
def test_chains_come_back(tmp_path, runs):
    save(tmp_path / "chains.nc", runs)
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


def test_a_file_of_many_numbers_is_not_read(tmp_path):
    save(tmp_path / "chains.nc", [chains(0.5)])
    with pytest.raises(DataError, match="at most 100"):
        load_chains(tmp_path / "chains.nc", 100)
