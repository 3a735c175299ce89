"""The files of models/ and the README's model run as they stand, for a few steps."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

import pplemd as em
from pplemd.runs.declared import declare
from pplemd.tasks.describing import parameters

ROOT = Path(__file__).parents[1]
MODELS = sorted((ROOT / "models").glob("*.py"))
SHORT = ("training.steps=2", "training.batch=4", "teacher.training.steps=2", "teacher.training.batch=4")


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_each_file_says_how_it_is_run_and_what_to_expect(path):
    text = path.read_text()
    assert re.search(rf"Command: pplemd (distill|fit) models/{path.name}", text)
    assert "Source: " in text
    assert "Expect: " in text


FITS = [path for path in MODELS if "em.Fit(" in path.read_text()]
BROUGHT = [path for path in MODELS if "em.imported(" in path.read_text()]
OWN = [path for path in MODELS if path not in FITS + BROUGHT]


@pytest.mark.slow
@pytest.mark.slow_for("digits", "digits_by_class", "eight_schools")
@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_each_file_distils(path, fresh_cache):
    text = path.read_text()
    overrides = SHORT if "em.teach(" in text else SHORT[:2]
    overrides += ("algorithm.anchor.count=8",) if "em.Anchor(" in text else ()
    outcome = em.distil(path, "run", overrides=overrides, reporter=em.Silent())
    assert outcome.steps == 2
    assert set(outcome.report.student) == set(outcome.report.teacher) >= set(outcome.report.floor)
    assert all(np.isfinite(list(outcome.report.student.values())))
    assert Path("run/samples.png").stat().st_size > 0


PARAMETERS = {  # of the published checkpoints: 553 arrays of ImageNet-64's are 295,899,267 numbers
    ("imagenet64", "imagenet64"): 295_899_267,
    ("cifar10", "unconditional"): 55_733_891,
    ("cifar10", "conditional"): 55_735_299,
    ("ffhq64", "ffhq64"): 61_805_571,
}


@pytest.mark.parametrize(("file", "name"), PARAMETERS)
def test_files_of_brought_teachers_say_where_they_come_from_and_plan_without_one(file, name):
    model = declare(ROOT / "models" / f"{file}.py", name).distillation
    with pytest.raises(em.PplemdError, match=r"nvlabs-fi-cdn.nvidia.com/edm/pretrained/. Give its path: --teacher"):
        model.teacher.ready()
    shapes = model.teacher.shapes()
    assert parameters(shapes) == PARAMETERS[file, name]
    assert model.program(shapes, None).net.shape == shapes.shape


@pytest.mark.parametrize("path", BROUGHT, ids=lambda path: path.stem)
def test_each_file_shows_its_plan_before_there_is_a_teacher(path):
    chosen = next((name for file, name in PARAMETERS if file == path.stem), None)
    planned = declare(path, chosen).distillation.plan()
    assert planned.problem.output.shape == planned.teacher.shape
    with pytest.raises(em.PplemdError, match="--teacher PATH"):
        em.distil(path, "run", reporter=em.Silent(), name=chosen)


HOUSES = {
    "J": 2,
    "county_idx": [1, 1, 2],
    "log_uppm": [0.1, 0.1, -0.3],
    "floor_measure": [0, 1, 0],
    "log_radon": [1.0, 0.5, 0.8],
}


@pytest.mark.slow
@pytest.mark.parametrize("path", FITS, ids=lambda path: path.stem)
def test_each_file_fits(path, fresh_cache):
    Path("houses.json").write_text(json.dumps(HOUSES))
    given = ("given.data=houses.json",) if "em.given(" in path.read_text() else ()
    name = "noncentered" if "noncentered" in path.read_text() else None
    fit = declare(
        path, name, ("training.steps=2", "algorithm.chains=3", "algorithm.reparameterization=none", *given)
    ).task
    diagnostics = em.Diagnostics(em.Langevin(0.01), chains=2, warm_up=20, draws=8, rows=2, marginal=4)
    algorithm = dataclasses.replace(fit.algorithm, chain=em.Chain(em.Langevin(0.01), 1, em.Cancellation.NONE))
    short = dataclasses.replace(fit, algorithm=algorithm, diagnostics=diagnostics)
    outcome = em.fit(short, "run", reporter=em.Silent())
    assert outcome.steps == 2
    assert np.isfinite(outcome.report.log_marginal["value"])
    assert outcome.result.problem.generated is None or Path("run/samples.png").stat().st_size > 0


def test_the_readme_s_model_is_one(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "readme.py").write_text(block)
    planned = declare(tmp_path / "readme.py", None).task.plan()
    assert [site.name for site in planned.problem.sites] == ["z"]
