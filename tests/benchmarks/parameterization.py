"""What the chosen coordinates are worth: least effective sample size per gradient, on hierarchies.

Run by hand, not by pytest: `python tests/benchmarks/parameterization.py --posteriordb FOLDER [--json] [names]`.
FOLDER holds data/eight_schools.json, data/radon_mn.json and data/rats_data.json of posteriordb (BSD-3); problems whose
file is missing are left out.

Each posterior is one NumPyro model. Ours: NUTS by `long_chains` in the coordinates of each lambda and in those that the
default policy chooses after two short pilots; NumPyro's: NUTS on the model and on the model under LocScaleReparam(0).
The same target acceptance (0.8), doublings (10), warm-up, draws and chains. The effective sample size is that of ranks
(`bulk_ess`), the least over all elements of all latents in the model's own numbers; gradients are leapfrogs of the kept
draws, warm-up and pilots apart. Figures are per 1,000 gradients, means over seeds, with their standard deviations.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC
from numpyro.infer import NUTS as NumPyroNUTS
from numpyro.infer.reparam import LocScaleReparam

import pplemd as em
from pplemd.dsl import trace_observed
from pplemd.inference import NUTS, bulk_ess, posterior_law, r_hat
from pplemd.parameterization import Length, Placement, described, parameterize, trial

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0)
ERRORS = (0.1, 0.5, 1.0, 2.0, 5.0)
KERNEL = NUTS(doublings=10)
PILOT = Length(4, 300, 100)


def normal_hierarchy(error, y=None):
    """20 groups; data of mu = 1, tau = 1."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(2.0))
    with numpyro.plate("groups", 20):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, error), obs=y)


def eight_schools(error, y=None):
    """Rubin 1981, with posteriordb's priors."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", 8):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, error), obs=y)


def radon(county, floor, uppm, y=None):
    """radon_mn's hierarchical intercept: 85 counties, 919 houses."""
    mu = numpyro.sample("mu_alpha", dist.Normal(0.0, 10.0))
    spread = numpyro.sample("sigma_alpha", dist.HalfNormal(1.0))
    error = numpyro.sample("sigma_y", dist.HalfNormal(1.0))
    slopes = numpyro.sample("beta", dist.Normal(jnp.zeros(2), 10.0).to_event(1))
    with numpyro.plate("counties", 85):
        alpha = numpyro.sample("alpha", dist.Normal(mu, spread))
    mean = alpha[county] + uppm * slopes[0] + floor * slopes[1]
    with numpyro.plate("houses", len(county)):
        numpyro.sample("y", dist.Normal(mean, error), obs=y)


def rats(rat, age, y=None):
    """Growth of 30 rats: a line each, its level and slope from a population."""
    level = numpyro.sample("mu_alpha", dist.Normal(0.0, 100.0))
    slope = numpyro.sample("mu_beta", dist.Normal(0.0, 10.0))
    spread_level = numpyro.sample("sigma_alpha", dist.HalfNormal(30.0))
    spread_slope = numpyro.sample("sigma_beta", dist.HalfNormal(2.0))
    error = numpyro.sample("sigma_y", dist.HalfNormal(20.0))
    with numpyro.plate("rats", 30):
        alpha = numpyro.sample("alpha", dist.Normal(level, spread_level))
        beta = numpyro.sample("beta", dist.Normal(slope, spread_slope))
    with numpyro.plate("weighings", len(rat)):
        numpyro.sample("y", dist.Normal(alpha[rat] + beta[rat] * age, error), obs=y)


def funnel(y=None):
    """Neal's, nine-dimensional, without data."""
    v = numpyro.sample("v", dist.Normal(0.0, 3.0))
    with numpyro.plate("rows", 9):
        numpyro.sample("x", dist.Normal(0.0, jnp.exp(0.5 * v)))
    numpyro.factor("nothing", 0.0 * v)


def problems(folder: Path | None):
    """Name -> (model, arguments, data)."""
    for error in ERRORS:
        rng = np.random.default_rng(round(10 * error))
        y = 1.0 + rng.normal(size=20) + error * rng.normal(size=20)
        yield f"normal hierarchy, s = {error}", normal_hierarchy, (jnp.asarray(error),), jnp.asarray(y, jnp.float32)
    yield "funnel", funnel, (), None
    if (found := read(folder, "eight_schools")) is not None:
        yield "eight schools", eight_schools, (real(found["sigma"]),), real(found["y"])
    if (found := read(folder, "radon_mn")) is not None:
        county = jnp.asarray(found["county_idx"], jnp.int32) - 1
        given = (county, real(found["floor_measure"]), real(found["log_uppm"]))
        yield "radon_mn, hierarchical intercept", radon, given, real(found["log_radon"])
    if (found := read(folder, "rats_data")) is not None:
        age = np.asarray(found["x"], float)
        rat = jnp.asarray(found["rat"], jnp.int32) - 1
        yield "rats", rats, (rat, real(age - age.mean())), real(found["y"])


