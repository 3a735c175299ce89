"""A teacher: as it is, brought by its user, or taught on data here, once; a training that was stopped goes on."""

import dataclasses
import functools
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from pplemd.algorithms import ScoreMatching, TeachingContext
from pplemd.codecs import AbstractCodec, Identity
from pplemd.conditions import AbstractCondition, AbstractConditionPrior, Condition, Labels, Listed, as_condition
from pplemd.data import Dataset
from pplemd.devices import ONE, Devices, first
from pplemd.errors import CheckpointError, DataError, RecipeError, TeacherError
from pplemd.importers import Imported
from pplemd.learning import History, Step, Training, TrainState, Watcher
from pplemd.networks import AbstractNetwork
from pplemd.report.progress import AbstractReporter
from pplemd.storage.checkpoints import Checkpoints, digest
from pplemd.storage.compiled import cache_dir, cached_arrays, is_cached
from pplemd.storage.folder import is_written_to, snapshots
from pplemd.tasks import describing
from pplemd.tasks.base import (
    AbstractDiagnosis,
    AbstractPlan,
    AbstractReport,
    AbstractTask,
    ChainOptions,
    DrawOptions,
    EvaluationOptions,
    ShapesT,
    Work,
    Written,
)
from pplemd.tasks.drawing import USUAL, Samples, chosen_class, save_samples
from pplemd.tasks.override import as_data
from pplemd.tasks.results import Diffused
from pplemd.teachers import (
    AbstractDenoiser,
    AbstractTeacher,
    Denoiser,
    Guidance,
    Guided,
    LatentDiffusion,
    Posterior,
    guidance_of,
)

VERSION = 2  # of the training; raised when a change of code would train another teacher from the same numbers
CHECKPOINTS = 20  # of one training in the cache: a kill costs a twentieth of it at most
CHUNK = 500  # images encoded at a time
POLL = 0.5  # seconds between looks at a training of another process
TEACHING = Training(steps=5000, batch=128)


