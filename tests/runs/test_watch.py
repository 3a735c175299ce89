"""What a run writes and says while it trains: health, figures on the way, alarms; the same after a stop."""

import json
import signal

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.devices import ONE
from pplemd.errors import DivergenceError
from pplemd.learning import Interrupted
from pplemd.report.progress import AbstractReporter, SilentProgress
from pplemd.runs.journal import Watch
from pplemd.storage.folder import RunFolder

pytestmark = pytest.mark.slow

ANGLES = np.arange(8) * np.pi / 4
MEANS = 4.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)
SIGMAS = em.LogUniform(0.08, 2.5)


class Ring(em.Program):
    net: em.networks.MLP

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.net(z))


def score_network(key):
    return em.Denoiser(em.networks.ResidualMLP((2,), width=8, blocks=1, key=key), sigma_data=2.8)


def ring(**changes):
    """Eight modes, a random generator, and changes of numbers."""
    rhythm = {"steps": 24, "batch": 16, "log_every": 5, "sample_every": 8, "checkpoint_every": 10}
    training = em.Training(**{**rhythm, **{name: value for name, value in changes.items() if name != "chain"}})
    chain = changes.get("chain", em.Chain(em.Langevin(em.Coordinates(0.1, 1e-5)), length=1))
    return em.Model(
        program=lambda teacher, key: Ring(em.networks.MLP((2,), (2,), width=64, depth=2, key=key)),
        teacher=em.GaussianMixture(MEANS, 0.15),
        networks={"score": score_network},
        algorithm=em.EMD(sigmas=SIGMAS, chain=chain, score=em.ScoreUpdates(sigmas=SIGMAS, count=1)),
        training=training,
        evaluation=em.metrics.MixtureEvaluation(MEANS, np.full(8, 0.125), 0.15, count=200),
    )


class Task(SilentProgress):
    """Remembers what it shows; sends SIGINT once a step is done."""

    def __init__(self, stop_at=None):
        self.stop_at, self.shown = stop_at, []

    def to(self, done):
        if done == self.stop_at:
            self.stop_at = None
            signal.raise_signal(signal.SIGINT)

    def show(self, figures):
        self.shown.append(dict(figures))


class Heard(AbstractReporter):
    """Keeps what it is told, and what its task was to show."""

    def __init__(self, stop_at=None):
        self.sentences, self.figures, self.the_task = [], (), Task(stop_at)

    def say(self, sentence):
        self.sentences.append(sentence)

    def progress(self, title, total, shown=()):
        self.figures = shown or self.figures
        return _Entered(self.the_task if title == "distil" else SilentProgress())


