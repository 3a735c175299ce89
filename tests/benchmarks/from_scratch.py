"""Generators that know nothing at the start, on harder targets: the numbers of models/ring.py, nothing retuned.

Run by hand, not by pytest: `python tests/benchmarks/from_scratch.py [--targets grid spirals] [--seeds 3] [--out FILE]`.
Each target is a Gaussian mixture, known exactly; the model takes from it the two numbers that it takes from the ring:
its radius and the width of a mode. Beside it the same generator, trained as long by minibatch optimal transport on
samples of the teacher: the level that a generator of this size attains with data. Finished runs are read from the file
again.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
from PIL import Image
from scipy.optimize import linear_sum_assignment

import pplemd as em
from pplemd.errors import PplemdError
from pplemd.learning import Watcher
from pplemd.plotting.samples import save_png
from pplemd.plotting.scatters import scatter
from pplemd.runs.declared import declare
from pplemd.tasks.evaluation import evaluate
from pplemd.teachers import sample

RING = declare(Path(__file__).parents[2] / "models" / "ring.py").distillation
WIDTH, DEPTH = 192, 4


@dataclasses.dataclass(frozen=True)
class Target:
    """A mixture: means (modes, d), their weights, the standard deviation of each mode."""

    means: np.ndarray
    weights: np.ndarray
    std: float

    @property
    def radius(self) -> float:
        """Root mean square distance of the means from their centre."""
        centre = self.weights @ self.means
        return float(np.sqrt(self.weights @ np.sum((self.means - centre) ** 2, axis=-1)))


def ring() -> Target:
    """Eight modes, weights 1 to 4: that of models/ring.py."""
    angles = np.arange(8) * np.pi / 4
    weights = np.array([1, 2, 3, 4, 4, 3, 2, 1]) / 20
    return Target(4.0 * np.stack([np.cos(angles), np.sin(angles)], axis=-1), weights, 0.15)


def grid() -> Target:
    """Five by five, 20 standard deviations apart."""
    side = 2.0 * (np.arange(5) - 2)
    return Target(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), np.full(25, 1 / 25), 0.1)


def spirals() -> Target:
    """Two arms of 40 modes each, one of three times the other's weight."""
    turn = np.linspace(0.6, 3.0 * np.pi, 40)
    arm = 0.45 * np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=-1)
    return Target(np.concatenate([arm, -arm]), np.repeat([0.75 / 40, 0.25 / 40], 40), 0.12)


def sphere(size: int, radius: float, seed: int) -> Target:
    """Ten modes on a sphere, weights from 1 to 20."""
    means = np.random.default_rng(seed).standard_normal((10, size))
    weights = np.linspace(1, 20, 10)
    return Target(radius * means / np.linalg.norm(means, axis=1, keepdims=True), weights / weights.sum(), 0.2)


TARGETS = {
    "ring": ring,
    "grid": grid,
    "spirals": spirals,
    "ten dimensions": lambda: sphere(10, 4.0, 7),
    "64 dimensions": lambda: sphere(64, 8.0, 8),
}


class Points(em.Program):
    """x = g(z), z standard normal of x's dimension."""

    net: em.networks.MLP

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(self.net.in_shape), 1.0))
        return em.generate("x", self.net(z))


def declared(target: Target, chain: em.Chain, steps: int, seed: int) -> em.Model:
    """The model of a target, its numbers the ring's."""
    size = target.means.shape[1]
    sigmas = em.CoarseToFine.spanning(target.radius, detail=target.std)

    def network(key):
        hidden = em.networks.TimedMLP((size,), width=128, blocks=3, key=key)
        return em.Denoiser(hidden, sigma_data=target.radius / size**0.5)

    return em.Model(
        program=lambda teacher, key: Points(em.networks.MLP((size,), (size,), width=WIDTH, depth=DEPTH, key=key)),
        teacher=em.GaussianMixture(target.means, target.std, target.weights),
        networks={"score": network},
        algorithm=dataclasses.replace(
            RING.algorithm,
            sigmas=sigmas,
            chain=chain,
            score=dataclasses.replace(RING.algorithm.score, sigmas=sigmas),
        ),
        training=dataclasses.replace(
            RING.training, steps=steps, seed=seed, log_every=500, sample_every=steps, checkpoint_every=steps
        ),
        evaluation=em.metrics.MixtureEvaluation(target.means, target.weights, target.std),
    )


def distilled(model: em.Model):
    """The distilled generator."""
    work = model.plan().assemble(model.teacher)
    return work.result(work.train(Watcher()))


def unanchored(model: em.Model):
    """The generator distilled without its anchor."""
    return distilled(dataclasses.replace(model, algorithm=dataclasses.replace(model.algorithm, anchor=None)))


