"""A teacher that the user brings, through every command: read, kept, sampled, distilled, found again, refused."""

import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "importers"))
from look_alikes import TINY, checkpoint, pickled, tiny_weights

pytestmark = pytest.mark.slow

MODEL = """
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pplemd as em

class Tiny(em.Program):
    net: em.networks.MLP
    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros((4, 4, 1)), 1.0))
        return em.generate("x", self.net(z, label))

tiny = em.Model(
    program=lambda teacher, key: Tiny(em.networks.MLP((4, 4, 1), teacher.shape, 8, 1, classes=3, key=key)),
    networks={"score": lambda key: em.Denoiser(em.networks.TimedMLP((4, 4, 1), 8, 1, classes=3, key=key), 1.0)},
    teacher=em.imported(hint="EDM's checkpoints, from their publisher", architecture="edm", config=CONFIG),
    algorithm=em.EMD(chain=em.Chain(em.Langevin(0.01), length=1), score=em.ScoreUpdates(count=1)),
    training=em.Training(steps=2, batch=2, log_every=2),
    evaluation=em.metrics.SampleEvaluation(np.random.default_rng(0).standard_normal((40, 16)), count=20),
)
""".replace("CONFIG", repr(TINY))
DISTILL = ["distill", "tiny.py", "--out", "run", "--json"]
HARM = type("Harm", (), {"__reduce__": lambda self: (os.system, ("touch canary",))})


@pytest.fixture(scope="module")
def said(new_shell):
    """What each command said, in order."""
    shell = new_shell()
    folder = shell.folder
    (folder / "tiny.py").write_text(MODEL)
    (folder / "edm.pkl").write_bytes(checkpoint(TINY, tiny_weights()))
    other = {name: 2 * array for name, array in tiny_weights().items()}
    (folder / "other.pkl").write_bytes(checkpoint(TINY, other))
    (folder / "bad.pkl").write_bytes(pickled({"ema": HARM()}))
    first = shell.drive(
        {
            "show": ["teacher", "show", "edm.pkl"],
            "import": ["teacher", "import", "edm.pkl", "--out", "teacher", "--json"],
            "again": ["teacher", "import", "edm.pkl", "--out", "teacher"],
            "show folder": ["teacher", "show", "teacher", "--json"],
            "sample": ["teacher", "sample", "teacher", "-n", "3", "--label", "1", "--steps", "2", "--json"],
            "no class": ["teacher", "sample", "edm.pkl", "--label", "3"],
            "hostile": ["teacher", "import", "bad.pkl", "--out", "bad"],
            "hostile shown": ["teacher", "show", "bad.pkl"],
            "without": DISTILL,
            "dry": ["distill", "tiny.py", "--dry-run", "--json"],
            "dry for people": ["distill", "tiny.py", "--dry-run", "--teacher", "edm.pkl", "--target", "h100"],
            "dry for a small one": [
                "distill",
                "tiny.py",
                "--dry-run",
                "--target",
                "10:0.0001",
                "--set",
                "training.batch=8",
            ],
            "dry for none": ["distill", "tiny.py", "--dry-run", "--target", "h1000"],
            "dry on devices": ["distill", "tiny.py", "--dry-run", "--mesh", "data=1"],
            "target alone": ["distill", "tiny.py", "--target", "h100"],
            "hostile taught": ["distill", "tiny.py", "--teacher", "bad.pkl"],
            "distill": [*DISTILL, "--teacher", "edm.pkl"],
            "resume another": [*DISTILL, "--resume", "--teacher", "other.pkl"],
        }
    )
    os.replace(folder / "edm.pkl", folder / "moved.pkl")
    second = shell.drive(
        {
            "draw without": ["sample", "run", "-n", "2"],
            "resume moved": [*DISTILL, "--resume", "--teacher", "moved.pkl"],
            "evaluate": ["evaluate", "run", "--json"],
        }
    )
    os.replace(folder / "other.pkl", folder / "moved.pkl")
    third = shell.drive({"evaluate another": ["evaluate", "run"]})
    return folder, first | second | third


