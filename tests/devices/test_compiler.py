"""XLA compiles no fusions for YNNPACK, whoever asks, and whatever else its flags say."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.devices import compiler

LISTED = """
import os, logging
{before}
import pplemd
print([pplemd.FLAGS, os.environ.get("XLA_FLAGS")])
import jax, jax.numpy as jnp
print("ynn_fusion" in jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((64, 64))).compile().as_text())
"""
OFF = f"--{compiler.OPTION}="
REDUCED = f"--{compiler.OPTION}=-reduce"


def test_no_program_has_such_fusions_whatever_compiles_it():
    x = jnp.ones((64, 64))
    for program in (jax.jit(lambda x: jnp.sin(x) @ x), jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(x) @ x)))):
        assert "ynn_fusion" not in program.lower(x).compile().as_text()


def test_products_over_nine_axes_are_computed():
    """As in attention that is mapped over chains, samples and heads: YNNPACK's arrays have eight axes at most."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, 2, 2, 2, 8, 8)).astype(np.float32)
    y = rng.normal(size=(2, 2, 2, 2, 2, 8, 8, 8)).astype(np.float32)
    equation = "abcdefi,abcdeghi->abcdefgh"
    found = jax.jit(lambda x, y: jnp.einsum(equation, jnp.exp(x), y))(x, y)
    np.testing.assert_allclose(found, np.einsum(equation, np.exp(x), y), rtol=1e-4, atol=1e-4)
    alone = jnp.einsum(equation, jnp.asarray(x), jnp.asarray(y))  # one operation, not in a program of ours
    np.testing.assert_allclose(alone, np.einsum(equation, x, y), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "before", "expected", "fused", "warned"),
    [
        ("--xla_cpu_enable_fast_math=false", "", [OFF, "--xla_cpu_enable_fast_math=false"], False, False),
        (REDUCED, "", ["", REDUCED], True, False),
        (None, "import jax; jax.devices()", [OFF, None], True, True),
    ],
)
def test_the_user_s_flags_stay_as_they_are(own, before, expected, fused, warned):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {} if own is None else {"XLA_FLAGS": own}
    told = LISTED.format(before=before)
    ended = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [str(expected), str(fused)]
    assert ("before pplemd was imported" in ended.stderr) == warned


def test_a_flag_that_this_jaxlib_does_not_know_is_not_given():
    assert compiler._known(compiler.OPTION)
    assert not compiler._known("xla_cpu_no_such_option")
