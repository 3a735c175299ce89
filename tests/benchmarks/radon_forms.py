"""models/radon.py by long chains, centered and not: two samplers of one posterior, and what each costs.

Run by hand, not by pytest: `python tests/benchmarks/radon_forms.py radon_mn.json [--chains 64] [--draws 700] [--json]`.

Levels of 85 counties, their mean and their spread, by NUTS, in base coordinates of lambda = 0 and 1, at the slopes and
the error that the model file's own fit finds. Chains start from draws of shorter ones at lambda = 0.25: from the
prior, centered ones hardly reach the posterior. Printed: the least effective sample size of any mean or mean square,
per 1,000 gradients too, and the largest difference between the two forms in standard errors.
"""

import argparse
import json
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.dsl import trace_observed
from pplemd.inference import NUTS, long_chains, posterior_target, transformed
from pplemd.runs.declared import declare

with warnings.catch_warnings():  # ArviZ 0.23 warns of its successor
    warnings.simplefilter("ignore")
    import arviz
    import xarray

MODEL = Path(__file__).parents[2] / "models" / "radon.py"
FITTED = (jnp.asarray([0.792, -0.637]), jnp.asarray(-0.316))  # slopes, log error
BETWEEN = 0.25  # lambda of the chains that the others start from
WARM_UP = 300


def fitted(data: str):
    """The program with what its fit finds."""
    program = declare(MODEL, overrides=(f"given.data={data}",)).model.program(jax.random.key(0))
    return eqx.tree_at(lambda p: (p.slopes, p.log_error), program, FITTED)


@eqx.filter_jit
def chains(key, program, starts, weight, draws):
    """Base coordinates of draws, (chain, draw, ...), and gradients of all."""
    problem = trace_observed(program)
    lam = jax.tree.map(lambda leaf: jnp.full_like(leaf, weight), problem.centering())
    law = transformed(posterior_target(problem, program), lambda v: problem.to_base(program, v, lam))
    entered = jax.vmap(lambda u: problem.from_base(program, u, lam))(starts)
    found = long_chains(key, law, NUTS(doublings=6), entered, WARM_UP, draws)
    back = jax.vmap(jax.vmap(lambda v: problem.to_base(program, v, lam)[0]))(found.positions)
    return back, jnp.sum(found.gradients), jnp.mean(found.diverging)


def values(program, u):
    """Levels, mean and spread of draws, (chain, draw, 87), in double precision."""
    problem = trace_observed(program)
    z = jax.vmap(jax.vmap(lambda one: problem.latents(program, one)))(u)
    parts = [z["alpha"], z["mean"][..., None], z["spread"][..., None]]
    return np.concatenate(parts, axis=-1).astype(np.float64)


def moments(z):
    """Means and mean squares, their standard errors and effective sample sizes, by ArviZ."""
    data = xarray.Dataset({"u": (("chain", "draw", "i"), z), "square": (("chain", "draw", "i"), z**2)})
    size, error = (of(data, method="mean").to_array().values for of in (arviz.ess, arviz.mcse))
    return np.stack([z.mean(axis=(0, 1)), (z**2).mean(axis=(0, 1))]), error, size


def main():
    """Print a line for each form and how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="the path of posteriordb's radon_mn.json")
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--draws", type=int, default=700)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    program = fitted(given.data)
    problem = trace_observed(program)
    prior = jax.vmap(lambda key: problem.draw(key, program))(jax.random.split(jax.random.key(1), given.chains))
    near = jax.tree.map(lambda u: 0.3 * u, prior)
    between, _, _ = chains(jax.random.key(2), program, near, jnp.asarray(BETWEEN), 50)
    starts = jax.tree.map(lambda u: u[:, -1], between)
    found, rows = [], []
    for weight in (0.0, 1.0):
        u, gradients, divergences = chains(jax.random.key(3), program, starts, jnp.asarray(weight), given.draws)
        mean, error, size = moments(values(program, u))
        found.append((mean, error))
        least = {"ess": float(size.min()), "ess_per_1000": float(1e3 * size.min() / gradients)}
        rows.append({"lambda": weight, **least, "divergences": float(divergences)})
    (one, error), (other, other_error) = found
    apart = float((np.abs(one - other) / np.hypot(error, other_error)).max())
    if given.json:
        print(json.dumps({"forms": rows, "largest_difference": apart}))
        return
    for row in rows:
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    print(f"largest difference of {one.size} means and mean squares: {apart:.2f} standard errors")


if __name__ == "__main__":
    main()
