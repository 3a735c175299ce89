"""Diagnosing a run: long chains of its E-step's law at several sigma, judged, drawn and kept in RUN/diagnosis/."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.diagnosis import Chains, Finding, Row, findings, save, table
from pplemd.diagnosis.chains import NOISE
from pplemd.diffusion import AbstractSigmas
from pplemd.errors import RecipeError
from pplemd.inference import ALL, NUTS, AbstractKernel, Coordinates, Run, Student, emd_law, long_chains
from pplemd.learning import EMState, EMStep, FitRecipe, Recipe
from pplemd.report.reporter import AbstractNarrator
from pplemd.runs.loading import Loaded
from pplemd.runs.x_diagnosis import XRow, x_rows
from pplemd.storage.folder import RunFolder, write_json
from pplemd.tasks.model import Plan
from pplemd.tasks.override import as_data
from pplemd.tasks.teacher_training import ready_teacher
from pplemd.teachers import AbstractTeacher

SHARES = (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # of the sigmas that training draws: the middles of four equal parts
SAMPLED = 10_000  # sigmas that these are found from; their s.d. is below 0.005 in share
X = 2**31 - 1  # folded into the key: no sigma has this number
IMAGES, POINTS = 12, 500  # chains in the picture of the correction, at each sigma


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What chains to run.

    Attributes:
        sigmas: noise levels, in data units; none for four that training draws.
        chains: how many at each sigma.
        draws: kept draws of each chain.
        warm_up: draws before them, which find step sizes and are thrown away.
        label: the class, for a program with classes; by default the likeliest of its label prior.
        kernel: the transition, given the recipe; by default NUTS, its energies from line integrals of the scores. Step
            sizes that it lacks are found in warm-up.
        seed: seed of everything random.
    """

    sigmas: tuple[float, ...] = ()
    chains: int = 4
    draws: int = 500
    warm_up: int = 500
    label: int | None = None
    kernel: Callable[[Recipe | FitRecipe], AbstractKernel] = lambda recipe: NUTS()
    seed: int = 0

    def __post_init__(self) -> None:
        if not all(0 < sigma < float("inf") for sigma in self.sigmas) or len(set(self.sigmas)) < len(self.sigmas):
            raise RecipeError(
                f"found the sigmas {list(self.sigmas)}; expected positive, finite noise levels in data units, each "
                "once. Leave --sigma out for four that training draws."
            )
        if self.chains < 2 or self.draws < 4 or self.warm_up < 0:
            raise RecipeError(
                f"found {self.chains} chains of {self.draws} draws after {self.warm_up}; expected at least 2 chains of "
                "4 draws, which R-hat compares. Leave --chains, --draws and --warm-up out for 4 of 500 after 500."
            )


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """A run whose chains were judged.

    Attributes:
        step: step of the checkpoint.
        label: the class of the chains, or None.
        kernel: the transition, as JSON data.
        rows: ArviZ's figures, by site and sigma.
        findings: what is wrong, the most serious first.
        x: the coordinates of x_sigma by sigma, where the latents move and they are others than (eps, z), or chosen.
        folder: where chains.nc, diagnosis.json and the pictures lie.
    """

    step: int
    label: int | None
    kernel: dict[str, Any]
    rows: list[Row]
    findings: list[Finding]
    x: list[XRow]
    folder: Path


class Law(eqx.Module):
    """The E-step's laws of a run, as the training would sample them next.

    Attributes:
        teacher: q.
        student: the program under training (not its average) and its score network.
        label: the class, or None.
        held: base coordinates of the latents, where the recipe freezes them.
    """

    teacher: AbstractTeacher
    student: Student
    label: Int[Array, ""] | None
    held: dict[str, Array] | None

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
            return Coordinates(eps, problem.draw(key_latents, program, self.label) if self.held is None else None)

        starts = jax.vmap(start)(jax.random.split(key_start, count))
        law = emd_law(self.teacher, self.student, sigma, self.label, self.held)
        return long_chains(key_chains, law, kernel, starts, warm_up, draws)


