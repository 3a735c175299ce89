"""One cache folder for the whole run, so that the digits' classifier is trained once."""

import pytest

from pplemd.data import digits


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
    monkeypatch.setenv("PPLEMD_CACHE", str(cache))


@pytest.fixture(scope="session")
def digit_images():
    return digits()
