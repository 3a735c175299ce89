"""What the E-step buys: K x cancellation x z-rate x kernel, at equal steps and at equal network evaluations.

Run by hand, not by pytest: `python tests/benchmarks/e_step_grid.py models/ring.py --steps 2000 --out grid.jsonl`. Each
cell is one run of the model with another chain; finished cells are read from the file, so that a killed grid goes on.
`--jobs N` runs N cells at a time, each on one core, the expensive ones first; `--minutes M` starts no cell after
M minutes.
`--rates` compares instead how often the latents move in a chain of 16.
A model's anchor is left out: the E-step is to be seen alone. The table counts evaluations in forward passes of one
network for one sample: 2 for the scores at a point of the chain, 3 more where the latents move, 3 for the M-step (6
paired), 4 for a score update (method: arXiv:2405.16852, appendix).
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

import pplemd as em
from pplemd.errors import PplemdError
from pplemd.learning import StepInput, Watcher
from pplemd.runs.declared import declare
from pplemd.tasks.evaluation import evaluate
from pplemd.tasks.teacher_training import ready_teacher

CANCELLATIONS = {
    "all": em.Cancellation.ALL,
    "injected": em.Cancellation.INJECTED,
    "initial": em.Cancellation.INITIAL,
    "none": em.Cancellation.NONE,
    "paired": em.Cancellation.PAIRED,
}
LENGTHS = (1, 2, 4, 8, 16)
KERNELS = ("langevin", "mala", "hmc")
PAPER = "paper"  # Langevin of the paper's two step sizes; latents that move less often take longer steps
SHORT = "short"  # the same, steps not made longer
NODES = {"langevin": 1, PAPER: 1, SHORT: 1, "mala": 4, "hmc": 8}  # gradients of U per transition
MOVES = {"never": 0, "last": 1, "twice": 2, "four": 4, "each": None}  # how often the latents move in a chain; None: K
Z_RATES = ("never", "last", "each")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One entry of the grid: K, the kernel, how often the latents move, what is cancelled, and what is kept equal."""

    length: int
    kernel: str
    z_rate: str
    cancel: str
    equal: str

    @property
    def moves(self) -> int:
        """How often the latents move in a chain."""
        moves = MOVES[self.z_rate]
        return self.length if moves is None else moves

    def chain(self) -> em.Chain:
        """The cell's chain; adjusted kernels find their own step sizes."""
        every = self.length // self.moves if self.moves else 1
        latents = 0.01  # unadjusted: of the order of gamma_eps / (1 + |J|^2 / sigma^2)
        if self.z_rate == "never" or self.kernel in (PAPER, SHORT):
            latents = 0.004**2 * (every if self.kernel == PAPER else 1)
        adjusted = {"mala": em.mala(), "hmc": em.HMC(None, 4)}
        kernel = adjusted.get(self.kernel, em.Langevin(em.Coordinates(0.16, latents)))
        return em.Chain(kernel, self.length, CANCELLATIONS[self.cancel], every)


def cells(full: bool):
    """All cells, or a cross through K = 4, MALA, latents that do not move, all cancelled."""
    for equal in ("steps", "evaluations"):
        if full:
            yield from (Cell(*c, equal) for c in itertools.product(LENGTHS, KERNELS, Z_RATES, CANCELLATIONS))
            continue
        yield from (Cell(k, kernel, "never", "all", equal) for k in LENGTHS for kernel in KERNELS)
        yield from (Cell(4, kernel, z, "all", equal) for kernel in KERNELS for z in ("last", "each"))
        yield from (Cell(4, "mala", z, c, equal) for z in ("never", "each") for c in CANCELLATIONS if c != "all")


def rates():
    """A chain of 16, its latents moved more or less often."""
    short = [Cell(1, "langevin", "never", "all", "steps")]
    for kernel, still, cancel in ((PAPER, "langevin", "all"), ("mala", "mala", "paired")):
        moved = (Cell(16, kernel, moves, cancel, "steps") for moves in ("last", "twice", "four", "each"))
        short += [Cell(16, still, "never", "all", "steps"), *moved]
    return [*short, Cell(16, SHORT, "four", "all", "steps")]


def forwards(cell: Cell, model: em.Model) -> float:
    """Forward passes of one step, for one sample."""
    chain = cell.chain()
    leaps = 4 if cell.kernel == "hmc" else 1
    m_step = 6 if chain.cancel.paired else 3
    return 2 * NODES[cell.kernel] * cell.length + 3 * leaps * cell.moves + m_step + 4 * model.algorithm.score.count


def gradient_variance(work, state, count=16):
    """Variance of the generator's gradient over E-steps, summed over parameters, over the square of its mean."""
    algorithm, context, now = work.step.algorithm, work.step.context, StepInput.at(state, jnp.ones(()))

    @eqx.filter_jit
    def gradient(key):
        batch = algorithm.draw(context, now, key)
        found = eqx.filter_grad(algorithm.loss, has_aux=True)(now.networks["generator"], context, now, batch)
        return jax.flatten_util.ravel_pytree(eqx.filter(found[0], eqx.is_inexact_array))[0]

    found = jnp.stack([gradient(jax.random.key(seed)) for seed in range(count)])
    return float(jnp.sum(jnp.var(found, axis=0, ddof=1)) / jnp.sum(jnp.mean(found, axis=0) ** 2))


