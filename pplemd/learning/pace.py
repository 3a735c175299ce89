"""How far ahead of the device the loop may run: what it says is done has to be done."""

import time

import jax
from jaxtyping import PyTree

LATE = 0.1  # seconds by which what is told may run ahead; waiting once in so long costs nothing that shows


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