def read(folder, name):
    path = None if folder is None else folder / "data" / f"{name}.json"
    return json.loads(path.read_text()) if path is not None and path.is_file() else None


def real(numbers):
    return jnp.asarray(np.asarray(numbers, float), jnp.float32)


class Model(em.Program):
    """A NumPyro model as a program; nothing of it is trained, its arguments are arrays so that they can differ."""

    given: tuple
    model: Callable = eqx.field(static=True)
    y: jax.Array | None = None

    def __call__(self):
        self.model(*self.given, y=None if self.y is None else jax.lax.stop_gradient(self.y))


def ours(model, given, y, length, seeds):
    """Figures of each lambda and of the chosen coordinates, and the choice in words."""
    program = Model(tuple(given), model, y)
    problem = trace_observed(program)
    placement, law = Placement(problem, program), posterior_law(problem, program)

    def rates(lams):
        made = [trial(jax.random.key(seed), placement, law, KERNEL, lam, length) for seed, lam in enumerate(lams)]
        return figures([float(one.rate) for one in made], [bool(one.sound) for one in made])

    found = {str(one): rates([problem.centering(one)] * seeds) for one in LAMBDAS}
    choices = [
        parameterize(jax.random.key(100 + s), placement, law, kernel=KERNEL, length=PILOT)[0] for s in range(seeds)
    ]
    found["auto"] = rates([choice.lam for choice in choices])
    return found, described(choices[0]), placement.sites


def numpyros(model, given, y, sites, length, seeds):
    """Figures of NumPyro's NUTS on the model as it stands and with the same sites non-centered."""
    other = numpyro.handlers.reparam(model, config={name: LocScaleReparam(0) for name in sites})
    found = {}
    for name, each in (("as it stands", model), ("LocScaleReparam(0)", other)):
        chains = MCMC(
            NumPyroNUTS(each, target_accept_prob=0.8, max_tree_depth=10),
            num_warmup=length.warm_up,
            num_samples=length.draws,
            num_chains=length.chains,
            chain_method="vectorized",
            progress_bar=False,
        )
        rates, sound = [], []
        for seed in range(seeds):
            chains.run(jax.random.key(seed), *given, y=y, extra_fields=("num_steps", "diverging"))
            values, extra = chains.get_samples(group_by_chain=True), chains.get_extra_fields()
            kept = [values[key] for key in sorted(values) if not key.endswith("_decentered")]
            draws = jnp.concatenate([one.reshape(*one.shape[:2], -1) for one in kept], axis=2)
            rates.append(float(jnp.min(bulk_ess(draws)) / jnp.sum(extra["num_steps"])))
            sound.append(float(jnp.max(r_hat(draws))) < 1.05 and not bool(jnp.any(extra["diverging"])))
        found[name] = figures(rates, sound)
    return found


def figures(rates, sound):
    return {"mean": 1e3 * float(np.mean(rates)), "sd": 1e3 * float(np.std(rates, ddof=1)), "sound": sum(sound)}


def row(name, model, given, y, length, seeds):
    """One problem's line of the table."""
    begin = time.perf_counter()
    fixed, why, sites = ours(model, given, y, length, seeds)
    auto = fixed.pop("auto")
    theirs = numpyros(model, given, y, sites, length, seeds)
    return {
        "problem": name,
        "auto": auto["mean"],
        "best_fixed": max(one["mean"] for one in fixed.values()),
        "numpyro_best": max(one["mean"] for one in theirs.values()),
        "auto_detail": auto,
        "fixed": fixed,
        "numpyro": theirs,
        "choice": why,
        "seconds": time.perf_counter() - begin,
    }


def main():
    """Print the table, or its rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="problems whose names contain one of these; all by default")
    parser.add_argument("--posteriordb", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=500)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    length = Length(4, given.warm_up, given.draws)
    rows = []
    for name, model, arguments, y in problems(given.posteriordb):
        if not given.names or any(part in name for part in given.names):
            rows.append(row(name, model, arguments, y, length, given.seeds))
            if not given.json:
                show(rows[-1])
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    against = [np.log([one["auto"] / one[other] for one in rows]).mean() for other in ("best_fixed", "numpyro_best")]
    print("geometric mean of auto over best fixed {:.2f}, over NumPyro's better {:.2f}".format(*np.exp(against)))


def show(one):
    print(f"{one['problem']} ({one['seconds']:.0f} s)")
    for name, found in {"auto": one["auto_detail"], **one["fixed"], **one["numpyro"]}.items():
        print(f"  {name:20} {found['mean']:8.2f} +- {found['sd']:.2f}, {found['sound']} sound")
    print(*(f"  {line}" for line in one["choice"]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
