"""What is told as done is done: the loop does not run ahead of slow steps, and does not wait for each of short ones."""

import time

import jax
import jax.numpy as jnp
import pytest

from pplemd.learning import Training, Watcher, fit, loop
from pplemd.learning.loop import AbstractState, Pace

SIDE = 400


class Slow(AbstractState):
    """A matrix that is multiplied by itself."""

    x: jax.Array
    stuck: jax.Array

    @property
    def skipped_in_a_row(self):
        return self.stuck


def step(state, key):
    x = jax.lax.fori_loop(0, 200, lambda i, x: jnp.tanh(x @ x), state.x)
    return Slow(x, state.stuck), {"mean": jnp.mean(x)}


def test_a_slow_step_is_told_when_it_is_done():
    times, phases = [], []

    def advance(done):
        times.append(time.monotonic())

    watcher = Watcher(advance, picture=lambda step, state: times.append(time.monotonic()), phase=phases.append)
    start = Slow(jnp.eye(SIDE), jnp.zeros((), jnp.int32))
    fit(
        step,
        start,
        jax.random.key(0),
        Training(steps=4, log_every=100, sample_every=100, checkpoint_every=100),
        watcher,
    )
    *told, end = times
    typical = (told[-1] - told[0]) / 3
    assert end - told[-1] < 0.5 * typical  # after the last step nothing of the steps is left to be done
    assert phases == ["compiling the step", "health check", "picture"]


@pytest.mark.parametrize(("seconds", "waits"), [(1.0, 40), (0.03, 14), (0.001, 1)])
def test_it_waits_for_each_slow_step_and_for_few_short_ones(monkeypatch, seconds, waits):
    clock, waited = [0.0], []

    def wait(newest):
        waited.append(newest)

    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(loop.jax, "block_until_ready", wait)
    following = Pace()
    for each in range(40):
        clock[0] += seconds
        following.keep(each)
    assert len(waited) == waits