def refused(said, name: str) -> str:
    code, out, error = said[1][name]
    assert (code, out) == (2, "")
    lines = [line for line in error.strip().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def printed(said, name: str):
    code, out, error = said[1][name]
    assert code == 0, error
    return json.loads(out)


def test_a_checkpoint_is_shown_and_kept(said):
    folder, all_said = said
    assert all_said["show"][0] == 0
    for phrase in ("EDMPrecond: x_sigma = x + sigma eps", "4 x 4 x 1", "SongUNet"):
        assert phrase in all_said["show"][1]
    facts, card = printed(said, "import"), json.loads((folder / "teacher" / "teacher.json").read_text())
    assert sorted(path.name for path in (folder / "teacher").iterdir()) == ["teacher.json", "weights.safetensors"]
    assert card["config"] == TINY
    for name in ("architecture", "convention", "parameters", "shape", "classes", "source", "sha256"):
        assert card[name] == facts[name]
    shown = printed(said, "show folder")
    assert shown["sha256"] == facts["sha256"]
    assert shown["parameters"] == facts["parameters"] > 1000
    assert (shown["shape"], shown["classes"]) == ([4, 4, 1], 3)
    assert "teacher exists" in refused(said, "again")


def test_its_samples_are_drawn(said):
    assert printed(said, "sample")["count"] == 3
    with Image.open(said[0] / "teacher.png") as picture:
        assert picture.size[0] > 64
    assert "classes 0 to 2" in refused(said, "no class")


@pytest.mark.parametrize("name", ["hostile", "hostile shown", "hostile taught"])
def test_a_hostile_file_is_refused(said, name):
    assert "posix.system" in refused(said, name)
    assert not (said[0] / "canary").exists()
    assert not (said[0] / "bad").exists()


def test_without_a_teacher_the_message_says_where_to_get_one(said):
    message = refused(said, "without")
    assert "EDM's checkpoints, from their publisher. Give its path: --teacher PATH." in message


def test_dry_run(said):
    found = printed(said, "dry")
    assert found["networks"]["teacher"] == printed(said, "import")["parameters"]
    parts = found["cost"]["parts"]
    assert set(parts) == {"score update", "E-step", "generator update", "other"}
    assert sum(parts.values()) == pytest.approx(found["cost"]["flops_per_step"])
    assert found["memory"]["temporary_bytes"] > 0
    assert found["device"]["fits"] is True
    plain = " ".join(said[1]["dry for people"][1].split())
    for phrase in (
        "E-step",
        "fits",
        "optimisers",
        "FLOP",
        "NVIDIA H100",
        "at its peak of 495 TFLOP/s",
        "40% of it",
        "--mesh model=2",
    ):
        assert phrase in plain
    small = " ".join(said[1]["dry for a small one"][1].split())
    for phrase in ("does not fit", "what makes a batch of 8 fit", "2 devices", "--set training.microbatches="):
        assert phrase in small
    assert "expected one of b200" in refused(said, "dry for none")
    assert said[1]["dry on devices"][0] == 2
    assert "so that --mesh has no effect" in " ".join(said[1]["dry on devices"][2].replace("│", "").split())
    assert said[1]["target alone"][0] == 2
    assert "Add --dry-run" in " ".join(said[1]["target alone"][2].replace("│", "").split())
    assert not (said[0] / "runs").exists()


def test_a_run_remembers_its_teacher(said):
    folder = said[0]
    assert printed(said, "distill")["steps"] == 2
    assert "another teacher" in refused(said, "resume another")
    assert "edm.pkl, which is gone" in refused(said, "draw without")
    moved, again = printed(said, "resume moved"), printed(said, "evaluate")
    assert moved["student"]["frechet" if "frechet" in moved["student"] else "sliced_w2"] >= 0
    assert {k: v for k, v in moved["student"].items() if k != "seconds_per_1000"}.items() <= again["student"].items()
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["teacher"]["sha256"] == printed(said, "import")["sha256"]
    assert config["teacher"]["path"].endswith("moved.pkl")
    assert "another teacher than" in refused(said, "evaluate another")
