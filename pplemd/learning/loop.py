"""The training loop: one compiled step, called until it is done, stopped or stuck. It knows no algorithm."""

import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from pplemd.devices import ONE, Devices, StopVote
from pplemd.errors import DivergenceError
from pplemd.learning.training import Training
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.compiled import read_fast
from pplemd.storage.folder import reason


class Interrupted(Exception):  # noqa: N818
    """The loop had to stop, by a signal; its state is saved, where there are checkpoints.

    Attributes:
        step: the last step done.
        signal: the signal's number.
        saved: whether the state is saved.
    """

    def __init__(self, step: int, signal_number: int, *, saved: bool = True):
        super().__init__(f"stopped after step {step} by {signal.Signals(signal_number).name}")
        self.step, self.signal, self.saved = step, signal_number, saved


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; a second one of either acts as it did before."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        restore()

    if threading.current_thread() is not threading.main_thread():  # signals are somebody else's business there
        yield received
        return
    try:
        for number in before:
            signal.signal(number, receive)
        yield received
    finally:
        restore()


Seen = TypeVar("Seen")
BAR = "progress bar"


class Onlookers:
    """Calls those who look at a training, and keeps from it what they raise.

    Each is called again when it is due next: a disk may have room by then.

    Args:
        note: called once for each that failed, with the cause.
        phase: called with what is done beside the steps.
    """

    def __init__(self, note: Callable[[str], None], phase: Callable[[str], None] = lambda what: None):
        self._note, self._phase, self._noted = note, phase, set[str]()
        self._failed: dict[str, float] = {}

    def look(self, who: str, step: int, call: Callable[..., Seen], *arguments: object, otherwise: Seen) -> Seen:
        """What an onlooker gives; where it fails, something else in its place.

        Args:
            who: its name, such as "picture".
            step: the step that it looks at.
            call: the onlooker.
            *arguments: what it is called with.
            otherwise: what is given where it fails.

        Raises:
            Interrupted: as it was raised: it asks the training itself to stop.
            FloatingPointError: JAX's, where JAX is set to stop at the first NaN.
        """
        try:
            return call(*arguments)
        except Interrupted:
            raise
        except Exception as error:
            config: Any = jax.config  # whose names are not typed in every version
            if isinstance(error, FloatingPointError) and config.jax_debug_nans:
                raise
            self._failed[f"failed_{who.lower().replace(' ', '_')}"] = 1.0
            self._note_failure(who, step, error)
            return otherwise

    def announce(self, step: int, what: str) -> None:
        """Say what is done beside the steps, as what takes its time."""
        self.look(BAR, step, self._phase, what, otherwise=None)

    def failed(self) -> dict[str, float]:
        """A figure failed_WHO for each that has failed since this was last called."""
        failed, self._failed = self._failed, {}
        return failed

    def _note_failure(self, who: str, step: int, error: Exception) -> None:
        if who in self._noted:
            return
        self._noted.add(who)
        cause = f"{type(error).__name__}: {reason(error)}"
        try:
            self._note(
                f"note: at step {step:,} the {who} failed ({cause}). It is left out, and the training goes on; should "
                "it fail again, that is not told."
            )
        except Exception:  # nobody listens any more, as where the terminal was closed
            return


LATE = 0.1  # seconds by which what is reported may run ahead; waiting once in so long costs nothing that shows


class Pace:
    """Waits for the device now and then.

    JAX returns before a step is computed, by some thirty steps on a CPU: of a slow step a bar would be at its end
    minutes before the training is, and a signal would wait as long.
    """

    def __init__(self) -> None:
        self._ahead, self._most = 0, 1
        self._since = time.monotonic()

    def keep(self, newest: PyTree) -> None:
        """A step was begun: wait for it, unless steps are so short that several take less than LATE.

        Args:
            newest: arrays that the step gives.
        """
        self._ahead += 1
        if self._ahead < self._most:
            return
        jax.block_until_ready(newest)
        now = time.monotonic()
        self._most = max(1, int(LATE * self._ahead / max(now - self._since, 1e-6)))
        self._ahead, self._since = 0, now


class AbstractState(eqx.Module):
    """What the loop needs of a state."""

    @property
    @abstractmethod
    def skipped_in_a_row(self) -> Int[Array, ""]:
        """Updates skipped since the last good one."""

    @property
    def visible(self) -> "AbstractState":
        """What whoever looks at it needs: it is gathered on one device, where the training runs on several."""
        return self