@dataclasses.dataclass(frozen=True)
class Taught(AbstractTask):
    """A teacher that is declared but not yet trained.

    Attributes:
        network: builds the network from a key.
        data: what it learns; only the training split is used.
        algorithm: how it learns.
        training: how long, and in which precision.
        guidance: how it is guided by its condition once it is taught, or None.
        codec: between the data and what the network learns.
        conditions: of the training images, with a leading dimension; None for their labels, where the network has
            classes.
    """

    network: Callable[[PRNGKeyArray], AbstractNetwork]
    data: Dataset
    algorithm: ScoreMatching = ScoreMatching()
    training: Training = TEACHING
    guidance: Guidance | None = None
    codec: AbstractCodec = Identity()
    conditions: Condition = None
    command: ClassVar[str] = "fit"
    supporting: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """What it is."""
        return "a teacher, declared by em.teach"

    def learned_from(self) -> dict[str, object]:
        """Its data, by their digest."""
        return {"data": self.data.digest()}

    def build(self) -> Denoiser:
        """The untrained denoiser; traced by eqx.filter_eval_shape where only its shapes are wanted.

        Raises:
            DataError: where the network's shape or condition is not the data's.
            TeacherError: where what is built is no network.
        """
        sigma_data = float(np.std(self.images))
        network = self.network(jax.random.fold_in(jax.random.key(self.training.seed), 0))
        if not isinstance(network, AbstractNetwork):
            raise TeacherError(
                f"the function of em.teach built a {type(network).__name__}; expected a network such as "
                f"em.networks.ResidualMLP({self.data.shape}, key=key), or one of your own that derives from "
                "em.networks.AbstractNetwork."
            )
        if network.shape != self.images.shape[1:]:
            raise DataError(
                f"the teacher's network takes x of shape {network.shape}; the data has {self.images.shape[1:]}."
            )
        self._check_conditions(network.condition)
        return Denoiser(network, sigma_data)

    @functools.cached_property
    def images(self) -> Float[np.ndarray, "count ..."]:
        """The training images, encoded."""
        x = self.data.train.x
        if isinstance(self.codec, Identity):
            return x
        with jax.ensure_compile_time_eval():  # data, also where a network is only traced
            encode = jax.jit(jax.vmap(self.codec.encode))
            parts = range(0, len(x), CHUNK)
            return np.concatenate([np.asarray(encode(jnp.asarray(x[at : at + CHUNK]))) for at in parts])

    def _check_conditions(self, form: AbstractCondition | None) -> None:
        """Raise unless the data have the network's condition."""
        if form is None:
            return
        if self.conditions is None:
            if form == as_condition(self.data.classes):
                return
            raise DataError(
                f"the teacher's network is conditioned on {form.words}; the data has classes={self.data.classes}. Give "
                "the network the data's number, None to ignore the labels, or em.teach its `conditions`."
            )
        given = Listed(self.conditions)
        if not given.fits(form) or given.count != len(self.data.train.x):
            raise DataError(
                f"the teacher's network is conditioned on {form.words}; found `conditions` of another form, or not one "
                f"for each of {len(self.data.train.x):,} training images: {given.count:,}."
            )

    def guided(self, denoiser: Denoiser) -> AbstractDenoiser:
        """The teacher that a denoiser of this network is: guided, and with its codec, where that is declared.

        Raises:
            TeacherError: where it is to be guided and has no condition.
        """
        guided = denoiser if self.guidance is None else Guided(denoiser, self.guidance)
        return guided if isinstance(self.codec, Identity) else LatentDiffusion(guided, self.codec)

    def plan(self) -> "TeachingPlan":
        """Build it once, abstractly."""
        self.check_numbers()
        return TeachingPlan(None, self, eqx.filter_eval_shape(self.build))

    def digest(self) -> str:
        """SHA-256 of all that it depends on: algorithm, training, data, network structure, code version."""
        numbers = json.dumps([as_data(self.algorithm), as_data(self.training)], sort_keys=True)
        parts = [str(VERSION), numbers, self.data.digest(), str(eqx.filter_eval_shape(self.build))]
        if not isinstance(self.codec, Identity) or self.conditions is not None:
            arrays, structure = eqx.partition((self.codec, self.conditions), eqx.is_array)
            parts += [digest(arrays), str(structure)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def key(self) -> str:
        """Of the cache."""
        return f"teacher-{self.digest()}"


AnyTeacher = AbstractTeacher | Taught | Imported


def teach(
    network: Callable[[PRNGKeyArray], AbstractNetwork],
    data: Dataset,
    algorithm: ScoreMatching | None = None,
    training: Training | None = None,
    guidance: Guidance | None = None,
    codec: AbstractCodec | None = None,
    conditions: Condition = None,
) -> Taught:
    """Declare a teacher prior: a network that learns to denoise data.

    Args:
        network: builds the network from a key, for example `lambda key: em.networks.ResidualMLP(..., key=key)`.
        data: the images.
        algorithm: how it learns; with guidance, conditions are dropped (`condition_dropout`, or the network's own).
        training: how long, and in which precision; by default 5,000 steps of 128 images.
        guidance: how the teacher is guided by its condition.
        codec: between the data and what the network learns: then its x, the generator's and the chains' are encoded,
            and samples, pictures and figures are decoded.
        conditions: of the training images, a pytree of arrays with a leading dimension; by default their labels, where
            the network has classes.
    """
    codec = codec or Identity()
    return Taught(network, data, algorithm or ScoreMatching(), training or TEACHING, guidance, codec, conditions)


@dataclasses.dataclass(frozen=True)
class TeachingPlan(AbstractPlan[Diffused]):
    """A teacher's training planned: its shapes.

    Attributes:
        problem: none; a teacher is a network alone.
        taught: what was declared.
        denoiser: of shapes alone.
    """

    problem: None
    taught: Taught
    denoiser: Denoiser

    @property
    def task(self) -> Taught:
        """What was declared."""
        return self.taught

    def result(self, state: TrainState) -> Diffused:
        """The teacher of a state: the averaged denoiser, guided where that was declared; and its reverse diffusion."""
        teacher = self.taught.guided(state.averages["denoiser"])
        conditions: AbstractConditionPrior | None = None
        if teacher.classes is not None:
            conditions = Labels.uniform(teacher.classes)
        elif teacher.condition is not None:
            conditions = Listed(self.taught.conditions)
        return Diffused(teacher, conditions)

    def shapes_of(self, function: Callable[[Work[Diffused]], ShapesT]) -> ShapesT:
        """What a function gives of the work, as shapes."""
        return eqx.filter_eval_shape(lambda: function(self.assemble()))

    def build(self, reporter: AbstractReporter, devices: Devices) -> Work[Diffused]:
        """Put it together."""
        return self.assemble()

    def assemble(self) -> Work[Diffused]:
        """Put it together, its data on the device."""
        taught, conditions = self.taught, None
        if self.denoiser.condition is not None:
            given = taught.data.train.label if taught.conditions is None else taught.conditions
            conditions = jax.tree.map(jnp.asarray, given)
        step = Step(TeachingContext(taught.training, jnp.asarray(taught.images), conditions), taught.algorithm)
        key = jax.random.fold_in(jax.random.key(taught.training.seed), 1)

        def initial() -> TrainState:
            return step.init({"denoiser": eqx.filter_jit(taught.build)()})

        return Work(step, initial, key, self.result, Diffused.picture)

    def judge(
        self,
        result: Diffused,
        options: EvaluationOptions,
        history: History,
        reporter: AbstractReporter,
        known: AbstractReport | None = None,
    ) -> AbstractReport:
        """Refuse: a teacher is judged beside its student.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            f"{self.taught.words} is judged beside its student, when a model that has it is distilled. "
            "Leave the evaluation out: --no-evaluation."
        )

    def described(self) -> dict[str, object]:
        """What is declared of it."""
        return {
            "teacher": teacher_described(self.taught, self.denoiser),
            "networks": {"denoiser": describing.parameters(self.denoiser)},
            "output": None,
            "counts": {"samples": self.taught.training.batch},
        }

    def draw(self, result: Diffused, step: int, options: DrawOptions, reporter: AbstractReporter) -> Written:
        """Draw samples by reverse diffusion, into a picture or an .npz file.

        Raises:
            RecipeError: where something is wanted that only a distilled generator has.
        """
        if options.correct or options.side_by_side or options.target.suffix == ".nc":
            raise RecipeError("--correct, --side-by-side and netCDF are for distilled generators; leave them out.")
        count, began = options.count or USUAL, time.perf_counter()
        conditions = None if result.conditions is None else result.conditions.in_turn(count)
        if options.label is not None:
            conditions = np.full(count, chosen_class(result.teacher.condition, options.label), np.int32)
        x = np.asarray(result.sample(jax.random.key(options.seed), count, conditions))
        rate = count / (time.perf_counter() - began)
        save_samples(options.target, Samples(x, conditions, rate), x.shape[1:])
        return Written({"count": count, "per_second": round(rate)}, f"{count:,} samples of step {step:,}")

    def diagnose(
        self, state: TrainState, options: ChainOptions, folder: Path, reporter: AbstractReporter
    ) -> AbstractDiagnosis:
        """Refuse: there are no chains.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(f"{self.taught.words} learns without chains: there is nothing to diagnose.")


def ready_teacher(teacher: AnyTeacher, reporter: AbstractReporter, devices: Devices = ONE) -> AbstractTeacher:
    """A teacher that can be evaluated: as it is, read from its checkpoint, from the cache, or taught now.

    A training that was stopped goes on from its last checkpoint, bit for bit; its checkpoints lie in the cache
    until it ends. One that another process is at is waited for.

    Args:
        teacher: a teacher, or one that is declared by `em.teach` or `em.imported`.
        reporter: shows how the training goes.
        devices: what to train on; of several processes, each calls this.

    Raises:
        Interrupted: after SIGINT or SIGTERM, once the training is saved.
        DivergenceError: where its updates stop being finite.
        ImporterError: where its checkpoint is refused.
    """
    if isinstance(teacher, Imported):
        return teacher.ready()
    if not isinstance(teacher, Taught):
        return teacher
    key = teacher.key
    arrays, static = eqx.partition(eqx.filter_eval_shape(teacher.build), describing.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    partial = cache_dir() / f"{key[:48]}.partial"
    if jax.process_count() == 1:
        _wait_for_another(partial, key, teacher.training.steps, reporter)
    stored = cached_arrays(key, lambda: _teach(teacher, reporter, partial, devices), shared=True)
    if first() and is_cached(key) and not is_written_to(partial):  # else another process is teaching it
        shutil.rmtree(partial, ignore_errors=True)
    found = [jnp.asarray(stored[str(i)], leaf.dtype) for i, leaf in enumerate(leaves)]
    return teacher.guided(eqx.combine(jax.tree.unflatten(structure, found), static))


def at_rest(teacher: AbstractTeacher) -> Callable[[], AbstractTeacher]:
    """A function that gives the teacher back, its weights meanwhile in the memory of the host.

    For one that is not evaluated for a while: what trains evaluates a copy of it, in the training's precision.
    """
    arrays, static = eqx.partition(teacher, eqx.is_array)
    kept = jax.device_get(arrays)
    return lambda: eqx.combine(jax.tree.map(jnp.asarray, kept), static)


def is_ready(teacher: AnyTeacher) -> bool:
    """Whether `ready_teacher` would give it without training."""
    if isinstance(teacher, Imported):
        return teacher.path is not None and teacher.path.exists()
    return not isinstance(teacher, Taught) or is_cached(teacher.key)


def teacher_shapes(teacher: AnyTeacher) -> AbstractTeacher:
    """A teacher; of shapes alone where it is still to be taught, or read from a checkpoint."""
    if isinstance(teacher, Taught):
        return teacher.guided(eqx.filter_eval_shape(teacher.build))
    return teacher.shapes() if isinstance(teacher, Imported) else teacher


def teacher_facts(teacher: AnyTeacher) -> dict[str, object]:
    """What config.json says of a teacher: what it is and its digests."""
    if isinstance(teacher, Imported):
        read = teacher.checkpoint()
        return {"imported": read.architecture, "sha256": read.sha256(), "path": str(teacher.path)}
    found: dict[str, object]
    if isinstance(teacher, Taught):
        found, guidance = {"taught": teacher.recorded(), "data": teacher.data.digest()}, teacher.guidance
    else:
        found = {"ready": type(teacher).__name__, "arrays": digest(eqx.filter(teacher, eqx.is_array))}
        guidance = guidance_of(teacher)
    return found if guidance is None else {**found, "guidance": as_data(guidance)}


def teacher_described(declared: AnyTeacher, teacher: AbstractTeacher) -> dict[str, object]:
    """What `pplemd inspect` says of a teacher.

    Args:
        declared: as the model declares it.
        teacher: as it was planned; of shapes alone where it is not ready.
    """
    kind: dict[str, object] = {
        "type": type(teacher).__name__,
        "shape": list(teacher.shape),
        "classes": teacher.classes,
        "condition": None if teacher.condition is None else teacher.condition.words,
    }
    if isinstance(teacher, Posterior):
        kind |= {"notes": list(teacher.notes), "coordinates": list(teacher.coordinates)}
    guidance = guidance_of(teacher)
    if guidance is not None:
        kind["guidance"] = as_data(guidance)
    if isinstance(declared, Imported):
        return {**kind, "imported": None if declared.path is None else str(declared.path), **declared.described()}
    if not isinstance(declared, Taught):
        return kind
    data = {"train": len(declared.data.train.x), "held_out": len(declared.data.test.x)}
    return {**kind, "taught_on": data, "numbers": declared.recorded()}


def _wait_for_another(partial: Path, key: str, steps: int, reporter: AbstractReporter) -> None:
    """Wait while another process teaches this teacher: until it has, or has stopped."""
    if is_cached(key) or not is_written_to(partial):
        return
    reporter.say(
        "note: another process is teaching this teacher, which is waited for; where it is stopped, its training goes "
        "on here."
    )
    with reporter.progress("teacher, in another process", steps) as progress:
        while not is_cached(key) and is_written_to(partial):
            progress.to(max((int(path.name) for path in snapshots(partial)), default=0))
            time.sleep(POLL)


def _teach(taught: Taught, reporter: AbstractReporter, partial: Path, devices: Devices) -> dict[str, np.ndarray]:
    """Train it; its averaged arrays, by number."""
    training, work = taught.training, taught.plan().assemble()
    often = max(training.steps // CHECKPOINTS, 1)
    rhythm = dataclasses.replace(training, sample_every=training.steps + 1, checkpoint_every=often)  # no pictures
    checkpoints = _checkpoints(partial, reporter)
    with reporter.progress("teacher", training.steps, ("loss",)) as progress:
        watcher = Watcher(
            advance=progress.to,
            report=lambda _, figures: progress.show(figures),
            note=reporter.say,
            phase=progress.phase,
        )
        try:
            state = work.train(watcher, checkpoints, devices, rhythm)
        finally:
            if checkpoints is not None:
                checkpoints.close()
    leaves = jax.tree.leaves(eqx.filter(state.averages["denoiser"], eqx.is_array))
    return {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}


def _checkpoints(partial: Path, reporter: AbstractReporter) -> Checkpoints | None:
    """Checkpoints in the cache; without them where it cannot be written, as the cache itself does."""
    try:
        return Checkpoints(partial, keep=2)
    except CheckpointError as error:
        reporter.say(f"note: {error} The teacher's training cannot be resumed if it is stopped.")
        return None
