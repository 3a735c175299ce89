"""Files that are whole or not there, and checkpoints that survive damage."""

import contextlib
import errno
import fcntl
import json
import resource
import shutil
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import CheckpointError
from pplemd.storage import checkpoints as module
from pplemd.storage.checkpoints import Checkpoints, digest
from pplemd.storage.folder import PROBE_SECONDS, MetricsFile, RunFolder, is_written_to, write_json


def tree(value):
    return {"w": jnp.full((3, 2), float(value)), "n": jnp.asarray(value), "name": "x"}


@pytest.fixture
def folder(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2, 3):
        checkpoints.save(step, tree(step))
    checkpoints.close()
    return tmp_path / "c"


def latest(folder, like=None, read_only=True):
    said = []
    checkpoints = Checkpoints(folder, read_only=read_only)
    try:
        return checkpoints.latest(like or tree(0), said.append), said
    finally:
        checkpoints.close()


def test_the_newest_comes_back(folder):
    (step, found), said = latest(folder)
    assert (step, said) == (3, [])
    assert digest(eqx.filter(found, eqx.is_array)) == digest(eqx.filter(tree(3), eqx.is_array))
    assert found["name"] == "x"
    assert sorted(path.name for path in folder.glob("[0-9]*")) == ["2", "3"]


def test_what_a_kill_left_half_written_is_swept_by_who_writes_next(folder):
    torn = folder / ".seals.json.1724.tmp"
    torn.write_bytes(b'{"3": ')
    latest(folder)
    assert torn.exists()  # who only reads leaves alone what another process may be writing
    (step, _), said = latest(folder, read_only=False)
    assert (step, said) == (3, [])
    assert not torn.exists()
    lines = MetricsFile(folder / "metrics.jsonl")
    lines.append(1, {"loss": 2.0})
    (folder / ".metrics.jsonl.1724.tmp").write_bytes(b"torn")
    assert lines.keep_until(1) == [{"step": 1, "loss": 2.0}]
    assert not list(folder.glob(".metrics*"))


def test_shapes_alone_are_enough_to_read(folder):
    shapes = eqx.filter_eval_shape(lambda: {name: leaf for name, leaf in tree(0).items() if name != "name"})
    (step, found), _ = latest(folder, {**shapes, "name": "x"})
    assert step == 3
    np.testing.assert_array_equal(found["w"], 3.0)


def test_reading_says_nothing(folder, caplog):
    latest(folder)
    assert not caplog.records


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(newest):
    for path in [path for path in (newest / "state").rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(newest):
    (newest / "digest" / "metadata").write_text(json.dumps({"sha256": "0" * 64}))


def flip_unsealed(newest):
    (newest.parent / "seals.json").unlink()
    seal = json.loads((newest / "digest" / "metadata").read_text())
    (newest / "digest" / "metadata").write_text(json.dumps({**seal, "sha256": "0" * 64}))


def broken_seals(newest):
    (newest.parent / "seals.json").write_text("[")
    shutil.rmtree(newest / "state")


def no_digest(newest):
    shutil.rmtree(newest / "digest")


def no_arrays(newest):
    shutil.rmtree(newest / "state")


def nonsense(newest):
    (newest / "digest" / "metadata").write_text("[1, {")


def truncate_one(newest):
    path = max((newest / "state" / "d").iterdir(), key=lambda file: file.stat().st_size)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage", [truncate, truncate_one, flip, flip_unsealed, broken_seals, no_digest, no_arrays, nonsense]
)
def test_a_damaged_newest_is_passed_over(folder, damage):
    damage(folder / "3")
    (step, found), said = latest(folder)
    assert step == 2
    np.testing.assert_array_equal(found["w"], 2.0)
    assert len(said) == 1
    assert "checkpoint 3" in said[0]
    assert "cannot be read" in said[0]


def test_a_damaged_one_is_written_over(folder):
    flip(folder / "3")
    checkpoints = Checkpoints(folder)
    checkpoints.save(3, tree(7))
    checkpoints.close()
    (step, found), said = latest(folder)
    assert (step, int(found["n"]), said) == (3, 7, [])


def test_one_before_a_damaged_one_is_saved(folder):
    """As where a run goes on from before the damage, and is stopped before it comes there again."""
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        checkpoints.save(9, tree(9))
    flip(folder / "9")
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        checkpoints.save(5, tree(5))
    (step, found), said = latest(folder)
    assert (step, int(found["n"]), said) == (5, 5, [])


def test_none_that_can_be_read(folder):
    for step in ("2", "3"):
        truncate(folder / step)
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        latest(folder)


