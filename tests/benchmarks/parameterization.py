"""What the chosen coordinates are worth: least effective sample size per gradient, on ten hierarchies.

Run by hand: `python tests/benchmarks/parameterization.py [--json] [names]`. Problems of posteriordb (BSD-3)
read data/radon_mn.json and data/rats_data.json of --posteriordb FOLDER, of $PPLEMD_POSTERIORDB, or of a folder
data/posteriordb beside the repository; those whose file is missing are left out, and named on stderr.

Each posterior is one NumPyro model. Ours: NUTS by `long_chains` in the coordinates of each lambda and in those that the
default policy chooses after two short pilots; NumPyro's: NUTS on the model and on the model under LocScaleReparam(0).
The same target acceptance (0.8), doublings (8), warm-up, draws and chains. The effective sample size is that of ranks
(`bulk_ess`), the least over all elements of all latents in the model's own numbers; gradients are leapfrogs of the kept
draws, warm-up and pilots apart. Figures are per 1,000 gradients, means over seeds, with their standard deviations. What
is less than a third of the best with the first seed is not tried with the others.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
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
from pplemd.inference import NUTS, bulk_ess, posterior_target, r_hat
from pplemd.parameterization import Length, Placement, described, parameterize, trial

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0)
ERRORS = (0.1, 0.5, 1.0, 2.0, 5.0)
KERNEL = NUTS(doublings=8)
PILOT = Length(4, 300, 100)
CONTENDERS = 3.0  # a candidate so many times worse than the best with the first seed is dropped
FOLDERS = [Path(os.environ.get("PPLEMD_POSTERIORDB", "nowhere"))]
FOLDERS += sorted(Path(__file__).resolve().parents[3].glob("*/data/posteriordb"))


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


def deep(middle, decoder, spread, y=None):
    """Two stochastic layers and a decoder, all of tanh networks that are given; one row of data each."""
    with numpyro.plate("rows", 10):
        top = numpyro.sample("top", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        low = numpyro.sample("low", dist.Normal(network(middle, top), spread).to_event(1))
        numpyro.sample("y", dist.Normal(network(decoder, low), 0.3).to_event(1), obs=y)


def network(weights, x):
    return jnp.tanh(x @ weights[0]) @ weights[1]


def deep_data():
    """Networks of 2 -> 8 -> 4 and 4 -> 16 -> 8, spreads of the lower layer from .05 to 1, and ten rows of data."""
    rng = np.random.default_rng(0)
    middle, decoder = (
        tuple(real(rng.normal(size=shape) / np.sqrt(shape[0])) for shape in ((a, b), (b, c)))
        for a, b, c in ((2, 8, 4), (4, 16, 8))
    )
    spread = real([0.05, 0.15, 0.4, 1.0])
    low = network(middle, real(rng.normal(size=(10, 2)))) + spread * real(rng.normal(size=(10, 4)))
    return (middle, decoder, spread), network(decoder, low) + 0.3 * real(rng.normal(size=(10, 8)))


def problems(folder: Path | None):
    """Name -> (model, arguments, data)."""
    for error in ERRORS:
        rng = np.random.default_rng(round(10 * error))
        y = 1.0 + rng.normal(size=20) + error * rng.normal(size=20)
        yield f"normal hierarchy, s = {error}", normal_hierarchy, (jnp.asarray(error),), real(y)
    yield "funnel", funnel, (), None
    effects, errors = [28, 8, -3, 7, -1, 1, 18, 12], [15, 10, 16, 11, 9, 11, 10, 18]
    yield "eight schools", eight_schools, (real(errors),), real(effects)
    given, y = deep_data()
    yield "deep latent, two layers", deep, given, y
    if (found := read(folder, "radon_mn")) is not None:
        county = jnp.asarray(found["county_idx"], jnp.int32) - 1
        given = (county, real(found["floor_measure"]), real(found["log_uppm"]))
        yield "radon_mn, hierarchical intercept", radon, given, real(found["log_radon"])
    if (found := read(folder, "rats_data")) is not None:
        age = np.asarray(found["x"], float)
        rat = jnp.asarray(found["rat"], jnp.int32) - 1
        yield "rats", rats, (rat, real(age - age.mean())), real(found["y"])


def read(folder, name):
    """A data set of posteriordb; None, and a line on stderr, where there is none."""
    folders = FOLDERS if folder is None else [folder]
    path = next((one for each in folders if (one := each / "data" / f"{name}.json").is_file()), None)
    if path is None:
        print(f"{name} is left out: no data/{name}.json; give --posteriordb FOLDER", file=sys.stderr)
        return None
    return json.loads(path.read_text())


def real(numbers):
    return jnp.asarray(np.asarray(numbers, float), jnp.float32)


class Model(em.Program):
    """A NumPyro model as a program; nothing of it is trained, its arguments are arrays so that they can differ."""

    given: tuple
    model: Callable = eqx.field(static=True)
    y: jax.Array | None = None

    def __call__(self):
        self.model(*self.given, y=None if self.y is None else jax.lax.stop_gradient(self.y))


def raced(candidates, seeds):
    """Name -> figures, of name -> (seed -> (rate, sound)); all seeds for those that may be the best."""
    found = {name: [run(0)] for name, run in candidates.items()}
    best = max(rate for ((rate, _),) in found.values())
    for name, run in candidates.items():
        if found[name][0][0] * CONTENDERS >= best:
            found[name] += [run(seed) for seed in range(1, seeds)]
    return {name: figures(*zip(*each, strict=True)) for name, each in found.items()}


TRACED, CHAINS = {}, {}  # problems of one model share what is compiled: their arrays are arguments


def traced(program):
    if program.model not in TRACED:
        TRACED[program.model] = trace_observed(program)
    return TRACED[program.model]


def ours(model, given, y, length, seeds):
    """Figures of each lambda and of the chosen coordinates, and the choice in words."""
    program = Model(tuple(given), model, y)
    problem = traced(program)
    placement, law = Placement(problem, program), posterior_target(problem, program)

    def run(lam, seed):
        made = trial(jax.random.key(seed), placement, law, KERNEL, lam, length)
        return float(made.rate), bool(made.sound)

    found = raced({str(one): partial(run, problem.centering(one)) for one in LAMBDAS}, seeds)
    choices = [parameterize(jax.random.key(100 + s), placement, law, length=PILOT)[0] for s in range(seeds)]
    auto = figures(*zip(*(run(choice.lam, seed) for seed, choice in enumerate(choices)), strict=True))
    return found | {"auto": auto}, described(choices[0]), placement.sites


def numpyros(model, given, y, sites, length, seeds):
    """Figures of NumPyro's NUTS on the model as it stands and with the same sites non-centered."""

    def run(made, seed):
        made.run(jax.random.key(seed), *given, y=y, extra_fields=("num_steps", "diverging"))
        values, extra = made.get_samples(group_by_chain=True), made.get_extra_fields()
        kept = [values[key] for key in sorted(values) if not key.endswith("_decentered")]
        draws = jnp.concatenate([one.reshape(*one.shape[:2], -1) for one in kept], axis=2)
        sound = float(jnp.max(r_hat(draws))) < 1.05 and not bool(jnp.any(extra["diverging"]))
        return float(jnp.min(bulk_ess(draws)) / jnp.sum(extra["num_steps"])), sound

    if model not in CHAINS:
        other = numpyro.handlers.reparam(model, config={name: LocScaleReparam(0) for name in sites})
        CHAINS[model] = {"as it stands": chains(model, length), "LocScaleReparam(0)": chains(other, length)}
    return raced({name: partial(run, each) for name, each in CHAINS[model].items()}, seeds)


