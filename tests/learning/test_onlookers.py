"""What only looks at a training never ends it: told once, left out, noted; what ends it still does."""

import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from pplemd.errors import CheckpointError, DivergenceError
from pplemd.learning import Interrupted, Onlookers, Training, Watcher, fit
from pplemd.learning.loop import AbstractState
from pplemd.storage.checkpoints import Checkpoints

KEY = jax.random.key(0)


class Count(AbstractState):
    """Counts its steps."""

    done: jax.Array
    stuck: jax.Array

    @property
    def skipped_in_a_row(self):
        return self.stuck


def step(state, key):
    return Count(state.done + 1, state.stuck), {"done": state.done.astype(jnp.float32)}


class Stuck(eqx.Module):
    """Skips every update."""

    def __call__(self, state, key):
        return Count(state.done + 1, state.stuck + 1), {"done": jnp.zeros(())}


def start():
    return Count(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def schedule(steps=6):
    return Training(steps=steps, log_every=2, sample_every=2, checkpoint_every=3, patience=3)


class Heard:
    """Keeps notes and reports; the named onlookers raise."""

    def __init__(self, failing=(), error=None):
        self.notes, self.reports, self.pictures = [], [], []
        self.failing, self.error = failing, error or RuntimeError("YNNPACK operation failed\nat 0x1")

    def watcher(self):
        return Watcher(
            lambda step: self.may_fail("advance"),
            self.report,
            self.picture,
            self.note,
            inspect=lambda step, state: self.may_fail("inspect") or {"seen": 1.0},
        )

    def may_fail(self, who):
        if who in self.failing:
            raise self.error

    def report(self, step, figures):
        self.may_fail("report")
        self.reports.append((step, figures))

    def picture(self, step, state):
        self.may_fail("picture")
        self.pictures.append(step)

    def note(self, sentence):
        self.notes.append(sentence)
        self.may_fail("note")


@pytest.mark.parametrize(
    "error", [RuntimeError("INTERNAL"), OSError(28, "No space left on device"), MemoryError(), CheckpointError("full")]
)
@pytest.mark.parametrize(
    ("failing", "figure"),
    [("inspect", "inspection"), ("picture", "picture"), ("report", "report"), ("advance", "progress_bar")],
)
def test_an_onlooker_that_fails_is_told_once_and_left_out(failing, figure, error):
    heard = Heard([failing], error)
    last = fit(step, start(), KEY, schedule(), heard.watcher())
    assert int(last.done) == 6
    (sentence,) = heard.notes
    assert type(error).__name__ in sentence
    assert "the training goes on" in sentence
    assert [at for at, _ in heard.reports] == ([] if failing == "report" else [2, 4, 6])
    for _, figures in heard.reports:
        assert figures[f"failed_{figure}"] == 1.0
        assert ("seen" in figures) == (failing != "inspect")
    assert heard.pictures == ([] if failing == "picture" else [2, 4, 6])


def test_nobody_listens_any_more():
    heard = Heard(["note", "advance", "picture"], BrokenPipeError(32, "Broken pipe"))
    assert int(fit(step, start(), KEY, schedule(), heard.watcher()).done) == 6


def test_a_run_whose_onlookers_fail_is_resumed(tmp_path):
    def interrupt(at):
        if at == 4:
            signal.raise_signal(signal.SIGTERM)

    checkpoints, heard = Checkpoints(tmp_path), Heard(["inspect", "picture"])
    watcher = heard.watcher()
    watcher.advance = interrupt
    with pytest.raises(Interrupted):
        fit(step, start(), KEY, schedule(), watcher, checkpoints)
    again = Heard(["inspect"])
    assert int(fit(step, start(), KEY, schedule(), again.watcher(), checkpoints).done) == 6
    checkpoints.close()
    assert [at for at, _ in again.reports] == [6]


def test_what_ends_a_training_still_does():
    with pytest.raises(DivergenceError, match="were skipped"):
        fit(Stuck(), start(), KEY, schedule(), Heard(["inspect", "picture"]).watcher())
    for error in (Interrupted(2, signal.SIGTERM), KeyboardInterrupt(), SystemExit(143)):
        with pytest.raises(type(error)):
            fit(step, start(), KEY, schedule(), Heard(["picture"], error).watcher())


def test_a_step_that_fails_is_no_onlooker_s_failure():
    def fail(done):
        raise RuntimeError("RESOURCE_EXHAUSTED: of the step")

    def failing(state, key):
        done = jax.pure_callback(fail, jax.ShapeDtypeStruct((), jnp.int32), state.done)
        return Count(done, state.stuck), {"done": done.astype(jnp.float32)}

    heard = Heard()
    with pytest.raises(Exception, match="of the step"):
        fit(failing, start(), KEY, schedule(), heard.watcher())
    assert heard.notes == []


def test_a_search_for_nan_ends_at_the_first():
    onlookers = Onlookers(lambda sentence: None)

    def look():
        raise FloatingPointError("invalid value (nan) encountered in sin")

    assert onlookers.look("health check", 3, look, otherwise={}) == {}
    assert onlookers.failed() == {"failed_health_check": 1.0}
    assert onlookers.failed() == {}
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        onlookers.look("health check", 3, look, otherwise={})
