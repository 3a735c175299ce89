"""The whole EM step against a bare loop of the same mathematics, written by hand for this one program.

Run by hand, not by pytest: `python tests/benchmarks/em_step.py [--json]`. Both are compiled, then run in turn, so
that a machine whose speed drifts slows both; the figure is the median of the ratios of neighbouring pairs.
"""

import argparse
import json
import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import optax

import pplemd as em
from pplemd.algorithms import DistillationContext
from pplemd.dsl import trace
from pplemd.learning import Step

SHAPE, BATCH, LENGTH, UPDATES = (8, 8, 1), 128, 4, 2
GAMMA_EPS, GAMMA_Z = 0.16, 1.6e-5
RATE, SCORE_RATE, EMA = 3e-4, 5e-4, 0.995


class Digits(em.Program):
    """The program of models/digits.py."""

    net: em.OneStep

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(SHAPE), 1.0))
        return em.generate("x", self.net(z))


def networks():
    """A teacher, and the student's two copies of it."""
    net = em.networks.ResidualMLP(SHAPE, width=384, blocks=4, key=jax.random.key(0))
    net = jax.tree.map(lambda leaf: leaf + 0.01 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), net)
    return em.Denoiser(net, 0.75)


def library():
    """The step as users run it."""
    teacher = networks()
    program = Digits(em.one_step(teacher, sigma=2.5))
    algorithm = em.EMD(
        sigmas=em.LogNormal(mean=-1.2, std=1.2),
        chain=em.Chain(em.Langevin(em.Coordinates(GAMMA_EPS, GAMMA_Z)), LENGTH),
        reparameterization=None,  # (eps, z) for good, as in the bare loop
        generator=em.Adam(RATE, clip=0.0),
        score=em.ScoreUpdates(em.Adam(SCORE_RATE, clip=0.0), em.LogNormal(mean=-1.2, std=1.2), count=UPDATES),
        average=EMA,
    )
    training = em.Training(steps=1000, batch=BATCH)
    step = Step(DistillationContext(training, trace(program, shape=SHAPE), teacher), algorithm)
    networks_of_state = {"generator": program, "score": teacher}
    copy = jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, networks_of_state)
    compiled = eqx.filter_jit(lambda step, state, key: step(state, key), donate="all-except-first")
    return (lambda state, key: compiled(step, state, key)), step.init(copy)


