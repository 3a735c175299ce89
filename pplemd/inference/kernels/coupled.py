"""The twin of a kernel that does not tell its noise: the kernel itself, without the potential, with the same key."""

from typing import Any

from jaxtyping import PRNGKeyArray

from pplemd.errors import RecipeError
from pplemd.inference.kernels.base import LogDensity, State
from pplemd.inference.target import log_normal, untilted


def coupled(kernel: Any, key: PRNGKeyArray, twin: State, injected: float, free: LogDensity = log_normal) -> State:
    """One transition of the twin: common random numbers, its own decisions.

    Alone it is an exact chain of the free law, so it takes nothing but noise away, and where the chain's law has no
    potential either, the two are one.

    Raises:
        RecipeError: where only the initial noise shall be cancelled: the injected one cannot be left out.
    """
    if not injected:
        raise RecipeError(
            f"{type(kernel).__name__} does not tell its noise, so its twin shares all of it: use "
            "Cancellation(initial=..., injected=True)."
        )
    return kernel.step(key, twin, untilted(free))[0]
