"""The loop: compiled once, on time, stopped and resumed without a trace, stopped where stuck."""

import signal
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import DivergenceError
from pplemd.learning import Adjustment, Interrupted, Training, Watcher, first_window, fit
from pplemd.learning.loop import AbstractState
from pplemd.storage.checkpoints import Checkpoints

KEY = jax.random.key(0)


class Walk(AbstractState):
    """A random walk that counts its steps, and how many it could not do."""

    x: jax.Array
    done: jax.Array
    stuck: jax.Array

    @property
    def skipped_in_a_row(self):
        return self.stuck


class Step(eqx.Module):
    """x <- 0.9 x + noise; stuck from a given step on."""

    scale: jax.Array
    stuck_from: int = eqx.field(static=True, default=1000)

    def __call__(self, state, key):
        x = 0.9 * state.x + self.scale * jax.random.normal(key, state.x.shape)
        stuck = jnp.where(state.done >= self.stuck_from, state.stuck + 1, 0)
        return Walk(x, state.done + 1, stuck), {"done": state.done.astype(jnp.float32), "square": jnp.mean(x**2)}


def start():
    return Walk(jnp.ones(3), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def schedule(steps=23, log=5, sample=8, checkpoint=10, patience=4):
    rhythm = {"log_every": log, "sample_every": sample, "checkpoint_every": checkpoint}
    return Training(steps=steps, patience=patience, **rhythm)


STEP = Step(jnp.asarray(0.3))


class Diary:
    """Remembers all that a watcher is told; sends a signal after a step."""

    def __init__(self, interrupt_at=None, number=signal.SIGTERM):
        self.steps, self.reports, self.pictures, self.notes, self.begins = [], [], [], [], []
        self.interrupt_at, self.number = interrupt_at, number

    def advance(self, step):
        self.steps.append(step)
        if step == self.interrupt_at:
            signal.raise_signal(self.number)

    def watcher(self):
        return Watcher(
            self.advance,
            lambda step, figures: self.reports.append((step, figures)),
            lambda step, state: self.pictures.append((step, int(state.done))),
            self.notes.append,
            self.begins.append,
        )


def by_hand(steps):
    """The states after each step, one call after the other, the key of step i folded from the run's."""
    state, states = start(), []
    run = eqx.filter_jit(STEP)
    for i in range(steps):
        state, _ = run(state, jax.random.fold_in(KEY, i))
        states.append(state)
    return states


def test_a_run_is_its_steps_and_everything_happens_on_time():
    diary, states = Diary(), by_hand(23)
    last = fit(STEP, start(), KEY, schedule(), diary.watcher())
    np.testing.assert_allclose(last.x, states[-1].x, rtol=1e-6)
    assert diary.begins == [0]
    assert diary.steps == list(range(1, 24))
    assert [step for step, _ in diary.reports] == [5, 10, 15, 20, 23]
    assert diary.pictures == [(8, 8), (16, 16), (23, 23)]
    assert diary.notes == []


def test_reports_are_means_of_their_window():
    diary, states = Diary(), by_hand(23)
    fit(STEP, start(), KEY, schedule(), diary.watcher())
    squares = np.array([float(jnp.mean(state.x**2)) for state in states])
    for (end, figures), begin in zip(diary.reports, [0, 5, 10, 15, 20], strict=True):
        np.testing.assert_allclose(figures["square"], squares[begin:end].mean(), rtol=1e-5)
        np.testing.assert_allclose(figures["done"], np.arange(begin, end).mean(), rtol=1e-6)


def test_what_an_inspection_finds_is_reported_at_its_step():
    """Every 8 steps, beside the means that are due every 5, and by itself where none are."""
    diary = Diary()
    watcher = diary.watcher()
    watcher.inspect = lambda step, state: {"seen": float(state.done), "step": float(step)}
    fit(STEP, start(), KEY, schedule(steps=16, log=4, sample=6), watcher)
    found = {step: set(figures) for step, figures in diary.reports}
    means, seen = {"done", "square"}, {"seen", "step"}
    assert found == {4: means, 6: seen, 8: means, 12: means | seen, 16: means | seen}
    assert all(figures["seen"] == figures["step"] == step for step, figures in diary.reports if "seen" in figures)
    assert dict(diary.reports)[8]["done"] == np.mean([4, 5, 6, 7])  # an inspection alone does not end a window


def doubled(step, state):
    """The walk at twice its place, and where it was."""
    return Walk(2.0 * state.x, state.done, state.stuck), {"before": float(state.x[0])}


def test_what_is_decided_between_steps_is_in_the_next_and_decided_again_alike(tmp_path):
    whole, cut, traces = Diary(), Diary(interrupt_at=9), []

    def counting(state, key):
        traces.append(None)
        return STEP(state, key)

    adjustment = Adjustment(4, doubled)
    last = fit(counting, start(), KEY, schedule(steps=12), whole.watcher(), adjustment=adjustment)
    assert len(traces) == 1  # for its shapes and to compile: nothing is compiled again
    state = start()
    for i in range(12):
        state = eqx.filter_jit(STEP)(state, jax.random.fold_in(KEY, i))[0]
        state = doubled(i + 1, state)[0] if i + 1 in (4, 8) else state  # not at the end
    np.testing.assert_allclose(last.x, state.x, rtol=1e-5)
    assert [step for step, figures in whole.reports if "before" in figures] == [4, 8]
    with pytest.raises(Interrupted):
        resumed(tmp_path, cut, adjustment)
    again = resumed(tmp_path, Diary(), adjustment)
    np.testing.assert_array_equal(again.x, last.x)


def resumed(folder, diary, adjustment):
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        return fit(STEP, start(), KEY, schedule(steps=12), diary.watcher(), checkpoints, adjustment=adjustment)
    finally:
        checkpoints.close()


def test_the_step_is_compiled_once():
    traces = []

    def counting(state, key):
        traces.append(None)
        return STEP(state, key)

    eqx.filter_eval_shape(first_window, counting, start(), KEY)  # as a plan does, before its teacher is ready
    fit(counting, start(), KEY, schedule(), Watcher())
    assert len(traces) == 1  # for its shapes and to compile


def test_the_state_that_was_given_is_donated():
    given = start()
    fit(STEP, given, KEY, schedule(steps=2), Watcher())
    assert given.x.is_deleted()
    assert not STEP.scale.is_deleted()


def test_a_run_that_has_no_place_for_checkpoints_says_so():
    with pytest.raises(Interrupted) as caught:
        fit(STEP, start(), KEY, schedule(), Diary(7, signal.SIGINT).watcher())
    assert not caught.value.saved


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop", [7, 10])  # in the middle of a window, and at a checkpoint
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, stop, number):
    whole = Diary()
    expected = fit(STEP, start(), KEY, schedule(), whole.watcher())
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    first, second = Diary(stop, number), Diary()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Interrupted, match=f"step {stop} by {number.name}") as caught:
        fit(STEP, start(), KEY, schedule(), first.watcher(), checkpoints)
    checkpoints.close()
    assert (caught.value.step, caught.value.signal, caught.value.saved) == (stop, number, True)
    assert {each: signal.getsignal(each) for each in before} == before
    checkpoints = Checkpoints(tmp_path)
    last = fit(STEP, start(), KEY, schedule(), second.watcher(), checkpoints)
    checkpoints.close()
    assert eqx.tree_equal(last, expected)
    assert second.begins == [stop]
    assert first.steps + second.steps == whole.steps
    assert first.reports + second.reports == whole.reports
    assert first.pictures + second.pictures == whole.pictures


