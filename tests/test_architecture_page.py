"""The code of docs/architecture.md runs as it stands, in order, as one file, and what it declares is trained."""

import json
import re
from pathlib import Path

import jax
import pytest

import pplemd as em

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
PLACES = re.compile(r"`((?:[\w*]+/)+)(\w+\.py)?`")


@pytest.fixture(scope="module")
def page():
    names: dict = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.mark.slow
def test_what_it_adds_is_trained_together(page, tmp_path):
    outcome = em.distil(page["model"], tmp_path / "run", reporter=em.Silent())
    assert outcome.result.sample(jax.random.key(0), 5).shape == (5, 2)
    figures = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert figures["teacher"]["spread_error"] < 0.2 < figures["student"]["spread_error"]  # of 30 steps
    assert em.write_report(tmp_path / "run", reporter=em.Silent()).exists()


def test_the_new_teacher_has_the_score_that_it_says(page):
    teacher = page["Ellipse"](jax.numpy.array([1.0, 0.2]))
    log_density = lambda x: jax.scipy.stats.norm.logpdf(x, 0.0, (teacher.scale**2 + 0.25) ** 0.5).sum()  # noqa: E731
    x = jax.numpy.array([0.3, -0.4])
    assert jax.numpy.allclose(teacher.score(x, jax.numpy.array(0.5)), jax.grad(log_density)(x), rtol=1e-5)


def test_files_that_it_names_are_there():
    root = PAGE.parents[1]
    named = [folder + (file or "") for folder, file in PLACES.findall(PAGE.read_text())]
    assert len(named) > 40
    missing = [one for one in named if not any((root / top / one).exists() for top in (".", "pplemd"))]
    assert missing == []
