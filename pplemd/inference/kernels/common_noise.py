"""The coupled chain of a kernel that does not report its noise: the kernel itself, on the base density, same key."""

from typing import Any

from jaxtyping import PRNGKeyArray

from pplemd.errors import RecipeError
from pplemd.inference.kernels.base import LogDensity, State
from pplemd.inference.target import log_normal, without_potential


def with_common_noise(
    kernel: Any, key: PRNGKeyArray, coupled: State, injected: float, reference: LogDensity = log_normal
) -> State:
    """One transition of the coupled chain: common random numbers, its own decisions.

    By itself it is an exact chain of the base density, so it takes nothing but noise away. Where the chain's target has
    no potential either, the two chains are one.

    Raises:
        RecipeError: where only the initial noise shall be cancelled: the injected one cannot be left out.
    """
    if not injected:
        raise RecipeError(
            f"{type(kernel).__name__} does not report its noise, so its coupled chain shares all of it: use "
            "Cancellation(initial=..., injected=True)."
        )
    return kernel.step(key, coupled, without_potential(reference))[0]
