"""NumPyro models as they are written: shapes, warnings, improper priors, substituted values, data left out."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.infer.reparam import LocScaleReparam
from numpyro.infer.util import potential_energy

import pplemd as em
from pplemd.dsl import trace_observed
from pplemd.errors import ProgramError, TeacherError

X = np.linspace(-1.0, 1.0, 6, dtype=np.float32)[:, None]
Y = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 1.0], np.float32)


def logistic(x, y=None, plate=True):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([1]).to_event(1))
    if not plate:
        return numpyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)
    with numpyro.plate("rows", len(x)):
        return numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)


def column(x, y):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(x * w, 1.0), obs=y)


def unplated(y):
    with numpyro.plate("columns", 2):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([3, 2]))
    numpyro.sample("y", dist.Normal(w.sum(), 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (logistic, (X, Y[:, None]), r"'y'.*shape \(6, 6\): its data are of shape \(6, 1\).*\(6,\).*scored 6 times"),
        (logistic, (X, Y[:, None], False), r"each value is scored 6 times"),
        (logistic, (X, Y[:1], False), r"each value is scored 6 times"),
        (logistic, (X, np.stack([Y, Y])), r"axis -2, of 2, belongs to none of its plates.*Missing a plate"),
        (column, (X, Y), r"its data are of shape \(6,\), the Normal is of shape \(6, 1\)"),
        (unplated, (1.0,), r"'w'.*axis -2, of 3, belongs to none of its plates.*to_event\(1\)"),
    ],
)
def test_data_are_scored_once(model, arguments, message):
    with pytest.raises(TeacherError, match=message):
        em.posterior(model, *arguments)


def test_what_numpyro_warns_of_is_told_once_and_kept():
    def model(y):
        warnings.warn("y is old", UserWarning, stacklevel=1)
        numpyro.sample("y", dist.Normal(numpyro.sample("angle", dist.VonMises(0.0, 1.0)) * jnp.ones(2), 1.0), obs=y)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        teacher = em.posterior(model, 1.0)
    assert [str(one.message).removeprefix("em.posterior, the model model: ") for one in caught] == list(teacher.notes)
    old, one_value, circular = teacher.notes
    assert old == "y is old"
    assert one_value == "'y' has one value as the data of all 2 laws"
    assert "circular" in circular


def test_a_plate_and_its_data_have_one_shape_in_a_program():
    class Columns(em.Program):
        def __call__(self):
            w = em.latent("w", dist.Normal(0.0, 1.0))
            with em.plate("rows", 6) as rows:
                em.observe("y", dist.Normal(jnp.asarray(X)[rows] * w, 1.0), np.broadcast_to(Y[:, None], (6, 6)))

    class Latents(em.Program):
        def __call__(self):
            with em.plate("rows", 6):
                z = em.latent("z", dist.Normal(jnp.zeros((6, 1)), 1.0))
            em.observe("y", dist.Normal(z.sum(), 1.0), 1.0)

    with pytest.raises(ProgramError, match=r"'y' has a Normal of batch shape \(6, 6\) within the plates \['rows'\]"):
        trace_observed(Columns())
    with pytest.raises(ProgramError, match=r"'z' has a Normal of batch shape \(6, 6\)"):
        trace_observed(Latents())


def improper(support, batch, event):
    def model(target):
        x = numpyro.sample("x", dist.ImproperUniform(support, batch, event_shape=event))
        numpyro.factor("pull", -0.5 * jnp.sum((x - target) ** 2))

    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("support", "batch", "event"),
    [
        (constraints.real, (), (2,)),
        (constraints.positive, (3,), ()),
        (constraints.simplex, (), (3,)),
        (constraints.ordered_vector, (2,), (3,)),
        (constraints.greater_than(3.0), (2,), (2,)),
    ],
)
def test_improper_priors_have_the_density_of_numpyros_nuts(support, batch, event):
    teacher = em.posterior(improper(support, batch, event), 0.3)
    x = 0.3 * jnp.arange(1.0, 1.0 + teacher.shape[0])
    free = {"x": x.reshape(teacher.sites[0][1])}
    np.testing.assert_allclose(
        teacher.log_q(x), -potential_energy(improper(support, batch, event), (0.3,), {}, free), 1e-5
    )
    if support is constraints.positive:
        np.testing.assert_allclose(teacher.log_q(x), jnp.sum(x - 0.5 * (jnp.exp(x) - 0.3) ** 2), rtol=1e-5)


def test_an_improper_prior_may_depend_on_a_latent_within_a_plate():
    def model(y):
        low = numpyro.sample("low", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", 3):
            x = numpyro.sample("x", dist.ImproperUniform(constraints.greater_than(low), (), ()))
            numpyro.sample("y", dist.Normal(x, 1.0), obs=y)

    teacher, x = em.posterior(model, np.ones(3)), jnp.array([0.5, -1.0, 0.0, 1.0])
    value = 0.5 + jnp.exp(x[1:])
    expected = jax.scipy.stats.norm.logpdf(x[0]) + jnp.sum(jax.scipy.stats.norm.logpdf(value, 1.0) + x[1:])
    np.testing.assert_allclose(teacher.log_q(x), expected, rtol=1e-5)


def grouped(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfNormal(5.0))
    with numpyro.plate("groups", 3):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


LEARNT = handlers.reparam(grouped, config={"theta": LocScaleReparam()})
DATA = np.array([1.0, 2.0, 4.0], np.float32)


@pytest.mark.slow
def test_a_substituted_parameter_is_a_number():
    with pytest.raises(TeacherError, match=r"'theta_centered'.*LocScaleReparam\(centered=0\).*handlers.substitute"):
        em.posterior(LEARNT, DATA)
    x = jnp.array([0.3, 0.2, 1.0, -1.0, 0.5])
    known = em.posterior(handlers.reparam(grouped, config={"theta": LocScaleReparam(centered=0.25)}), DATA)
    for value in (0.25, jnp.asarray(0.25)):
        teacher = em.posterior(handlers.substitute(LEARNT, data={"theta_centered": value}), DATA)
        np.testing.assert_allclose(teacher.log_q(x), known.log_q(x), rtol=1e-6)
    assert em.posterior(handlers.reparam(grouped, config={"theta": LocScaleReparam(centered=0)}), DATA).shape == (5,)
    lifted = handlers.lift(LEARNT, prior={"theta_centered": dist.Uniform(0.0, 1.0)})
    assert [name for name, _ in em.posterior(lifted, DATA).sites] == ["mu", "tau", "theta_centered", "theta_decentered"]


def test_other_values_by_handlers():
    def model(y):
        loc = numpyro.param("loc", 0.0)
        numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(loc, 1.0)), 1.0), obs=y)

    teacher = em.posterior(handlers.substitute(model, {"loc": 2.0}), 3.0)
    np.testing.assert_allclose(jax.grad(teacher.log_q)(jnp.array([2.5])), [0.0], atol=1e-6)
    with pytest.warns(UserWarning, match="'tau' has a substituted value and is a latent.*condition fixes it"):
        assert em.posterior(handlers.substitute(grouped, {"tau": 3.0}), DATA).shape == (5,)
    assert em.posterior(handlers.condition(grouped, {"tau": jnp.array(3.0)}), DATA).shape == (4,)


def converted(x, targets=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0))
    numpyro.sample("counts", dist.Poisson(jnp.exp(x[:, 0] * w)), obs=None if targets is None else jnp.asarray(targets))


def within(data):
    numpyro.sample("y", dist.Bernoulli(numpyro.sample("p", dist.Beta(1.0, 1.0))), obs=data.get("y"))


@pytest.mark.parametrize(
    ("model", "argument", "message"),
    [
        (logistic, X, "logistic was run without data: its argument 'y' is None.*Give the data.*y=..."),
        (converted, X, "converted was run without data: its argument 'targets' is None, so that 'counts', a Poisson"),
        (within, {}, "If 'y' is data, its obs was None"),
    ],
)
def test_discrete_data_that_were_left_out_are_not_called_latents(model, argument, message):
    with pytest.raises(TeacherError, match=message):
        em.posterior(model, argument)


def optional(y, scale=None, tau=None):
    tau = numpyro.sample("tau", dist.HalfNormal(scale or 1.0)) if tau is None else tau
    numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0.0, tau)), 1.0), obs=y)


@pytest.mark.slow
def test_data_that_were_left_out_and_could_be_latents_are_told():
    with pytest.warns(UserWarning, match="argument y=None was left out, so that 'y' is a latent"):
        teacher = em.posterior(logistic, X, plate=False)
    assert teacher.sites == (("w", (1,)), ("y", (6,)))
    assert "y=None" in teacher.notes[0]
    assert em.posterior(optional, 1.0).notes == ()  # an argument of another kind
    assert em.posterior(handlers.condition(logistic, {"y": Y}), X).notes == ()


def test_large_data_are_arguments_of_what_is_compiled():
    def model(x, y):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(x * w, 1.0), obs=y)

    def at(rows: int) -> tuple[int, float, float]:
        x = np.random.default_rng(0).standard_normal(rows).astype(np.float32)
        teacher = em.posterior(model, x, 2 * x, centered=True)
        score = eqx.filter_jit(lambda teacher, w: jax.grad(teacher.log_q)(w))
        w = jnp.array([0.5])
        exact = -0.5 + float(np.sum(x.astype(np.float64) * (2 * x - 0.5 * x)))
        return len(score.lower(teacher, w).as_text()), float(score(teacher, w)[0]), exact

    (small, _, _), (large, found, exact) = at(6000), at(60_000)
    assert abs(large / small - 1) < 0.01
    assert found == pytest.approx(exact, rel=1e-4)
