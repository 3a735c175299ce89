"""The processes that share a run, once they met: how they agree, and end when one is lost."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from pplemd.errors import DeviceError, PplemdError

PERIOD = 1.0  # seconds between votes: what a stop waits for, beside the step under way


def first() -> bool:
    """Whether this is the process that writes and speaks: the first, or the only one."""
    return jax.process_index() == 0


def from_first(value: PyTree) -> PyTree:
    """What the first process gives, as JSON keeps it, in every process; all must call it."""
    if jax.process_count() == 1:
        return value
    content = json.dumps(value).encode() if first() else b""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    buffer = np.frombuffer(content, np.uint8) if first() else np.zeros(size, np.uint8)
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(buffer)))


def arrays_from_first(arrays: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
    """The arrays that the first process gives, in every process; None where it gives none."""
    if jax.process_count() == 1:
        return None if arrays is None else dict(arrays)
    given = {} if arrays is None else arrays
    shapes = None if arrays is None else {name: (array.shape, str(array.dtype)) for name, array in given.items()}
    outline = from_first(shapes)
    if outline is None:
        return None
    like = {name: np.zeros(shape, dtype) for name, (shape, dtype) in outline.items()}
    sent = multihost_utils.broadcast_one_to_all({name: given.get(name, zeros) for name, zeros in like.items()})
    return {name: np.asarray(array, like[name].dtype) for name, array in sent.items()}


def led(decide: Callable[[], PyTree]) -> PyTree:
    """What the first process decides, as JSON keeps it; its mistake is every process's.

    Raises:
        PplemdError: that of the first process.
    """
    value, mistake = None, None
    if first():
        try:
            value = decide()
        except PplemdError as error:
            mistake = error
    decided, sentence = from_first([value, None if mistake is None else str(mistake)])
    if mistake is not None:
        raise mistake
    if sentence is not None:
        raise DeviceError(sentence)
    return decided if jax.process_count() > 1 else value


class StopVote:
    """Whether to stop: alone, as soon as a signal came; of several processes, all after the same step.

    They vote about once a second, so that votes cost nothing where steps are short.
    """

    def __init__(self) -> None:
        self._next, self._every, self._voted = 0, 1, time.monotonic()

    def __call__(self, done: int, received: int | None) -> int | None:
        """The signal to stop by, or None.

        Args:
            done: the step; every process calls this after each of its steps.
            received: the signal that this process received, if any.
        """
        if jax.process_count() == 1:
            return received
        if done < self._next:
            return None
        now = time.monotonic()
        vote = np.asarray([received or 0, min(1e3 * (now - self._voted), 1e9)], np.int32)
        signals, waited = np.max(multihost_utils.process_allgather(vote), axis=0)
        self._every = int(min(4 * self._every, max(1, self._every * 1e3 * PERIOD / max(waited, 1))))
        self._next, self._voted = done + self._every, time.monotonic()
        return int(signals) or None


@contextmanager
def together() -> Iterator[None]:
    """In a `with` block, what fails because another process is gone says so.

    Raises:
        DeviceError: where a collective failed.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise DeviceError(
            f"another process of this run was lost or stopped ({_line(error)}). What was saved is whole: start all "
            "processes again with --resume, or as many as there are; its own message says why it ended."
        ) from error


def leave(code: int) -> None:
    """End this process now where it is one of several: the orderly end would wait for those that are lost."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
