"""Consistency distillation on N(0, 1), whose ODE maps x at sigma to x / sqrt(1 + sigma^2)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problems import Linear, Once, Power
from training_steps import at, distilling

import pplemd as em
from pplemd.algorithms import Consistency
from pplemd.diffusion import karras_grid
from pplemd.dsl import trace
from pplemd.errors import RecipeError
from pplemd.teachers import OneStep

TOP = 20.0  # sigma*
TEACHER = em.GaussianMixture(np.zeros((1, 1)), 1.0)
ALGORITHM = Consistency(levels=30, count=2000, decay=0.8, generator=em.Adam(0.02, final=0.02), average=0.9)


def prepared(exponent, batch=256, steps=400):
    program = Once(OneStep(Power(jnp.asarray(exponent)), TOP))
    problem = trace(program, shape=(1,))
    context = distilling(problem, TEACHER, algorithm=ALGORITHM, steps=steps, batch=batch).context
    pool = ALGORITHM.prepare(context, jax.random.key(0), lambda share: None)
    return distilling(problem, TEACHER, algorithm=ALGORITHM, prepared=pool, steps=steps, batch=batch), program


@pytest.mark.slow_for("0.2")
@pytest.mark.parametrize("start", [0.2, 1.0])
def test_it_learns_the_map_of_the_ode(start):
    step, program = prepared(start)
    state = step.init({"generator": program})
    keys = jax.random.split(jax.random.key(1), step.context.training.steps)

    @eqx.filter_jit
    def train(step, state, keys):
        return jax.lax.scan(lambda now, key: (step(now, key)[0], None), state, keys)[0]

    state = train(step, state, keys)
    assert abs(float(state.averages["generator"].net.denoiser.exponent) - 0.5) < 0.03
    assert set(state.learners) == {"generator"}  # no score network is trained


def test_a_step_of_the_ode_and_its_target():
    """x_below = x_above sqrt((1 + below^2) / (1 + above^2)) up to Heun's error; the target is f there, or x itself."""
    step, program = prepared(0.5, batch=4000)
    drawn = eqx.filter_jit(ALGORITHM.draw)(step.context, at(program, memory=program), jax.random.key(2))
    grid = np.asarray(karras_grid(30, ALGORITHM.low, TOP))[:30]
    number = np.abs(grid[None] - np.asarray(drawn.sigma)[:, None]).argmin(axis=1)
    assert set(number) == set(range(29))
    above, below = grid[number][:, None], grid[number + 1][:, None]
    x_below = np.asarray(drawn.x_sigma) * np.sqrt((1 + below**2) / (1 + above**2))
    expected = np.where(number[:, None] == 28, x_below, x_below / np.sqrt(1 + below**2))
    np.testing.assert_allclose(drawn.target, expected, rtol=0.01, atol=2e-3)
    spread = np.asarray(drawn.x_sigma)[number == 5].std()
    np.testing.assert_allclose(spread, np.sqrt(1 + grid[5] ** 2), rtol=0.25)


@pytest.mark.parametrize(("exponent", "sign"), [(0.3, -1), (0.7, 1)])
def test_the_gradient_points_to_the_map(exponent, sign):
    step, program = prepared(exponent, batch=4000)
    now = at(program, memory=program)

    @eqx.filter_jit
    def slope(context, now):
        drawn = ALGORITHM.draw(context, now, jax.random.key(3))
        return eqx.filter_grad(lambda p: ALGORITHM.loss(p, context, now, drawn)[0])(program)

    assert sign * float(slope(step.context, now).net.denoiser.exponent) > 1e-3


def test_a_program_without_a_denoiser_is_refused():
    step, _ = prepared(0.5)
    line = Linear(jnp.ones(()))
    with pytest.raises(RecipeError, match=r"found 0 in Linear"):
        ALGORITHM.draw(step.context, at(line, memory=line), jax.random.key(0))


def test_the_target_follows_slowly():
    step, program = prepared(0.5)
    moved = Once(OneStep(Power(jnp.asarray(1.5)), TOP))
    before = at(program, memory=step.init({"generator": program}).memory)
    memory, _ = ALGORITHM.keep(step.context, before, {}, {"generator": moved})
    assert float(memory.net.denoiser.exponent) == pytest.approx(0.8 * 0.5 + 0.2 * 1.5)
