"""Long chains of any kernel on any target, warmed up by themselves, and how well they mix."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
from blackjax.adaptation.staged_adaptation import build_schedule
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.diagnostics import effective_sample_size, potential_scale_reduction
from blackjax.util import pytree_size
from jax.flatten_util import ravel_pytree
from jax.scipy.special import ndtri
from jax.scipy.stats import rankdata
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError
from pplemd.inference.kernels import AbstractKernel, Info, State, sized
from pplemd.inference.target import TiltedTarget
from pplemd.keys import named

FIRST = 0.1  # of moves: u is standard normal a priori, and too short is safe
FAR = 10.0  # nats that the first move of a coordinate promises, where a start is far out: a choice
LONGER, SHORTER = 1.2, 0.5  # of moves, after one in the same direction and after a turn: Riedmiller and Braun's
MOST = 500  # moves: 1.2^100 is 1e8, and coordinates that depend on each other wait for each other
FADING = 0.8  # of the running mean of gains, which shows where nothing more is gained
LITTLE = 0.1  # nats a move that are nothing: 50 more moves would gain what a target of ten coordinates varies by
PROBES = 12  # each halves the orders of magnitude by which a coordinate's scale is off


class _Climb(eqx.Module):
    """A climb on its way: where it is, the score there, how far each coordinate moves next, what was gained."""

    x: Float[Array, " n"]
    score: Float[Array, " n"]
    sizes: Float[Array, " n"]
    gain: Float[Array, ""]
    moves: Int[Array, ""]

    @property
    def goes_on(self) -> Bool[Array, ""]:
        """Whether moves still gain something, and there are some left."""
        return (self.gain > LITTLE) & (self.moves < MOST)


class Camp(eqx.Module):
    """Where a chain begins.

    Attributes:
        position: its coordinates.
        scale: about how far each coordinate goes there, flat; 1, as a priori, of a start that was left.
    """

    position: PyTree
    scale: Float[Array, " n"]


def climbed(key: PRNGKeyArray, target: TiltedTarget, start: PyTree) -> Camp:
    """Where the score leads from a start that lies far out; any other start is left where it is.

    Each coordinate moves by the sign of its score and a length of its own, which grows until the sign turns: no scale
    is assumed, and 1 and 1e6 standard deviations are some 100 moves apart. Far out is where a first move of any
    coordinate promises many nats: warm-up alone would bring home what lies nearer, and a mode may lie in a neck of no
    mass. A target that says what to climb on (`TiltedTarget.climbs_on`) has no such necks there: all its starts climb.

    Args:
        key: a key, for the probes of the target's curvature.
        target: the target.
        start: coordinates of one chain, a pytree.

    Source: Riedmiller and Braun 1993 (Rprop), its updates without backtracking.
    """
    first, unravel = ravel_pytree(start)
    guide = target if target.climbs_on is None else target.climbs_on

    def score(x: Float[Array, " n"]) -> Float[Array, " n"]:
        return ravel_pytree(guide.score(unravel(x)))[0]

    def move(now: _Climb) -> _Climb:
        step = jnp.sign(now.score) * now.sizes
        there = score(now.x + step)
        gain = jnp.abs(0.5 * jnp.sum((now.score + there) * step))  # back and forth is not yet there
        sizes = now.sizes * jnp.where(now.score * there < 0, SHORTER, LONGER)
        mean = FADING * now.gain + (1 - FADING) * gain
        moved = _Climb(now.x + step, there, sizes, mean, now.moves + 1)
        stayed = _Climb(now.x, now.score, SHORTER * now.sizes, now.gain, now.moves + 1)
        return jax.tree.map(lambda a, b: jnp.where(jnp.all(jnp.isfinite(there)), a, b), moved, stayed)

    here = score(first)
    promised = FIRST * jnp.max(jnp.abs(here))
    gain = jnp.where(promised > (FAR if target.climbs_on is None else LITTLE), promised, 0.0)
    begun = _Climb(first, here, jnp.full_like(first, FIRST), gain, jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(lambda now: now.goes_on, move, begun)
    known = (end.moves > 0) | (target.climbs_on is not None)
    return Camp(unravel(end.x), jnp.where(known, _scale(key, score, end), 1.0))


def _scale(key: PRNGKeyArray, score: Callable[[Array], Array], end: _Climb) -> Float[Array, " n"]:
    """Of each coordinate (-d score / dx)^(-1/2), at most 1: by differences of scores with signs at random.

    All coordinates move at once, each about as far as it goes, so that what the others do to a score is no more than
    what its own does; a length that is too short becomes the geometric mean of itself and the right one.
    """

    def probe(scale: Array, probe_key: PRNGKeyArray) -> tuple[Array, None]:
        step = scale * jax.random.rademacher(probe_key, scale.shape, scale.dtype)
        steep = jnp.abs(score(end.x + step) - end.score) / scale
        return jnp.where(jnp.isfinite(steep), jax.lax.rsqrt(jnp.maximum(steep, 1.0)), SHORTER * scale), None

    return jax.lax.scan(probe, jnp.minimum(end.sizes, 1.0), jax.random.split(key, PROBES))[0]


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
    # of each transition, whether warm-up goes on, in a slow window, and at the end of one
    with jax.numpy_dtype_promotion("standard"):  # BlackJAX stacks integers with booleans
        stages = jnp.asarray(build_schedule(warm_up)) == 1 if warm_up else jnp.zeros((0, 2), bool)
    adapting = jnp.concatenate([jnp.ones((warm_up, 1), bool), stages], axis=1)
    schedule = jnp.concatenate([adapting, jnp.zeros((draws, 3), bool)])
    (warm, positions), infos = jax.lax.scan(
        lambda carry, given: _moved(tuner, carry, *given),
        (begun, jax.tree.map(lambda leaf: jnp.zeros((chains, draws, *leaf.shape[1:]), leaf.dtype), starts)),
        (jnp.maximum(jnp.arange(-warm_up, draws), 0), keys[1], schedule),
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


def bulk_ess(draws: Float[Array, "chain draw n"]) -> Float[Array, " n"]:
    """Effective sample size of the bulk of each element, over all chains: of rank-normalised, split chains.

    Source: Vehtari et al. 2021, arXiv:1903.08008.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # BlackJAX relies on both
        return effective_sample_size(_normal_scores(_split(draws))).reshape(draws.shape[2:])


def r_hat(draws: Float[Array, "chain draw n"]) -> Float[Array, " n"]:
    """Split R-hat of the ranks of each element: 1 where the chains agree.

    Source: Vehtari et al. 2021, arXiv:1903.08008; the bulk's half of it.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return potential_scale_reduction(_normal_scores(_split(draws))).reshape(draws.shape[2:])


def _split(draws: Array) -> Array:
    chains, count, size = draws.shape
    half = count // 2
    return draws[:, : 2 * half].reshape(2 * chains, half, size)


def _normal_scores(draws: Array) -> Array:
    chains, count, size = draws.shape
    total = chains * count
    ranks = rankdata(draws.reshape(total, size), axis=0)  # equal draws share the mean of their ranks
    return ndtri((ranks.astype(draws.dtype) - 0.375) / (total + 0.25)).reshape(draws.shape)
