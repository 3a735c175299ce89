"""Data that lie outside of the support of their law are refused, wherever they come from; moving bounds give -inf."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from pplemd.dsl import Program, check_probability, latent, observe, plate, trace_observed
from pplemd.errors import ProgramError, TeacherError
from pplemd.parameterization import posterior
from pplemd.tasks.fit import Fit

F32 = np.float32
TOTAL = np.array([3, 3, 3, 1])
LEVELS = jnp.arange(3.0)[None]
AFFINE = dist.transforms.AffineTransform(0.0, -1.0, domain=dist.constraints.positive)
BAD = {  # a law of four rows, their data, and what is said
    "classes from 1": (
        lambda m, r: dist.Bernoulli(logits=m),
        np.array([1, 2, 1, 2]),
        r"2 of 4 .*\(the first, 2, at \(1,\)\); expected 0 or 1",
    ),
    "fractions": (
        lambda m, r: dist.Bernoulli(logits=m),
        np.array([1, 0, 0.5, 0], F32),
        "first, 0.5, at .* expected 0 or 1",
    ),
    "negative": (
        lambda m, r: dist.Gamma(2.0, jnp.exp(m)),
        np.array([1, 2, -1, 3], F32),
        r"1 of 4 .*first, -1., at \(2,\).* above 0",
    ),
    "zero": (lambda m, r: dist.LogNormal(m, 1.0), np.array([1, 2, 1, 0], F32), "expected numbers above 0"),
    "count below 0": (
        lambda m, r: dist.Poisson(jnp.exp(m)),
        np.array([1, 2, -1, 3]),
        "first, -1.* whole numbers from 0",
    ),
    "count and a half": (
        lambda m, r: dist.Poisson(jnp.exp(m)),
        np.array([1.5, 2, 1, 3], F32),
        "first, 1.5.* whole numbers from 0",
    ),
    "class out of range": (
        lambda m, r: dist.Categorical(logits=m[..., None] * LEVELS),
        np.array([0, 1, 3, 2]),
        "first, 3.* from 0 to 2",
    ),
    "above its own total": (
        lambda m, r: dist.Binomial(jnp.asarray(TOTAL)[r], logits=m),
        np.array([3, 3, 3, 2]),
        r"first, 2, at \(3,\).* 0 to 1",
    ),
    "wrong total": (
        lambda m, r: dist.Multinomial(4, logits=m[..., None] * LEVELS),
        np.array([[1, 1, 2]] * 3 + [[1, 1, 1]]),
        r"first, \[1, 1, 1\].* sum to 4",
    ),
    "no simplex": (
        lambda m, r: dist.Dirichlet(jnp.exp(m)[..., None] * jnp.ones(3)[None]),
        np.full((4, 3), 0.4, F32),
        "4 of 4 .* sum to 1",
    ),
    "not a number": (
        lambda m, r: dist.Normal(m, 1.0),
        np.array([1, np.nan, 1, 2], F32),
        r"1 of 4 values that are not finite \(the first at \(1,\)\)",
    ),
    "below what is cut off": (
        lambda m, r: dist.TruncatedNormal(m, 1.0, low=0.0),
        np.array([1, -0.5, 1, 2], F32),
        "numbers from 0",
    ),
    "beside a bound that moves": (
        lambda m, r: dist.Uniform(0.0, jnp.exp(m)),
        np.array([1, -0.5, 1, 2], F32),
        "expected numbers from 0",
    ),
    "an event": (
        lambda m, r: dist.Bernoulli(logits=m[..., None] * jnp.ones((1, 2))).to_event(1),
        np.array([[0, 1], [1, 1], [3, 1], [0, 0]]),
        r"1 of 8 .*first, 3, at \(2, 0\)",
    ),
    "zero-inflated": (
        lambda m, r: dist.ZeroInflatedPoisson(jnp.full_like(m, 0.2), jnp.exp(m)),
        np.array([0, -3, 1, 1]),
        "first, -3",
    ),
}
GOOD = {
    "truths": (lambda m, r: dist.Bernoulli(logits=m), np.array([True, False, True, True])),
    "counts as floats": (lambda m, r: dist.Poisson(jnp.exp(m)), np.array([0, 2, 1, 7], F32)),
    "at their total": (lambda m, r: dist.Binomial(jnp.asarray(TOTAL)[r], logits=m), TOTAL),
    "turned over": (
        lambda m, r: dist.TransformedDistribution(dist.Exponential(jnp.exp(m)), AFFINE),
        np.array([-1, -2, -1, -3], F32),
    ),
    "shares": (lambda m, r: dist.Dirichlet(jnp.exp(m)[..., None] * jnp.ones(3)[None]), np.full((4, 3), 1 / 3, F32)),
    "beyond a bound that moves": (lambda m, r: dist.Uniform(0.0, jnp.exp(m)), np.array([1, 0.5, 1, 20], F32)),
    "masked": (lambda m, r: dist.Bernoulli(logits=m).mask(jnp.asarray(TOTAL)[r] == 3), np.array([0, 1, 1, 9])),
}


class Rows(Program):
    """Four rows with a latent each."""

    w: jax.Array
    y: np.ndarray
    law: object = eqx.field(static=True)
    split: bool = eqx.field(static=True, default=False)

    def __call__(self):
        if not self.split:
            m = latent("m", dist.Normal(self.w, 1.0).expand([4]))
            observe("y", self.law(m, jnp.arange(4)), self.y)
        else:
            with plate("rows", 4) as rows:
                m = latent("m", dist.Normal(self.w, 1.0).expand([len(rows)]))
                observe("y", self.law(m, rows), jnp.asarray(self.y)[rows])


@pytest.mark.parametrize("rows", [None, 4, 1])
@pytest.mark.parametrize("name", BAD)
def test_data_outside_of_a_support_are_refused(name, rows):
    law, y, words = BAD[name]
    with pytest.raises(
        ProgramError, match=rf"test_support.py, line \d+, in Rows.__call__: observation .y. has .*{words}"
    ):
        trace_observed(Rows(jnp.zeros(()), y, law, rows is not None), rows=rows)


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize("name", GOOD)
def test_data_within_a_support_are_taken(name, rows):
    law, y = GOOD[name]
    program = Rows(jnp.zeros(()), y, law, rows is not None)
    problem = trace_observed(program, rows=rows)
    assert problem.observed[0].support.moving == name.endswith("moves")


def test_data_given_later_are_looked_at_again():
    law, y = GOOD["at their total"]
    problem = trace_observed(Rows(jnp.zeros(()), y, law))
    assert problem.given({"y": y - 1}).data
    with pytest.raises(ProgramError, match=r"1 of 4 .*first, 4, at \(1,\)\); expected whole numbers from 0 to 3"):
        problem.given({"y": np.array([1, 4, 1, 0])})
    with pytest.raises(ProgramError, match=r"given data of shapes .*\(3,\).*expected some of its observations"):
        problem.given({"y": y[:3]})
    with pytest.raises(ProgramError, match="given data of shapes .*'z'"):
        problem.given({"z": y})
    assert jax.jit(lambda y: problem.given({"y": y}).data["y"].sum())(y) == TOTAL.sum()


def test_one_number_is_looked_at_too():
    class One(Program):
        def __call__(self):
            observe("y", dist.Poisson(jnp.exp(latent("m", dist.Normal(0.0, 1.0)))), jnp.asarray(1.5))

    with pytest.raises(ProgramError, match=r"1 of 1 values outside .* Poisson \(the first, 1.5, at \(\)\)"):
        trace_observed(One())


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_a_plan_knows_the_data_of_its_program(convert):
    law, y, words = BAD["classes from 1"]
    with pytest.raises(ProgramError, match=words):
        Fit(lambda key: Rows(jnp.zeros(()), convert(y), law)).plan()


def test_data_that_would_be_trained_are_refused():
    law, y = GOOD["counts as floats"]
    for split in (False, True):
        with pytest.raises(ProgramError, match="the data of 'y' are the program's 'y', a floating-point JAX array"):
            trace_observed(Rows(jnp.zeros(()), jnp.asarray(y), law, split))

    class Held(Program):
        """Data in an array of JAX's that no gradient reaches."""

        y: jax.Array

        def __call__(self):
            z = latent("z", dist.Normal(0.0, 1.0))
            observe("y", dist.Normal(z, jnp.ones(3)), jax.lax.stop_gradient(self.y))

    assert trace_observed(Held(jnp.ones(3))).observed[0].shape == (3,)

    class Penalised(Program):
        """A trained array may be looked at, as a soft constraint, where a law depends on it too."""

        w: jax.Array

        def __call__(self):
            m = latent("m", dist.Normal(self.w, 1.0))
            observe("small", dist.Normal(0.0, 1.0), self.w)
            observe("sum", dist.Normal(0.0, 0.1), m)

    assert len(trace_observed(Penalised(jnp.zeros(()))).observed) == 2


