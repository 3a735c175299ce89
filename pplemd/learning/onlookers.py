"""What only looks at a training: where it fails, that is told once, and the training goes on."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from pplemd.learning.stops import Interrupted
from pplemd.storage.folder import reason

Seen = TypeVar("Seen")
BAR = "progress bar"


class Onlookers:
    """Calls those who look at a training, and keeps from it what they raise.

    Each is asked again when it is due next: a disk may have room by then.

    Args:
        note: told once of each that failed, with the cause.
        phase: told what is done beside the steps.
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
            FloatingPointError: JAX's, where JAX is asked to stop at the first NaN.
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
        """A figure failed_WHO for each that has failed since this was last asked."""
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
