"""Means, spreads and differences by seed."""

import numpy as np
import pytest

from pplemd.comparison.table import differences, markdown, means, number, spread, worded

FIRST = {0: {"frechet": 1.0, "recall": 0.9}, 1: {"frechet": 2.0, "recall": 0.8}, 2: {"frechet": 4.0, "recall": 0.7}}
OTHER = {0: {"frechet": 1.5}, 2: {"frechet": 4.3}}


def test_spread():
    assert spread([1.0, 2.0, 4.0]) == {
        "mean": pytest.approx(7 / 3),
        "sd": pytest.approx(np.std([1, 2, 4], ddof=1)),
        "n": 3,
    }
    assert spread([2.0, None, float("nan")]) == {"mean": 2.0, "sd": None, "n": 1}
    assert spread([]) == {"mean": None, "sd": None, "n": 0}


def test_differences_are_by_seed():
    """Of seeds 0 and 2, which both finished: .5 and .3; unpaired they would be lost in the spread over seeds."""
    found = differences(OTHER, FIRST)["frechet"]
    assert found["mean"] == pytest.approx(0.4)
    assert found["sd"] == pytest.approx(np.std([0.5, 0.3], ddof=1))
    assert found["t"] == pytest.approx(0.4 / (found["sd"] / np.sqrt(2)))
    assert found["n"] == 2
    assert differences(FIRST, FIRST)["recall"] == {"mean": 0.0, "sd": 0.0, "n": 3, "t": None}
    assert means(FIRST)["recall"]["mean"] == pytest.approx(0.8)


def test_words():
    assert worded({"mean": None, "sd": None}) == "-"
    assert worded({"mean": 0.8123, "sd": 0.0123}) == "0.812 ± 0.012"
    assert worded({"mean": 3.0, "sd": None}) == "3"
    assert number(-0.5) == "-0.500"


def test_markdown():
    rows = {
        "emd": {
            "steps": 2000,
            "figures": means(FIRST),
            "differences": differences(FIRST, FIRST),
            "failed": 0,
            "runs": 3,
        },
        "sid": {
            "steps": 900,
            "figures": means(OTHER),
            "differences": differences(OTHER, FIRST),
            "failed": 1,
            "runs": 3,
        },
    }
    floor, teacher = means({0: {"frechet": 0.5, "recall": 0.99}}), means({0: {"frechet": 0.6}, 1: {"frechet": 0.8}})
    found = {"floor": floor, "teacher": teacher, "methods": rows}
    lines = markdown(found, {"frechet": "Frechet"}).splitlines()
    assert lines[0] == "|  | steps | Frechet | recall |"
    assert "| real against real (floor) |  | 0.500 | 0.990 |" in lines
    assert "| teacher |  | 0.700 ± 0.141 | - |" in lines
    assert "| emd | 2,000 | 2.333 ± 1.528 | 0.800 ± 0.100 |" in lines
    assert "| sid (1 of 3 diverged) | 900 | 2.900 ± 1.980 | - |" in lines
    assert lines[-1] == "| sid | 0.400 ± 0.141 | - |"
