"""BlackJAX's integrators, made to run on scores: energies come from the kernel's correction, not from a density."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from blackjax.mcmc.integrators import IntegratorState
from jaxtyping import Array, PyTree

from pplemd.inference.corrections import AbstractCorrection
from pplemd.inference.target import TiltedTarget


def score_only(target: TiltedTarget) -> Callable[[PyTree], Array]:
    """A function of value zero whose gradient is the target's score, for code that differentiates a log density."""

    def surrogate(u: PyTree) -> Array:
        score = jax.lax.stop_gradient(target.score(jax.lax.stop_gradient(u)))
        parts = jax.tree.map(lambda s, v: jnp.sum(s * (v - jax.lax.stop_gradient(v))), score, u)
        return jax.tree.reduce(jnp.add, parts)

    return surrogate


def energised(factory: Callable[..., Any], target: TiltedTarget, correction: AbstractCorrection) -> Callable[..., Any]:
    """An integrator of BlackJAX whose states carry a `Point` as gradient and accumulate the correction's gains.

    The Point at the end is evaluated once more outside the integrator; the compiler sees that it is the same.

    Args:
        factory: such as `blackjax.mcmc.integrators.velocity_verlet`: (logdensity_fn, metric) -> step.
        target: the target.
        correction: knows by how much the end is likelier than the start.
    """

    def build(logdensity_fn: Any = None, *metric: Any, **named: Any) -> Callable[..., Any]:
        integrate = factory(score_only(target), *metric, **named)

        def step(state: IntegratorState, step_size: Any) -> Any:
            start: Any = state.logdensity_grad
            moved = integrate(state._replace(logdensity_grad=start.score), step_size)
            new, *rest = moved if _is_pair(moved) else (moved,)
            end = target.visit(new.position)
            gain = correction.gain(target, start, end)
            carried = IntegratorState(new.position, new.momentum, state.logdensity + gain, end)
            return (carried, *rest) if rest else carried

        return step

    return build


def _is_pair(moved: Any) -> bool:
    """Whether an integrator returned (state, change of kinetic energy), as isokinetic ones do."""
    return not isinstance(moved, IntegratorState)
