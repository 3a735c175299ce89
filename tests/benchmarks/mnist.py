"""models/mnist.py with changes of its numbers, one after the other, judged by LeNet: figures and pictures.

    python tests/benchmarks/mnist.py --teacher teacher_mnist_vit.npz --features feat_lenet_mnist.npz --data mnist.npz \
        --out results --minutes 4 --try "training.steps=2000" --try "training.seed=1" --try "algorithm.anchor=none"

Each --try holds changes as `pplemd distill --set` takes them, and "sigma=NUMBER" for sigma* of the generator. The
teacher is judged once, by each --heun. No new try is begun after the minutes are over.
"""

import argparse
import dataclasses
import functools
import json
import time
from pathlib import Path

import jax
import numpy as np

import pplemd as em
from pplemd.conditions import Labels
from pplemd.learning import Watcher
from pplemd.metrics import AbstractMeasure
from pplemd.plotting.samples import image_grid, save_png
from pplemd.runs.declared import declare
from pplemd.tasks.distillation import Model, Plan
from pplemd.tasks.evaluation import timed_samples
from pplemd.tasks.results import Distilled
from pplemd.teachers import AbstractTeacher, HeunSampler, sample

MODEL = Path(__file__).parents[2] / "models" / "mnist.py"
COUNT = 10_000
KEY = 20_160  # of the samples that are judged


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("teacher", "features", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--try", dest="tries", action="append", default=[], metavar="CHANGES")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--count", type=int, default=COUNT, help="samples judged")
    parser.add_argument("--heun", type=int, nargs="*", default=[18], help="steps of the teacher's sampler, or none")
    return parser.parse_args()


def changed(options: argparse.Namespace, changes: list[str]) -> Model:
    """The model with changes of its numbers, and of sigma*."""
    sigma = [float(one.removeprefix("sigma=")) for one in changes if one.startswith("sigma=")]
    given = (f"given.data={options.data}", f"given.features={options.features}")
    own = tuple(one for one in changes if not one.startswith("sigma="))
    model = declare(MODEL, None, (*given, *own), options.teacher).distillation
    if not sigma:
        return model

    def program(teacher: AbstractTeacher, key):
        return type(model.program(teacher, key))(em.one_step(teacher, sigma[0]))

    return dataclasses.replace(model, program=program)


def figures(measure: AbstractMeasure, source, count: int, planned: Plan) -> dict[str, float]:
    drawn = timed_samples(source, jax.random.key(KEY), count, planned.conditions)
    return {**measure.measure(drawn.x, labels=drawn.labels), "seconds_per_1000": drawn.seconds_per_1000}


def sample_by(sampler: HeunSampler, teacher: AbstractTeacher, key, count, labels):
    return sample(key, teacher, count, labels, sampler)


def record(out: Path, name: str, found: dict[str, float], **more: float) -> None:
    line = {"name": name, **{key: round(value, 4) for key, value in {**found, **more}.items()}}
    print(json.dumps(line), flush=True)
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def grid(out: Path, number: int, distilled: Distilled) -> None:
    labels = Labels.uniform(10).in_turn(100)
    save_png(out / f"try{number}.png", image_grid(np.asarray(distilled.sample(jax.random.key(1), 100, labels)), 10))


def main() -> None:
    options, began = arguments(), time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    model = changed(options, [])
    planned, teacher = model.plan(), model.teacher.ready()
    measure = model.evaluation.prepare()
    for steps in options.heun:
        by_heun = functools.partial(sample_by, HeunSampler(steps), teacher)
        record(options.out, f"teacher, {steps} steps", figures(measure, by_heun, options.count, planned))
    for number, text in enumerate(options.tries):
        if time.monotonic() - began > 60 * options.minutes:
            print("out of time", flush=True)
            break
        started = time.monotonic()
        model = changed(options, text.split())
        work = model.plan().assemble(teacher)
        state = jax.block_until_ready(work.train(Watcher()))
        seconds = time.monotonic() - started
        distilled = work.result(state)
        grid(options.out, number, distilled)
        found = figures(measure, distilled.sample, options.count, planned)
        record(options.out, text or "as it stands", found, seconds=seconds, whole=time.monotonic() - began)


if __name__ == "__main__":
    main()
