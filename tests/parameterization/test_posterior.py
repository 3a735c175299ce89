"""Posteriors in their own coordinates: exact in all of them, chosen by pilot chains, kept by a run, fixed by a user."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.distributions.transforms import AffineTransform
from numpyro.infer.reparam import LocScaleReparam, TransformReparam
from numpyro.infer.util import constrain_fn, potential_energy

import pplemd as em
from pplemd.dsl import load_file, settled_by
from pplemd.errors import ProgramError, TeacherError

Y = np.array([0.5, -1.0, 2.0], np.float32)
X = np.linspace(-1.0, 1.0, 3, dtype=np.float32)


def families(y):
    """Each site's location and scale depend on those before it."""
    mu = numpyro.sample("mu", dist.Normal(1.0, 3.0))
    tau = numpyro.sample("tau", dist.LogNormal(0.2 * mu, 0.5))
    with numpyro.plate("rows", 3):
        heavy = numpyro.sample("heavy", dist.StudentT(4.0, mu, tau))
        moved = dist.TransformedDistribution(dist.Laplace(heavy, 0.5 * tau), AffineTransform(1.0, -2.0))
        sharp = numpyro.sample("sharp", moved)
    apart = (X[:, None] - X[None, :]) / tau
    factor = jnp.linalg.cholesky(jnp.exp(-0.5 * apart**2) + 0.1 * jnp.eye(3))
    process = numpyro.sample("process", dist.MultivariateNormal(mu * X, scale_tril=factor))
    numpyro.sample("y", dist.Normal(sharp + process, 1.0).to_event(1), obs=y)


