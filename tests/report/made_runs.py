"""Run folders as runs leave them, written by hand, and pages read back."""

import dataclasses
import json
import math
from html.parser import HTMLParser

import numpy as np

from pplemd.diagnosis import Chains, findings, save_chains, table

HOSTILE = "</p><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"
STEPS = 200


def metrics(seed: int = 0, steps: int = STEPS) -> list[dict]:
    """Lines of a run that goes well, but for one alarm at its start."""
    rng = np.random.default_rng(seed)
    lines = []
    for step in range(10, steps + 1, 10):
        noise = rng.normal()
        line = {
            "step": step,
            "pull": math.exp(-step / 80 + 0.1 * noise),
            "score_loss": 0.5 - step / 1000 + 0.01 * noise,
            "acceptance": 1.0,
            "noise_norm": 1.0 + 0.01 * noise,
        }
        if step % 50 == 0:
            line |= {"score_lag": 0.97 + 0.01 * noise, "run_recall": 0.5 + step / 500, "curl_student": 0.1}
            line |= {"curl_teacher": 0.11}
        if step == 50:
            line["alarm"] = ["score_lag"]
        lines.append(line)
    return lines


def config(**algorithm) -> dict:
    return {
        "model": {"path": "/models/ring.py", "sha256": "ab" * 32, "name": "ring"},
        "overrides": ["training.steps=200", "algorithm.chain.length=2"],
        "training": {"type": "Training", "steps": STEPS, "seed": 0},
        "algorithm": {"type": "EMD", "chain": {"type": "Chain", "length": 2}, **algorithm},
        "teacher": {"ready": "GaussianMixture"},
        "environment": {"pplemd": "0.1.0", "jax": "0.10.1", "device": "cpu: cpu"},
        "started": "2026-11-25T23:42:12+00:00",
    }


def evaluation(student: float = 0.9) -> dict:
    return {
        "floor": {"modes": 8.0, "recall": 0.97},
        "teacher": {"modes": 8.0, "recall": 0.95, "seconds_per_1000": 0.4},
        "student": {"modes": 8.0, "recall": student, "seconds_per_1000": 0.01},
        "count": 5000,
        "seed": 0,
    }


def long_chains() -> list[Chains]:
    rng = np.random.default_rng(0)

    def one(sigma: float) -> Chains:
        draws = {"eps": rng.normal(size=(2, 40, 2)), "z": rng.normal(size=(2, 40, 2))}
        return Chains(sigma, draws, np.full((2, 40), 0.8), np.zeros((2, 40), bool), rng.normal(size=(2, 40)), 160)

    return [one(0.2), one(1.0)]


class Made:
    """Makes run folders.

    Args:
        folder: where they go.
    """

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name="ring", *, lines=None, judged=True, diagnosed=False, student=0.9, **algorithm):
        path = self.folder / name
        path.mkdir()
        (path / "config.json").write_text(json.dumps(config(**algorithm)))
        lines = metrics() if lines is None else lines
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if judged:
            (path / "evaluation.json").write_text(json.dumps(evaluation(student)))
        if diagnosed:
            self.diagnose(path)
        return path

    def diagnose(self, path):
        runs = long_chains()
        rows = table(runs)
        save_chains(path / "diagnosis" / "chains.nc", runs)
        found = {
            "step": 200,
            "kernel": {"type": "NUTS"},
            "rows": [dataclasses.asdict(row) for row in rows],
            "findings": [dataclasses.asdict(one) for one in findings(rows)],
        }
        (path / "diagnosis" / "diagnosis.json").write_text(json.dumps(found))


class Seen(HTMLParser):
    """The tags and the text of a document."""

    def __init__(self, content: bytes):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(content.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.text += data
