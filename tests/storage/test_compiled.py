"""Compiled programs: kept in the cache folder, the oldest removed, JAX's own settings first."""

import os

import jax
import jax.numpy as jnp
import pytest

from pplemd.storage import compiled
from pplemd.storage.compiled import keep_compiled, machine, read_fast, trim

FLAGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def untouched(monkeypatch, tmp_path):
    """No variable of JAX's own, a cache folder of the test's, JAX's settings as they were afterwards."""
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = {flag: getattr(jax.config, flag) for flag in FLAGS}
    yield tmp_path / "cache" / "compiled" / machine()
    for flag, value in before.items():
        jax.config.update(flag, value)


def test_it_is_kept_in_the_cache_folder(untouched):
    assert keep_compiled() == untouched
    assert untouched.is_dir()
    assert jax.config.jax_compilation_cache_dir == str(untouched)


def test_the_user_s_own_choice_comes_first(untouched, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    assert keep_compiled() is None
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert keep_compiled() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert not untouched.exists()


def test_a_folder_that_cannot_be_written_is_passed_over(untouched, monkeypatch, caplog, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path / "file"))
    assert keep_compiled() is None
    assert "cannot be written" in caplog.text


def test_other_processors_have_a_folder_of_their_own(monkeypatch):
    here = machine()
    assert here == machine()
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: "flags\t: fpu sse2")
    assert machine() != here


def test_the_oldest_go_first(tmp_path):
    for number in range(4):
        path = tmp_path / str(number)
        path.write_bytes(b"x" * 10)
        os.utime(path, (number, number))
    trim(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
    trim(tmp_path, 25)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_program_is_compiled_without_what_reads_back_slowly():
    product = jax.jit(lambda x: jnp.sin(x) @ x, compiler_options=read_fast())
    assert "ynn" not in product.lower(jnp.ones((64, 64))).compile().as_text()


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compiled, "PLAIN", {"xla_cpu_no_such_option": ""})
    read_fast.cache_clear()
    assert read_fast() == {}
    read_fast.cache_clear()
