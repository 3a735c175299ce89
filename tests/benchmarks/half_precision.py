"""What bfloat16 costs EDM's networks: python tests/benchmarks/half_precision.py [cifar10 | imagenet64] [--batch N].

Of the network of models/cifar10.py at its true size, random weights: the relative error (root mean square, over images)
of denoised images, scores and the difference of two scores, by sigma, and of the gradient of the denoising loss; each
against 32 bits. The second network is the first with each weight moved by a hundredth of its size, as a student's score
network is near its teacher: what bfloat16 does to both alike cancels in their difference.
"""

import argparse
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.learning import Precision
from pplemd.runs.declared import declare

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from imagenet64 import random_teacher  # noqa: E402

PROGRAMS = {"cifar10": "unconditional", "imagenet64": "imagenet64"}
SIGMAS = (0.05, 0.2, 1.0, 5.0, 20.0)


def moved(network, share: float):
    """The network with each weight moved by a share of its array's root mean square."""
    draw = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: (
            leaf
            + share * float(jnp.sqrt(jnp.mean(leaf**2))) * jnp.asarray(draw.standard_normal(leaf.shape, np.float32))
            if eqx.is_inexact_array(leaf)
            else leaf
        ),
        network,
    )


def relative(found, expected) -> float:
    """Root mean square of a difference over that of what is expected, over all leaves."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    off = sum(float(jnp.sum((a - b) ** 2)) for a, b in pairs)
    return (off / sum(float(jnp.sum(b**2)) for _, b in pairs)) ** 0.5


@eqx.filter_jit
def scores(denoiser, x, sigma, labels):
    """Denoised images and scores."""
    denoised = jax.vmap(denoiser.denoise, (0, None, 0))(x, sigma, labels)
    return denoised, (denoised - x) / sigma**2


@eqx.filter_jit
def slope(denoiser, clean, x, sigma, labels):
    """Gradient of the denoising loss in the weights."""
    params, static = eqx.partition(denoiser, eqx.is_inexact_array)

    def loss(params):
        return jnp.mean((jax.vmap(eqx.combine(params, static).denoise, (0, None, 0))(x, sigma, labels) - clean) ** 2)

    return jax.grad(loss)(params)


def main() -> None:
    """Print a row for each sigma."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", choices=list(PROGRAMS), default="cifar10")
    parser.add_argument("--batch", type=int, default=2)
    arguments = parser.parse_args()
    model = declare(ROOT / "models" / f"{arguments.model}.py", PROGRAMS[arguments.model]).distillation
    wide = random_teacher(model.teacher.shapes())
    half, near = Precision(bf16=True), moved(wide, 0.01)
    narrow, narrow_near = half.kept(half.of(wide)), half.of(near)
    key_clean, key_noise = jax.random.split(jax.random.key(0))
    clean = 0.5 * jax.random.normal(key_clean, (arguments.batch, *wide.shape))
    eps = jax.random.normal(key_noise, clean.shape)
    labels = None if wide.classes is None else jnp.arange(arguments.batch)
    print("| sigma | denoised | score | difference of scores | gradient |\n|---|---|---|---|---|", flush=True)
    for sigma in map(jnp.asarray, SIGMAS):
        x = clean + sigma * eps
        expected, found = scores(wide, x, sigma, labels), scores(narrow, x, sigma, labels)
        exact, nearly = (
            scores(one, x, sigma, labels)[1] - base[1] for one, base in ((near, expected), (narrow_near, found))
        )
        errors = [relative(a, b) for a, b in zip(found, expected, strict=True)] + [relative(nearly, exact)]
        errors.append(relative(slope(half.of(wide), clean, x, sigma, labels), slope(wide, clean, x, sigma, labels)))
        print(f"| {float(sigma):g} | " + " | ".join(f"{error:.1e}" for error in errors) + " |", flush=True)


if __name__ == "__main__":
    main()