def length(cell: Cell, model: em.Model, steps: int) -> int:
    """Steps of a cell's run: as many as given, or as many as cost what that many of a Diff-Instruct step do."""
    if cell.equal == "steps":
        return steps
    base = forwards(Cell(1, "langevin", "never", "all", "steps"), model)
    return max(50, round(steps * base / forwards(cell, model)))


@functools.cache
def declared(path: Path, overrides: tuple[str, ...]):
    """The model of a file and its teacher, once for each process."""
    model = declare(path, overrides=overrides).distillation
    return model, ready_teacher(model.teacher, em.Silent())


def run(cell: Cell, path: Path, overrides: tuple[str, ...], steps: int, seed: int) -> dict:
    """One run and its figures."""
    model, teacher = declared(path, overrides)
    steps = length(cell, model, steps)
    changes = {"chain": cell.chain(), "move_latents": cell.z_rate != "never", "reparameterization": None}
    algorithm = dataclasses.replace(model.algorithm, anchor=None, **changes)
    rhythm = {"log_every": 50, "sample_every": steps, "checkpoint_every": steps}
    training = dataclasses.replace(model.training, steps=steps, seed=seed, **rhythm)
    work = dataclasses.replace(model, algorithm=algorithm, training=training).plan().assemble(teacher)
    row = {**dataclasses.asdict(cell), "seed": seed, "steps": steps, "forwards": forwards(cell, model)}
    reports: list[float] = []  # when each 50 steps were done; the first 50 include the compilation
    watcher = Watcher(report=lambda step, found: reports.append(time.perf_counter()))
    try:
        state = work.train(watcher)
        row["step_ms"] = 1e3 * (reports[-1] - reports[0]) / max(steps - 50, 1)
        figures = evaluate(work.result(state), teacher, model.evaluation).student
        row |= figures if isinstance(figures, dict) else dataclasses.asdict(figures)
        row["gradient_variance"] = gradient_variance(work, state)
    except PplemdError as error:
        row["failed"] = str(error).splitlines()[0]
    jax.clear_caches()  # some thirty cells' programs are more memory maps than Linux gives a process
    return row


def pin(cores) -> None:
    """Bind a process of the pool to a core of its own."""
    os.sched_setaffinity(0, {cores.get()})


def results(left, declaration, steps, jobs, minutes):
    """The rows of the cells and seeds that are left, as they end; a declaration is a file and its overrides."""
    end = time.monotonic() + 60 * minutes
    if jobs == 1:
        yield from (run(cell, *declaration, steps, seed) for cell, seed in left if time.monotonic() < end)
        return
    spawn = multiprocessing.get_context("spawn")
    cores = spawn.Queue()
    for core in itertools.islice(itertools.cycle(sorted(os.sched_getaffinity(0))), jobs):
        cores.put(core)
    with concurrent.futures.ProcessPoolExecutor(jobs, spawn, pin, (cores,)) as pool:
        waiting: set[concurrent.futures.Future] = set()
        left = iter(left)
        while True:
            fresh = itertools.islice(left, jobs - len(waiting)) if time.monotonic() < end else ()
            waiting |= {pool.submit(run, cell, *declaration, steps, seed) for cell, seed in fresh}
            if not waiting:
                return
            done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            yield from (future.result() for future in done)


def table(rows, columns):
    """A Markdown table."""
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        shown = [row.get(name, row.get("failed", "-")) for name in columns]
        print("| " + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in shown) + " |")


def main():
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], help="another number: training.batch=64"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="the whole product, not the cross through the default")
    parser.add_argument("--out", type=Path, default=Path("grid.jsonl"))
    parser.add_argument("--rates", action="store_true", help="how often the latents of a chain of 16 move")
    parser.add_argument("--kernels", nargs="+", choices=(*KERNELS, PAPER, SHORT), help="only these; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, each on a core of its own")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no cell after so many")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    declaration = (arguments.model, tuple(arguments.overrides))
    model, _ = declared(*declaration)  # taught here, once
    done = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.is_file() else []
    names = [field.name for field in dataclasses.fields(Cell)]
    known = {(*(row[name] for name in names), row["seed"]) for row in done}
    grid = dict.fromkeys(rates() if arguments.rates else cells(arguments.full))
    grid = [cell for cell in grid if not arguments.kernels or cell.kernel in arguments.kernels]
    wanted = list(itertools.product(grid, range(arguments.seeds)))
    left = [(cell, seed) for cell, seed in wanted if (*dataclasses.astuple(cell), seed) not in known]
    left.sort(key=lambda one: -length(one[0], model, arguments.steps) * forwards(one[0], model))
    for row in results(left, declaration, arguments.steps, arguments.jobs, arguments.minutes):
        done.append(row)
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    order = {(*dataclasses.astuple(cell), seed): rank for rank, (cell, seed) in enumerate(wanted)}
    done.sort(key=lambda row: order.get((*(row[name] for name in names), row["seed"]), len(order)))
    figures = [name for name in max(done, key=len) if name not in (*names, "seed", "steps", "forwards", "failed")]
    if arguments.json:
        print(json.dumps(done))
    else:
        table(done, [*names, "seed", "steps", "forwards", *figures])


if __name__ == "__main__":
    main()
