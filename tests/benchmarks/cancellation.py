"""Bias and spread of the M-step's gradient under each way of taking noise back, where the truth is known.

Run by hand, not by pytest: `python tests/benchmarks/cancellation.py [--json]`. The teacher is N(0, I), the student x =
A z with exact scores, v = 1, Langevin chains, so that the gradient of w(sigma) KL(q_sigma || p_sigma), w = sigma^2, is
known, and the covariance of the chain and its coupled chain follows from a matrix recursion. Bias and spread are exact:
the distance of the mean gradient from the truth, and the s.d. of one chain's gradient (the root of its variance, summed
over A's entries), both in per cent or multiples of the true gradient's length. The library's own step is compared with
them, all ways seeing the same chains: `paired - none` is by how many standard errors the two differ in the mean,
`library` by how many a mean gradient is off the exact one; each the largest over A's entries (and over the ways).
"""

import argparse
import json
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import pplemd as em
from pplemd.algorithms import EMD, DistillationContext
from pplemd.algorithms.emd import Tuning
from pplemd.dsl import trace
from pplemd.inference import Cancellation
from pplemd.learning import StepInput, Training
from pplemd.teachers import ScoreFunction

MODES = {
    "all": Cancellation.ALL,
    "injected": Cancellation.INJECTED,
    "initial": Cancellation.INITIAL,
    "none": Cancellation.NONE,
    "paired": Cancellation.PAIRED,
}
MATRICES = {1: [[0.5]], 2: [[0.9, 0.5], [-0.2, 0.5]]}
Z_RATES = (1.6e-5, 1e-3, 0.01, 0.05)
CHAINS = {16: 0.16, 200: 0.05}  # length and gamma_eps
SIGMA = 0.5


class Linear(em.Program):
    """x = A z."""

    matrix: jax.Array

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(self.matrix.shape[1]), 1.0))
        return em.generate("x", self.matrix @ z)


class Normal(eqx.Module):
    """Score of N(0, A A^T + sigma^2 I), by the eigenvectors and eigenvalues of A A^T."""

    axes: jax.Array
    variances: jax.Array

    def __init__(self, matrix):
        self.variances, self.axes = jnp.linalg.eigh(matrix @ matrix.T)

    def __call__(self, x_sigma, sigma):
        return -self.axes @ ((self.axes.T @ x_sigma) / (self.variances + sigma**2))


def truth(matrix):
    """Gradient in A of sigma^2 KL(N(0, (1 + sigma^2) I) || N(0, A A^T + sigma^2 I))."""

    def divergence(a):
        ours = a @ a.T + SIGMA**2 * jnp.eye(a.shape[0])
        return 0.5 * ((1 + SIGMA**2) * jnp.trace(jnp.linalg.inv(ours)) + jnp.linalg.slogdet(ours)[1])

    return np.asarray(SIGMA**2 * jax.grad(divergence)(matrix), np.float64)


@eqx.filter_jit
def gradients(algorithm, context, program, score, key):
    """The M-step's gradient in A of each chain."""
    networks = {"generator": program, "score": score}
    now = StepInput(networks, None, Tuning(), jnp.zeros((), jnp.int32), jnp.zeros(()), 0, key)
    batch = algorithm.draw(context, now, key)

    def one(row):
        single = jax.tree.map(lambda leaf: leaf[None], row)
        return jax.grad(lambda p: algorithm.loss(p, context, now, single)[0])(program).matrix

    return jax.vmap(one)(batch)


def sampled(matrix, kernel, length, count, repeats):
    """Gradients by mode, each (chain, row, column), of the same chains."""
    size = matrix.shape[0]
    teacher = em.GaussianMixture(np.zeros((1, size)), 1.0)
    program, score = Linear(matrix), ScoreFunction(Normal(matrix), (size,))
    problem, sigmas = trace(program, shape=(size,)), em.LogUniform(SIGMA, SIGMA * 1.00001)
    found = {}
    for name, mode in MODES.items():
        algorithm = EMD(chain=em.Chain(kernel, length, mode), sigmas=sigmas)
        context = DistillationContext(Training(batch=count), problem, teacher)
        run = partial(gradients, algorithm, context, program, score)
        found[name] = np.concatenate([run(jax.random.key(i)) for i in range(repeats)]).astype(np.float64)
    return found


