"""Settings that hold for every test: typed arrays, no silent promotion, warnings are errors (pyproject.toml)."""

import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
COMPILED = {  # what one process of a run of the tests has compiled serves the others, and the commands that they start
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 * 2**30),  # a limit makes JAX lock the folder (by filelock)
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
}
OWN = "JAX_COMPILATION_CACHE_DIR" not in os.environ  # of the first process; those that it starts find it set
if OWN:
    os.environ.update(COMPILED, JAX_COMPILATION_CACHE_DIR=tempfile.mkdtemp(prefix="pplemd-tests-"))

from jaxtyping import install_import_hook

install_import_hook("pplemd", "beartype.beartype")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_unconfigure():
    """Leave nothing behind."""
    if OWN:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