class Given(AbstractSigmas):
    """Equal parts of the draws at given sigmas, in order, whatever the progress."""

    values: Float[Array, " n"]

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...], progress: Any) -> Float[Array, "..."]:
        """Each sigma as often as the others."""
        return jnp.repeat(self.values, shape[0] // len(self.values))

    @property
    def span(self) -> tuple[float, float]:
        """Their range."""
        return float(jnp.min(self.values)), float(jnp.max(self.values))


def diagnose(folder: RunFolder, loaded: Loaded, wanted: Wanted, narrator: AbstractNarrator) -> Diagnosis:
    """Run long chains of the newest checkpoint's E-step, judge them with ArviZ, and keep all in RUN/diagnosis/.

    Args:
        folder: the run.
        loaded: what was read from it.
        wanted: what chains.
        narrator: told how it goes.

    Raises:
        PplemdError: where the generator has no such class.
    """
    planned, step, state = loaded.plan, loaded.step, loaded.state
    label = _label(planned, wanted.label)
    teacher = ready_teacher(planned.model.teacher, narrator)
    recipe, key = planned.model.recipe, jax.random.fold_in(jax.random.key(wanted.seed), 0xD1A6)
    sigmas = wanted.sigmas or typical_sigmas(recipe.sigmas)
    kernel = wanted.kernel(recipe)
    law = _law(planned, teacher, state, label, key)
    runs = _chains(law, sigmas, kernel, wanted, key, narrator)
    rows = table(runs)
    em_step = EMStep(planned.problem, teacher, recipe, planned.labels)
    length = (wanted.chains, wanted.warm_up, wanted.draws)
    x = x_rows(em_step, state, rows, kernel, length, jax.random.fold_in(key, X), law.label)
    found = Diagnosis(step, label, as_data(kernel), rows, findings(rows), x, folder.path / "diagnosis")
    moved = corrections(em_step, state, sigmas, key)
    save(found.folder / "chains.nc", runs)
    _draw(found.folder, runs, rows, moved)
    write_json(found.folder / "diagnosis.json", as_json(found))
    return found


def _draw(folder: Path, runs: list[Chains], rows: Sequence[Row], moved: Mapping[str, Any]) -> None:
    """The pictures of a diagnosis, and that of what the chains correct."""
    from pplemd.diagnosis.chain_plots import draw_pictures  # which every command would wait for
    from pplemd.diagnosis.correction import before_after  # here: Matplotlib and SciPy's statistics take a second,

    draw_pictures(folder, runs, rows)
    before_after(moved, folder / "correction.png")


def as_json(found: Diagnosis) -> dict[str, Any]:
    """A diagnosis as JSON data, its folder left out."""
    return {name: value for name, value in dataclasses.asdict(found).items() if name != "folder"}


def typical_sigmas(law: AbstractSigmas) -> tuple[float, ...]:
    """Four quantiles of the sigmas that the end of training draws, to three digits."""
    drawn = law.sample(jax.random.key(0), (SAMPLED,), 1.0)
    return tuple(float(f"{sigma:.3g}") for sigma in np.quantile(np.asarray(drawn), SHARES))


def _label(planned: Plan, label: int | None) -> int | None:
    """The class of the chains: all of one, since chains of several classes are of several laws."""
    if planned.labels is None:
        if label is not None:
            raise RecipeError(f"found label {label}; this generator is unconditional: leave the label out.")
        return None
    if label is None:
        return int(np.argmax(planned.labels.weights))
    if not 0 <= label < planned.labels.classes:
        raise RecipeError(f"found label {label}; this generator has classes 0 to {planned.labels.classes - 1}.")
    return label


def _law(planned: Plan, teacher: AbstractTeacher, state: EMState, label: int | None, key: PRNGKeyArray) -> Law:
    """The laws of a state; frozen latents are one fresh draw, the same in every chain."""
    student = Student(planned.problem, state.generator.module, state.score.module)
    given = None if label is None else jnp.asarray(label, jnp.int32)
    held = None
    if planned.model.recipe.frozen:
        held = planned.problem.draw(jax.random.fold_in(key, 1), student.program, given)
    return Law(teacher, student, given, held)


def _chains(
    law: Law,
    sigmas: tuple[float, ...],
    kernel: AbstractKernel,
    wanted: Wanted,
    key: PRNGKeyArray,
    narrator: AbstractNarrator,
) -> list[Chains]:
    runs = []
    with narrator.task("chains", len(sigmas), ("acceptance",)) as task:
        for number, sigma in enumerate(sorted(sigmas)):
            run = law.chains(
                jax.random.fold_in(key, 2 + number),
                jnp.asarray(sigma, jnp.float32),
                kernel,
                (wanted.chains, wanted.warm_up, wanted.draws),
            )
            runs.append(recorded(sigma, run))
            task.to(number + 1)
            task.show({"acceptance": float(np.mean(runs[-1].acceptance))})
    return runs


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
    step: EMStep, state: EMState, sigmas: tuple[float, ...], key: PRNGKeyArray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the recipe's own E-step does to the student's samples at each sigma.

    Before is g(z) of the chain's twin, the sample that the same noise gives without the teacher; after is g(z_K) plus
    sigma (eps_K - nu_K), where the M-step pulls the generator to.

    Args:
        step: the EM step.
        state: the state whose generator and score network are asked.
        sigmas: noise levels, in data units.
        key: a key.

    Returns:
        (before, after), each (n, *shape), by "sigma = ...".
    """
    problem = step.problem
    count = (IMAGES if len(problem.output.shape) in (2, 3) else POINTS) * len(sigmas)
    parts = step.recipe.compute.parts(count, step.recipe.batch)
    compute = dataclasses.replace(step.recipe.compute, accumulate=parts)
    chain = dataclasses.replace(step.recipe.chain, cancel=ALL)
    given = Given(jnp.asarray(sorted(sigmas), jnp.float32))
    recipe = dataclasses.replace(step.recipe, batch=count, sigmas=given, chain=chain, compute=compute)

    @eqx.filter_jit
    def both(step: EMStep, state: EMState, key: PRNGKeyArray) -> tuple[Array, Array]:
        program = state.generator.module
        batch = step.e_step(program, state.score.module, key, jnp.ones(()), state.tuning)
        generate = jax.vmap(lambda u, label: problem.generate(program, u, label))
        pull = jax.vmap(jnp.multiply)(batch.sigma, batch.draw.residual.noise)
        return generate(batch.draw.twin.latents, batch.labels), generate(
            batch.draw.position.latents, batch.labels
        ) + pull

    before, after = (np.asarray(x) for x in both(dataclasses.replace(step, recipe=recipe), state, key))
    each = zip(sorted(sigmas), np.split(before, len(sigmas)), np.split(after, len(sigmas)), strict=True)
    return {f"sigma = {sigma:.3g}": (x, y) for sigma, x, y in each}
