"""What training gives: generators of one step or of several, a fitted program; many samples in equal chunks."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from PIL import Image

from pplemd.codecs import AbstractCodec, Identity
from pplemd.conditions import AbstractConditionPrior, Condition
from pplemd.diffusion import AbstractConvention
from pplemd.dsl import Centering, Problem, Program, in_own_mode
from pplemd.errors import ProgramError
from pplemd.plotting.samples import draw
from pplemd.teachers import (
    AbstractDenoiser,
    AbstractTeacher,
    DDIMSampler,
    HeunSampler,
    Posterior,
    codec_of,
    decoded,
    sample,
)

P, T = ParamSpec("P"), TypeVar("T")


def single() -> bool:
    """Turn the 64-bit mode off, for this process and all its threads; return whether it was on."""
    was_on = wide()
    if was_on:
        jax.config.update("jax_enable_x64", False)
    return was_on


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Leave the mode as it was found, whatever is done to it within."""
    before = wide()
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def wide() -> bool:
    """Whether this thread is in the 64-bit mode."""
    return bool(jax.config.read("jax_enable_x64"))


def in_single(call: Callable[P, T]) -> Callable[P, T]:
    """A function that runs in the 32-bit mode, whatever its caller's."""

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(False):
            return call(*args, **kwargs)

    return run


def narrow(teacher: AbstractTeacher) -> AbstractTeacher:
    """A teacher that was declared in the 64-bit mode, as one that can be evaluated in the 32-bit mode.

    Its arrays become those of 32 bits. A plain function may refer to arrays that cannot be seen: it is evaluated in 64.
    A posterior, which was traced, knows its own mode.
    """

    def is_whole(node: Any) -> bool:
        walked = isinstance(node, AbstractTeacher | AbstractConvention) and not isinstance(node, Posterior)
        return isinstance(node, eqx.Module) and not walked

    def to_32(leaf: Any) -> Any:
        return leaf.astype(jnp.float32) if eqx.is_array(leaf) and leaf.dtype == jnp.float64 else leaf

    def of(node: Any) -> Any:
        plain = callable(node) and not isinstance(node, eqx.Module)
        return in_own_mode(node, jnp.float64) if plain else jax.tree.map(to_32, node)

    return jax.tree.map(of, teacher, is_leaf=is_whole)


IMAGES, POINTS = 100, 5000  # samples in a grid of images, in a cloud of points
SEED = 20_160  # any fixed number: the same noise at every picture shows what training changes


class Distilled(eqx.Module):
    """A one-step generator.

    Attributes:
        problem: the traced program.
        program: its trained networks.
        conditions: the prior of its conditions, or None.
        codec: what decodes what it generates.
    """

    problem: Problem
    program: Program
    conditions: AbstractConditionPrior | None
    codec: AbstractCodec = Identity()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, decoded."""
        return self.codec.decoded_shape(self.problem.output.shape)

    @in_single
    @eqx.filter_jit
    def sample(self, key: PRNGKeyArray, count: int, conditions: Condition = None) -> Float[Array, "count ..."]:
        """Draw x, one network evaluation each.

        Args:
            key: a key.
            count: how many.
            conditions: one for each, with a leading dimension count; drawn from their prior by default.
        """
        return jax.vmap(self.codec.decode)(self.encoded(key, count, conditions))

    def encoded(self, key: PRNGKeyArray, count: int, conditions: Condition = None) -> Float[Array, "count ..."]:
        """Draw x as the generator makes them, before they are decoded; see `sample`."""
        key_conditions, key_latents = jax.random.split(key)
        if conditions is None and self.conditions is not None:
            conditions = self.conditions.draw(key_conditions, count)

        def one(latent_key: PRNGKeyArray, condition: Condition) -> Array:
            u = self.problem.draw(latent_key, self.program, condition)
            return self.problem.generate(self.program, u, condition)

        return jax.vmap(one)(jax.random.split(key_latents, count), conditions)

    def picture(self, seed: int = SEED) -> Image.Image:
        """A grid of images, one condition after the other, or a cloud of points."""
        count = IMAGES if len(self.shape) == 3 else POINTS
        conditions = None if self.conditions is None else self.conditions.in_turn(count)
        return draw(np.asarray(self.sample(jax.random.key(seed), count, conditions)), self.shape)


class Diffused(eqx.Module):
    """A denoiser as a generator of several steps: its reverse diffusion.

    Attributes:
        teacher: the denoiser.
        conditions: the prior of its conditions, or None.
        sampler: the reverse diffusion, and how many steps it has.
    """

    teacher: AbstractDenoiser
    conditions: AbstractConditionPrior | None = None
    sampler: HeunSampler | DDIMSampler = HeunSampler()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, decoded."""
        return codec_of(self.teacher).decoded_shape(self.teacher.shape)

    def sample(self, key: PRNGKeyArray, count: int, conditions: Condition = None) -> Float[Array, "count ..."]:
        """Draw x, several network evaluations each.

        Args:
            key: a key.
            count: how many.
            conditions: one for each, with a leading dimension count; drawn from their prior by default.
        """
        key_conditions, key_x = jax.random.split(key)
        if conditions is None and self.conditions is not None:
            conditions = self.conditions.draw(key_conditions, count)
        return decoded(self.teacher, sample(key_x, self.teacher, count, conditions, self.sampler))

    def picture(self, seed: int = SEED) -> Image.Image:
        """A grid of images, one condition after the other, or a cloud of points."""
        count = IMAGES if len(self.shape) == 3 else POINTS
        conditions = None if self.conditions is None else self.conditions.in_turn(count)
        return draw(np.asarray(self.sample(jax.random.key(seed), count, conditions)), self.shape)


