"""Diagnosing a distillation: long chains of its E-step's distribution at several sigma, judged, drawn and kept."""

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.algorithms import EMD, AbstractDistillation, DistillationContext
from pplemd.algorithms.emd import Tuning
from pplemd.conditions import Condition, Labels
from pplemd.diagnosis import Chains, Row, findings, save_chains, table
from pplemd.diagnosis.chain_record import NOISE
from pplemd.diffusion import AbstractSigmas
from pplemd.inference import (
    AbstractKernel,
    Cancellation,
    Coordinates,
    Frame,
    Run,
    Student,
    bulk_ess,
    difference,
    emd_target,
    long_chains,
)
from pplemd.keys import named
from pplemd.learning import StepInput, TrainState
from pplemd.parameterization import Choice
from pplemd.report.progress import AbstractReporter
from pplemd.storage.folder import write_json
from pplemd.tasks.base import AbstractDiagnosis, ChainOptions
from pplemd.tasks.drawing import chosen_class
from pplemd.tasks.override import as_data
from pplemd.teachers import AbstractTeacher, Posterior, decoded


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


SHARES = (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # of the sigmas that training draws: the middles of four equal parts
SAMPLED = 10_000  # sigmas that these are found from; their s.d. is below 0.005 in share
IMAGES, POINTS = 12, 500  # chains in the picture of the correction, at each sigma


@dataclasses.dataclass(frozen=True)
class Diagnosis(AbstractDiagnosis):
    """A distillation whose chains were judged.

    Attributes:
        label: the class of the chains, or None.
        x: the coordinates of x_sigma by sigma, where the latents move and they are others than (eps, z), or chosen.
        coordinates: those of a posterior as the teacher, and why, in sentences.
    """

    label: int | None
    x: list[XRow]
    coordinates: tuple[str, ...]

    def lines(self) -> list[str]:
        """The coordinates of a posterior, and of x_sigma, a line for each sigma."""
        return [*(f"posterior's {one}" for one in self.coordinates), *(worded(row) for row in self.x)]

    @property
    def of(self) -> str:
        """The class."""
        return "" if self.label is None else f", class {self.label}"


class Law(eqx.Module):
    """The E-step's targets of a run, as the training would sample them next.

    Attributes:
        teacher: q.
        student: the program under training (not its average) and its score network.
        condition: that of the chains, or None.
        latents: base coordinates of the latents, where the chains do not move them.
    """

    teacher: AbstractTeacher
    student: Student
    condition: Condition
    latents: dict[str, Array] | None

    @eqx.filter_jit
    def chains(
        self, key: PRNGKeyArray, sigma: Float[Array, ""], kernel: AbstractKernel, wanted: tuple[int, int, int]
    ) -> Run:
        """Long chains at one sigma from fresh draws of the student.

        Args:
            key: a key.
            sigma: noise level.
            kernel: the transition.
            wanted: how many chains, warm-up and kept draws.
        """
        count, warm_up, draws = wanted
        key_start, key_chains = jax.random.split(key)
        problem, program = self.student.problem, self.student.program

        def start(start_key: PRNGKeyArray) -> Coordinates:
            key_noise, key_latents = jax.random.split(start_key)
            eps = jax.random.normal(key_noise, problem.output.shape)
            return Coordinates(
                eps, problem.draw(key_latents, program, self.condition) if self.latents is None else None
            )

        starts = jax.vmap(start)(jax.random.split(key_start, count))
        law = emd_target(self.teacher, self.student, sigma, self.condition, self.latents)
        return long_chains(key_chains, law, kernel, starts, warm_up, draws)


class FixedSigmas(AbstractSigmas):
    """Equal parts of the draws at given sigmas, in order, whatever the progress."""

    values: Float[Array, " n"]

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...], progress: Any) -> Float[Array, "..."]:
        """Each sigma as often as the others."""
        return jnp.repeat(self.values, shape[0] // len(self.values))

    @property
    def span(self) -> tuple[float, float]:
        """Their range."""
        return float(jnp.min(self.values)), float(jnp.max(self.values))


def diagnose(
    context: DistillationContext,
    algorithm: AbstractDistillation,
    state: TrainState,
    options: ChainOptions,
    folder: Path,
    reporter: AbstractReporter,
) -> Diagnosis:
    """Run long chains of a state's E-step, judge them with ArviZ, and keep all in a folder.

    An algorithm without chains is diagnosed by those that EM distillation would run in its place.

    Args:
        context: of the training.
        algorithm: its numbers.
        state: the state.
        options: what chains.
        folder: where chains.nc, diagnosis.json and the pictures go.
        reporter: shows how it goes.

    Raises:
        RecipeError: where the generator has no such class.
    """
    emd = EMD.following(algorithm)
    key = named(jax.random.key(options.seed), "diagnosis")
    condition = _condition(context, options.label, named(key, "condition"))
    label = None if context.problem.classes is None else int(condition)
    sigmas, kernel = options.sigmas or typical_sigmas(emd.sigmas), options.kernel or emd.chain.kernel
    student = Student(context.problem, state.networks["generator"], state.networks["score"])
    latents = None if emd.move_latents else context.problem.draw(jax.random.fold_in(key, 1), student.program, condition)
    law = Law(context.teacher, student, condition, latents)
    runs = []
    with reporter.progress("chains", len(sigmas), ("acceptance",)) as progress:
        for number, sigma in enumerate(sorted(sigmas)):
            run = law.chains(
                jax.random.fold_in(key, 2 + number),
                jnp.asarray(sigma, jnp.float32),
                kernel,
                (options.chains, options.warm_up, options.draws),
            )
            runs.append(recorded(sigma, run))
            progress.to(number + 1)
            progress.show({"acceptance": float(np.mean(runs[-1].acceptance))})
    rows = table(runs)
    length = (options.chains, options.warm_up, options.draws)
    x = x_rows(context, emd, state, rows, kernel, length, named(key, "x"), condition)
    coordinates = context.teacher.coordinates if isinstance(context.teacher, Posterior) else ()
    found = Diagnosis(int(state.step), as_data(kernel), rows, findings(rows), folder, label, x, coordinates)
    moved = corrections(context, emd, state, sigmas, key)
    save_chains(folder / "chains.nc", runs)
    # the pictures of a diagnosis, and that of what the chains correct
    from pplemd.diagnosis.chain_plots import (
        before_after,  # here: Matplotlib and SciPy's statistics take a second,
        draw_pictures,  # which every command would wait for
    )

    draw_pictures(folder, runs, rows)
    before_after(moved, folder / "correction.png")
    write_json(folder / "diagnosis.json", found.figures())
    return found


def typical_sigmas(law: AbstractSigmas) -> tuple[float, ...]:
    """Four quantiles of the sigmas that the end of training draws, to three digits."""
    drawn = law.sample(jax.random.key(0), (SAMPLED,), 1.0)
    return tuple(float(f"{sigma:.3g}") for sigma in np.quantile(np.asarray(drawn), SHARES))


def _condition(context: DistillationContext, label: int | None, key: PRNGKeyArray) -> Condition:
    """The condition of the chains: one for all, since chains of several conditions have several targets."""
    if label is not None:
        return jnp.asarray(chosen_class(context.problem.condition, label), jnp.int32)
    prior = context.conditions
    if prior is None:
        return None
    if isinstance(prior, Labels):
        return jnp.asarray(np.argmax(prior.weights), jnp.int32)
    return jax.tree.map(lambda leaf: leaf[0], prior.draw(key, 1))


def recorded(sigma: float, run: Run) -> Chains:
    """Long chains as their record; a latent that is called eps becomes eps_."""
    position = run.positions
    latents = {name + "_" * (name == NOISE): np.asarray(u) for name, u in (position.latents or {}).items()}
    return Chains(
        sigma,
        {NOISE: np.asarray(position.noise), **latents},
        np.asarray(run.acceptance),
        np.asarray(run.diverging),
        np.asarray(run.energy),
        max(round(float(np.mean(run.gradients))), 1),
        run.adjusted,
    )


def corrections(
    context: DistillationContext,
    algorithm: AbstractDistillation,
    state: TrainState,
    sigmas: tuple[float, ...],
    key: PRNGKeyArray,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the algorithm's own E-step does to the student's samples at each sigma, decoded.

    Before is g(z) of the coupled chain, the sample that the same noise gives without the teacher; after is g(z_K) plus
    sigma (eps_K - nu_K), where the M-step pulls the generator to.

    Args:
        context: of the training.
        algorithm: its numbers.
        state: whose generator and score network are evaluated.
        sigmas: noise levels, in data units.
        key: a key.

    Returns:
        (before, after), each (n, *shape), by "sigma = ...".
    """
    emd, problem = EMD.following(algorithm), context.problem
    count = (IMAGES if len(problem.output.shape) in (2, 3) else POINTS) * len(sigmas)
    fixed = FixedSigmas(jnp.asarray(sorted(sigmas), jnp.float32))
    whole = dataclasses.replace(emd, sigmas=fixed, chain=dataclasses.replace(emd.chain, cancel=Cancellation.ALL))
    small = emd.small(context, count)

    @eqx.filter_jit
    def both(state: TrainState, key: PRNGKeyArray) -> tuple[Array, Array]:
        batch = whole.draw(small, StepInput.at(state, jnp.ones(())), key)
        generate = jax.vmap(lambda u, condition: problem.generate(state.networks["generator"], u, condition))
        pull = jax.vmap(jnp.multiply)(batch.sigma, batch.draw.residual.noise)
        after = generate(batch.draw.position.latents, batch.conditions) + pull
        before = generate(batch.draw.coupled.latents, batch.conditions)
        return decoded(context.teacher, before), decoded(context.teacher, after)

    before, after = (np.asarray(x) for x in both(state, key))
    each = zip(sorted(sigmas), np.split(before, len(sigmas)), np.split(after, len(sigmas)), strict=True)
    return {f"sigma = {sigma:.3g}": (x, y) for sigma, x, y in each}
