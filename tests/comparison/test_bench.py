"""Comparisons of a tiny model: what they leave, and that they go on where they stopped."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import pplemd as em
from pplemd.comparison import Budget, Comparison, compare, contenders
from pplemd.errors import CheckpointError, RecipeError

pytestmark = pytest.mark.slow

TINY = Path(__file__).parents[1] / "cli" / "tiny_ring.py"
OFTEN = ("training.checkpoint_every=2", "training.log_every=1")


def asked(methods="emd,diff-instruct", budget="steps=6", seeds=2, overrides=OFTEN):
    return Comparison(TINY, None, contenders(methods), Budget.read(budget), seeds, overrides)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison") / "out"
    return compare(asked(), out, em.Silent())


def test_what_it_leaves(compared):
    found = json.loads((compared.folder / "compare.json").read_text())
    assert list(found["methods"]) == ["emd", "diff-instruct"]
    assert found["count"] == 500
    assert set(found["floor"]) <= set(found["teacher"])
    for name, row in found["methods"].items():
        students = [
            json.loads((compared.folder / f"{name}-seed{seed}" / "evaluation.json").read_text()) for seed in (0, 1)
        ]
        values = [student["student"]["sliced_w2"] for student in students]
        assert row["figures"]["sliced_w2"]["mean"] == pytest.approx(np.mean(values))
        assert row["steps"] == 6
        assert row["forwards_per_step"] > 3
        config = json.loads((compared.folder / f"{name}-seed1" / "config.json").read_text())
        assert (config["training"]["seed"], config["training"]["steps"]) == (1, 6)
    assert found["methods"]["diff-instruct"]["differences"]["sliced_w2"]["n"] == 2
    assert found["methods"]["emd"]["differences"]["sliced_w2"]["mean"] == 0
    assert "| diff-instruct | 6 |" in (compared.folder / "table.md").read_text()
    for picture in ("curves.png", "samples.png", "teacher.png"):
        with Image.open(compared.folder / picture) as image:
            assert len(np.unique(np.asarray(image.convert("L")))) > 20, picture


def test_the_teacher_is_judged_once_for_each_seed(compared):
    """Its time of sampling would differ from one judgement to the next."""
    files = {seed: sorted(compared.folder.glob(f"*-seed{seed}/evaluation.json")) for seed in (0, 1)}
    reports = {seed: [json.loads(file.read_text()) for file in found] for seed, found in files.items()}
    assert [len(found) for found in reports.values()] == [2, 2]
    times = [{report["teacher"]["seconds_per_1000"] for report in found} for found in reports.values()]
    assert [len(found) for found in times] == [1, 1]
    assert times[0] != times[1]


def test_every_seed_is_judged_by_draws_of_its_own(compared):
    """Spread over seeds must hold the judge's own: the same draws for all would hide it."""
    found = json.loads((compared.folder / "compare.json").read_text())
    for row in (found["methods"]["emd"]["by_seed"], found["methods"]["diff-instruct"]["by_seed"]):
        reports = [json.loads((compared.folder / run["folder"] / "evaluation.json").read_text()) for run in row]
        assert [report["seed"] for report in reports] == [0, 1]
        assert len({report["teacher"]["sliced_w2"] for report in reports}) == 2
    assert found["teacher"]["sliced_w2"]["n"] == found["floor"]["sliced_w2"]["n"] == 2


def test_programs_of_a_run_are_let_go_of(tmp_path):
    """Kept, they take hundreds of MB of each run of a real network, until the machine has none left."""
    other = jax.jit(lambda x: x + 1)
    other(1.0)
    assert other._cache_size() == 1
    compare(asked("emd", "steps=1", 1), tmp_path / "out", em.Silent())
    assert other._cache_size() == 0


