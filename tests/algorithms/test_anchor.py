"""The anchor: its pairs are the teacher's own, its gradient is the regression's, and it pulls towards them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from training_steps import distilling

from pplemd.algorithms import EMD, Anchor, ScoreUpdates
from pplemd.algorithms.anchor import anchor_loss
from pplemd.conditions import Labels
from pplemd.diffusion import LogUniform, UniformWeight
from pplemd.dsl import Program, generate, latent, trace
from pplemd.errors import RecipeError
from pplemd.inference import Chain, Coordinates, Langevin
from pplemd.learning import Adam, Training
from pplemd.tasks.distillation import Model
from pplemd.teachers import DenoiserFunction, GaussianMixture, HeunSampler

KEY = jax.random.key(0)
STD = 0.5
TEACHER = DenoiserFunction(lambda x, sigma: STD**2 / (STD**2 + sigma**2) * x, (2,))
FINE = HeunSampler(steps=64)
CHAIN = Chain(Langevin(Coordinates(0.16, 0.01)), 1)


class Line(Program):
    """x = a z, z of x's size and another shape."""

    a: jax.Array

    def __call__(self):
        return generate("x", self.a * latent("z", dist.Normal(jnp.zeros((2, 1)), 1.0))[:, 0])


class Two(Program):
    a: jax.Array

    def __call__(self):
        return generate("x", self.a * latent("z", dist.Normal(jnp.zeros(2), 1.0)) + latent("y", dist.Normal(0.0, 1.0)))


class Narrow(Program):
    a: jax.Array

    def __call__(self):
        return generate("x", self.a * latent("z", dist.Normal(jnp.zeros(1), 1.0)) * jnp.ones(2))


class ByClass(Program):
    a: jax.Array

    def __call__(self, label):
        return generate("x", self.a[label] * latent("z", dist.Normal(jnp.zeros(2), 1.0)))


LINE = Line(jnp.ones(()))


def pairs(anchor, program=LINE, teacher=TEACHER, labels=None):
    problem = trace(program, shape=(2,), condition=teacher.condition)
    return anchor.pairs(KEY, teacher, problem, labels, lambda share: None)


def test_pairs_are_noise_and_what_the_ode_makes_of_it():
    """Of N(0, s^2) the ODE is x -> x sqrt((s^2 + low^2) / (s^2 + high^2)), and Heun's error goes as steps^-2."""
    found = pairs(Anchor(count=1500, sampler=FINE))
    noise = found.latents["z"][..., 0]
    assert found.latents["z"].shape == (1500, 2, 1)
    assert abs(float(jnp.mean(noise**2)) - 1) < 4 * np.sqrt(2 / noise.size)
    np.testing.assert_allclose(found.x, STD * noise, rtol=5e-3, atol=1e-4)
    assert len(np.unique(np.asarray(noise))) == noise.size


def test_progress_ends_at_one():
    told = []
    Anchor(count=1500).pairs(KEY, TEACHER, trace(Line(jnp.ones(())), shape=(2,)), None, told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) == 2


def test_labels_reach_the_teacher():
    teacher = DenoiserFunction(lambda x, sigma, label: x * 0 + label.astype(x.dtype), (2,), condition=3)
    found = pairs(Anchor(count=60), ByClass(jnp.ones(3)), teacher, Labels((1.0, 0.0, 2.0)))
    assert set(np.unique(found.conditions)) == {0, 2}
    np.testing.assert_allclose(found.x, np.asarray(found.conditions)[:, None] * np.ones(2), atol=1e-3)


def test_loss_is_half_a_squared_distance():
    found = pairs(Anchor(count=500, sampler=FINE))
    problem = trace(Line(jnp.ones(())), shape=(2,))
    for a in (0.2, 0.9):
        expected = 0.5 * (a - STD) ** 2 * float(jnp.mean(jnp.sum(found.latents["z"] ** 2, axis=(1, 2))))
        np.testing.assert_allclose(anchor_loss(Line(jnp.asarray(a)), problem, found), expected, rtol=3e-2)


def step(anchor):
    """Teacher and score network agree, so that the E-step pulls nowhere: what moves the program is the anchor."""
    score = ScoreUpdates(Adam(1e-9), LogUniform(0.3, 2.0), UniformWeight())
    problem = trace(Line(jnp.ones(())), shape=(2,))
    tied = {} if anchor is None else {"pairs": anchor.pairs(KEY, TEACHER, problem, None, lambda share: None)}
    numbers = {"chain": CHAIN, "score": score, "generator": Adam(0.02, clip=0.0), "anchor": anchor}
    return distilling(problem, TEACHER, prepared=tied, steps=400, batch=64, **numbers)


@pytest.mark.slow
def test_the_step_takes_its_gradient():
    anchored, free = step(Anchor(0.3, 256, FINE)), step(None)
    state = free.init({"generator": Line(jnp.asarray(1.0)), "score": TEACHER})
    _, metrics = eqx.filter_jit(anchored)(state, KEY)
    _, without = eqx.filter_jit(free)(state, KEY)
    assert "anchor" not in without
    assert float(without["gradient_norm"]) < 1e-6
    np.testing.assert_allclose(metrics["anchor"], 0.5 * 2 * (1 - STD) ** 2, rtol=0.5)
    # d/da of 1/2 (a - s)^2 |z|^2 is twice the loss over (a - s)
    np.testing.assert_allclose(metrics["gradient_norm"], 0.3 * 2 * metrics["anchor"] / (1 - STD), rtol=1e-2)


@pytest.mark.slow
def test_it_draws_the_program_to_the_teachers_map():
    anchored = step(Anchor(0.5, 256, FINE))
    state, run = anchored.init({"generator": Line(jnp.asarray(1.0)), "score": TEACHER}), eqx.filter_jit(anchored)
    for number in range(200):
        state, _ = run(state, jax.random.fold_in(KEY, number))
    np.testing.assert_allclose(state.networks["generator"].a, STD, atol=0.02)


def test_a_distillation_draws_the_same_pairs_again():
    mixture = GaussianMixture([[0.0, 0.0]], STD)
    algorithm, score = EMD(anchor=Anchor(count=100)), {"score": lambda key: TEACHER}
    model = Model(lambda teacher, key: Line(jnp.ones(())), mixture, algorithm, Training(steps=10), networks=score)

    def pairs_of(model):
        return model.plan().assemble(mixture).step.context.prepared["pairs"]

    first, second = pairs_of(model), pairs_of(model)
    assert eqx.tree_equal(first, second)
    assert not eqx.tree_equal(first, pairs_of(model.with_training(Training(steps=10, seed=1))))


@pytest.mark.parametrize("program", [Two(jnp.ones(())), Narrow(jnp.ones(()))], ids=["two latents", "fewer numbers"])
def test_other_latents_are_refused(program):
    with pytest.raises(RecipeError, match="must be one, normal, of x's size \\(2 numbers\\); found"):
        pairs(Anchor(count=4), program)


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"weight": float("nan")}, {"count": 0}])
def test_impossible_anchors_are_refused(wrong):
    with pytest.raises(RecipeError, match="positive weight and at least one pair"):
        Anchor(**wrong)
