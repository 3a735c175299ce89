"""A run in Python: one call, a folder that tells what happened, and what may be resumed."""

import contextlib
import dataclasses
import json
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.devices import ONE
from pplemd.errors import CheckpointError, DataError, DivergenceError, RecipeError
from pplemd.report.progress import AbstractReporter, SilentProgress
from pplemd.runs import record
from pplemd.runs.declared import declare, declare_value
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder
from pplemd.tasks.drawing import draw_samples, save_samples

ROOT = Path(__file__).parents[2]
MEANS = np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, 2.0]])
SIGMAS = em.LogUniform(0.1, 3.0)


class Tiny(em.Program):
    net: em.networks.MLP

    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.net(z, label))


def score_network(key):
    net = em.networks.ResidualMLP((2,), width=8, blocks=1, classes=3, key=key)
    return em.Denoiser(net, sigma_data=1.4)


MODEL = em.Model(
    program=lambda teacher, key: Tiny(em.networks.MLP((2,), (2,), width=8, depth=1, classes=3, key=key)),
    teacher=em.GaussianMixture(MEANS, 0.2, labels=True),
    networks={"score": score_network},
    conditions=em.Labels([1, 2, 1]),
    algorithm=em.EMD(
        sigmas=SIGMAS, chain=em.Chain(em.Langevin(0.01), length=1), score=em.ScoreUpdates(sigmas=SIGMAS, count=1)
    ),
    training=em.Training(steps=12, batch=8, log_every=5, checkpoint_every=4),
    evaluation=em.metrics.MixtureEvaluation(MEANS, np.array([0.25, 0.5, 0.25]), 0.2, count=200),
)


class Counted(em.metrics.MixtureEvaluation):
    """Counts how often its reference is prepared."""

    times: list = eqx.field(static=True, default_factory=list)

    def prepare(self):
        self.times.append(1)
        return super().prepare()


@pytest.mark.slow
def test_an_evaluation_is_prepared_once_for_the_way_and_the_end(tmp_path):
    evaluation = Counted(MEANS, np.array([0.25, 0.5, 0.25]), 0.2, count=200)
    model = dataclasses.replace(MODEL, evaluation=evaluation)
    outcome = em.distil(model, tmp_path / "run", overrides=("training.sample_every=6",), reporter=em.Silent())
    assert len(evaluation.times) == 1
    assert outcome.report.count == 200
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("run_modes") == 2


class Heard(AbstractReporter):
    """Keeps what it is told."""

    def __init__(self):
        self.sentences, self.titles = [], []

    def say(self, sentence):
        self.sentences.append(sentence)

    def progress(self, title, total, shown=()):
        self.titles.append(title)
        return _Nothing()


class _Nothing:
    def __enter__(self):
        return SilentProgress()

    def __exit__(self, *error):
        return None


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return em.distil(MODEL, tmp_path_factory.mktemp("run") / "a", reporter=em.Silent())


def test_one_call_leaves_a_run(outcome):
    folder = RunFolder(outcome.folder)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert all(np.isfinite(line["score_loss"]) for line in lines)
    config = folder.read_config()
    assert config["model"] == {"path": None, "sha256": None, "name": "model"}
    assert config["algorithm"]["chain"]["kernel"] == {"type": "Langevin", "step_size": 0.01, "truncation": None}
    assert set(config["environment"]) == {"pplemd", "jax", "python", "device", "system"}
    assert config["packages"]["jax"] == jax.__version__
    assert {"jaxlib", "numpyro", "blackjax", "optax", "numpy"} < set(config["packages"])
    assert "ruff" not in config["packages"]
    assert folder.samples.is_file()
    assert json.loads(folder.evaluation.read_text())["student"] == outcome.report.student
    assert outcome.report.student["seconds_per_1000"] > 0
    assert outcome.steps == 12
    assert os.stat(folder.config).st_mode & 0o444 == 0o444 & ~current_umask()


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_samples_are_settled_by_seed_and_label(outcome, tmp_path):
    a = draw_samples(outcome.result, 12, label=1, seed=4)
    b = draw_samples(outcome.result, 12, label=1, seed=4)
    c = draw_samples(outcome.result, 12, label=1, seed=5)
    np.testing.assert_array_equal(a.x, b.x)
    assert not np.any(a.x == c.x)
    assert a.x.shape == (12, 2)
    assert list(a.conditions) == [1] * 12
    save_samples(tmp_path / "a.npz", a, (2,))
    save_samples(tmp_path / "a.png", a, (2,))
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["x"], a.x)
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(DataError, match="ends in .png"):
        save_samples(tmp_path / "a.gif", a, (2,))


def test_labels_follow_the_prior(outcome):
    count = 6000  # more than a chunk
    drawn = draw_samples(outcome.result, count)
    assert drawn.x.shape == (count, 2)
    shares = np.bincount(drawn.conditions) / count
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=4 * np.sqrt(0.25 / count))
    net = outcome.result.program.net
    assert net.classes == 3
    with pytest.raises(RecipeError, match="classes 0 to 2"):
        draw_samples(outcome.result, 3, label=3)


@pytest.mark.slow
def test_a_finished_run_is_judged_again(outcome):
    before = (outcome.folder / "metrics.jsonl").read_bytes()
    heard = Heard()
    again = em.distil(MODEL, outcome.folder, resume=True, reporter=heard)
    assert heard.titles == ["distil", "judge"]
    assert (outcome.folder / "metrics.jsonl").read_bytes() == before
    for name, value in outcome.report.student.items():
        assert name == "seconds_per_1000" or again.report.student[name] == value
    key = jax.random.key(0)
    np.testing.assert_array_equal(again.result.sample(key, 5), outcome.result.sample(key, 5))