@pytest.mark.parametrize("turned", [False, True])
def test_outside_of_a_bound_that_moves_the_density_is_zero(turned):
    """Uniform(0, top), straight and as minus one of a transform whose sign is trained: scored as in SciPy."""

    class Top(Program):
        sign: jax.Array

        def __call__(self):
            top = latent("top", dist.LogNormal(0.0, 1.0))
            law = dist.Uniform(0.0, top)
            if turned:
                parts = dist.transforms.AffineTransform(0.0, self.sign, domain=dist.constraints.interval(0.0, top))
                law = dist.TransformedDistribution(law, parts)
            observe("y", law.expand([2]).to_event(1), np.array([0.5, 2.0], F32) * (-1 if turned else 1))

    program = Top(jnp.asarray(-1.0))
    problem = trace_observed(program)
    top = np.array([1.0, 1.9, 2.1, 5.0])
    found = jax.vmap(lambda u: problem.log_likelihood(program, {"top": u}))(jnp.log(jnp.asarray(top)))
    np.testing.assert_allclose(found, np.where(top < 2, -np.inf, -2 * np.log(top)), rtol=1e-5)


LAWS = {
    "classes from 1": (lambda s: dist.Bernoulli(logits=s), [1, 2, 2, 1], r"2 of 4 .*first, 2, at \(1,\).* 0 or 1"),
    "negative": (lambda s: dist.Gamma(s, 1.0), [1.0, -2.0, 2.0, 1.0], "expected numbers above 0"),
    "beside a bound that moves": (lambda s: dist.Uniform(0.0, s), [0.5, -2.0, 0.2, 1.0], "expected numbers from 0"),
    "not a number": (lambda s: dist.Normal(s, 1.0), [0.5, np.nan, 0.2, 1.0], "1 of 4 values that are not finite"),
}


