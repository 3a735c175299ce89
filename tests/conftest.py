"""Settings that hold for every test: typed arrays, no silent promotion, warnings are errors (pyproject.toml)."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

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


SLOW = Path(__file__).with_name("slow.txt").read_text().split("\n")[:-1]  # files and tests of six seconds and more


def pytest_collection_modifyitems(items):
    """Mark what is slow: `pytest` leaves it out, `pytest -m slow` runs it, `pytest -m ""` runs all."""
    for item in items:
        if item.nodeid in SLOW or item.nodeid.split("::")[0] in SLOW:
            item.add_marker(pytest.mark.slow)


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