def bare():
    """The same mathematics with nothing in between: batched arrays, one function, no records."""
    teacher = networks()
    arrays, static = eqx.partition(teacher, eqx.is_inexact_array)
    adam, score_adam = optax.adam(RATE, b1=0.9, b2=0.99), optax.adam(SCORE_RATE, b1=0.9, b2=0.99)

    def denoise(params, x, sigma):
        return jax.vmap(eqx.combine(params, static).denoise)(x, sigma)

    def generate(params, z):
        return denoise(params, 2.5 * z, jnp.full(BATCH, 2.5))

    def per(sigma):
        return sigma[:, None, None, None]

    def score_loss(params, x, sigma, eps):
        weight = (sigma**2 + 0.75**2) / (sigma * 0.75) ** 2
        error = denoise(params, x + per(sigma) * eps, sigma) - x
        return jnp.mean(weight * jnp.mean(error**2, axis=(1, 2, 3)))

    def sigmas(key):
        return jnp.exp(-1.2 + 1.2 * jax.random.normal(key, (BATCH,)))

    def step(fixed, state, key):
        g, s, average, g_memory, s_memory, count = state
        keys = jax.random.split(key, 3 * UPDATES + 3 + 2 * LENGTH)
        for i in range(UPDATES):
            x = generate(g, jax.random.normal(keys[3 * i], (BATCH, *SHAPE)))
            eps = jax.random.normal(keys[3 * i + 1], (BATCH, *SHAPE))
            loss, gradient = jax.value_and_grad(score_loss)(s, x, sigmas(keys[3 * i + 2]), eps)
            updates, s_memory = score_adam.update(gradient, s_memory)
            s = optax.apply_updates(s, updates)
        rest = keys[3 * UPDATES :]
        sigma = sigmas(rest[0])
        z = jax.random.normal(rest[1], (BATCH, *SHAPE))
        eps = nu = jax.random.normal(rest[2], (BATCH, *SHAPE))

        def langevin(carry, pair):
            eps, nu, z = carry
            x, pull_back = jax.vjp(lambda latent: generate(g, latent), z)
            x_sigma = x + per(sigma) * eps
            slope = (denoise(fixed, x_sigma, sigma) - denoise(s, x_sigma, sigma)) / per(sigma) ** 2
            noise = jax.random.normal(pair[0], eps.shape)
            kick = jnp.sqrt(2 * GAMMA_EPS) * noise
            eps = eps + GAMMA_EPS * (per(sigma) * slope - eps) + kick
            nu = (1 - GAMMA_EPS) * nu + kick
            step_z = pull_back(slope)[0] - z
            z = z + GAMMA_Z * step_z + jnp.sqrt(2 * GAMMA_Z) * jax.random.normal(pair[1], z.shape)
            return (eps, nu, z), None

        (eps, nu, z), _ = jax.lax.scan(langevin, (eps, nu, z), rest[3:].reshape(LENGTH, 2))

        def m_step(params):
            x = generate(params, z)
            target = jax.lax.stop_gradient(x + per(sigma) * (eps - nu))
            return 0.5 * jnp.mean(jnp.sum((x - target) ** 2, axis=(1, 2, 3)))

        pull, gradient = jax.value_and_grad(m_step)(g)
        updates, g_memory = adam.update(gradient, g_memory)
        g = optax.apply_updates(g, updates)
        decay = jnp.minimum(EMA, (1 + count) / (10 + count))
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, g)
        return (g, s, average, g_memory, s_memory, count + 1), (loss, pull)

    copies = [jax.tree.map(jnp.copy, arrays) for _ in range(3)]
    state = (*copies, adam.init(arrays), score_adam.init(arrays), jnp.zeros(()))
    compiled = eqx.filter_jit(step, donate="all-except-first")
    return (lambda state, key: compiled(arrays, state, key)), state


def timed(step, state, repeats, seed):
    """Wall seconds and processor seconds of one step, over a block of them, and the state after."""
    keys = jax.random.split(jax.random.key(seed), repeats)
    jax.block_until_ready(state)
    start, start_cpu = time.perf_counter(), time.process_time()
    for key in keys:
        state, _ = step(state, key)
    jax.block_until_ready(jax.tree.leaves(eqx.filter(state, eqx.is_array)))
    return (time.perf_counter() - start) / repeats, (time.process_time() - start_cpu) / repeats, state


def main():
    """Time both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    (ours, our_state), (theirs, their_state) = library(), bare()
    *_, our_state = timed(ours, our_state, 2, 0)
    *_, their_state = timed(theirs, their_state, 2, 0)
    pairs = []
    for i in range(arguments.pairs):
        seconds, cpu, our_state = timed(ours, our_state, arguments.repeats, i)
        bare_seconds, bare_cpu, their_state = timed(theirs, their_state, arguments.repeats, i)
        pairs.append((seconds, bare_seconds, cpu, bare_cpu))
    ratios = [pair[0] / pair[1] for pair in pairs]
    figures = {
        "ratio": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
        "processor_ratio": statistics.median(pair[2] / pair[3] for pair in pairs),
        "step_ms": 1e3 * statistics.median(pair[0] for pair in pairs),
        "bare_ms": 1e3 * statistics.median(pair[1] for pair in pairs),
        "pairs": len(pairs),
        "device": jax.devices()[0].device_kind,
    }
    print(json.dumps(figures) if arguments.json else "\n".join(f"{name}: {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
