"""A short chain and its twin: the E-step for any target."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.kernels import AbstractKernel, Info, State, sized
from pplemd.inference.kernels.coupled import coupled
from pplemd.inference.target import TiltedLaw, standard_normal

MEMORY = 2**31 - 1  # fold_in(key, i) is the i-th key of a split: beyond those of any chain and any kernel


class Cancellation(eqx.Module):
    """Which of the chain's noise its twin takes back.

    The twin nu is the same chain on the standard normal: same start (`initial`), same injected noise (`injected`), same
    decisions. What is left, u - nu, is what the potential did.

    Source: arXiv:2405.16852, section 3.3. `paired` is this project's: the M-step's gradient at the chain's end less
    that at the twin's end, its latents included. Such a twin decides for itself: its law does not change when its noise
    changes sign, so that what is taken away has mean zero whatever the latents and the step sizes did.

    Attributes:
        initial: cancel the noise that the chain started from.
        injected: cancel the noise that the kernel injected.
        paired: take the twin's noise away at the twin's latents, not at the chain's.
    """

    initial: bool = True
    injected: bool = True
    paired: bool = False


ALL = Cancellation(True, True)
PAIRED = Cancellation(True, True, paired=True)
INJECTED = Cancellation(False, True)
INITIAL = Cancellation(True, False)
NONE = Cancellation(False, False)


class Draw(eqx.Module):
    """Where one chain and its twin ended.

    Attributes:
        position: coordinates u_K, a pytree.
        twin: coordinates nu_K of the twin, the same structure.
        acceptance: mean acceptance probability along the chain.
        divergences: share of its transitions that diverged.
        evaluations: gradients of the potential that it took.
    """

    position: PyTree
    twin: PyTree
    acceptance: Float[Array, ""]
    divergences: Float[Array, ""]
    evaluations: Float[Array, ""]

    @property
    def residual(self) -> PyTree:
        """u_K - nu_K: the position with its noise cancelled."""
        return jax.tree.map(jnp.subtract, self.position, self.twin)


class Pair(eqx.Module):
    """A chain and its twin on the way.

    Attributes:
        chain: the chain's state.
        twin: the twin's.
    """

    chain: State
    twin: State


class Chain(eqx.Module):
    """`length` transitions of a kernel from a given start, beside the twin.

    Attributes:
        kernel: the transition.
        length: K, how many transitions.
        cancel: which noise the twin takes back.
        slow_every: coordinates that are dear to move (the target's `hold`) move in every `slow_every`-th transition
            only; the others move in each.

    Raises:
        RecipeError: where the length is not positive, or no multiple of slow_every.
    """

    kernel: AbstractKernel
    length: int = eqx.field(static=True)
    cancel: Cancellation = ALL
    slow_every: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if self.length < 1:
            raise RecipeError(f"a chain needs at least one step; found length={self.length}.")
        if self.slow_every < 1 or self.length % self.slow_every:
            raise RecipeError(
                f"the chain's length must be a multiple of slow_every; found length={self.length}, "
                f"slow_every={self.slow_every}. With length=16, slow_every may be 1, 2, 4, 8 or 16."
            )

    def with_step_size(self, step_size: PyTree) -> "Chain":
        """The same chain, its kernel's steps of another size."""
        return eqx.tree_at(lambda c: c.kernel, self, sized(self.kernel, step_size))

    def run(self, key: PRNGKeyArray, target: TiltedLaw, start: PyTree) -> Draw:
        """Run one chain.

        Args:
            key: a key.
            target: the law to sample.
            start: coordinates to start from, a pytree of arrays.
        """
        every = 1 if target.hold is None else self.slow_every
        twin = jax.tree.map(lambda u: float(self.cancel.initial) * u, start)
        keys = jax.random.split(key, self.length).reshape(self.length // every, every)
        if every == 1:
            first = self._begin(key, target, start, twin)
            end, infos = jax.lax.scan(lambda pair, k: self._both(k[0], pair, target), first, keys)
        else:
            end, infos = self._cycles(keys, target, start, twin)
        return Draw(
            end.chain.position,
            end.twin.position,
            jnp.mean(infos.acceptance),
            jnp.mean(infos.diverging.astype(infos.acceptance.dtype)),
            jnp.sum(jnp.asarray(infos.evaluations, infos.acceptance.dtype)),
        )

    def _begin(self, key: PRNGKeyArray, target: TiltedLaw, start: PyTree, twin: PyTree) -> Pair:
        """States of chain and twin at these positions."""
        key_memory = jax.random.fold_in(key, MEMORY)
        return Pair(self.kernel.init(key_memory, target, start), self.kernel.init(key_memory, standard_normal(), twin))

    def _both(self, key: PRNGKeyArray, pair: Pair, target: TiltedLaw) -> tuple[Pair, Info]:
        """One transition of the chain, the same of the twin."""
        chain, info = self.kernel.step(key, pair.chain, target)
        if self.cancel.paired:
            twin = coupled(self.kernel, key, pair.twin, 1.0)  # its own decisions: the chain's would tell it of the law
        else:
            twin = self.kernel.shadow(key, pair.twin, info, float(self.cancel.injected))
        told = Info(info.acceptance, info.accepted, info.diverging, info.energy, jnp.asarray(info.evaluations), None)
        return Pair(chain, twin), told

    def _cycles(
        self, keys: Key[Array, "cycle step"], target: TiltedLaw, start: PyTree, twin: PyTree
    ) -> tuple[Pair, Info]:
        """Cycles of slow_every - 1 transitions with the slow coordinates held, and one of all."""

        def cycle(ends, cycle_keys):
            position, twin = ends
            position, twin, fast = self._fast(cycle_keys[:-1], target, position, twin)
            pair, slow = self._both(cycle_keys[-1], self._begin(cycle_keys[-1], target, position, twin), target)
            infos = jax.tree.map(lambda many, one: jnp.append(many, one), fast, slow)
            return (pair.chain.position, pair.twin.position), infos

        (position, twin), infos = jax.lax.scan(cycle, (start, twin), keys)
        return Pair(State(position, jnp.zeros(())), State(twin, jnp.zeros(()))), infos

    def _fast(
        self, keys: Key[Array, " step"], target: TiltedLaw, position: PyTree, twin: PyTree
    ) -> tuple[PyTree, PyTree, Info]:
        """Transitions of the fast coordinates alone; the twin's slow ones stay where they are too."""
        assert target.hold is not None
        held = target.hold(position)
        moving = jax.tree.map(lambda u: u is not None, held.position, is_leaf=lambda u: u is None)
        mask = jax.tree.map(lambda m, u: jax.tree.map(lambda _: m, u), moving, position)
        pair = self._begin(keys[0], held.law, eqx.filter(position, mask), eqx.filter(twin, mask))
        pair, infos = jax.lax.scan(lambda now, k: self._both(k, now, held.law), pair, keys)
        joined = [eqx.combine(part.position, whole) for part, whole in ((pair.chain, position), (pair.twin, twin))]
        return joined[0], joined[1], infos
