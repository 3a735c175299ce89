"""Optimisers, label priors and recipes: what they do, and which values they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pplemd.errors import RecipeError
from pplemd.inference import Chain, Langevin
from pplemd.learning import Adam, Labels, Optax, Recipe, TeachRecipe, uniform_labels


def rates(optimiser, steps):
    """The step of each update: Adam's is the learning rate while its gradient stays the same."""
    transformation = optimiser.transformation(steps)
    parameters = jnp.zeros(1)
    memory, found = transformation.init(parameters), []
    update = jax.jit(transformation.update)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            step, memory = update(jnp.ones(1), memory, parameters)
            found.append(-float(step[0]))
    return np.array(found)


def cosine(peak, steps, final):
    return peak * (final + (1 - final) * 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps)))


@pytest.mark.parametrize(("warmup", "final"), [(0, 1.0), (0, 0.1), (5, 1.0), (5, 0.0)])
def test_adam_warms_up_then_decays(warmup, final):
    expected = np.concatenate([0.02 * np.arange(warmup) / max(warmup, 1), cosine(0.02, 20 - warmup, final)])
    np.testing.assert_allclose(rates(Adam(0.02, warmup=warmup, final=final), 20), expected, rtol=1e-4, atol=1e-7)


def test_a_warm_up_longer_than_the_run_only_warms_up():
    np.testing.assert_allclose(rates(Adam(0.02, warmup=30), 10), 0.02 * np.arange(10) / 30, rtol=1e-4, atol=1e-8)


def test_optax_is_taken_as_it_is():
    given = optax.sgd(0.3)
    assert Optax(given).transformation(7) is given


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"b1": 1.0},
        {"b1": -0.1},
        {"b2": 1.0},
        {"clip": -1.0},
        {"warmup": -1},
        {"final": 1.1},
        {"final": -0.1},
    ],
    ids=str,
)
def test_adam_refuses(options):
    with pytest.raises(RecipeError, match=next(iter(options))):
        Adam(**options)


def test_labels_have_their_frequencies():
    count, weights = 20_000, np.array([1.0, 0.0, 5.0, 2.0])
    drawn = np.asarray(Labels(weights).draw(jax.random.key(0), count))
    assert drawn.dtype == np.int32
    share = weights / weights.sum()
    found = np.bincount(drawn, minlength=4) / count
    assert found[1] == 0
    assert np.all(np.abs(found - share) <= 4 * np.sqrt(share * (1 - share) / count))
    assert Labels(weights).classes == 4


def test_uniform_labels_are_uniform():
    assert uniform_labels(3) == Labels([2.0, 2.0, 2.0]) or uniform_labels(3).weights == (1.0, 1.0, 1.0)
    found = np.bincount(np.asarray(uniform_labels(3).draw(jax.random.key(1), 9000))) / 9000
    assert np.all(np.abs(found - 1 / 3) < 4 * np.sqrt(2 / 9 / 9000))


@pytest.mark.parametrize("weights", [(), (1.0, -0.5), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)], ids=str)
def test_labels_refuse(weights):
    with pytest.raises(RecipeError, match="weights"):
        Labels(weights)


@pytest.mark.parametrize("name", ["steps", "batch", "log_every", "sample_every", "checkpoint_every", "patience"])
def test_recipe_counts_are_positive(name):
    assert getattr(Recipe(**{name: 1}), name) == 1
    with pytest.raises(RecipeError, match=f"{name}=0"):
        Recipe(**{name: 0})


@pytest.mark.parametrize("ema", [-0.1, 1.0, float("nan")])
def test_recipe_refuses_an_average_that_is_none(ema):
    with pytest.raises(RecipeError, match="ema"):
        Recipe(ema=ema)
    with pytest.raises(RecipeError, match="ema"):
        TeachRecipe(ema=ema)


def test_recipe_refuses_no_score_updates():
    with pytest.raises(RecipeError, match="score_updates=0"):
        Recipe(score_updates=0)


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch": 0}], ids=str)
def test_teach_recipe_refuses(options):
    with pytest.raises(RecipeError, match="found"):
        TeachRecipe(**options)


def test_recipes_compare_by_value():
    assert Recipe() == Recipe()
    assert Recipe(chain=Chain(Langevin(0.1), 2)) != Recipe()
