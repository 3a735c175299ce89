"""What a step costs by chain: K steps of the noise, the latents moved in each, in some or in none of them.

Run by hand, not by pytest: `python tests/benchmarks/multirate.py [--json] [models/digits.py]`. The steps of the model's
own networks (untrained: time does not depend on what they know) are run in turn, block by block; the figures are
medians of the ratios to the Diff-Instruct step of the same round, so that a drifting machine slows all alike.
"""

import argparse
import dataclasses
import functools
import json
import statistics
import time
from pathlib import Path

import equinox as eqx
import jax

import pplemd as em
from pplemd.runs.declared import declare
from pplemd.tasks.teacher_training import Taught

LANGEVIN = em.Langevin(em.Coordinates(0.16, 1.6e-5))
CHAINS = {  # name -> (chain, whether it moves the latents)
    "Diff-Instruct: K = 1, latents fixed": (em.Chain(LANGEVIN, 1), False),
    "EMD-4, latents fixed": (em.Chain(LANGEVIN, 4), False),
    "EMD-16, latents fixed": (em.Chain(LANGEVIN, 16), False),
    "EMD-16, latents every 16th step": (em.Chain(LANGEVIN, 16, expensive_every=16), True),
    "EMD-16, latents every 8th step": (em.Chain(LANGEVIN, 16, expensive_every=8), True),
    "EMD-16, latents every 4th step": (em.Chain(LANGEVIN, 16, expensive_every=4), True),
    "EMD-16, latents in every step": (em.Chain(LANGEVIN, 16), True),
    "MALA-16, latents every 8th step": (em.Chain(em.mala(), 16, expensive_every=8), True),
}


def steps(path):
    """Each chain's compiled step and its first state."""
    model = declare(path).distillation
    taught = model.teacher
    teacher = taught.build() if isinstance(taught, Taught) else taught
    for name, (chain, moves) in CHAINS.items():
        changes = {"chain": chain, "move_latents": moves}
        algorithm = dataclasses.replace(model.algorithm, **changes)
        work = dataclasses.replace(model, algorithm=algorithm).plan().assemble(teacher)
        jitted = eqx.filter_jit(lambda step, state, key: step(state, key), donate="all-except-first")
        compiled = functools.partial(jitted, work.step)
        yield name, compiled, work.initial()


def block(step, state, repeats, seed):
    """Seconds of one step, over a block of them, and the state after."""
    keys = jax.random.split(jax.random.key(seed), repeats)
    jax.block_until_ready(keys)
    start = time.perf_counter()
    for key in keys:
        state, _ = step(state, key)
    jax.block_until_ready(jax.tree.leaves(eqx.filter(state, eqx.is_array)))
    return (time.perf_counter() - start) / repeats, state


def main():
    """Time all in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="models/digits.py", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    work = {name: (step, block(step, state, 2, 0)[1]) for name, step, state in steps(arguments.model)}
    seconds = {name: [] for name in work}
    for seed in range(arguments.rounds):
        for name, (step, state) in work.items():
            spent, state = block(step, state, arguments.repeats, seed)
            work[name] = (step, state)
            seconds[name].append(spent)
    first = next(iter(seconds.values()))
    rows = [
        {
            "chain": name,
            "ratio": statistics.median(a / b for a, b in zip(spent, first, strict=True)),
            "step_ms": 1e3 * statistics.median(spent),
        }
        for name, spent in seconds.items()
    ]
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| chain | x Diff-Instruct | ms a step |\n|---|---|---|")
    for row in rows:
        print(f"| {row['chain']} | {row['ratio']:.2f} | {row['step_ms']:.1f} |")


if __name__ == "__main__":
    main()
