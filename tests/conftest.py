"""Settings that hold for every test: typed arrays, no silent promotion, warnings are errors (pyproject.toml)."""

import gc
import os
import shutil
import tempfile
from pathlib import Path
from zlib import crc32

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
COMPILED = {  # what one process of a run of the tests has compiled serves the others, and the commands that they start
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 * 2**30),  # a limit makes JAX lock the folder (by filelock)
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
}
# most of the time is compilation, and code that runs for a second need not be fast
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
OWN = "JAX_COMPILATION_CACHE_DIR" not in os.environ  # of the first process; those that it starts find it set
if OWN:
    os.environ.update(COMPILED, JAX_COMPILATION_CACHE_DIR=tempfile.mkdtemp(prefix="pplemd-tests-"))

from jaxtyping import install_import_hook

install_import_hook("pplemd", "beartype.beartype")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


gc.set_threshold(200_000, 20, 100)  # traces are many small objects that live: looking for garbage takes a tenth


def pytest_addoption(parser):
    """Give the gate a way to run the slow tests by turns."""
    parser.addoption("--slow-part", metavar="K/N", help="all fast tests and the slow ones of part K of N, K from 0")


@pytest.hookimpl(tryfirst=True)  # pytest itself leaves out what `-m` leaves out, afterwards
def pytest_collection_modifyitems(config, items):
    """Mark parameters as slow, and take one part of the slow tests where `--slow-part` asks for it.

    `pytest` leaves slow tests out, `pytest -m slow` runs them all, `pytest -m ""` runs everything.
    The part of a test hangs on its name alone, so that the parts 0/6, 1/6, ... 5/6 hold each slow test once.
    """
    for item in items:
        named = item.get_closest_marker("slow_for")
        if named and item.callspec.id in named.args:
            item.add_marker(pytest.mark.slow)
    if part := config.getoption("--slow-part"):
        turn, parts = map(int, part.split("/"))
        for item in items:
            item.later = item.get_closest_marker("slow") and crc32(item.nodeid.encode()) % parts != turn % parts
        later = [item for item in items if item.later]
        items[:] = [item for item in items if not item.later]
        config.hook.pytest_deselected(items=later)


MAPS = Path("/proc/self/maps")  # of Linux, whose limit for one process is 65,530 by default; past it JAX crashes
MANY = 30_000


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    """Let compiled code go before there is too much of it: each executable takes some ten maps."""
    yield
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > MANY:
        jax.clear_caches()


def pytest_unconfigure():
    """Leave nothing behind."""
    if OWN:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