def chains(model, length):
    return MCMC(
        NumPyroNUTS(model, target_accept_prob=0.8, max_tree_depth=KERNEL.doublings),
        num_warmup=length.warm_up,
        num_samples=length.draws,
        num_chains=length.chains,
        chain_method="vectorized",
        progress_bar=False,
        jit_model_args=True,
    )


def figures(rates, sound):
    return {
        "mean": 1e3 * float(np.mean(rates)),
        "sd": 1e3 * float(np.std(rates, ddof=1)) if len(rates) > 1 else None,
        "sound": sum(sound),
        "seeds": len(rates),
    }


def row(name, model, given, y, length, seeds):
    """One problem's line of the table."""
    begin = time.perf_counter()
    fixed, why, sites = ours(model, given, y, length, seeds)
    auto = fixed.pop("auto")
    theirs = numpyros(model, given, y, sites, length, seeds)
    best, other = (max(each, key=lambda one: each[one]["mean"]) for each in (fixed, theirs))
    return {
        "problem": name,
        "auto": auto["mean"],
        "best_fixed": fixed[best]["mean"],
        "numpyro_best": theirs[other]["mean"],
        "auto_sd": auto["sd"],
        "best_fixed_sd": fixed[best]["sd"],
        "numpyro_best_sd": theirs[other]["sd"],
        "best_lambda": float(best),
        "numpyro_which": other,
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
    parser.add_argument("--warm-up", type=int, default=400)
    parser.add_argument("--draws", type=int, default=600)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    length = Length(4, given.warm_up, given.draws)
    rows = []
    for name, model, arguments, y in problems(given.posteriordb):
        if not given.names or any(part in name for part in given.names):
            rows.append(row(name, model, arguments, y, length, given.seeds))
            print(f"{name}: {rows[-1]['seconds']:.0f} s", file=sys.stderr, flush=True) if given.json else show(rows[-1])
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    against = [np.log([one["auto"] / one[other] for one in rows]).mean() for other in ("best_fixed", "numpyro_best")]
    print("geometric mean of auto over best fixed {:.2f}, over NumPyro's better {:.2f}".format(*np.exp(against)))


def show(one):
    print(f"{one['problem']} ({one['seconds']:.0f} s)")
    for name, found in {"auto": one["auto_detail"], **one["fixed"], **one["numpyro"]}.items():
        spread = "" if found["sd"] is None else f" +- {found['sd']:.2f}"
        print(f"  {name:20} {found['mean']:8.2f}{spread}, {found['sound']} of {found['seeds']} sound")
    print(*(f"  {line}" for line in one["choice"]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
