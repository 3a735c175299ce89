"""A diffusers folder through every command: shown, kept, sampled, distilled from; or refused by name."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "importers"))
from diffusers_look_alikes import SMALL, old_names, random_weights, write_flat, write_pipeline

pytestmark = pytest.mark.slow

MODEL = """
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pplemd as em

class Tiny(em.Program):
    net: em.OneStep
    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(self.net.denoiser.shape), 1.0))
        return em.generate("x", self.net(z))

tiny = em.Model(
    program=lambda teacher, key: Tiny(em.one_step(teacher, sigma=2.5)),
    teacher=em.imported(hint="a pipeline of one UNet2DModel", architecture="diffusers"),
    algorithm=em.EMD(chain=em.Chain(em.Langevin(0.01), length=1), score=em.ScoreUpdates(count=1)),
    training=em.Training(steps=2, batch=2, log_every=2),
    evaluation=em.metrics.SampleEvaluation(np.random.default_rng(0).standard_normal((40, 192)), count=8),
)
"""


@pytest.fixture(scope="module")
def said(new_shell):
    """What each command said, in order."""
    shell = new_shell()
    folder, weights = shell.folder, random_weights(SMALL)
    (folder / "tiny.py").write_text(MODEL)
    write_pipeline(folder / "today", SMALL | {"note": "\x1b[2Jcleared \ud800"}, weights)
    write_flat(folder / "old", SMALL, old_names(weights), {"_class_name": "PNDMScheduler", "beta_schedule": "linear"})
    write_pipeline(folder / "strange", SMALL | {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}, weights)
    write_pipeline(folder / "consistent", SMALL, weights, {"_class_name": "CMStochasticIterativeScheduler"})
    write_flat(folder / "bare", SMALL, weights, None)
    distill = ["distill", "tiny.py", "--json", "--teacher"]
    return folder, shell.drive(
        {
            "show": ["teacher", "show", "today"],
            "show old": ["teacher", "show", "old", "--json"],
            "import": ["teacher", "import", "old", "--out", "kept", "--json"],
            "show kept": ["teacher", "show", "kept", "--json"],
            "heun": ["teacher", "sample", "today", "-n", "2", "--steps", "2", "--out", "heun.png"],
            "ddim": ["teacher", "sample", "kept", "-n", "2", "--steps", "3", "--ddim", "--out", "ddim.png", "--json"],
            "strange": ["teacher", "import", "strange", "--out", "no"],
            "consistent": ["teacher", "show", "consistent"],
            "inspect": ["inspect", "tiny.py", "--teacher", "today", "--json"],
            "distill": [*distill, "today", "--out", "run"],
            "import bare": ["teacher", "import", "bare", "--out", "kept bare"],
            "show bare": ["teacher", "show", "kept bare"],
            "inspect bare": ["inspect", "tiny.py", "--teacher", "bare"],
            "distill bare": [*distill, "bare", "--out", "assumed"],
            "distill kept": [*distill, "kept", "--out", "other"],
        }
    )


def printed(said, name: str):
    code, out, error = said[1][name]
    assert code == 0, error
    return json.loads(out)


def test_it_is_shown(said):
    code, out, error = said[1]["show"]
    assert code == 0, error
    for phrase in ("diffusers", "DDPMScheduler: x_t = alpha_t x", "predicts eps, 1,000 steps of linear", "8 x 8 x 3"):
        assert phrase in out
    assert r"\x1b[2Jcleared \ud800" in out  # as a terminal may have it
    assert "\x1b" not in out
    assert printed(said, "show old")["convention"].startswith("PNDMScheduler")


def test_it_is_kept(said):
    card, shown = printed(said, "import"), printed(said, "show kept")
    assert card["parameters"] == shown["parameters"] == printed(said, "show old")["parameters"] > 1000
    assert shown["config"]["scheduler"]["_class_name"] == "PNDMScheduler"
    assert shown["convention"] == card["convention"]


def test_its_samples_are_drawn(said):
    assert said[1]["heun"][0] == 0, said[1]["heun"]
    assert printed(said, "ddim")["ddim"] is True
    for name in ("heun.png", "ddim.png"):
        with Image.open(said[0] / name) as picture:
            assert picture.size[0] > 64


@pytest.mark.parametrize(
    ("name", "phrase"),
    [("strange", "CrossAttnDownBlock2D"), ("consistent", "CMStochasticIterativeScheduler'; expected one of DDPM")],
)
def test_what_pplemd_does_not_have_is_refused(said, name, phrase):
    code, out, error = said[1][name]
    assert (code, out) == (2, "")
    assert phrase in error
    assert "Traceback" not in error


def test_it_is_distilled(said):
    assert printed(said, "inspect")["networks"]["teacher"] == printed(said, "show kept")["parameters"]
    for name in ("distill", "distill kept"):
        assert printed(said, name)["steps"] == 2
    config = json.loads((said[0] / "run" / "config.json").read_text())
    assert config["teacher"]["imported"] == "diffusers"


@pytest.mark.parametrize("name", ["import bare", "show bare", "inspect bare", "distill bare"])
def test_what_is_assumed_is_said_by_every_command(said, name):
    code, out, error = said[1][name]
    assert code == 0, error
    told = " ".join((error if name == "distill bare" else out).split())
    assert "so DDPM's usual convention is assumed (DDPMScheduler, 1,000 linear steps, epsilon)" in told
    if name == "inspect bare":
        assert "teacher's convention: no scheduler_config.json" in told