def transported(model: em.Model):
    """The same generator, each batch of z paired with teacher samples at the least sum of squared distances."""
    algorithm = dataclasses.replace(model.algorithm, anchor=None)  # its pairs are not needed
    work, training = dataclasses.replace(model, algorithm=algorithm).plan().assemble(model.teacher), model.training
    first = work.result(work.initial())
    arrays, static = eqx.partition(first.program, eqx.is_inexact_array)
    optimiser = algorithm.generator.transformation(training.steps)
    size = model.teacher.shape[0]

    @jax.jit
    def generate(arrays, z):
        return jax.vmap(eqx.combine(arrays, static).net)(z)

    @jax.jit
    def update(arrays, average, memory, z, x):
        gradient = jax.grad(lambda a: jnp.mean(jnp.sum((generate(a, z) - x) ** 2, axis=-1)))(arrays)
        change, memory = optimiser.update(gradient, memory, arrays)
        arrays = optax.apply_updates(arrays, change)
        return arrays, optax.incremental_update(arrays, average, 1 - algorithm.average), memory

    draw = jax.jit(lambda key: sample(key, model.teacher, training.batch))
    average, memory = arrays, optimiser.init(arrays)
    for step in range(training.steps):
        key_z, key_x = jax.random.split(jax.random.fold_in(work.key, step))
        z, x = jax.random.normal(key_z, (training.batch, size)), np.asarray(draw(key_x))
        g = np.asarray(generate(arrays, z))
        cost = np.sum(g**2, axis=1)[:, None] - 2 * g @ x.T + np.sum(x**2, axis=1)[None, :]
        arrays, average, memory = update(arrays, average, memory, z, x[linear_sum_assignment(cost)[1]])
    return eqx.tree_at(lambda d: d.program, first, eqx.combine(average, static))


METHODS = {  # name -> (chain, how)
    "as models/ring.py": (RING.algorithm.chain, distilled),
    "K = 1, no anchor": (RING.algorithm.chain, unanchored),
    "K = 4 MALA, no anchor": (em.Chain(em.mala(), 4), unanchored),
    "minibatch optimal transport": (RING.algorithm.chain, transported),
}


def run(name: str, method: str, seed: int, steps: int, pictures: Path | None) -> dict:
    """One run and its figures."""
    target = TARGETS[name]()
    chain, train = METHODS[method]
    model = declared(target, chain, steps, seed)
    start = time.perf_counter()
    row = {"target": name, "method": method, "seed": seed, "of": len(target.weights)}
    try:
        student = train(model)
    except PplemdError as error:
        return row | {"failed": str(error).splitlines()[0]}
    row["seconds"] = time.perf_counter() - start
    report = evaluate(student, model.teacher, model.evaluation)
    if pictures is not None:
        points = np.asarray(student.sample(jax.random.key(1), 4000))[:, :2]
        save_png(picture(pictures, name, method, seed), scatter(points))
    return row | report.student | {"floor_sliced_w2": report.floor["sliced_w2"]}


def picture(folder: Path, name: str, method: str, seed: int) -> Path:
    """The file of one run's samples."""
    return folder / f"{name}-{method}-{seed}.png".replace(" ", "_")


def side_by_side(folder: Path, names: list[str], methods: list[str], seed: int = 0, size: int = 260) -> None:
    """All pictures of a seed in one, `all.png`: a row for each target, a column for each method."""
    whole = Image.new("RGB", (size * len(methods), size * len(names)), "white")
    for row, name in enumerate(names):
        for column, method in enumerate(methods):
            file = picture(folder, name, method, seed)
            if file.is_file():
                with Image.open(file) as one:
                    whole.paste(one.convert("RGB").resize((size, size)), (size * column, size * row))
    whole.save(folder / "all.png", optimize=True)


def main():
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("from_scratch.jsonl"))
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.is_file() else []
    known = {(row["target"], row["method"], row["seed"]) for row in rows}
    for name in arguments.targets:
        for method in arguments.methods:
            for seed in range(arguments.seeds):
                if (name, method, seed) not in known:
                    rows.append(run(name, method, seed, arguments.steps, arguments.pictures))
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    if arguments.pictures is not None:
        side_by_side(arguments.pictures, arguments.targets, arguments.methods)
    if arguments.json:
        print(json.dumps(rows))
        return
    columns = [
        "target",
        "method",
        "seed",
        "modes",
        "of",
        "sharp",
        "weight_kl",
        "sliced_w2",
        "floor_sliced_w2",
        "seconds",
    ]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        shown = [row.get(name, row.get("failed", "-")) for name in columns]
        print("| " + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in shown) + " |")


if __name__ == "__main__":
    main()