class Fitted(eqx.Module):
    """A fitted program.

    Attributes:
        problem: the traced program; of one row of its plate where a step looks at some rows.
        program: its trained networks and parameters, averaged.
        centering: the coordinates that its latents were moved in at the end.
    """

    problem: Problem
    program: Program
    centering: Centering

    @property
    def by_row(self) -> bool:
        """Whether the program was traced for one row of its plate."""
        return any(plate.rows < plate.size for plate in self.problem.plates)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it generates; of one row, where rows are looked at."""
        shape = self.problem.output.shape
        return shape[1:] if self.by_row and not self.problem.single else shape  # a row of a plate keeps its axis

    def parameters(self) -> dict[str, np.ndarray]:
        """What is trained, by its path in the program."""
        leaves = jax.tree_util.tree_leaves_with_path(self.problem.split(self.program)[0])
        return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}

    @eqx.filter_jit
    def sample(self, key: PRNGKeyArray, count: int) -> Float[Array, "count ..."]:
        """Draw x from the program's own latents: what it generates, given nothing.

        Raises:
            ProgramError: where the program generates nothing; `simulate` draws its data.
        """
        of = self._any_row()
        return jax.vmap(lambda k: of.generate(self.program, of.draw(k, self.program)))(jax.random.split(key, count))

    @eqx.filter_jit
    def simulate(self, key: PRNGKeyArray, count: int, but: tuple[str, ...] = ()) -> dict[str, Array]:
        """Draw data from the program's own latents, by observation: the prior predictive distribution.

        Args:
            key: a key.
            count: how many times.
            but: observations that are left out.

        Raises:
            ProgramError: a distribution that cannot be drawn from.
        """
        return jax.vmap(lambda one: self._simulated(one, but))(jax.random.split(key, count))

    def unsimulated(self) -> dict[str, str]:
        """Observations whose data cannot be simulated, and why."""
        names, found = [one.name for one in self.problem.observed], {}
        for name in names:
            try:
                others = [other for other in names if other != name]
                jax.eval_shape(functools.partial(self._simulated, but=others), jax.random.key(0))
            except ProgramError as error:
                found[name] = str(error)
        return found

    def picture(self, seed: int = SEED, count: int | None = None) -> Image.Image | None:
        """What it generates, given nothing; None where it generates nothing."""
        if self.problem.generated is None:
            return None
        count = count or (IMAGES if len(self.shape) == 3 else POINTS)
        return draw(np.asarray(self.sample(jax.random.key(seed), count)).reshape(-1, *self.shape), self.shape)

    def _simulated(self, key: PRNGKeyArray, but: Collection[str]) -> dict[str, Array]:
        of, (key_latents, key_data) = self._any_row(), jax.random.split(key)
        return of.simulate(key_data, self.program, of.draw(key_latents, self.program), but=but)

    def _any_row(self) -> Problem:
        """The problem with a row to look at: its own data are not needed."""
        return self.problem.at({plate.name: jnp.arange(plate.rows) for plate in self.problem.plates})


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Chunks one after the other.

    Attributes:
        x: all samples, of whole chunks.
        seconds: wall time, compilation left out.
    """

    x: Float[np.ndarray, "count ..."]
    seconds: float


def timed_chunks(one: Callable[[int], np.ndarray], count: int, advance: Callable[[int], None]) -> Chunks:
    """Draw chunk 0 once to compile it, then chunks 0 to count - 1, timed.

    Args:
        one: draws the chunk of a number.
        count: how many chunks.
        advance: called with how many are done, first 0 once it is compiled.
    """
    one(0)
    advance(0)
    parts, began = [], time.perf_counter()
    for number in range(count):
        parts.append(one(number))
        advance(number + 1)
    seconds = time.perf_counter() - began
    return Chunks(np.concatenate(parts), seconds)