def test_both_methods_start_from_the_same_networks(compared):
    """The first loss of the score network is of the same student and the same draws."""
    lines = [
        json.loads((compared.folder / f"{name}-seed0" / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("emd", "diff-instruct")
    ]
    assert lines[0]["step"] == lines[1]["step"] == 1
    assert lines[0]["score_loss"] == pytest.approx(lines[1]["score_loss"], rel=1e-5)


def test_finished_runs_are_kept_and_a_killed_one_goes_on(compared):
    before = json.loads((compared.folder / "compare.json").read_text())
    kept = compared.folder / "emd-seed0" / "evaluation.json"
    killed = compared.folder / "diff-instruct-seed1"
    at = kept.stat().st_mtime_ns
    judged = json.loads((killed / "evaluation.json").read_text())  # as `pplemd evaluate` judged it on the way
    judged["student"]["sliced_w2"] = 1e6
    (killed / "evaluation.json").write_text(json.dumps(judged))
    for newest in ("6",):  # as if killed after step 4
        for part in (killed / "checkpoints").glob(newest):
            for file in sorted(part.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            part.rmdir()
    again = compare(asked(), compared.folder, em.Silent()).found
    assert kept.stat().st_mtime_ns == at
    for name in ("emd", "diff-instruct"):
        figures, wanted = (found["methods"][name]["figures"] for found in (again, before))
        timeless = [figure for figure in wanted if figure != "seconds_per_1000"]
        assert {f: figures[f] for f in timeless} == {f: wanted[f] for f in timeless}


@pytest.mark.parametrize("name", ["plan.json", "emd-seed0/evaluation.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_damaged_files(compared, tmp_path, name, text):
    folder = tmp_path / "copy"
    shutil.copytree(compared.folder, folder)
    (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=f"{name} is damaged.*Move it away"):
        compare(asked(), folder, em.Silent())
    (folder / name).unlink()
    assert set(compare(asked(), folder, em.Silent()).found["methods"]) == {"emd", "diff-instruct"}


def test_runs_of_another_model_or_judgement_are_not_mixed_in(compared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(compared.folder, folder)
    report = folder / "emd-seed1" / "evaluation.json"
    before = json.loads(report.read_text())
    report.write_text(json.dumps({**before, "seed": 99, "student": {**before["student"], "sliced_w2": 1e6}}))
    found = compare(asked(), folder, em.Silent()).found  # it is judged again, by its seed's own draws
    after = json.loads(report.read_text())
    assert after["seed"] == 1
    assert after["student"]["sliced_w2"] == pytest.approx(before["student"]["sliced_w2"], rel=1e-5)
    assert found["methods"]["emd"]["figures"]["sliced_w2"]["mean"] < 1e3
    config = json.loads((folder / "emd-seed0" / "config.json").read_text())
    config["model"]["sha256"] = "0" * 64
    (folder / "emd-seed0" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="has changed since"):
        compare(asked(), folder, em.Silent())


@pytest.mark.parametrize("change", ["training.steps=3", "training.seed=7"])
def test_what_a_comparison_sets_itself_is_refused(tmp_path, change):
    words = f"sets {change.split('=')[0]} of every run itself; expected --budget"
    with pytest.raises(RecipeError, match=words):
        compare(asked(overrides=(change,)), tmp_path / "out", em.Silent())
    with pytest.raises(RecipeError, match=words):
        compare(asked(f"emd:{change}"), tmp_path / "out", em.Silent())
    assert not (tmp_path / "out").exists()


def test_methods_and_seeds_may_be_added_and_another_budget_may_not(compared):
    more = compare(asked("emd,sid", seeds=1), compared.folder, em.Silent()).found
    assert list(more["methods"]) == ["emd", "sid"]
    assert more["methods"]["sid"]["differences"]["sliced_w2"]["n"] == 1
    with pytest.raises(CheckpointError, match="another budget: steps=6"):
        compare(asked(budget="steps=7"), compared.folder, em.Silent())
    with pytest.raises(CheckpointError, match="another overrides"):
        compare(asked(overrides=()), compared.folder, em.Silent())


def test_equal_evaluations_are_unequal_steps_and_what_diverges_is_counted(tmp_path):
    wild = "emd-4:algorithm.generator.learning_rate=1e30:algorithm.generator.clip=0"
    found = compare(asked(f"emd,{wild}", "evaluations=1500", seeds=1), tmp_path, em.Silent()).found["methods"]
    assert found[wild]["steps"] < found["emd"]["steps"]
    for row in found.values():
        spent = row["steps"] * row["forwards_per_step"] * row["batch"]
        assert 1500 - row["forwards_per_step"] * row["batch"] < spent <= 1500
    assert (found[wild]["failed"], found[wild]["figures"]) == (1, {})
    assert "(1 of 1 diverged)" in (tmp_path / "table.md").read_text()