class _Entered:
    def __init__(self, task):
        self.task = task

    def __enter__(self):
        return self.task

    def __exit__(self, *error):
        return None


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted, and what was heard of it."""
    heard = Heard()
    outcome = em.distil(ring(), tmp_path_factory.mktemp("whole") / "run", reporter=heard)
    return outcome.folder, heard


HEALTH = {
    "curl_student", "curl_teacher", "latents_chi2", "loop_student", "loop_teacher", "noise_chi2", "noise_to_drift",
    "score_gap", "score_lag",
}  # fmt: skip
ON_THE_WAY = {"run_finite", "run_modes", "run_sharp", "run_weight_kl", "run_sliced_w2"}


def test_health_is_written_where_samples_are_drawn(whole):
    folder, _ = whole
    found = {line["step"]: set(line) - {"step", "alarm"} for line in lines(folder)}
    assert sorted(found) == [5, 8, 10, 15, 16, 20, 24]
    assert found[8] == found[16] == HEALTH | ON_THE_WAY
    assert found[24] == found[8] | found[5]
    assert "pull" in found[5]
    assert not found[5] & found[8]
    for line in lines(folder):
        assert all(np.isfinite(value) for name, value in line.items() if name != "alarm")
        assert abs(line.get("curl_teacher", 0)) < 1e-3
        assert line.get("run_finite", 1.0) == 1.0


def test_the_few_figures_that_matter_stay_in_sight(whole):
    _, heard = whole
    assert heard.figures == ("pull", "score_lag", "run_recall", "run_modes")
    assert {"pull", "score_lag", "run_modes"} <= set(heard.the_task.shown[-1])
    assert [figures.get("score_lag") for figures in heard.the_task.shown[:2]] == [None, lines(whole[0])[1]["score_lag"]]
    assert "pull" in heard.the_task.shown[1]  # of the report before
    assert "acceptance" in em.EMD(chain=em.Chain(em.mala(0.1), length=2)).shown()


@pytest.mark.slow
def test_a_run_that_was_stopped_tells_the_same(whole, tmp_path):
    with pytest.raises(Interrupted):
        em.distil(ring(), tmp_path / "run", reporter=Heard(stop_at=13))
    em.distil(ring(), tmp_path / "run", resume=True, reporter=em.Silent())
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole[0] / "metrics.jsonl").read_bytes()


def watch(folder):
    heard = Heard()
    work = ring().plan().build(em.Silent(), ONE)
    return Watch(work, RunFolder(folder), heard, heard.the_task).watcher(), heard


def test_an_alarm_is_written_as_long_as_it_holds_and_said_once(tmp_path):
    first, heard = watch(tmp_path)
    first.begin(0)
    far, fine = {"latent_norm": 80.0, "pull": float("nan")}, {"latent_norm": 1.0, "pull": 0.1}
    for step, figures in ((5, fine), (10, far), (15, fine), (20, far)):
        first.report(step, figures)
    (sentence,) = heard.sentences
    told, repair = sentence.splitlines()
    assert told.startswith("ALARM at step 10, latents run away: the chains' latents have a mean square of 80;")
    assert "unadjusted" in told
    assert repair.startswith("  repair: ")
    assert [line.get("alarm") for line in lines(tmp_path)] == [None, ["latents_run_away"], None, ["latents_run_away"]]
    assert lines(tmp_path)[1] == {"step": 10, "latent_norm": 80.0, "pull": None, "alarm": ["latents_run_away"]}
    again, later = watch(tmp_path)
    again.begin(15)
    again.report(20, far)
    assert later.sentences == []  # it was said before the run was stopped
    assert [line["step"] for line in lines(tmp_path)] == [5, 10, 15, 20]


def test_what_a_run_remembers_reaches_over_a_stop(tmp_path):
    whole, _ = watch(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    whole.begin(0)
    figures = [{"gradient_norm": 1.0 + 0.1 * i} for i in range(9)] + [{"gradient_norm": 40.0}]
    for i, each in enumerate(figures):
        whole.report(5 * (i + 1), each)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "metrics.jsonl").write_bytes((tmp_path / "whole" / "metrics.jsonl").read_bytes())
    cut, heard = watch(tmp_path / "cut")
    cut.begin(25)
    for i in range(5, 10):
        cut.report(5 * (i + 1), figures[i])
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert "gradient explodes" in heard.sentences[0]


@pytest.mark.slow
def test_unadjusted_steps_that_end_in_infinity_are_told_within_fifty_steps(tmp_path):
    """From a random generator, gamma = 0.05 for eps and z: chains leave the latents' law before anything is inf."""
    chain = em.Chain(em.Langevin(em.Coordinates(0.05, 0.05)), length=4)
    model = ring(chain=chain, steps=400, batch=64, log_every=50, sample_every=1000, checkpoint_every=400)
    heard = Heard()
    with pytest.raises(DivergenceError, match="were skipped"):
        em.distil(model, tmp_path / "run", reporter=heard)
    line = lines(tmp_path / "run")[0]
    assert line["step"] == 50
    assert line["alarm"][0] in ("latents_run_away", "non_finite")
    said = next(sentence for sentence in heard.sentences if sentence.startswith("ALARM at step 50"))
    assert "the kernel accepts every step (unadjusted), and its steps are too long" in said
    assert "em.mala()" in said


def test_a_health_check_that_fails_leaves_the_other_figures(tmp_path, monkeypatch):
    heard = Heard()
    work = ring().plan().build(em.Silent(), ONE)
    seen = Watch(work, RunFolder(tmp_path), heard, heard.the_task)

    def fail(state, key):
        raise RuntimeError("INTERNAL: YNNPACK operation failed: unsupported parameter")

    monkeypatch.setattr(seen, "_healthy", fail)
    for step in (8, 16):
        found = seen.inspect(step, work.initial())
        assert found.keys() == ON_THE_WAY | {"failed_health_check"}
    (sentence,) = heard.sentences
    assert "at step 8 the health check failed (RuntimeError: INTERNAL: YNNPACK" in sentence
