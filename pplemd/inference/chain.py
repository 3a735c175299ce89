"""A short chain and its twin: the E-step for any target."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.kernels import AbstractKernel, Info, LogDensity, State, coupled, sized
from pplemd.inference.target import TiltedLaw, log_normal, untilted

MEMORY = 2**31 - 1  # fold_in(key, i) is the i-th key of a split: beyond those of any chain and any kernel


Laws = tuple[TiltedLaw, LogDensity]  # the chain's, and the twin's


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


class Free(eqx.Module):
    """The twin's law and start, where they are others than the standard normal and the chain's own start.

    Attributes:
        log_density: of the law that the chain's would be without its potential, in the chain's coordinates.
        start: where the twin starts: the chain's start, or where no noise is.
    """

    log_density: LogDensity
    start: PyTree


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
            only; the others move in each. A step size that is given for them is best made as many times longer.

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

    def run(self, key: PRNGKeyArray, target: TiltedLaw, start: PyTree, free: Free | None = None) -> Draw:
        """Run one chain.

        Args:
            key: a key.
            target: the law to sample.
            start: coordinates to start from, a pytree of arrays.
            free: the twin's law and start, in coordinates whose base is not the standard normal.
        """
        every = 1 if target.hold is None else self.slow_every
        twin, log_free = (self.untold(start), log_normal) if free is None else (free.start, free.log_density)
        keys = jax.random.split(key, self.length).reshape(self.length // every, every)
        if every == 1:
            first = self._begin(key, (target, log_free), start, twin)
            end, infos = jax.lax.scan(lambda pair, k: self._both(k[0], pair, (target, log_free)), first, keys)
        else:
            end, infos = self._cycles(keys, (target, log_free), start, twin)
        return Draw(
            end.chain.position,
            end.twin.position,
            jnp.mean(infos.acceptance),
            jnp.mean(infos.diverging.astype(infos.acceptance.dtype)),
            jnp.sum(jnp.asarray(infos.evaluations, infos.acceptance.dtype)),
        )

    def untold(self, u: PyTree) -> PyTree:
        """Where the twin of a chain that starts at base coordinates u starts: there, or where no noise is."""
        return jax.tree.map(lambda leaf: float(self.cancel.initial) * leaf, u)

    def _begin(self, key: PRNGKeyArray, laws: Laws, start: PyTree, twin: PyTree) -> Pair:
        """States of chain and twin at these positions."""
        key_memory, (target, free) = jax.random.fold_in(key, MEMORY), laws
        return Pair(self.kernel.init(key_memory, target, start), self.kernel.init(key_memory, untilted(free), twin))

    def _both(self, key: PRNGKeyArray, pair: Pair, laws: Laws) -> tuple[Pair, Info]:
        """One transition of the chain, the same of the twin."""
        target, free = laws
        chain, info = self.kernel.step(key, pair.chain, target)
        if self.cancel.paired:  # its own decisions: the chain's would tell it of the law
            twin = coupled(self.kernel, key, pair.twin, 1.0, free)
        else:
            twin = self.kernel.shadow(key, pair.twin, info, float(self.cancel.injected), free)
        told = dataclasses.replace(info, evaluations=jnp.asarray(info.evaluations), noise=None)
        return Pair(chain, twin), told

    def _cycles(self, keys: Key[Array, "cycle step"], laws: Laws, start: PyTree, twin: PyTree) -> tuple[Pair, Info]:
        """Cycles of slow_every - 1 transitions with the slow coordinates held, and one of all."""

        def cycle(ends, cycle_keys):
            position, twin = ends
            position, twin, fast = self._fast(cycle_keys[:-1], laws, position, twin)
            pair, slow = self._both(cycle_keys[-1], self._begin(cycle_keys[-1], laws, position, twin), laws)
            infos = jax.tree.map(lambda many, one: jnp.append(many, one), fast, slow)
            return (pair.chain.position, pair.twin.position), infos

        (position, twin), infos = jax.lax.scan(cycle, (start, twin), keys)
        return Pair(State(position), State(twin)), infos

    def _fast(
        self, keys: Key[Array, " step"], laws: Laws, position: PyTree, twin: PyTree
    ) -> tuple[PyTree, PyTree, Info]:
        """Transitions of the fast coordinates alone; the twin's slow ones stay where they are too."""
        target, free = laws
        assert target.hold is not None
        held = target.hold(position)
        moving = jax.tree.map(lambda u: u is not None, held.position, is_leaf=lambda u: u is None)
        mask = jax.tree.map(lambda m, u: jax.tree.map(lambda _: m, u), moving, position)
        some = (held.law, free if free is log_normal else lambda part: free(eqx.combine(part, twin)))
        pair = self._begin(keys[0], some, eqx.filter(position, mask), eqx.filter(twin, mask))
        pair, infos = jax.lax.scan(lambda now, k: self._both(k, now, some), pair, keys)
        joined = [eqx.combine(part.position, whole) for part, whole in ((pair.chain, position), (pair.twin, twin))]
        return joined[0], joined[1], infos
