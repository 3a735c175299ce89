"""Consistency distillation on N(0, 1), whose ODE maps x at sigma to x / sqrt(1 + sigma^2)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problems import Linear, Once, Power

import pplemd as em
from pplemd.diffusion import karras_grid
from pplemd.dsl import trace
from pplemd.errors import RecipeError
from pplemd.learning import EMStep
from pplemd.learning.methods import Consistency, Moment
from pplemd.teachers import OneStep

TOP = 20.0  # sigma*
TEACHER = em.GaussianMixture(np.zeros((1, 1)), 1.0)
METHOD = Consistency(levels=30, count=2000, decay=0.8)


def prepared(exponent, batch=256, steps=400):
    program = Once(OneStep(Power(jnp.asarray(exponent)), TOP))
    recipe = em.Recipe(steps=steps, batch=batch, method=METHOD, generator=em.Adam(0.02, final=0.02), ema=0.9)
    pool = METHOD.prepare(jax.random.key(0), TEACHER, None, lambda share: None)
    step = EMStep(trace(program, shape=(1,)), TEACHER, recipe, None, None, pool)
    return step, program


@pytest.mark.parametrize("start", [0.2, 1.0])
def test_it_learns_the_map_of_the_ode(start):
    step, program = prepared(start)
    state = step.init(program, Power(jnp.ones(())))
    keys = jax.random.split(jax.random.key(1), step.recipe.steps)

    @eqx.filter_jit
    def train(step, state, keys):
        return jax.lax.scan(lambda now, key: (step(now, key)[0], None), state, keys)[0]

    state = train(step, state, keys)
    assert abs(float(state.average.net.denoiser.exponent) - 0.5) < 0.03
    assert eqx.tree_equal(state.score.module, Power(jnp.ones(())))  # it is not trained


def test_a_step_of_the_ode_and_its_target():
    """x_below = x_above sqrt((1 + below^2) / (1 + above^2)) up to Heun's error; the target is f there, or x itself."""
    step, program = prepared(0.5, batch=4000)
    moment = Moment(program, Power(jnp.ones(())), program, jnp.zeros(()))
    drawn = eqx.filter_jit(METHOD.draw)(step, moment, jax.random.key(2))
    grid = np.asarray(karras_grid(30, METHOD.low, TOP))[:30]
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
    moment = Moment(program, Power(jnp.ones(())), program, jnp.zeros(()))

    @eqx.filter_jit
    def slope(step, moment):
        drawn = METHOD.draw(step, moment, jax.random.key(3))
        return eqx.filter_grad(lambda p: METHOD.loss(p, step, moment, drawn)[0])(moment.program)

    assert sign * float(slope(step, moment).net.denoiser.exponent) > 1e-3


def test_a_program_without_a_denoiser_is_refused():
    step, _ = prepared(0.5)
    moment = Moment(Linear(jnp.ones(())), Power(jnp.ones(())), Linear(jnp.ones(())), jnp.zeros(()))
    with pytest.raises(RecipeError, match=r"found 0 in Linear"):
        METHOD.draw(step, moment, jax.random.key(0))


def test_the_target_follows_slowly():
    step, program = prepared(0.5)
    state = step.init(program, Power(jnp.ones(())))
    moved = Once(OneStep(Power(jnp.asarray(1.5)), TOP))
    assert float(METHOD.remember(state.memory, moved).net.denoiser.exponent) == pytest.approx(0.8 * 0.5 + 0.2 * 1.5)