def covariance(matrix, length, z_rate, mode):
    """Of (eps, z) of a chain and its coupled chain at the end, (2, 2, d, 2, 2, d): side, block, coordinate, twice."""
    size, gamma = matrix.shape[0], CHAINS[length]
    inverse = np.linalg.inv(matrix @ matrix.T + SIGMA**2 * np.eye(size))
    push = np.concatenate([SIGMA * np.eye(size), matrix], axis=1)
    drift = push.T @ (inverse - np.eye(size) / (1 + SIGMA**2)) @ push - np.eye(2 * size)
    rates = np.diag([*size * [gamma], *size * [z_rate]])
    step = np.kron(np.diag([1.0, 0.0]), np.eye(2 * size) + rates @ drift)
    step += np.kron(np.diag([0.0, 1.0]), np.eye(2 * size) - rates)
    kick = np.kron([[1.0], [float(mode.injected)]], np.sqrt(2 * rates))
    start = np.kron([[1.0], [float(mode.initial)]], np.eye(2 * size))
    found = start @ start.T
    for _ in range(length):
        found = step @ found @ step.T + kick @ kick.T
    return found.reshape(2, 2, size, 2, 2, size)


def exact(matrix, length, z_rate, mode):
    """Mean of one chain's gradient, and the root of its variance summed over entries, by Isserlis's theorem."""
    whole = covariance(matrix, length, z_rate, mode)
    chain, coupled = np.eye(2)
    noises, met = [(1.0, chain), (-1.0, coupled)], [chain, coupled if mode.paired else chain]

    def between(one, block, other, block_too):
        return np.einsum("aibj,a,b->ij", whole[:, block, :, :, block_too, :], one, other)

    mean, variance = 0.0, 0.0
    for (sign, noise), latents in zip(noises, met, strict=True):
        mean = mean - SIGMA * sign * between(noise, 0, latents, 1)
        for (sign_too, noise_too), latents_too in zip(noises, met, strict=True):
            squares = np.diag(between(noise, 0, noise_too, 0))[:, None] * np.diag(between(latents, 1, latents_too, 1))
            crossed = between(noise, 0, latents_too, 1) * between(noise_too, 0, latents, 1)
            variance = variance + SIGMA**2 * sign * sign_too * (squares + crossed)
    return mean, np.sqrt(np.maximum(variance, 0.0).sum())


def largest(samples, expected):
    """The largest error of a mean, in standard errors."""
    error = samples.std(axis=0) / np.sqrt(len(samples))
    return float(np.max(np.abs(samples.mean(axis=0) - expected) / np.maximum(error, 1e-9)))


def row(size, length, z_rate, count, repeats):
    """Figures of one problem, length and z-rate."""
    matrix = np.asarray(MATRICES[size])
    true = truth(jnp.asarray(matrix, jnp.float32))
    whole = np.linalg.norm(true)
    kernel = em.Langevin(em.Coordinates(CHAINS[length], jnp.asarray(z_rate)))
    found = sampled(jnp.asarray(matrix, jnp.float32), kernel, length, count, repeats)
    figures = {"dimension": size, "length": length, "z_rate": z_rate}
    for name, mode in MODES.items():
        mean, spread = exact(matrix, length, z_rate, mode)
        figures[name] = {"bias_per_cent": 100 * np.linalg.norm(mean - true) / whole, "spread": spread / whole}
        figures[name]["off"] = largest(found[name], mean)
    figures["paired_less_none"] = largest(found["paired"] - found["none"], 0.0)
    figures["library"] = max(figures[name]["off"] for name in MODES)
    return figures


def table(rows):
    """Markdown."""
    lines = [
        "| dim | K | z-rate | " + " | ".join(MODES) + " | paired - none | library |",
        "|---" * (len(MODES) + 5) + "|",
    ]
    for each in rows:
        cells = [f"{each[name]['bias_per_cent']:.1f} ({each[name]['spread']:.2f})" for name in MODES]
        start = f"| {each['dimension']} | {each['length']} | {each['z_rate']:g} | "
        lines.append(start + " | ".join(cells) + f" | {each['paired_less_none']:.1f} | {each['library']:.1f} |")
    return "\n".join(lines)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=20_000, help="chains of one batch")
    parser.add_argument("--repeats", type=int, default=1, help="batches")
    arguments = parser.parse_args()
    rows = [
        row(size, length, z_rate, arguments.count, arguments.repeats)
        for size in MATRICES
        for length in CHAINS
        for z_rate in Z_RATES
    ]
    print(json.dumps(rows) if arguments.json else table(rows))


if __name__ == "__main__":
    main()
