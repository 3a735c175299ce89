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
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.climbing import FIRST, Camp, climbed
from pplemd.inference.kernels import AbstractKernel, Info, State, sized
from pplemd.inference.target import TiltedTarget
from pplemd.keys import named


class Run(eqx.Module):
    """What long chains left, each leaf with leading dimensions chain and draw.

    Attributes:
        positions: coordinates u.
        acceptance: acceptance probability of each transition.
        diverging: whether it diverged.
        energy: its Hamiltonian, log rho counted from where the chain ended: small numbers are exact in the bulk.
        gradients: gradients of the potential, of all kept draws together, by chain.
        step_size: step sizes that warm-up found, by chain, of the structure of a position.
        adjusted: whether the kernel's proposals may be refused, or would be by their energies.
    """

    positions: PyTree
    acceptance: Float[Array, "chain draw"]
    diverging: Bool[Array, "chain draw"]
    energy: Float[Array, "chain draw"]
    gradients: Float[Array, " chain"]
    step_size: PyTree
    adjusted: bool = eqx.field(static=True, default=False)


class WarmUp(eqx.Module):
    """One chain while it is warmed up.

    Attributes:
        state: the chain's.
        steps: dual averaging of the step size.
        masses: running moments of the position.
        scale: standard deviation of each coordinate, as far as known.
    """

    state: State
    steps: PyTree
    masses: PyTree
    scale: Float[Array, " n"]


def long_chains(
    key: PRNGKeyArray, target: TiltedTarget, kernel: AbstractKernel, starts: PyTree, warm_up: int, draws: int
) -> Run:
    """Run chains side by side.

    Warm-up is Stan's: fast, slow and fast windows, with dual averaging of the step size and a diagonal mass from the
    draws of each slow window; by BlackJAX's parts, so that kernels without a density have it too. A kernel that has a
    step size, or that says nothing of acceptance, keeps what it has. Starts that lie far out climb first (`climbed`): a
    journey would teach step sizes and masses of its own.

    Args:
        key: a key.
        target: the target.
        kernel: the transition.
        starts: positions to start from, each leaf with a leading dimension chain.
        warm_up: transitions that adapt and are thrown away; with none, chains start exactly at `starts`.
        draws: transitions that are kept.

    Raises:
        RecipeError: where the kernel has no step size and none can be found.
    """
    if kernel.step_size is None and (kernel.wanted_acceptance is None or warm_up < 20):
        raise RecipeError(
            f"{type(kernel).__name__} has no step size and cannot find one in {warm_up} warm-up steps; give it one, or "
            "20 steps or more to find it."
        )

    chains = jax.tree.leaves(starts)[0].shape[0]
    keys = jax.vmap(lambda k: _keys(k, warm_up, draws), out_axes=(0, 1))(jax.random.split(key, chains))
    tuner = _Tuner(kernel, target)
    begun = jax.vmap(lambda k, start: tuner.begin(k, start, warm_up > 0))(keys[0], starts)
    (warm, positions), infos = jax.lax.scan(
        lambda carry, given: _moved(tuner, carry, *given),
        (begun, jax.tree.map(lambda leaf: jnp.zeros((chains, draws, *leaf.shape[1:]), leaf.dtype), starts)),
        (jnp.maximum(jnp.arange(-warm_up, draws), 0), keys[1], _schedule(warm_up, draws)),
    )
    acceptance, diverging, energy, gain, evaluations = (jnp.swapaxes(one[warm_up:], 0, 1) for one in infos)
    energy = energy + jax.lax.cumsum(gain, axis=1, reverse=True)  # log rho counted from where each chain ends
    adjusted = kernel.wanted_acceptance is not None
    gradients, sizes = jnp.sum(evaluations, axis=1), jax.vmap(tuner.sizes)(warm)
    return Run(positions, acceptance, diverging, energy, gradients, sizes, adjusted)


def _keys(key: PRNGKeyArray, warm_up: int, draws: int) -> tuple[PRNGKeyArray, Key[Array, " transition"]]:
    """Of one chain: of its start, and of each transition."""
    key_warm, key_draw = jax.random.split(key)
    key_start, key_steps = jax.random.split(key_warm)
    return key_start, jnp.concatenate([jax.random.split(key_steps, warm_up), jax.random.split(key_draw, draws)])


