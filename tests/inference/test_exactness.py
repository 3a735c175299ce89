"""Kernels that find their own step sizes give known laws their known moments; broken and unadjusted ones do not.

Where densities are known every kernel meets every law, where only scores are known four laws without symmetry. The laws
of a run are one function of their number (known_targets.py): a compilation serves them all, chains are many and short.
"""

import importlib.util
import sys
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc import metrics

from pplemd.inference import HMC, MCLMC, NUTS, Langevin, LineIntegral, Unadjusted, barkers, long_chains, mala

with warnings.catch_warnings():  # ArviZ 0.23 warns of its successor
    warnings.simplefilter("ignore")
    import arviz
    import xarray


def beside(name):
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"tests_inference_{name}", Path(__file__).with_name(f"{name}.py"))
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    return sys.modules[spec.name]


known = beside("known_targets")
ADJUSTED = {  # kernel, chains, warm-up, draws
    "mala": (mala(), 100, 300, 400),
    "hmc": (HMC(None, 3), 40, 160, 180),
    "nuts": (NUTS(doublings=4), 25, 120, 100),
    "barkers": (barkers(), 100, 300, 400),
}


SCORED = 4  # laws that are met by their scores alone, too


FAST = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}  # it runs for long


@eqx.filter_jit(compiler_options=FAST)
def sampled(kernel, scores_only, numbers, count, starts, warm_up, draws):
    """Positions (law, chain, draw, coordinate) and acceptance, law by law."""

    def one(number):
        found = long_chains(jax.random.key(3), known.law(number, count, scores_only), kernel, starts, warm_up, draws)
        return found.positions, jnp.mean(found.acceptance)

    return jax.lax.map(one, numbers)


def run(kernel, chains, warm_up, draws, scores_only, count):
    """The same of the first `count` laws, from the standard normal, in double precision."""
    starts = jax.random.normal(jax.random.key(1), (chains, known.WIDTH))
    found, acceptance = sampled(kernel, scores_only, jnp.arange(count), count, starts, warm_up, draws)
    return np.asarray(found, np.float64), np.asarray(acceptance)


def judged(u, number):
    """Errors of mean and variance in standard errors, and their effective sample sizes, each (2, coordinate)."""
    variances, reference = known.moments(number)
    data = xarray.Dataset({"u": (("chain", "draw", "element"), u), "square": (("chain", "draw", "element"), u**2)})
    error = arviz.mcse(data, method="mean").to_array().values
    ess = arviz.ess(data, method="mean").to_array().values
    found = np.stack([u.mean(axis=(0, 1)), (u**2).mean(axis=(0, 1)) - variances])
    return found / np.hypot(error, reference), ess


def worst(kernel):
    """The largest error of the first law's moments, in standard errors, where only its scores are known."""
    u, _ = run(kernel, 400, 60 if kernel.step_size is None else 200, 100, True, 1)
    assert np.isfinite(u).all()
    return np.abs(judged(u[0], 0)[0]).max()


@pytest.mark.slow
@pytest.mark.slow_for(
    "barkers-density", "barkers-scores", "hmc-density", "hmc-scores", "mala-scores", "nuts-density", "nuts-scores"
)
@pytest.mark.parametrize("scores_only", [False, True], ids=["density", "scores"])
@pytest.mark.parametrize("name", ADJUSTED)
def test_adjusted_kernels_find_the_known_moments(name, scores_only):
    found, acceptance = run(*ADJUSTED[name], scores_only, SCORED if scores_only else len(known.TARGETS))
    for number, (u, accepted) in enumerate(zip(found, acceptance, strict=True)):
        errors, ess = judged(u, number)
        assert ess.min() > 400, (known.TARGETS[number].name, ess)
        assert np.abs(errors).max() < 4, (known.TARGETS[number].name, errors)
        assert ADJUSTED[name][0].wanted_acceptance - 0.15 < accepted < 0.97  # it did look for its step size


@pytest.mark.slow
@pytest.mark.skipif(not known.POSTERIORS, reason=known.MISSING)
def test_posteriors_are_those_of_the_reference_draws():
    """Stein's identity: under the law of the draws E[score] = 0 and E[score_i x_j] = -1 where i = j, else 0."""
    assert [law.name for law in known.POSTERIORS] == ["kidiq", "arK", "low_dim_gauss_mix"]
    for law in known.POSTERIORS:
        white = np.linalg.solve(law.scale, (law.reference - law.mean).T).T
        scores = jax.lax.map(jax.grad(law.log_density), jnp.asarray(law.reference, jnp.float32), batch_size=500)
        pulled = np.asarray(scores, np.float64) @ law.scale  # in white coordinates, where the terms are of order 1
        for terms, expected in ((pulled, 0.0), (pulled * white, -1.0), (pulled * np.roll(white, 1, axis=1), 0.0)):
            error = terms.std(axis=0) / np.sqrt(len(terms))
            assert np.all(np.abs(terms.mean(axis=0) - expected) < 4.5 * error + 2e-3), law.name


FLIPPED = LineIntegral(weights=(-1 / 6, -4 / 6, -1 / 6))


@pytest.mark.slow
@pytest.mark.slow_for("hmc")
@pytest.mark.parametrize("kernel", [mala(None, FLIPPED), HMC(None, 2, FLIPPED)], ids=["mala", "hmc"])
def test_the_check_rejects_a_flipped_line_integral(kernel):
    assert worst(kernel) > 6


@pytest.mark.slow
def test_the_check_rejects_momenta_of_another_mass(monkeypatch):
    """Drawn as if the mass were 1.3^2 times that of the kinetic energy."""
    right = metrics.default_metric

    def wrong(inverse_mass):
        return right(inverse_mass)._replace(sample_momentum=right(inverse_mass / 1.3**2).sample_momentum)

    assert worst(HMC(0.7, 2)) < 4
    monkeypatch.setattr(metrics, "default_metric", wrong)
    assert worst(HMC(jnp.asarray(0.7), 2)) > 6  # an array is traced anew, a number would find what was compiled


@pytest.mark.slow
@pytest.mark.slow_for("mclmc")
@pytest.mark.parametrize(
    ("kernel", "coarse", "fine"),
    [
        (Langevin(jnp.zeros(())), 0.25, 0.004),
        (HMC(jnp.zeros(()), 4, Unadjusted()), 0.6, 0.1),
        (MCLMC(jnp.zeros(())), 1.2, 0.05),
    ],
    ids=["langevin", "hmc", "mclmc"],
)
def test_unadjusted_kernels_are_biased_by_their_step(kernel, coarse, fine):
    """Nothing is corrected: their variance is off by a share of order gamma, h^2; seen at a coarse step, not a fine."""
    sized = [eqx.tree_at(lambda k: k.step_size, kernel, jnp.asarray(step)) for step in (coarse, fine)]
    assert worst(sized[0]) > 6
    assert worst(sized[1]) < 4
