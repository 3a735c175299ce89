"""A short chain and the chain coupled to it, a control variate: the E-step for any target."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.kernels import AbstractKernel, Info, LogDensity, State, sized, with_common_noise
from pplemd.inference.target import TiltedTarget, log_normal, without_potential
from pplemd.keys import named

Targets = tuple[TiltedTarget, LogDensity]  # the chain's, and the coupled chain's


class Cancellation(eqx.Module):
    """Which of the chain's noise its coupled chain, a control variate, takes away.

    The coupled chain nu is the same chain on the base density, such as the standard normal: same start (`initial`),
    same injected noise (`injected`), same decisions. What is left, u - nu, is what the potential did.

    Source: arXiv:2405.16852, section 3.3. `paired` is this project's: the M-step's gradient at the chain's end less
    that at the coupled chain's end, its latents included. Such a coupled chain decides for itself: its distribution
    does not change when its noise changes sign, so that what is taken away has mean zero whatever the latents and the
    step sizes did.

    Attributes:
        initial: cancel the noise that the chain started from.
        injected: cancel the noise that the kernel injected.
        paired: take the coupled chain's noise away at the coupled chain's latents, not at the chain's.
    """

    initial: bool = True
    injected: bool = True
    paired: bool = False

    ALL: ClassVar["Cancellation"]
    PAIRED: ClassVar["Cancellation"]
    INJECTED: ClassVar["Cancellation"]
    INITIAL: ClassVar["Cancellation"]
    NONE: ClassVar["Cancellation"]


Cancellation.ALL = Cancellation(True, True)
Cancellation.PAIRED = Cancellation(True, True, paired=True)
Cancellation.INJECTED = Cancellation(False, True)
Cancellation.INITIAL = Cancellation(True, False)
Cancellation.NONE = Cancellation(False, False)


class Draw(eqx.Module):
    """Where one chain and its coupled chain ended.

    Attributes:
        position: coordinates u_K, a pytree.
        coupled: coordinates nu_K of the coupled chain, the same structure.
        acceptance: mean acceptance probability along the chain.
        divergences: share of its transitions that diverged.
        evaluations: gradients of the potential that it took.
    """

    position: PyTree
    coupled: PyTree
    acceptance: Float[Array, ""]
    divergences: Float[Array, ""]
    evaluations: Float[Array, ""]

    @property
    def residual(self) -> PyTree:
        """u_K - nu_K: the position with its noise cancelled."""
        return jax.tree.map(jnp.subtract, self.position, self.coupled)


class Reference(eqx.Module):
    """What the coupled chain samples, where its target is not the standard normal, and where it starts.

    Attributes:
        log_density: the base density of the chain's target, in the chain's coordinates.
        start: where the coupled chain starts: the chain's start, or where there is no noise.
    """

    log_density: LogDensity
    start: PyTree


class Pair(eqx.Module):
    """A chain and its coupled chain, between transitions.

    Attributes:
        chain: the chain's state.
        coupled: the coupled chain's.
    """

    chain: State
    coupled: State


class Chain(eqx.Module):
    """`length` transitions of a kernel from a given start, beside the coupled chain.

    Attributes:
        kernel: the transition.
        length: K, how many transitions.
        cancel: which noise the coupled chain takes back.
        expensive_every: coordinates that are expensive to move (those that the target can condition on) move in
            every `expensive_every`-th transition only; the others move in each. A step size that is given for the
            expensive block is best made as many times longer.

    Raises:
        RecipeError: where the length is not positive, or no multiple of expensive_every.
    """

    kernel: AbstractKernel
    length: int = eqx.field(static=True)
    cancel: Cancellation = Cancellation.ALL
    expensive_every: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if self.length < 1:
            raise RecipeError(f"a chain needs at least one step; found length={self.length}.")
        if self.expensive_every < 1 or self.length % self.expensive_every:
            raise RecipeError(
                f"the chain's length must be a multiple of expensive_every; found length={self.length}, "
                f"expensive_every={self.expensive_every}. With length=16, expensive_every may be 1, 2, 4, 8 or 16."
            )

    def with_step_size(self, step_size: PyTree) -> "Chain":
        """The same chain, its kernel's steps of another size."""
        return eqx.tree_at(lambda c: c.kernel, self, sized(self.kernel, step_size))

    def run(self, key: PRNGKeyArray, target: TiltedTarget, start: PyTree, reference: Reference | None = None) -> Draw:
        """Run one chain.

        Args:
            key: a key.
            target: the target to sample.
            start: coordinates to start from, a pytree of arrays.
            reference: the coupled chain's target and start, where the base density is not the standard normal.
        """
        every = 1 if target.conditional is None else self.expensive_every
        coupled, log_reference = (
            (self.reference_start(start), log_normal) if reference is None else (reference.start, reference.log_density)
        )
        keys = jax.random.split(key, self.length).reshape(self.length // every, every)
        if every == 1:
            first = self._begin(key, (target, log_reference), start, coupled)
            end, infos = jax.lax.scan(lambda pair, k: self._both(k[0], pair, (target, log_reference)), first, keys)
        else:
            end, infos = self._cycles(keys, (target, log_reference), start, coupled)
        return Draw(
            end.chain.position,
            end.coupled.position,
            jnp.mean(infos.acceptance),
            jnp.mean(infos.diverging.astype(infos.acceptance.dtype)),
            jnp.sum(jnp.asarray(infos.evaluations, infos.acceptance.dtype)),
        )

    def reference_start(self, u: PyTree) -> PyTree:
        """Where the coupled chain starts: at the chain's start u, in base coordinates, or where there is no noise."""
        return jax.tree.map(lambda leaf: float(self.cancel.initial) * leaf, u)

    def _begin(self, key: PRNGKeyArray, targets: Targets, start: PyTree, coupled: PyTree) -> Pair:
        """States of both chains at these positions."""
        key_memory, (target, reference) = named(key, "persistent"), targets
        return Pair(
            self.kernel.init(key_memory, target, start),
            self.kernel.init(key_memory, without_potential(reference), coupled),
        )

    def _both(self, key: PRNGKeyArray, pair: Pair, targets: Targets) -> tuple[Pair, Info]:
        """One transition of the chain, and the same transition of the coupled chain."""
        target, reference = targets
        chain, info = self.kernel.step(key, pair.chain, target)
        if self.cancel.paired:  # its own decisions: the chain's depend on the potential
            coupled = with_common_noise(self.kernel, key, pair.coupled, 1.0, reference)
        else:
            coupled = self.kernel.couple(key, pair.coupled, info, float(self.cancel.injected), reference)
        return Pair(chain, coupled), dataclasses.replace(info, evaluations=jnp.asarray(info.evaluations), noise=None)

    def _cycles(
        self, keys: Key[Array, "cycle step"], targets: Targets, start: PyTree, coupled: PyTree
    ) -> tuple[Pair, Info]:
        """Block updates: cycles of transitions given the expensive coordinates, and one of all coordinates."""

        def cycle(ends, cycle_keys):
            position, coupled = ends
            position, coupled, fast = self._fast(cycle_keys[:-1], targets, position, coupled)
            pair, slow = self._both(cycle_keys[-1], self._begin(cycle_keys[-1], targets, position, coupled), targets)
            infos = jax.tree.map(lambda many, one: jnp.append(many, one), fast, slow)
            return (pair.chain.position, pair.coupled.position), infos

        (position, coupled), infos = jax.lax.scan(cycle, (start, coupled), keys)
        return Pair(State(position), State(coupled)), infos

    def _fast(
        self, keys: Key[Array, " step"], targets: Targets, position: PyTree, coupled: PyTree
    ) -> tuple[PyTree, PyTree, Info]:
        """Transitions of the other coordinates given the expensive block, which stays where it is in both chains."""
        target, reference = targets
        assert target.conditional is not None
        conditional = target.conditional(position)
        moving = jax.tree.map(lambda u: u is not None, conditional.position, is_leaf=lambda u: u is None)
        mask = jax.tree.map(lambda m, u: jax.tree.map(lambda _: m, u), moving, position)
        some = (
            conditional.target,
            reference if reference is log_normal else lambda part: reference(eqx.combine(part, coupled)),
        )
        pair = self._begin(keys[0], some, eqx.filter(position, mask), eqx.filter(coupled, mask))
        pair, infos = jax.lax.scan(lambda now, k: self._both(k, now, some), pair, keys)
        joined = [
            eqx.combine(part.position, whole) for part, whole in ((pair.chain, position), (pair.coupled, coupled))
        ]
        return joined[0], joined[1], infos
