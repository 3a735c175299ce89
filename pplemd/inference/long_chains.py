"""Long chains of any kernel on any target, warmed up by themselves: for diagnosis and for tests."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
from blackjax.adaptation.staged_adaptation import build_schedule
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.util import pytree_size
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.kernels import AbstractKernel, State, sized
from pplemd.inference.target import TiltedLaw

FIRST = 0.1  # step size that warm-up starts from: u is standard normal a priori, and too short is safe


class Run(eqx.Module):
    """What long chains left, each leaf with leading dimensions chain and draw.

    Attributes:
        positions: coordinates u.
        acceptance: acceptance probability of each transition.
        diverging: whether it diverged.
        energy: its Hamiltonian, up to a constant of the chain.
        gradients: gradients of the potential, of all kept draws together, by chain.
        step_size: step sizes that warm-up found, by chain, of the structure of a position.
    """

    positions: PyTree
    acceptance: Float[Array, "chain draw"]
    diverging: Bool[Array, "chain draw"]
    energy: Float[Array, "chain draw"]
    gradients: Float[Array, " chain"]
    step_size: PyTree


class WarmUp(eqx.Module):
    """One chain while it is warmed up.

    Attributes:
        state: the chain's.
        steps: dual averaging of the step size.
        masses: running moments of the position.
        scale: standard deviation of each coordinate, as far as known.
    """

    state: State
    steps: Any
    masses: Any
    scale: Float[Array, " n"]


def long_chains(
    key: PRNGKeyArray, target: TiltedLaw, kernel: AbstractKernel, starts: PyTree, warm_up: int, draws: int
) -> Run:
    """Run chains side by side.

    Warm-up is Stan's: fast, slow and fast windows, with dual averaging of the step size and a diagonal mass from the
    draws of each slow window; by BlackJAX's parts, so that kernels without a density have it too. A kernel that has a
    step size, or that says nothing of acceptance, keeps what it has.

    Args:
        key: a key.
        target: the law.
        kernel: the transition.
        starts: positions to start from, each leaf with a leading dimension chain.
        warm_up: transitions that adapt and are thrown away.
        draws: transitions that are kept.

    Raises:
        RecipeError: where the kernel has no step size and none can be found.
    """
    if kernel.step_size is None and (kernel.wanted_acceptance is None or warm_up < 20):
        raise RecipeError(
            f"{type(kernel).__name__} has no step size and cannot find one in {warm_up} warm-up steps; give it one, or "
            "20 steps or more to find it."
        )

    def one(chain_key, start):
        key_warm, key_draw = jax.random.split(chain_key)
        tuned, state = _warmed(key_warm, target, kernel, start, warm_up)

        def step(state, step_key):
            state, info = tuned.step(step_key, state, target)
            told = (info.acceptance, info.diverging, info.energy, jnp.asarray(info.evaluations, jnp.float32))
            return state, (state.position, told)

        _, (positions, told) = jax.lax.scan(step, state, jax.random.split(key_draw, draws))
        return positions, told, tuned.step_size

    chains = jax.tree.leaves(starts)[0].shape[0]
    positions, (acceptance, diverging, energy, evaluations), step_size = jax.vmap(one)(
        jax.random.split(key, chains), starts
    )
    return Run(positions, acceptance, diverging, energy, jnp.sum(evaluations, axis=1), step_size)


def _warmed(
    key: PRNGKeyArray, target: TiltedLaw, kernel: AbstractKernel, start: PyTree, length: int
) -> tuple[AbstractKernel, State]:
    """A kernel with its step sizes, and a state to go on from."""
    key_start, key_steps = jax.random.split(key)
    keys = jax.random.split(key_steps, length)
    state = kernel.init(key_start, target, start)
    if kernel.step_size is not None:
        return kernel, jax.lax.scan(lambda s, k: (kernel.step(k, s, target)[0], None), state, keys)[0]
    tuner = _Tuner(kernel, target)
    with jax.numpy_dtype_promotion("standard"):  # BlackJAX stacks integers with booleans
        schedule = jnp.asarray(build_schedule(length))
    inputs = (keys, schedule[:, 0] == 1, schedule[:, 1] == 1)
    warm, _ = jax.lax.scan(lambda w, i: (tuner.step(w, *i), None), tuner.begin(state), inputs)
    return tuner.tuned(warm.steps.log_step_size_avg, warm), warm.state


class _Tuner(eqx.Module):
    """Stan's warm-up of one chain, by BlackJAX's parts."""

    kernel: AbstractKernel
    target: TiltedLaw

    def begin(self, state: State) -> WarmUp:
        """Before the first step."""
        begin, _, _ = self._dual_averaging
        size = pytree_size(state.position)
        return WarmUp(state, begin(FIRST), mass_matrix_adaptation(True)[0](size), jnp.ones(size))

    def tuned(self, log_size: Float[Array, ""], warm: WarmUp) -> AbstractKernel:
        """The kernel with a step size, in units of each coordinate's standard deviation."""
        return sized(self.kernel, ravel_pytree(warm.state.position)[1](jnp.exp(log_size) * warm.scale))

    def step(self, warm: WarmUp, key: PRNGKeyArray, slow: Bool[Array, ""], last: Bool[Array, ""]) -> WarmUp:
        """One transition; in slow windows the moments are gathered, at the last step of each they become the scale."""
        begin, update, final = self._dual_averaging
        _, gather, close = mass_matrix_adaptation(True)
        state, info = self.tuned(warm.steps.log_step_size, warm).step(key, warm.state, self.target)
        steps = update(warm.steps, jnp.nan_to_num(info.acceptance))
        masses = _where(slow, gather(warm.masses, state.position), warm.masses)
        closed = close(masses)
        renewed = WarmUp(state, begin(final(steps)), closed, jnp.sqrt(closed.inverse_mass_matrix))
        return _where(last, renewed, WarmUp(state, steps, masses, warm.scale))

    @property
    def _dual_averaging(self):
        return dual_averaging_adaptation(self.kernel.wanted_acceptance)


def _where(condition: Bool[Array, ""], yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
