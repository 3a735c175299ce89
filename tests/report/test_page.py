"""The page holds what the runs hold, and nothing of theirs is more than text."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from made_runs import HOSTILE, Seen

from pplemd.report import ReportData, page, subjects
from pplemd.report.page import policy
from pplemd.report.subject import short_names


def seen(paths, drawn=None):
    content = page(subjects(paths, drawn or [ReportData()] * len(paths)), "pplemd report", "0")
    return Seen(content), content


def sections(found):
    return [one["id"] for tag, one in zip(found.tags, found.attributes, strict=True) if tag == "section"]


def test_a_run_that_ended_has_every_section(made, points):
    found, _ = seen([made(diagnosed=True)], [points])
    assert sections(found) == ["figures", "samples", "curves", "health", "chains", "plan", "origin"]
    for phrase in (
        "finished, 200 steps",
        "Score lag",
        "score lag at step 50",
        "--set algorithm.chain.length=2",
        "Modes found",
    ):
        assert phrase in found.text
    assert found.tags.count("svg") > 12


@pytest.mark.parametrize(
    ("packages", "told"),
    [
        ({"jax": "0.12.0.1", "numpy": "2.5.5"}, "pip install jax==0.12.0.1 numpy==2.5.5"),
        ({"jax": "1; touch canary"}, None),
        ({"--index-url": "1"}, None),
        ({"jax": "1\n"}, None),
        (["jax"], None),
    ],
)
def test_versions_are_told_as_a_command_only_where_they_are_versions(made, packages, told):
    path = made()
    found = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**found, "packages": packages}))
    text = seen([path])[0].text
    assert (told in text) if told else ("pip install" not in text)


def test_what_falls_short_is_said(made):
    poor, good = made("poor", student=0.3), made("good", student=0.9)
    told = "The student falls short of its teacher: Recall 0.300 beside 0.950."
    assert told in seen([poor])[0].text
    assert f"poor: {told}" in seen([good, poor])[0].text
    assert "falls short" not in seen([good])[0].text


def test_images_are_inside_of_the_page(made, images):
    found, content = seen([made()], [images])
    pictures = [one for tag, one in zip(found.tags, found.attributes, strict=True) if tag == "img"]
    assert len(pictures) == 4
    assert all(one["src"].startswith("data:image/png;base64,") for one in pictures)
    assert "score_lag is 1.2: it lags." in found.text
    assert len(content) < 300_000


def test_runs_beside_each_other(made, points, images):
    paths = [made("one", student=0.8), made("two", student=0.9, seed=1), made("three", judged=False, batch=7)]
    found, content = seen(paths, [points, images, ReportData()])
    assert "3 runs" in found.text
    assert "What differs" in found.text
    assert re.search(r"seed.*0.*1", found.text)
    assert b'<span class="stacked"><b>0.900</b>' in content  # the best recall
    assert b'<span class="stacked"><b>0.800</b>' not in content
    curves = [one["class"] for one in found.attributes if "curve" in (one.get("class") or "")]
    assert {"curve s0", "curve s1", "curve s2"} <= set(curves)


def test_the_page_asks_nothing_of_the_network(made, images):
    found, content = seen([made(diagnosed=True)], [images])
    assert not {"link", "iframe", "object", "embed", "base"} & set(found.tags)
    for one in found.attributes:
        assert not (one.get("src") or "data:").replace("data:", "", 1).startswith(("http", "//", "/"))
        assert (one.get("href") or "#").startswith("#")
        assert not [name for name in one if name.startswith("on") or name == "style"]
    text = content.decode()
    (style,), (script,) = (
        re.findall("<style>(.*?)</style>", text, re.S),
        re.findall("<script>(.*?)</script>", text, re.S),
    )
    told = next(one["content"] for one in found.attributes if one.get("http-equiv"))
    assert told == policy(style, script)
    for part in (style, script):
        assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in told


def hostile(value):
    """The same JSON data with every text replaced, and names made longer."""
    if isinstance(value, dict):
        return {(name + HOSTILE if name == "jax" else name): hostile(one) for name, one in value.items()}
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return HOSTILE if isinstance(value, str) else value


def test_nothing_of_a_run_is_more_than_text(made):
    path = made(f"x{HOSTILE.replace('/', '|')}", diagnosed=True)
    for name in ("config.json", "evaluation.json", "diagnosis/diagnosis.json"):
        (path / name).write_text(json.dumps(hostile(json.loads((path / name).read_text()))))
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 500, HOSTILE: 1.0, "alarm": [HOSTILE]}) + "\n")
    (path / "samples.png").write_bytes(HOSTILE.encode())
    found, _ = seen([path, path])
    assert found.tags.count("script") == 1
    assert "img" not in found.tags
    assert found.text.count("alert(1)") > 10
    assert "samples.png cannot be shown" in found.text


SHORT = [{"step": 10, "pull": 1.0}, {"step": 20, "pull": 0.5}]  # what is drawn takes most of the time
WRONG = [None, True, -1, 10**400, 1e308, "text", [], [[]], {}, [None, {"a": 1}], {"type": {"type": []}}, "NaN"]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: repr(value)[:12])
def test_any_json_in_any_place_makes_a_page(made, wrong):
    for number, name in enumerate(("config.json", "evaluation.json", "diagnosis/diagnosis.json")):
        path = made(f"run{number}", diagnosed=name.startswith("diagnosis"), lines=SHORT)
        (path / "diagnosis" / "chains.nc").unlink(missing_ok=True)  # which take most of the time
        whole = json.loads((path / name).read_text())
        for key in list(whole):
            for part in ([], list(whole[key])[:3] if isinstance(whole[key], dict | list) else []):
                changed = json.loads(json.dumps(whole))
                if not part:
                    changed[key] = wrong
                for inner in part if isinstance(whole[key], dict) else range(len(part)):
                    changed[key][inner] = wrong
                (path / name).write_text(json.dumps(changed))
                assert "pplemd" in seen([path])[0].text


def test_what_is_missing_is_said(made):
    path = made(lines=[], judged=False)
    found, _ = seen([path])
    assert "nothing trained yet" in found.text
    assert "curves" not in sections(found)
    (path / "metrics.jsonl").unlink()
    (path / "config.json").write_text("{")
    found, _ = seen([path])
    assert "config.json is damaged" in found.text


def test_chains_that_cannot_be_read_are_said(made):
    path = made(diagnosed=True)
    (path / "diagnosis" / "chains.nc").write_bytes(b"nonsense")
    found, _ = seen([path])
    assert "chains.nc cannot be read" in found.text
    assert "R-hat" in found.text


def test_samples_of_any_shape_are_shown(made):
    path = made()
    for shape in ((), (1,), (5,), (4, 4), (4, 4, 3), (4, 4, 2), (2, 3, 4, 5)):
        drawn = ReportData(step=1, shape=shape, samples=np.full((3, *shape), np.nan, np.float32))
        found, _ = seen([path], [drawn])
        assert "samples" in sections(found), shape


def test_names_are_as_long_as_it_takes(tmp_path):
    a, b = tmp_path / "a" / "ring", tmp_path / "b" / "ring"
    assert short_names([a]) == ["ring"]
    assert short_names([a, b]) == ["a/ring", "b/ring"]
    assert short_names([a, a]) == ["ring", "ring"]
