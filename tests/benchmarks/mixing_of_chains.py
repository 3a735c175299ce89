"""How HMC mixes in a deep linear-Gaussian chain, its layers given or as functions of auxiliary noise, by noise level.

Run by hand: `python tests/benchmarks/mixing_of_chains.py [--picture docs/mixing.png] [--json]`.

z_1 ~ N(0, 1), z_t ~ N(z_(t-1), s), x_t ~ N(z_t, r) with r = 1: LAYERS layers of WIDTH independent numbers, data drawn
from the model. HMC of 8 leapfrogs whose step size adapts to acceptance 0.65, with the z themselves as coordinates
(centered), with the noise of each layer (auxiliary, non-centered), and with what the default policy chooses after two
pilots. Least effective sample size of a latent, per 1,000 gradients, mean and standard deviation over seeds. The
curvature rule says that centered is better where s > r.

Source: arXiv:1306.0733, section 4 (HMC mixes faster in the auxiliary form); arXiv:1402.0480, section 4 (and slower
where the noise is large).
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import numpyro.distributions as dist

import pplemd as em
from pplemd.dsl import trace_observed
from pplemd.inference import posterior_target
from pplemd.parameterization import Length, Placement, parameterize, trial

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LAYERS, WIDTH, ERROR = 8, 4, 1.0
LEVELS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
KERNEL = em.HMC(leapfrogs=8)
LENGTH = Length(4, 300, 500)


class Deep(em.Program):
    """A chain of layers; its noise level and data are arrays, so that one compilation serves all."""

    noise: jax.Array
    y: jax.Array

    def __call__(self):
        z = em.latent("z1", dist.Normal(jnp.zeros(WIDTH), 1.0))
        em.observe("x1", dist.Normal(z, ERROR), jax.lax.stop_gradient(self.y[0]))
        for layer in range(2, LAYERS + 1):
            z = em.latent(f"z{layer}", dist.Normal(z, self.noise))
            em.observe(f"x{layer}", dist.Normal(z, ERROR), jax.lax.stop_gradient(self.y[layer - 1]))


def simulated(noise):
    """A program of this noise, with data that were drawn from it."""
    rng = np.random.default_rng(0)
    steps = np.concatenate([np.ones((1, 1)), np.full((LAYERS - 1, 1), noise)]) * rng.normal(size=(LAYERS, WIDTH))
    y = np.cumsum(steps, axis=0) + ERROR * rng.normal(size=(LAYERS, WIDTH))
    return Deep(jnp.asarray(noise), jnp.asarray(y, jnp.float32))


def row(problem, noise, seeds):
    """Figures of one noise level."""
    program = simulated(noise)
    placement, law = Placement(problem, program), posterior_target(problem, program)
    found = {}
    for name in ("auxiliary", "centered", "auto"):
        rates = []
        for seed in range(seeds):
            lam = problem.centering(float(name == "centered"))
            if name == "auto":
                lam = parameterize(jax.random.key(100 + seed), placement, law, kernel=KERNEL, length=LENGTH)[0].lam
            rates.append(1e3 * float(trial(jax.random.key(seed), placement, law, KERNEL, lam, LENGTH).rate))
        found[name] = {"mean": float(np.mean(rates)), "sd": float(np.std(rates, ddof=1))}
    return {"noise": noise, **found}


def drawn(rows, path):
    """The crossing, as a picture."""
    figure, axes = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    levels = [one["noise"] for one in rows]
    for name, style in (("auxiliary", "o-"), ("centered", "s-"), ("auto", "k^--")):
        means, spreads = ([one[name][key] for one in rows] for key in ("mean", "sd"))
        axes.errorbar(levels, means, spreads, fmt=style, capsize=2, label=name)
    axes.set(
        xscale="log", yscale="log", xlabel="noise s of a layer (of data: 1)", ylabel="least ESS per 1,000 gradients"
    )
    axes.legend()
    figure.savefig(path, dpi=110)


def main():
    """Print the table, or its rows as JSON; draw it where a picture is given."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    problem = trace_observed(simulated(1.0))
    rows = []
    for noise in LEVELS:
        rows.append(row(problem, noise, given.seeds))
        if not given.json:
            shown = (
                f"{rows[-1][name]['mean']:7.2f} +- {rows[-1][name]['sd']:5.2f}" for name in rows[-1] if name != "noise"
            )
            print(f"s = {noise:5}: auxiliary, centered, auto ", *shown, flush=True)
    if given.json:
        print(json.dumps(rows, indent=1))
    if given.picture is not None:
        drawn(rows, given.picture)


if __name__ == "__main__":
    main()
