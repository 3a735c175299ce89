"""Newton's M-step, and what is left to climb: a hierarchy from usual starts, against its likelihood in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from training_steps import fitting

from pplemd.dsl import Program, latent, observe, plate, trace_observed
from pplemd.errors import RecipeError
from pplemd.learning import Adam, Newton
from pplemd.learning.optimisers import newton_step
from pplemd.learning.state import descend, learner

GROUPS, EACH = 20, 8
GROUP = np.repeat(np.arange(GROUPS), EACH)
DRAWN = np.random.default_rng(0).standard_normal((2, GROUPS * EACH)).astype(np.float32)


def hierarchy(error, offset=0.0):
    """A class of programs: y ~ N(a[group], exp(log_error)), a ~ N(mean, exp(log_spread)); and its data."""
    y = offset + 0.5 + DRAWN[0][:GROUPS][GROUP] + error * DRAWN[1]

    class Hierarchy(Program):
        mean: jax.Array
        log_spread: jax.Array
        log_error: jax.Array

        def __call__(self):
            with plate("groups", GROUPS):
                a = latent("a", dist.Normal(self.mean, jnp.exp(self.log_spread)))
            observe("y", dist.Normal(a[GROUP], jnp.exp(self.log_error)), y)

    return Hierarchy, y


def shortfall(y, program):
    """Nats that log p(y) lies below its maximum, both in closed form: a balanced one-way analysis of variance."""
    means = y.reshape(GROUPS, EACH).mean(axis=1, dtype=np.float64)
    within = float(((y.reshape(GROUPS, EACH) - means[:, None]) ** 2).sum())

    def log_p(mean, spread2, error2):
        level = spread2 + error2 / EACH
        between = GROUPS * np.log(level) + float(((means - mean) ** 2).sum()) / level
        return -0.5 * (between + GROUPS * (EACH - 1) * np.log(error2) + within / error2)

    error2 = within / (GROUPS * (EACH - 1))
    best = log_p(means.mean(), means.var() - error2 / EACH, error2)
    return best - log_p(
        float(program.mean), np.exp(2 * float(program.log_spread)), np.exp(2 * float(program.log_error))
    )


def begun(program, **numbers):
    step = fitting(trace_observed(program), **numbers)
    return step, step.init({"program": program})


def left_to_climb(step, state):
    """The figures of a fit's conclusion."""
    return step.algorithm.conclusion(step.context, state, jax.random.key(2))


def fitted(kind, start, **numbers):
    step, state = begun(kind(*(jnp.asarray(start) for _ in range(3))), **numbers)
    state, fixed = eqx.partition(state, eqx.is_array)

    def one(state, number):
        after, _ = step(eqx.combine(state, fixed), jax.random.fold_in(jax.random.key(1), number))
        return eqx.filter(after, eqx.is_array), None

    state = jax.jit(lambda first: jax.lax.scan(one, first, jnp.arange(step.context.training.steps))[0])(state)
    return step, eqx.combine(state, fixed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "offset", "start"),
    [(0.4, 0.0, 2.0), (0.01, 50.0, 0.0), (0.01, 0.0, 2.0), (3.0, 0.0, 0.0), (0.4, 1000.0, 0.0)],
)
def test_the_default_gets_there_from_usual_starts(error, offset, start):
    kind, y = hierarchy(error, offset)
    step, state = fitted(kind, start, steps=200, chains=8)
    left, short = left_to_climb(step, state), shortfall(y, state.averages["program"])
    assert short < 0.1
    assert abs(left["gain"]) < 0.25 + 2 * left["gain_error"]


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.0, 2.0])
def test_what_is_left_to_climb_is_told_in_nats(start):
    kind, y = hierarchy(0.4)
    step, state = fitted(kind, start, steps=100, chains=8, optimiser=Adam(1e-2, clip=0.0, final=0.02))
    left, short = left_to_climb(step, state), shortfall(y, state.averages["program"])
    assert short > 5
    assert 0.1 * short < left["gain"] < short + 2 * left["gain_error"]  # in one step: less than all of it
    assert left["move_log_error"] < -3 * 0.05  # far beyond its own standard error, sqrt(1 / 2 n)