Step = Callable[[PyTree, PRNGKeyArray], tuple[PyTree, dict[str, Array]]]


class Window(eqx.Module):
    """A state and the sums of its metrics since the last report; what a checkpoint keeps.

    Attributes:
        state: the training state.
        sums: metrics summed over the window.
        count: steps in the window.
    """

    state: PyTree
    sums: dict[str, Float[Array, ""]]
    count: Int[Array, ""]


class Adjustment(eqx.Module):
    """What is decided of a state outside of the compiled step, every so many steps but the last.

    Attributes:
        every: steps between decisions.
        decide: called with the step and the state; gives a state of the same shapes, and figures for its report.
    """

    every: int
    decide: Callable[[int, PyTree], tuple[PyTree, dict[str, float]]]


class Watcher:
    """What the loop calls while it runs; each method does nothing unless replaced by a function.

    None of them ends a training: what it raises is reported by `note`, once, and is a figure failed_WHO of the next
    report.

    Args:
        advance: called with the step after each step.
        report: called with the step, the window's mean metrics and what the inspection found, where either is due.
        picture: called with the step and the state, whose buffers the next step takes: copy what is to be kept.
        note: called with a sentence for the user.
        begin: called once, with the step that the run starts from.
        inspect: called with the step and the state, before the report that its figures go into.
        phase: called with what is done beside the steps, before each of these and what takes its time.

    The states that they are called with are the `visible` part, whole on one device, whatever the training runs on.
    """

    def __init__(
        self,
        advance: Callable[[int], None] = lambda step: None,
        report: Callable[[int, dict[str, float]], None] = lambda step, figures: None,
        picture: Callable[[int, PyTree], None] = lambda step, state: None,
        note: Callable[[str], None] = lambda sentence: None,
        begin: Callable[[int], None] = lambda step: None,
        inspect: Callable[[int, PyTree], dict[str, float]] = lambda step, state: {},
        phase: Callable[[str], None] = lambda what: None,
    ):
        self.advance, self.report, self.picture = advance, report, picture
        self.note, self.begin, self.inspect, self.phase = note, begin, inspect, phase


def fit(
    step: Step,
    state: AbstractState,
    key: PRNGKeyArray,
    training: Training,
    watcher: Watcher,
    checkpoints: Checkpoints | None = None,
    devices: Devices = ONE,
    adjustment: Adjustment | None = None,
) -> PyTree:
    """Run a step until the training ends.

    The key of step i is fold_in(key, i): a run that goes on from a checkpoint is the run that was not stopped. Of
    several processes, each calls this with the same arguments but for the watcher.

    Args:
        step: (state, key) -> (state, metrics), pure; compiled once here.
        state: the state to start from, where there is no checkpoint; its buffers are gone afterwards.
        key: the run's key.
        training: how many steps, and how often to do what.
        watcher: called with what happens.
        checkpoints: where to save, and to go on from.
        devices: what to run on.
        adjustment: what is decided between steps; of step and state alone, so that it is decided again alike.

    Returns:
        The last state, whole on one device.

    Raises:
        Interrupted: after SIGINT or SIGTERM in any process, once the state is saved.
        DivergenceError: at the first report after `patience` skipped updates in a row.
    """
    placed = devices.everywhere(step)
    window = devices.split(first_window(step, state, key))
    found = None if checkpoints is None else checkpoints.latest(window, watcher.note)
    done, window = found or (0, window)
    watcher.begin(done)
    stop, onlookers, pace = StopVote(), Onlookers(watcher.note, watcher.phase), Pace()
    with listening() as received:
        onlookers.announce(done, "compiling the step")
        advance = _compiled(devices)
        while done < training.steps:
            with devices.entered():
                window = advance(placed, window, jax.random.fold_in(key, done))
            done += 1
            pace.keep(window.count)
            onlookers.look("progress bar", done, watcher.advance, done, otherwise=None)
            window, decided = _adjusted(done, window, training, adjustment, devices)
            window = _keep_up(done, window, training, watcher, onlookers, decided, devices)
            stopping = stop(done, received[0] if received else None) if done < training.steps else None
            if checkpoints is not None and (stopping or _due(done, training.checkpoint_every, training)):
                onlookers.announce(done, "checkpoint")
                checkpoints.save(done, window)
            if checkpoints is not None and (stopping or done == training.steps):
                checkpoints.wait()
            if stopping:
                raise Interrupted(done, stopping, saved=checkpoints is not None)
    return devices.local(window.state)


