"""Folders in every state are read, or named as no run."""

import json
import math

import pytest

from pplemd.errors import CheckpointError
from pplemd.storage.folder import LARGEST_STEP, NAMES, dig, read_run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"training": {"steps": 20}}))
    return tmp_path


def test_a_run_is_read(folder):
    (folder / "metrics.jsonl").write_text(
        '{"step": 10, "pull": 2, "alarm": ["collapse"]}\n{"step": 20, "pull": null}\n'
    )
    (folder / "evaluation.json").write_text('{"student": {"recall": 0.5}}')
    run_record = read_run(folder)
    assert (run_record.step, run_record.steps, run_record.notes) == (20, 20, ())
    assert run_record.lines[0].figures == {"pull": 2.0}
    assert run_record.lines[0].alarms == ("collapse",)
    assert math.isnan(run_record.lines[1].figures["pull"])
    assert run_record.judged


def test_a_folder_without_config_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        read_run(tmp_path)
    with pytest.raises(CheckpointError, match="not a run folder"):
        read_run(tmp_path / "nowhere")


def test_a_run_that_has_only_begun(folder):
    run_record = read_run(folder)
    assert (run_record.lines, run_record.evaluation, run_record.judged) == ((), None, False)
    assert "There is no metrics.jsonl yet" in run_record.notes[0]


DAMAGED = {
    "not json": "{nonsense\n",
    "no object": "[1, 2]\n",
    "no step": '{"pull": 1}\n',
    "a step of another type": '{"step": "5"}\n',
    "a truth for a step": '{"step": true}\n',
    "a step below zero": '{"step": -5}\n',
    "a step beyond reason": f'{{"step": {LARGEST_STEP * 10}}}\n',
    "a number of many digits": '{"step": 5, "pull": ' + "9" * 5000 + "}\n",
    "too deep": "[" * 100_000 + "]" * 100_000 + "\n",
    "binary": "\x00\x01\udcff\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_lines_are_left_out_and_counted(folder, kind):
    content = '{"step": 10, "pull": 2}\n' + DAMAGED[kind] + '{"step": 20, "pull": 1}\n'
    (folder / "metrics.jsonl").write_bytes(content.encode(errors="surrogateescape"))
    run_record = read_run(folder)
    assert [line.step for line in run_record.lines] == [10, 20]
    assert run_record.notes == ("1 line of metrics.jsonl cannot be read and are left out.",)


def test_a_last_line_that_is_being_written_is_no_damage(folder):
    (folder / "metrics.jsonl").write_text('{"step": 10, "pull": 2}\n{"step": 20, "pu')
    run_record = read_run(folder)
    assert (run_record.step, run_record.notes) == (10, ())


def test_values_that_are_no_numbers_are_none(folder):
    values = {"a": "text", "b": [1], "c": True, "d": 1e400, "e": None, "f" * 200: 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, **values}) + "\n")
    (line,) = read_run(folder).lines
    assert set(line.figures) == {"c", "d", "e"}
    assert all(math.isnan(value) for value in line.figures.values())


def test_names_are_bounded(folder):
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, **{f"x{i}": 1.0 for i in range(5000)}}) + "\n")
    run_record = read_run(folder)
    assert len(run_record.lines[0].figures) == NAMES
    assert "the rest is left out" in run_record.notes[0]


def test_of_two_lines_of_one_step_the_later_counts(folder):
    (folder / "metrics.jsonl").write_text('{"step": 10, "pull": 1}\n{"step": 20}\n{"step": 10, "pull": 2}\n')
    run_record = read_run(folder)
    assert [line.step for line in run_record.lines] == [10, 20]
    assert run_record.lines[0].figures["pull"] == 2.0


@pytest.mark.parametrize("name", ["config.json", "evaluation.json", "diagnosis/diagnosis.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000])
def test_other_files_may_be_damaged(folder, name, text):
    (folder / "diagnosis").mkdir()
    (folder / name).write_text(text)
    run_record = read_run(folder)
    assert any(name.split("/")[-1] in note and "damaged" in note for note in run_record.notes)


def test_a_folder_in_the_place_of_a_file(folder):
    for name in ("metrics.jsonl", "evaluation.json", "samples.png"):
        (folder / name).mkdir()
    run_record = read_run(folder)
    assert (run_record.lines, run_record.evaluation, run_record.pictures) == ((), None, {})


def test_digging():
    data = {"a": {"b": [1, {"c": 2.5}]}, "n": float("nan"), "t": True, "big": 10**400}
    assert dig(data, int, "a", "b", 0) == 1
    assert dig(data, float, "a", "b", 0) == 1.0
    assert dig(data, float, "a", "b", 1, "c") == 2.5
    assert dig(data, bool, "t") is True
    for path in (("a", "b", 9), ("a", "x"), ("n",), ("t",), ("big",), ("a",)):
        assert dig(data, float, *path) is None
    assert dig(data, int, "t") is None
    assert dig(None, dict, "a") is None
