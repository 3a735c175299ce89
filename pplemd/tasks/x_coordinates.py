"""What the coordinates of x_sigma are worth: long chains in those that a run uses, beside those of (eps, z)."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.algorithms import EMD, DistillationContext
from pplemd.algorithms.emd import Tuning
from pplemd.conditions import Condition
from pplemd.diagnosis import Row
from pplemd.inference import AbstractKernel, Coordinates, Frame, Student, bulk_ess, difference, long_chains
from pplemd.learning import TrainState
from pplemd.parameterization import Choice


@dataclasses.dataclass(frozen=True)
class XRow:
    """The coordinates of x_sigma at one noise level.

    Attributes:
        sigma: noise level, in data units.
        lam: lambda in use, the mean over elements; 0 is (eps, z), 1 is (x_sigma, z).
        noncentered: D at lambda = 0, of draws of the run's own E-step; NaN where lambda is declared or draws are few.
        centered: D at lambda = 1.
        chosen: D at the lambda that would be chosen now.
        before: least ESS per gradient of long chains in (eps, z).
        after: the same in the coordinates in use.
    """

    sigma: float
    lam: float
    noncentered: float
    centered: float
    chosen: float
    before: float
    after: float


def x_rows(
    context: DistillationContext,
    emd: EMD,
    state: TrainState,
    rows: list[Row],
    kernel: AbstractKernel,
    length: tuple[int, int, int],
    key: PRNGKeyArray,
    condition: Condition,
) -> list[XRow]:
    """A row for each sigma of a diagnosis; none where the latents do not move, or x stays in (eps, z) by declaration.

    Args:
        context: of the training.
        emd: its numbers.
        state: the run's.
        rows: the table of the chains in (eps, z).
        kernel: the transition of those chains.
        length: how many chains, their warm-up and draws.
        key: a key.
        condition: the class, or None.
    """
    program, tuning = state.networks["generator"], state.tuning
    chosen = tuning.centering if isinstance(tuning, Tuning) else None
    sigmas = sorted({row.sigma for row in rows if row.sigma is not None})
    frames = [emd.frame(context, program, jnp.asarray(sigma, jnp.float32), condition, chosen) for sigma in sigmas]
    if not emd.move_latents or frames[0] is None:
        return []
    key_choice, key_chains = jax.random.split(key)
    choice: Choice | None = None
    if chosen is not None:
        choice = emd.choose(context, key_choice, state, jnp.ones(()))
    found = []
    for number, (sigma, frame) in enumerate(zip(sigmas, frames, strict=True)):
        assert frame is not None  # one for each sigma, or none
        before = min(row.ess_per_gradient for row in rows if row.sigma == sigma)
        lam, after = float(jnp.mean(frame.x)), before
        if lam or frame.latents.loc:
            after = float(_rate(jax.random.fold_in(key_chains, number), context, state, frame, kernel, length))
        place = int(emd.adaptation.bin_of(jnp.asarray(sigma)))
        costs = (float("nan"),) * 3
        if choice is not None:
            costs = (float(choice.noncentered[place]), float(choice.centered[place]), float(choice.chosen[place]))
        found.append(XRow(sigma, lam, costs[0], costs[1], costs[2], before, after))
    return found


@eqx.filter_jit
def _rate(
    key: PRNGKeyArray,
    context: DistillationContext,
    state: TrainState,
    frame: Frame,
    kernel: AbstractKernel,
    length: tuple[int, int, int],
) -> Float[Array, ""]:
    """Least ESS per gradient of long chains in a frame, judged by base coordinates as the chains in (eps, z) are."""
    count, warm_up, draws = length
    problem, program = context.problem, state.networks["generator"]
    student = Student(problem, program, state.networks["score"])

    def start(start_key: PRNGKeyArray) -> Coordinates:
        key_noise, key_latents = jax.random.split(start_key)
        eps = jax.random.normal(key_noise, problem.output.shape)
        return frame.from_base(Coordinates(eps, problem.draw(key_latents, program, frame.condition)))

    key_start, key_run = jax.random.split(key)
    law = frame.target(difference(context.teacher, student, frame.sigma, frame.condition))
    run = long_chains(key_run, law, kernel, jax.vmap(start)(jax.random.split(key_start, count)), warm_up, draws)
    u = jax.vmap(jax.vmap(frame.to_base))(run.positions)
    leaves = [leaf.reshape(count, draws, -1) for leaf in jax.tree.leaves(u)]
    return jnp.min(bulk_ess(jnp.concatenate(leaves, axis=2))) / jnp.sum(run.gradients)


def worded(row: XRow) -> str:
    """A row in a line for people."""
    costs = ""
    if np.isfinite(row.chosen):
        costs = f"; cost at lambda 0 {row.noncentered:.3g}, 1 {row.centered:.3g}, chosen {row.chosen:.3g}"
    rates = f"{1e3 * row.before:.3g} in (eps, z), {1e3 * row.after:.3g} in those in use"
    return f"x at sigma = {row.sigma:.3g}: lambda {row.lam:.2g}{costs}; least ESS per 1,000 gradients {rates}"