def test_checkpoints_are_saved_on_time_and_at_the_end(tmp_path):
    saved = []
    checkpoints = Checkpoints(tmp_path, keep=9)
    fit(STEP, start(), KEY, schedule(), Watcher(), checkpoints)
    step, window = checkpoints.latest(first_window(STEP, start(), KEY))
    checkpoints.close()
    saved = sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
    assert saved == [10, 20, 23]
    assert (step, int(window.state.done), int(window.count)) == (23, 23, 0)  # reported at 23: the window starts again


def test_a_run_that_is_done_is_not_run_again(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    done = fit(STEP, start(), KEY, schedule(), Watcher(), checkpoints)
    diary = Diary()
    again = fit(STEP, start(), KEY, schedule(), diary.watcher(), checkpoints)
    checkpoints.close()
    assert eqx.tree_equal(done, again)
    assert (diary.steps, diary.begins) == ([], [23])


def test_a_signal_after_the_last_step_stops_nothing():
    assert int(fit(STEP, start(), KEY, schedule(), Diary(23).watcher()).done) == 23


def test_a_second_signal_acts_as_it_did_before():
    class Twice(Diary):
        def advance(self, step):
            if step == 3:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(STEP, start(), KEY, schedule(), Twice().watcher())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)


@pytest.mark.parametrize(("stuck_from", "stop"), [(0, 5), (2, 10), (7, 15), (20, None)])
def test_a_run_that_is_stuck_is_stopped_at_the_next_report(stuck_from, stop):
    step, diary = Step(jnp.asarray(0.3), stuck_from), Diary()
    before = signal.getsignal(signal.SIGTERM)
    if stop is None:  # three in a row: less than the patience
        fit(step, start(), KEY, schedule(), diary.watcher())
        return
    with pytest.raises(DivergenceError, match=f"{stop - stuck_from} updates before step {stop} were skipped"):
        fit(step, start(), KEY, schedule(), diary.watcher())
    assert diary.reports[-1][0] == stop  # told before it is stopped
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_left_alone():
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(STEP, start(), KEY, schedule(steps=3), Watcher())))
    thread.start()
    thread.join()
    assert int(found[0].done) == 3