def test_two_starts_at_once_do_not_share_a_folder(outcome, tmp_path):
    """A run that another process has begun meanwhile is not gone on with, though this one now has the folder."""
    declared, folder = declare_value(MODEL), RunFolder(tmp_path / "a")
    record.begin(declared, folder)
    with pytest.raises(CheckpointError, match="holds a run already"):
        record.begin_or_go_on(declared, folder, ONE, print, goes_on=False)
    record.begin_or_go_on(declared, folder, ONE, print, goes_on=True)


def test_a_folder_that_another_process_writes_to_is_left_as_it_is(tmp_path):
    folder = RunFolder(tmp_path / "a")
    with contextlib.closing(Checkpoints(folder.checkpoints)), pytest.raises(CheckpointError, match="another process"):
        em.distil(MODEL, folder.path, reporter=em.Silent())
    assert not folder.config.exists()


def test_a_run_is_not_written_over(outcome):
    with pytest.raises(CheckpointError, match="holds a run already"):
        em.distil(MODEL, outcome.folder, reporter=em.Silent())


@pytest.mark.parametrize(
    ("changed", "phrase"),
    [
        (dataclasses.replace(MODEL, training=em.Training(steps=12)), "the training has changed"),
        (dataclasses.replace(MODEL, teacher=em.teachers.ScoreFunction(lambda x, s, c: -x, (2,), 3)), "the teacher has"),
        (dataclasses.replace(MODEL, teacher=jax.tree.map(lambda leaf: 1.5 * leaf, MODEL.teacher)), "the teacher has"),
    ],
)
def test_another_model_is_not_resumed(outcome, changed, phrase):
    with pytest.raises(CheckpointError, match=phrase):
        em.distil(changed, outcome.folder, resume=True, reporter=em.Silent())


def test_a_file_that_the_model_file_imports_is_a_part_of_the_run(tmp_path):
    parts, path, folder = tmp_path / "parts.py", tmp_path / "ring.py", RunFolder(tmp_path / "run")
    parts.write_text((ROOT / "models" / "ring.py").read_text())
    path.write_text("from parts import ring\n")
    record.begin(declare(path), folder)
    assert json.loads(folder.config.read_text())["model"]["modules"].keys() == {"parts.py"}
    (tmp_path / "other.py").write_text("")
    heard = Heard()
    record.check_same(declare(path), folder, heard.say)
    record.declared_again(folder, None, heard.say)
    assert heard.sentences == []
    parts.write_text(parts.read_text() + "# another\n")
    with pytest.raises(CheckpointError, match=r"parts\.py has changed since the run"):
        record.check_same(declare(path), folder, heard.say)
    record.declared_again(folder, None, heard.say)
    assert [sentence for sentence in heard.sentences if "parts.py has changed since" in sentence]


def test_a_resumed_run_keeps_its_numbers(outcome):
    with pytest.raises(RecipeError, match="was started with no changes, and training.steps=3 was asked for"):
        em.distil(MODEL, outcome.folder, overrides=("training.steps=3",), resume=True, reporter=em.Silent())


def test_another_machine_is_told(outcome):
    folder, heard = RunFolder(outcome.folder), Heard()
    whole = folder.config.read_text()
    config = json.loads(whole)
    config["environment"]["jax"] = "0.0.1"
    folder.config.write_text(json.dumps(config))
    try:
        record.check_same(declare_value(MODEL), folder, heard.say)
    finally:
        folder.config.write_text(whole)
    assert heard.sentences == ["note: this run was started with another jax; its last digits may differ."]


def test_a_run_of_python_needs_a_file_to_be_loaded(outcome):
    with pytest.raises(CheckpointError, match="from a model in Python"):
        em.load(outcome.folder)


def test_folders_are_numbered_and_found_again(tmp_path):
    declared = declare_value(MODEL)
    first = record.new_folder(declared, tmp_path)
    assert first.path == tmp_path / "model"
    with pytest.raises(CheckpointError, match="there is no run of model"):
        record.newest_folder(declared, tmp_path)
    record.begin(declared, first)
    second = record.new_folder(declared, tmp_path)
    assert second.path == tmp_path / "model-2"
    record.begin(declared, second)
    os.utime(first.config, ns=(0, second.config.stat().st_mtime_ns + 10**9))
    (tmp_path / "model-3").mkdir()
    (tmp_path / "model-3" / "config.json").write_text("{")  # damaged: not a run of this model
    other = dataclasses.replace(declared, name="model-4")
    record.begin(other, record.new_folder(other, tmp_path))
    assert record.newest_folder(declared, tmp_path).path == first.path


def test_a_kernel_that_cannot_sample_the_law_is_refused_before_anything_runs(tmp_path):
    algorithm = dataclasses.replace(MODEL.algorithm, chain=em.Chain(em.HMC(0.1, 1, em.Exact()), length=1))
    heard = Heard()
    with pytest.raises(em.PplemdError, match=r"only the gradient of its potential.*HMC\(correction=LineIntegral\(\)\)"):
        em.distil(dataclasses.replace(MODEL, algorithm=algorithm), tmp_path / "run", reporter=heard)
    assert not (tmp_path / "run").exists()
    assert heard.titles == []


@pytest.mark.slow
def test_a_teacher_of_nan_stops_with_a_diagnosis(tmp_path):
    teacher = em.teachers.ScoreFunction(lambda x, sigma, label: x * jnp.nan, (2,), 3)
    training = dataclasses.replace(MODEL.training, steps=100, patience=6)
    model = dataclasses.replace(MODEL, teacher=teacher, training=training)
    with pytest.raises(DivergenceError, match="last 10 updates before step 10 were skipped") as caught:
        em.distil(model, tmp_path / "run", reporter=em.Silent())
    assert "NaN" in str(caught.value)