@pytest.mark.parametrize(
    "other",
    [
        {**tree(0), "w": jnp.zeros((3, 3))},
        {**tree(0), "w": jnp.zeros((3, 2), jnp.float16)},
        {**tree(0), "more": jnp.zeros(2)},
        {name: leaf for name, leaf in tree(0).items() if name != "n"},
    ],
    ids=["shape", "dtype", "more", "fewer"],
)
def test_another_program(folder, other):
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints") as caught:
        latest(folder, other)
    assert "of another program, whose [" in str(caught.value)
    assert "left as they are" in str(caught.value)  # they are whole
    assert "remove" not in str(caught.value)
    assert latest(folder)[0][0] == 3


def test_no_checkpoint_yet(tmp_path):
    assert latest(tmp_path / "c", read_only=False) == (None, [])


def test_one_writer_and_any_reader(folder):
    writer = Checkpoints(folder)
    assert latest(folder)[0][0] == 3
    with pytest.raises(CheckpointError, match="another process is writing"):
        Checkpoints(folder)
    writer.close()
    Checkpoints(folder).close()


def test_who_asks_whether_it_is_written_to_is_in_nobodys_way(folder):
    assert is_written_to(folder.parent / "nowhere") is False
    writer = Checkpoints(folder)
    assert is_written_to(folder) is True
    writer.close()
    assert is_written_to(folder) is False
    with (folder / ".lock").open("rb") as asking:  # just now
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(PROBE_SECONDS / 4, fcntl.flock, (asking, fcntl.LOCK_UN)).start()
        Checkpoints(folder).close()


def test_a_full_disk_loses_nothing(folder, monkeypatch):
    checkpoints = Checkpoints(folder)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(CheckpointError, match=r"4 cannot be written \(0.5 MB needed, 0.0 MB free\)"):
        checkpoints.save(4, tree(4))
    monkeypatch.undo()
    checkpoints.save(5, tree(5))
    checkpoints.close()
    assert sorted(path.name for path in folder.glob("[0-9]*")) == ["3", "5"]


def test_buffers_may_be_given_away_once_save_returns(tmp_path):
    """A training goes on, and writes over what is being saved; the digest would tell."""
    step = jax.jit(lambda w: jnp.sin(w) + 2, donate_argnums=0)
    w = jnp.arange(2.0**20)
    before = np.array(w)
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"w": w})
    for _ in range(20):
        w = step(w)
    jax.block_until_ready(w)
    checkpoints.close()
    (number, found), said = latest(tmp_path / "c", {"w": w})
    assert (number, said) == (1, [])
    np.testing.assert_array_equal(found["w"], before)


def test_what_the_writing_meets_is_told_by_who_waits(folder, monkeypatch):
    checkpoints = Checkpoints(folder)

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    checkpoints.save(4, tree(4))
    with pytest.raises(CheckpointError, match=r"4 cannot be written \(no space left on the disk\)"):
        checkpoints.wait()
    monkeypatch.undo()
    checkpoints.wait()  # told once
    checkpoints.save(5, tree(5))
    checkpoints.close()
    assert latest(folder)[0][0] == 5


def test_a_file_that_may_not_grow(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"a": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(CheckpointError, match="cannot be written"):
            write_json(target, {"a": "long" * 100})
        lines = MetricsFile(tmp_path / "metrics.jsonl")
        with pytest.raises(CheckpointError, match="cannot be written"):
            lines.append(1, {"loss": 0.123456789})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert json.loads(target.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.glob("*a.json*")] == ["a.json"]


def test_figures_that_are_not_finite_become_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.0], "b": {"c": float("inf")}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, 1.0], "b": {"c": None}}


@pytest.mark.parametrize("torn", ["", '{"step": 4, "lo', "[3]\n", "null\n", '{"loss": 3}\n'])
def test_lines_after_a_step_and_torn_ones_are_dropped(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    lines = MetricsFile(path)
    for step in (1, 2, 3):
        lines.append(step, {"loss": 0.1 * step})
    before = path.read_text().splitlines(keepends=True)
    path.write_text("".join(before) + torn)
    lines.keep_until(3)
    assert path.read_text() == "".join(before)
    lines.keep_until(2)
    assert path.read_text() == "".join(before[:2])


@pytest.mark.parametrize("text", ["", "{", "\xff", "[]", "3", '{"a": ' * 100_000 + "{}" + "}" * 100_000])
def test_damaged_configuration(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match="is damaged"):
        RunFolder(tmp_path).read_config()


def test_digest_sees_every_bit():
    whole = digest(eqx.filter(tree(1), eqx.is_array))
    assert whole != digest({"w": jnp.ones((3, 2))})
    assert digest({"w": jnp.ones(6)}) != digest({"w": jnp.ones((3, 2))})
    assert digest({"w": jnp.zeros(1)}) != digest({"w": -jnp.zeros(1)})
    assert digest({"w": jnp.zeros(1)}) != digest({"v": jnp.zeros(1)})
