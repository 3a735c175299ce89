"""A step's compiled program, kept for the next run: used for what it was compiled from, and for nothing else."""

import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.storage import ahead
from pplemd.storage.ahead import Ahead

X = jnp.arange(3.0)


@pytest.fixture
def folder(tmp_path):
    """A folder in which JAX keeps what it compiles."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def compilations(monkeypatch):
    """The programs that are compiled."""
    made, compile_ = [], jax.stages.Lowered.compile
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda lowered: made.append(lowered) or compile_(lowered))
    return made


def lowered(constant=1.0):
    return jax.jit(lambda x, y: (x * y + constant, y)).lower(X, X)


def kept(folder):
    (path,) = [path for path in folder.iterdir() if path.name.startswith("step-")]
    return path


def test_a_second_run_compiles_nothing(folder, compilations):
    for _ in range(3):
        sums, same = Ahead("run").compiled(lowered(), {})(X, X)
        np.testing.assert_array_equal(sums, X * X + 1)
        np.testing.assert_array_equal(same, X)
    assert len(compilations) == 1


def test_what_is_read_donates_as_what_was_compiled(folder):
    for _ in range(2):
        given = jnp.arange(3.0)
        step = jax.jit(lambda x: (x + 1,), donate_argnums=0).lower(given)
        (after,) = Ahead("run").compiled(step, {})(given)
        np.testing.assert_array_equal(after, X + 1)
        assert given.is_deleted()


def test_another_program_is_compiled(folder, compilations):
    long = np.arange(50_000.0, dtype=np.float32)
    other = long.copy()
    other[30_000] += 1  # one number of a constant
    for constant in (long, other, long):
        step = jax.jit(lambda x, constant=constant: (x + constant,)).lower(X[0])
        (found,) = Ahead("run").compiled(step, {})(X[0])
        np.testing.assert_array_equal(found, constant)
    assert len(compilations) == 3


@pytest.mark.parametrize("change", ["options", "flags", "version", "settings"])
def test_so_is_the_same_under_other_circumstances(folder, compilations, monkeypatch, change):
    Ahead("run").compiled(lowered(), {})
    if change == "flags":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    if change == "version":
        monkeypatch.setattr(jax, "__version__", "0.0")
    changed = jax.numpy_dtype_promotion("standard" if change == "settings" else "strict")
    with changed:
        Ahead("run").compiled(lowered(), {"xla_cpu_x": "1"} if change == "options" else {})
    assert len(compilations) == 2


def test_each_run_has_its_own(folder, compilations):
    for run in ("a", "b", "a", "b"):
        Ahead(run).compiled(lowered(2.0 if run == "a" else 3.0), {})
    assert len(compilations) == 2


@pytest.mark.parametrize("damage", ["cut", "turned", "empty", "no head", "another's pickle"])
def test_a_damaged_file_is_compiled_again(folder, compilations, damage):
    Ahead("run").compiled(lowered(), {})
    whole = kept(folder).read_bytes()
    middle = len(whole) // 2
    kept(folder).write_bytes(
        {
            "cut": whole[:middle],
            "turned": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "no head": b"[]\n" + whole.partition(b"\n")[2],
            "another's pickle": whole.partition(b"\n")[0] + b"\n" + pickle.dumps(1),
        }[damage]
    )
    sums, _ = Ahead("run").compiled(lowered(), {})(X, X)
    np.testing.assert_array_equal(sums, X * X + 1)
    assert len(compilations) == 2
    assert kept(folder).read_bytes().partition(b"\n")[0] == whole.partition(b"\n")[0]  # and is whole again


def test_a_file_that_others_may_have_written_is_not_loaded(folder, compilations, monkeypatch):
    Ahead("run").compiled(lowered(), {})
    assert kept(folder).stat().st_mode & 0o777 == 0o600
    kept(folder).chmod(0o622)
    loaded = []
    monkeypatch.setattr(ahead, "deserialize_and_load", lambda *_, **__: loaded.append(1))
    Ahead("run").compiled(lowered(), {})
    kept(folder).chmod(0o600)
    monkeypatch.setattr(ahead.os, "getuid", lambda: kept(folder).stat().st_uid + 1)
    Ahead("run").compiled(lowered(), {})
    assert (len(compilations), loaded) == (3, [])


def test_what_cannot_be_kept_runs(folder, compilations, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ahead, "write_atomic", full)
    for _ in range(2):
        sums, _ = Ahead("run").compiled(lowered(), {})(X, X)
        np.testing.assert_array_equal(sums, X * X + 1)
    assert len(compilations) == 2
    calling = jax.jit(lambda x: (jax.pure_callback(lambda y: y, x, x),)).lower(X)
    np.testing.assert_array_equal(Ahead("run").compiled(calling, {})(X)[0], X)


def test_there_may_be_no_place_for_it(folder, monkeypatch):
    assert Ahead("run").works
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        assert not Ahead("run").works
    with jax.debug_nans(True):
        assert not Ahead("run").works
    jax.config.update("jax_compilation_cache_dir", str(folder / "missing"))
    assert not Ahead("run").works
    jax.config.update("jax_compilation_cache_dir", None)
    assert not Ahead("run").works
    np.testing.assert_array_equal(Ahead("run").compiled(lowered(), {})(X, X)[0], X * X + 1)