def _schedule(warm_up: int, draws: int) -> Bool[Array, "transition 3"]:
    """Of each transition, whether warm-up goes on, in a slow window, and at the end of one."""
    with jax.numpy_dtype_promotion("standard"):  # BlackJAX stacks integers with booleans
        stages = jnp.asarray(build_schedule(warm_up)) == 1 if warm_up else jnp.zeros((0, 2), bool)
    adapting = jnp.concatenate([jnp.ones((warm_up, 1), bool), stages], axis=1)
    return jnp.concatenate([adapting, jnp.zeros((draws, 3), bool)])


def _moved(
    tuner: "_Tuner", carry: tuple[WarmUp, PyTree], slot: Array, keys: Key[Array, " chain"], stage: Bool[Array, "3"]
) -> tuple[tuple[WarmUp, PyTree], Any]:
    """One transition of all chains, kept in a slot of each; those of warm-up share the first, which is overwritten.

    One body for warm-up and draws, batched inside of the loop: that halves what there is to compile, and a loop that
    is batched from outside is traced anew until it is known what of it depends on the chain.
    """
    warm, kept = carry
    warm, infos = jax.vmap(lambda one, key: tuner.step(one, key, stage))(warm, keys)
    kept = jax.tree.map(
        lambda every, now: jax.lax.dynamic_update_index_in_dim(every, now, slot, 1), kept, warm.state.position
    )
    return (warm, kept), infos


class _Tuner(eqx.Module):
    """Stan's warm-up of one chain, by BlackJAX's parts; a kernel that has its step size is left as it is."""

    kernel: AbstractKernel
    target: TiltedTarget

    def begin(self, key: PRNGKeyArray, start: PyTree, climbs: bool) -> WarmUp:
        """Before the first step, after a climb if there shall be one."""
        size = pytree_size(start)
        camp = climbed(named(key, "climb"), self.target, start) if climbs else Camp(start, jnp.ones(size))
        state = self.kernel.init(key, self.target, camp.position)
        if self.kernel.step_size is not None:
            return WarmUp(state, None, None, camp.scale)
        begin, _, _ = self._dual_averaging
        return WarmUp(state, begin(FIRST), mass_matrix_adaptation(True)[0](size), camp.scale)

    def sizes(self, warm: WarmUp) -> PyTree:
        """Step sizes that were found, in units of each coordinate's standard deviation."""
        if self.kernel.step_size is not None:
            return jax.tree.map(jnp.asarray, self.kernel.step_size)
        return self._sizes(warm, warm.steps.log_step_size_avg)

    def step(self, warm: WarmUp, key: PRNGKeyArray, stage: Bool[Array, "3"]) -> tuple[WarmUp, Any]:
        """One transition, from which the step size is learned while warm-up goes on; and its figures."""
        if self.kernel.step_size is not None:
            state, info = self.kernel.step(key, warm.state, self.target)
            return WarmUp(state, None, None, warm.scale), _kept_of(info)
        adapting, slow, last = stage
        log_size = jnp.where(adapting, warm.steps.log_step_size, warm.steps.log_step_size_avg)
        state, info = sized(self.kernel, self._sizes(warm, log_size)).step(key, warm.state, self.target)
        learned = self._learned(WarmUp(state, warm.steps, warm.masses, warm.scale), info, slow, last)
        return _where(adapting, learned, WarmUp(state, warm.steps, warm.masses, warm.scale)), _kept_of(info)

    def _sizes(self, warm: WarmUp, log_size: Float[Array, ""]) -> PyTree:
        return ravel_pytree(warm.state.position)[1](jnp.exp(log_size) * warm.scale)

    def _learned(self, warm: WarmUp, info: Info, slow: Bool[Array, ""], last: Bool[Array, ""]) -> WarmUp:
        """In slow windows the moments are gathered, at the last step of each they become the scale.

        In units of the scale so far: Stan shrinks variances towards 1e-3, which would be all of one that is 1e-12.
        """
        begin, update, final = self._dual_averaging
        _, gather, close = mass_matrix_adaptation(True)
        steps = update(warm.steps, jnp.nan_to_num(info.acceptance))
        masses = _where(slow, gather(warm.masses, ravel_pytree(warm.state.position)[0] / warm.scale), warm.masses)
        closed = close(masses)
        renewed = WarmUp(warm.state, begin(final(steps)), closed, warm.scale * jnp.sqrt(closed.inverse_mass_matrix))
        return _where(last, renewed, WarmUp(warm.state, steps, masses, warm.scale))

    @property
    def _dual_averaging(self):
        return dual_averaging_adaptation(self.kernel.wanted_acceptance)


def _kept_of(info: Info) -> tuple[Array, ...]:
    return info.acceptance, info.diverging, info.energy, info.gain, jnp.asarray(info.evaluations, jnp.float32)


def _where(condition: Bool[Array, ""], yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