def model(law, y):
    s = numpyro.sample("s", dist.HalfNormal(3.0))
    with numpyro.plate("n", 4):
        numpyro.sample("y", law(s), obs=y)


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("name", LAWS)
def test_a_numpyro_model_is_held_to_its_supports(name, convert):
    law, y, words = LAWS[name]
    with pytest.raises(TeacherError, match=f"observed site 'y' of the model model has .*{words}"):
        posterior(model, law, convert(y))


@pytest.mark.slow_for("asarray0")
@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray])
def test_a_numpyro_model_has_no_density_outside_of_a_bound_that_moves(convert):
    teacher = posterior(model, lambda s: dist.Uniform(0.0, s), convert([0.5, 2.0, 0.2, 1.0]))
    assert teacher.log_q(jnp.log(jnp.asarray([1.9]))) == -jnp.inf
    assert np.isfinite(teacher.log_q(jnp.log(jnp.asarray([2.1]))))


def test_probabilities_are_at_most_one():
    check_probability(jnp.asarray([-3.0, 1e-6]), "y")
    check_probability(jnp.zeros(0), "y")
    with pytest.raises(
        ProgramError, match="discrete observation 'y' has log-probabilities up to 2.5; expected none above 0"
    ):
        check_probability(jnp.asarray([-3.0, 2.5]), "y")
