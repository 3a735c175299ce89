"""What stands for the score of a noised density, against Gaussian mixtures, whose noised scores are known.

Run by hand, not by pytest: `python tests/benchmarks/noised_scores.py [--json]`. The figure is the root mean square
error of the stand-in over that of the score, at 1,000 points of the noised mixture.
"""

import argparse
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import pplemd as em
from pplemd.teachers import Quadratic, Unnoised, sample

SIGMAS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
ANGLES = np.arange(8) * np.pi / 4
MIXTURES = {
    "ring: 8 modes of s.d. .15": em.GaussianMixture(
        4 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1), 0.15, np.array([1, 2, 3, 4, 4, 3, 2, 1])
    ),
    "plane: 3 modes of s.d. .4 to .9": em.GaussianMixture(
        [[-1.0, 0.0], [1.0, 1.5], [2.0, -1.0]], [0.4, 0.9, 0.6], [3.0, 1.0, 2.0]
    ),
    "ten dimensions: 5 modes of s.d. .6 to 1.3": em.GaussianMixture(
        np.random.default_rng(0).normal(size=(5, 10)) * 0.8, [0.6, 1.0, 0.8, 0.7, 1.3]
    ),
}


class Averaged(em.teachers.AbstractNoised):
    """Self-normalised importance average of grad log q over draws of N(x_sigma, sigma^2 I), weights q."""

    draws: int = eqx.field(static=True, default=16)

    def __call__(self, log_q, x_sigma, sigma):
        half = jax.random.normal(jax.random.key(0), (self.draws // 2, *x_sigma.shape))
        x = x_sigma[None] + sigma * jnp.concatenate([half, -half])
        weights = jax.nn.softmax(jax.vmap(log_q)(x))
        return jnp.tensordot(weights, jax.vmap(jax.grad(log_q))(x), 1)


RULES = {
    "Unnoised()": Unnoised(),
    "average of 16": Averaged(16),
    "average of 64": Averaged(64),
    "Quadratic(1)": Quadratic(1),
    "Quadratic(2)": Quadratic(2),
    "Quadratic(4)": Quadratic(4),
}


@eqx.filter_jit
def error(mixture: em.GaussianMixture, rule: em.teachers.AbstractNoised, level: jax.Array) -> jax.Array:
    """The relative error of a rule at one sigma."""
    key_x, key_eps = jax.random.split(jax.random.key(0))
    x = sample(key_x, mixture, 1000)
    points = x + level * jax.random.normal(key_eps, x.shape)
    teacher = em.Density(lambda x: mixture.log_density(x, jnp.zeros(())), mixture.shape, rule)
    found = jax.vmap(lambda p: teacher.score(p, level))(points)
    exact = jax.vmap(lambda p: mixture.score(p, level))(points)
    return jnp.sqrt(jnp.mean((found - exact) ** 2) / jnp.mean(exact**2))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    rows = [
        {
            "mixture": name,
            "rule": shown,
            **{str(sigma): float(error(mixture, rule, jnp.asarray(sigma))) for sigma in SIGMAS},
        }
        for name, mixture in MIXTURES.items()
        for shown, rule in RULES.items()
    ]
    if parser.parse_args().json:
        print(json.dumps(rows))
        return
    print("| mixture | rule | " + " | ".join(f"sigma {sigma}" for sigma in SIGMAS) + " |\n" + "|---" * 8 + "|")
    for row in rows:
        print(f"| {row['mixture']} | {row['rule']} | " + " | ".join(f"{row[str(s)]:.3f}" for s in SIGMAS) + " |")


if __name__ == "__main__":
    main()