@pytest.mark.slow
def test_what_the_data_say_nothing_of_is_held_by_nothing():
    kind, _ = hierarchy(0.4)

    class Idle(kind):
        idle: jax.Array

    program = Idle(jnp.asarray(0.5), jnp.asarray(-40.0), jnp.asarray(0.1), jnp.asarray(2.0))
    left = left_to_climb(*begun(program, chains=4))
    assert left["loss_of_idle"] == 0
    assert left["loss_of_log_spread"] < 1e-6  # on its way to a spread of 0
    assert left["loss_of_mean"] > 10
    assert left["loss_of_log_error"] > 10


@pytest.mark.slow
def test_a_separated_class_is_held_by_nothing():
    """Logistic regression on data of which one side is all 0 and the other all 1: the larger, the likelier."""
    x = np.linspace(-2.0, 2.0, 40, dtype=np.float32)

    class Separated(Program):
        slope: jax.Array
        level: jax.Array

        def __call__(self):
            u = latent("u", dist.Normal(0.0, 1.0))
            observe("y", dist.Bernoulli(logits=self.slope * x + self.level + 0.0 * u), (x > 0.1).astype(np.int32))

    left = left_to_climb(*fitted(lambda *start: Separated(*start[:2]), 0.0, steps=60, chains=2))
    assert max(left["loss_of_slope"], left["loss_of_level"]) < 1e-4


@pytest.mark.slow
def test_a_step_goes_down_whatever_the_curvature():
    turned = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    curvature = turned @ np.diag([4.0, -2.0, 1e-9]) @ turned.T
    gradient = np.asarray([1.0, -2.0, 3.0])
    step = newton_step(jnp.asarray(gradient, jnp.float32), jnp.asarray(curvature, jnp.float32), jnp.ones(3))
    assert float(step @ gradient) < 0
    exact = newton_step(jnp.asarray([2.0, 8.0]), jnp.diag(jnp.asarray([1.0, 1e6])), jnp.full(2, 10.0))
    np.testing.assert_allclose(exact, [-2.0, -8e-6], rtol=1e-5)
    np.testing.assert_allclose(newton_step(jnp.asarray([5.0]), jnp.zeros((1, 1)), jnp.asarray([4.0])), [-4.0])


def test_it_needs_what_it_climbs():
    with pytest.raises(RecipeError, match="em.Fit alone has"):
        descend(learner(jnp.ones(3), Newton().transformation(10)), jnp.ones(3), Newton().transformation(10))


def test_programs_of_many_parameters_are_left_to_adam():
    beyond = Adam(1e-2, clip=0.0)
    own, many = Newton(most=2, beyond=beyond).transformation(10), beyond.transformation(10)
    new = descend(learner(jnp.ones(3), own), jnp.arange(3.0), own).module
    np.testing.assert_array_equal(new, descend(learner(jnp.ones(3), many), jnp.arange(3.0), many).module)
    assert not Newton(most=2).interleaves(3)


@pytest.mark.slow
def test_a_regression_of_counts_is_found_from_far_away():
    x = np.stack([np.ones(50), np.linspace(0.0, 20.0, 50)], axis=1).astype(np.float32)
    y = np.random.default_rng(2).poisson(np.exp(x @ np.asarray([1.0, 0.1]))).astype(np.float32)

    def loss(beta):
        return -jnp.sum(y * (x @ beta) - jnp.exp(x @ beta))

    optimiser = Newton().transformation(60)
    current = learner(jnp.asarray([1.0, 1.0]), optimiser)  # exp(21)
    for _ in range(60):
        current = descend(current, jax.grad(loss)(current.module), optimiser, loss)
    np.testing.assert_allclose(x.T @ (y - np.exp(x @ np.asarray(current.module))), 0.0, atol=0.1)
