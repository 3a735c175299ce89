"""Optimisers and numbers: what they do, and which values they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pplemd.algorithms import DMD, EMD, MonteCarloEM, ScoreMatching, ScoreUpdates
from pplemd.errors import RecipeError
from pplemd.inference import Chain, Langevin
from pplemd.learning import Adam, Optax, Training


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


COUNTS = ["steps", "batch", "microbatches", "log_every", "sample_every", "checkpoint_every", "patience"]


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_positive(name):
    assert getattr(Training(**{name: 1}), name) == 1
    with pytest.raises(RecipeError, match=f"{name}=0"):
        Training(**{name: 0})


@pytest.mark.parametrize("average", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("algorithm", [EMD, DMD, ScoreMatching, MonteCarloEM])
def test_an_average_that_is_none_is_refused(algorithm, average):
    with pytest.raises(RecipeError, match="average"):
        algorithm(average=average)


def test_no_score_updates_are_refused():
    with pytest.raises(RecipeError, match="count=0"):
        ScoreUpdates(count=0)


def test_numbers_compare_by_value():
    assert Training() == Training()
    assert EMD() == EMD()
    assert EMD(chain=Chain(Langevin(0.1), 2)) != EMD()