def first_window(step: Step, state: AbstractState, key: PRNGKeyArray) -> Window:
    """The window before the first step; with shapes for arrays it gives the structure of a checkpoint."""
    _, metrics = eqx.filter_eval_shape(_stepped, step, state, key)
    return Window(state, *_nothing(metrics))


@eqx.filter_jit(inline=True)  # type: ignore[call-overload]  # only its own options are typed
def _stepped(step: Step, state: AbstractState, key: PRNGKeyArray) -> tuple[AbstractState, dict[str, Array]]:
    """A step, whose trace JAX keeps: whoever needs its structure, and the loop that compiles it, trace it once."""
    return step(state, key)


def _nothing(metrics: dict[str, PyTree]) -> tuple[dict[str, Array], Array]:
    """Sums and count of a window that no step was in; metrics may be shapes."""
    return jax.tree.map(lambda metric: jnp.zeros(metric.shape, metric.dtype), metrics), jnp.zeros((), jnp.int32)


def _compiled(devices: Devices) -> Callable[[Step, Window, PRNGKeyArray], Window]:
    """A step with its metrics summed, compiled; only the window's buffers are donated."""

    @eqx.filter_jit(donate="all-except-first", compiler_options=read_fast())  # type: ignore[call-overload]  # as above
    def advance(placed: Step, window: Window, key: PRNGKeyArray) -> Window:
        state, metrics = _stepped(placed, window.state, key)
        after = Window(state, jax.tree.map(jnp.add, window.sums, metrics), window.count + 1)
        return devices.kept(after)

    return advance


def compiled_text(step: Step, state: AbstractState, key: PRNGKeyArray, devices: Devices) -> str:
    """The compiled step as XLA writes it (HLO), from which tests count what is sent between devices."""
    window = devices.split(first_window(step, state, key))
    with devices.entered():
        lowered = _compiled(devices).lower(devices.everywhere(step), window, key)  # type: ignore[attr-defined]
        return lowered.compile().compiled.as_text()


def _adjusted(
    done: int, window: Window, training: Training, adjustment: Adjustment | None, devices: Devices
) -> tuple[Window, dict[str, float]]:
    """The window with its state adjusted, where it is time, and the figures of that."""
    if adjustment is None or done % adjustment.every or done >= training.steps:
        return window, {}
    seen = devices.local(window.state)
    state, found = adjustment.decide(done, seen)
    return Window(devices.replaced(window.state, seen, state), window.sums, window.count), found


def _keep_up(
    done: int,
    window: Window,
    training: Training,
    watcher: Watcher,
    onlookers: Onlookers,
    found: dict[str, float],
    devices: Devices,
) -> Window:
    """Inspect, draw, report, and stop where stuck, where it is time; the sums start again after their report."""
    logging, sampling = _due(done, training.log_every, training), _due(done, training.sample_every, training)
    if sampling:
        seen = jax.block_until_ready(devices.local(window.state.visible))  # what the step itself raises, it raises here
        nothing: dict[str, float] = {}
        onlookers.announce(done, "health check")
        found = found | onlookers.look("inspection", done, watcher.inspect, done, seen, otherwise=nothing)
        onlookers.announce(done, "picture")
        onlookers.look("picture", done, watcher.picture, done, seen, otherwise=None)
    if logging:
        count = int(window.count)
        found = {name: float(total) / count for name, total in window.sums.items()} | found
        window = Window(window.state, *devices.everywhere(_nothing(window.sums)))
    if found:
        onlookers.look("report", done, watcher.report, done, found | onlookers.failed(), otherwise=None)
    if logging:
        _stop_if_stuck(done, window.state, training.patience)
    return window


def _due(done: int, every: int, training: Training) -> bool:
    """Whether it is time for what happens every so many steps, and at the end."""
    return done % every == 0 or done == training.steps


def _stop_if_stuck(done: int, state: AbstractState, patience: int) -> None:
    skipped = int(state.skipped_in_a_row)
    if skipped >= patience:
        raise DivergenceError(
            f"the last {skipped} updates before step {done} were skipped: their gradients were not finite. The "
            "weights are as they were before. Usual causes: a teacher that returns NaN at some sigma, a learning rate "
            "or E-step step size that is too large (try --set algorithm.generator.learning_rate=1e-4, or "
            "--set algorithm.move_latents=false)."
        )