BETWEEN = {
    "mu": 0.3,
    "tau": 0.6,
    "heavy": np.array([0.2, 0.9, 0.0]),
    "sharp": 0.5,
    "process": np.array([0.7, 0.0, 1.0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("centered", [True, False, BETWEEN], ids=["centered", "non-centered", "between"])
def test_the_density_is_numpyros_by_a_change_of_variables(centered):
    """log q(v) = log joint(x(v)) + log|det dx/dv|, x the unconstrained values of what `constrained` gives."""
    teacher = em.posterior(families, Y, centered=centered)
    v = 0.5 * jax.random.normal(jax.random.key(0), teacher.shape)

    def free(v):
        values = teacher.constrain(v)
        return {name: jnp.log(value) if name == "tau" else value for name, value in values.items()}

    def expected(v):
        jacobian = jax.jacfwd(lambda v: ravel_pytree(free(v))[0])(v)
        return -potential_energy(families, (Y,), {}, free(v)) + jnp.linalg.slogdet(jacobian)[1]

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        (value, score), (known, slope) = (jax.jit(jax.value_and_grad(one))(v) for one in (teacher.log_q, expected))
    np.testing.assert_allclose(value, known, rtol=1e-4)
    np.testing.assert_allclose(score, slope, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_one_and_zero_are_the_value_and_its_noise():
    centered, noise = (em.posterior(families, Y, centered=number) for number in (True, False))
    v = 0.5 * jax.random.normal(jax.random.key(1), centered.shape)
    values = centered.constrain(v)
    by_site = dict(zip(*_split(centered, v), strict=True))
    np.testing.assert_allclose(by_site["heavy"], values["heavy"], rtol=1e-5)
    np.testing.assert_allclose(by_site["process"], values["process"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_site["tau"], jnp.log(values["tau"]), rtol=1e-5, atol=1e-6)
    by_site, values = dict(zip(*_split(noise, v), strict=True)), noise.constrain(v)
    np.testing.assert_allclose(values["mu"], 1.0 + 3.0 * by_site["mu"], rtol=1e-5)
    np.testing.assert_allclose(values["heavy"], values["mu"] + values["tau"] * by_site["heavy"], rtol=1e-5)


def _split(teacher, v):
    sizes = np.cumsum([int(np.prod(shape)) for _, shape in teacher.sites])[:-1]
    parts = jnp.split(v, sizes)
    return [name for name, _ in teacher.sites], [p.reshape(s) for p, (_, s) in zip(parts, teacher.sites, strict=True)]


def grouped(noise, y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(2.0))
    with numpyro.plate("groups", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, noise), obs=y)


DATA = np.array([1.0, 2.5, -0.5, 0.3, 1.4, 2.2], np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "expected"), [(0.05, "theta: centered, lambda 1"), (8.0, "theta: non-centered")])
def test_pilot_chains_choose_by_how_much_data_say(noise, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    teacher = em.posterior(grouped, noise, DATA)
    assert teacher.coordinates[0].startswith(expected), teacher.coordinates
    assert any(line.startswith("mu: lambda") and "units" in line for line in teacher.coordinates)
    number = 1.0 if noise < 1 else 0.0
    lam = {"theta": number, "mu": 0.0 if "mu: lambda 0" in " ".join(teacher.coordinates) else 1.0}
    fixed = em.posterior(grouped, noise, DATA, centered=lam)
    x = 0.3 * jax.random.normal(jax.random.key(2), teacher.shape)
    np.testing.assert_array_equal(fixed.log_q(x), teacher.log_q(x))
    monkeypatch.setattr("pplemd.parameterization.of_posterior.parameterize", None)  # from here on the cache knows
    assert em.posterior(grouped, noise, DATA).coordinates == teacher.coordinates


FILE = """
import numpy as np, numpyro, numpyro.distributions as dist, pplemd as em

def model(y):
    tau = numpyro.sample("tau", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(numpyro.sample("theta", dist.Normal(0.0, tau).expand([2])), 1.0), obs=y)

one, two = em.posterior(model, np.zeros(2)), em.posterior(model, np.ones(2))
"""


@pytest.mark.slow
def test_a_run_keeps_what_was_chosen(monkeypatch, tmp_path):
    path = tmp_path / "file.py"
    path.write_text(FILE)
    chosen = {"model.centered": '{"theta":[0.25,1.0]}', "model.centered#2": "0"}
    monkeypatch.setattr("pplemd.parameterization.of_posterior.parameterize", None)  # nothing is chosen again
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    loaded = load_file(path, chosen)
    assert settled_by(loaded) == {}
    assert loaded.one.coordinates == ('lambda {"theta":[0.25,1.0]}, as the run keeps it',)
    np.testing.assert_array_equal(loaded.one.density.loc, np.array([0.0, 0.25, 1.0], np.float32))
    np.testing.assert_array_equal(loaded.two.density.loc, np.zeros(3, np.float32))
    with pytest.raises(ProgramError, match="given.model.centered=half: expected a number from 0"):
        load_file(path, {**chosen, "model.centered": "half"})


@pytest.mark.slow
def test_what_handlers_made_stays_as_it_is():
    half = handlers.reparam(grouped, config={"theta": LocScaleReparam(0.5)})
    teacher = em.posterior(half, 1.0, DATA)
    assert teacher.coordinates == ()
    x = 0.3 * jax.random.normal(jax.random.key(3), teacher.shape)
    free = {name: part for name, part in zip(*_split(teacher, x), strict=True)}
    np.testing.assert_allclose(teacher.log_q(x), -potential_energy(half, (1.0, DATA), {}, free), rtol=1e-5)
    values = constrain_fn(half, (1.0, DATA), {}, free, return_deterministic=True)
    np.testing.assert_allclose(teacher.constrain(x)["theta"], values["theta"], rtol=1e-5)
    with pytest.raises(TeacherError, match="centered= for 'theta_decentered'"):
        em.posterior(half, 1.0, DATA, centered={"theta_decentered": 1})

    def moved(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        law = dist.TransformedDistribution(dist.Normal(mu, 1.0), AffineTransform(mu, 2.0))
        numpyro.sample("y", dist.Normal(numpyro.sample("z", law), 1.0), obs=y)

    assert em.posterior(handlers.reparam(moved, config={"z": TransformReparam()}), 1.0).coordinates == ()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:em.posterior, the model model")  # of values that a loop takes
def test_sites_within_a_loop_and_other_families_stay_unconstrained():
    def model(y):
        tau = numpyro.sample("tau", dist.Gamma(2.0, 1.0))
        _, steps = scan(lambda carry, _: (step := numpyro.sample("step", dist.Normal(carry, tau)), step), 0.0, None, 3)
        numpyro.sample("y", dist.Normal(steps, 1.0).to_event(1), obs=y)

    teacher = em.posterior(model, Y)
    assert teacher.coordinates == ()
    x = jnp.array([0.1, -0.4, 0.8, 0.3])
    free = {name: part for name, part in zip(*_split(teacher, x), strict=True)}
    np.testing.assert_allclose(teacher.log_q(x), -potential_energy(model, (Y,), {}, free), rtol=1e-5)
    with pytest.raises(TeacherError, match="'tau'; expected latents of location-scale families: it has none"):
        em.posterior(model, Y, centered={"tau": 0})
    with pytest.raises(ProgramError, match="from 0, non-centered, to 1"):
        em.posterior(grouped, 1.0, DATA, centered=2.0)
