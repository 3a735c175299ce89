"""Teaching: declared teachers and their mistakes, and that training denoises held-out data better."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.data import Dataset, Split
from pplemd.diffusion import EDMWeight, LogUniform
from pplemd.errors import DataError, RecipeError, TeacherError
from pplemd.learning import (
    Adam,
    Compute,
    Schedule,
    ScoreRecipe,
    TeachRecipe,
    Watcher,
    denoising_loss,
    fit,
    teach,
    teach_step,
)
from pplemd.networks import AbstractNetwork, ResidualMLP
from pplemd.teachers import Denoiser, DenoiserFunction, Guidance, Guided

SIGMAS = LogUniform(0.05, 1.0)


def points(count, seed):
    """Two classes on opposite sides, unequal in number."""
    rng = np.random.default_rng(seed)
    label = (rng.random(count) < 0.25).astype(np.int32)
    centre = np.array([[-0.5, 0.1], [0.6, -0.3]])[label]
    return Split((centre + 0.05 * rng.normal(size=(count, 2))).astype(np.float32), label)


DATA = Dataset(points(400, 0), points(400, 1), classes=2)
STEPS = 150
RECIPE = TeachRecipe(STEPS, 64, ScoreRecipe(Adam(5e-3), SIGMAS), ema=0.95)


def declared(classes=2, recipe=RECIPE):
    return teach(lambda key: ResidualMLP((2,), width=32, blocks=1, classes=classes, key=key), DATA, recipe)


def trained(taught):
    step = teach_step(taught)
    schedule = Schedule(taught.recipe.steps, 50, 1000, 1000, 20)
    return fit(step, step.init(eqx.filter_jit(taught.build)()), jax.random.key(3), schedule, Watcher())


SPREAD = float(DATA.train.x.std())


@eqx.filter_jit
def held_out_loss(denoiser, labels):
    x = jnp.asarray(DATA.test.x)
    key_sigma, key = jax.random.split(jax.random.key(4))
    sigma = SIGMAS.sample(key_sigma, (x.shape[0],), 0.0)
    return denoising_loss(denoiser, key, x, sigma, labels, EDMWeight(SPREAD))


def mixture(x_sigma, sigma):
    """E[x | x_sigma] of both classes together."""
    centres, variance = jnp.array([[-0.5, 0.1], [0.6, -0.3]]), 0.05**2 + sigma**2
    log_weights = jnp.log(jnp.array([0.75, 0.25])) - jnp.sum((x_sigma[None] - centres) ** 2, 1) / (2 * variance)
    means = (0.05**2 * x_sigma[None] + sigma**2 * centres) / variance
    return jax.nn.softmax(log_weights) @ means


LABELS = jnp.asarray(DATA.test.label)


@pytest.fixture(scope="module")
def told():
    """The state of a teacher that was told every class."""
    return trained(declared())


def first_update(compute):
    """The loss of one update, and what the optimiser remembers of it."""
    taught = declared(recipe=dataclasses.replace(RECIPE, compute=compute))
    step = teach_step(taught)
    state, metrics = eqx.filter_jit(step)(step.init(eqx.filter_jit(taught.build)()), jax.random.key(5))
    return float(metrics["loss"]), jax.tree.leaves(eqx.filter(state.denoiser.memory, eqx.is_inexact_array))


@pytest.mark.parametrize("compute", [Compute(rematerialise=True), Compute(accumulate=4), Compute(bf16=True)])
def test_an_update_computed_in_another_way_is_the_same_up_to_rounding(compute):
    """What the optimiser has after one update is the gradient and its square, times constants."""
    (loss, memory), (other_loss, other_memory) = first_update(Compute()), first_update(compute)
    error = 2e-2 if compute.bf16 else 1e-5
    assert other_loss == pytest.approx(loss, rel=error)
    assert all(leaf.dtype == jnp.float32 for leaf in other_memory)
    square = lambda some: sum(float(jnp.sum(leaf**2)) for leaf in some)  # noqa: E731
    apart = [mine - other for mine, other in zip(memory, other_memory, strict=True)]
    assert square(apart) <= error**2 * square(memory)
    assert not compute.bf16 or square(apart) > 1e-12 * square(memory)  # it did compute otherwise


def test_training_lowers_the_held_out_loss_and_uses_the_labels(told):
    taught, state = declared(), told
    before, after = held_out_loss(taught.build(), LABELS), held_out_loss(state.average, LABELS)
    assert float(before) > 0.9  # of order 1 by preconditioning
    assert float(after) < 0.3 * float(before)
    assert float(held_out_loss(state.average, 1 - LABELS)) > 2 * float(after)  # the wrong class misleads it
    assert int(state.step) == STEPS
    assert int(state.skipped_in_a_row) == 0


FORGETFUL = TeachRecipe(STEPS, 64, ScoreRecipe(Adam(5e-3), SIGMAS), ema=0.95, label_dropout=0.25)


def test_dropped_labels_teach_the_law_without_classes(told):
    forgetful, none = trained(declared(recipe=FORGETFUL)).average, jnp.full_like(LABELS, -1)
    exact = DenoiserFunction(mixture, (2,))
    best = float(held_out_loss(exact, None))
    assert float(held_out_loss(forgetful, none)) < 1.5 * best
    assert float(held_out_loss(told.average, none)) > 2 * best
    assert float(held_out_loss(forgetful, LABELS)) < 0.7 * best  # what the class tells


def test_labels_are_dropped_at_the_rate_each_by_itself():
    labels = jnp.arange(4000) % 2
    found = np.asarray(teach_step(declared(recipe=FORGETFUL)).told(jax.random.key(8), labels))
    gone = found == -1
    assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert (found[~gone] == np.asarray(labels)[~gone]).all()
    np.testing.assert_array_equal(teach_step(declared()).told(jax.random.key(8), labels), labels)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(RecipeError, match="label_dropout is"):
        TeachRecipe(label_dropout=rate)


def test_a_guided_teacher_is_built_from_the_network_alone():
    guidance, plain = Guidance(2.0), declared()
    taught = teach(plain.network, DATA, RECIPE, guidance)
    denoiser = taught.build()
    assert isinstance(denoiser, Denoiser)
    assert eqx.tree_equal(taught.guided(denoiser), Guided(denoiser, guidance))
    assert plain.guided(denoiser) is denoiser
    without = teach(declared(classes=None).network, DATA, RECIPE, guidance)
    with pytest.raises(TeacherError, match="classes=None"):
        without.guided(without.build())


def test_a_network_without_classes_ignores_the_labels():
    step = teach_step(declared(classes=None))
    assert step.labels is None
    labelled = teach_step(declared())
    assert jnp.array_equal(labelled.labels, DATA.train.label)
    assert labelled.x.shape == (400, 2)


@eqx.filter_jit
def update(step, state, key):
    return step(state, key)


class Listener(AbstractNetwork):
    """Notes whether it is given the randomness of dropout."""

    weight: jax.Array
    heard: list = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    classes: int | None = eqx.field(static=True, default=None)

    def __call__(self, x, time, label=None, key=None):
        self.heard.append(key is not None)
        return self.weight * x


def test_dropout_acts_while_training_and_then_alone():
    heard = []
    taught = teach(lambda key: Listener(jnp.ones(()), heard), DATA, RECIPE)
    step, denoiser = teach_step(taught), taught.build()
    eqx.filter_eval_shape(step, step.init(denoiser), jax.random.key(5))
    assert heard == [True]
    denoiser.score(jnp.zeros(2), jnp.ones(()))
    assert heard == [True, False]


def test_an_update_moves_the_average_and_is_decided_by_its_key():
    taught = declared()
    step = teach_step(taught)
    before = step.init(taught.build())
    (after, metrics), (again, _), (other, _) = (update(step, before, jax.random.key(key)) for key in (6, 6, 7))
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, before.average, after.denoiser.module)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.average, expected)
    assert not eqx.tree_equal(after.denoiser.module, before.denoiser.module)
    assert eqx.tree_equal(after, again)
    assert not eqx.tree_equal(after, other)
    assert set(metrics) == {"loss"}


def test_sigma_data_is_the_spread_of_the_training_split():
    np.testing.assert_allclose(declared().build().sigma_data, DATA.train.x.std(), rtol=1e-6)


def test_the_seed_decides_the_start():
    other = eqx.tree_at(lambda r: r.seed, RECIPE, 1)
    assert eqx.tree_equal(declared().build(), declared().build())
    assert not eqx.tree_equal(declared().build(), declared(recipe=other).build())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda key: ResidualMLP((3,), width=8, blocks=1, key=key), r"shape \(3,\); the data has \(2,\)"),
        (lambda key: ResidualMLP((2,), width=8, blocks=1, classes=5, key=key), "classes=5; the data has 2"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(build, message):
    with pytest.raises(DataError, match=message):
        teach(build, DATA).build()
    with pytest.raises(DataError, match=message):
        teach_step(teach(build, DATA))


def test_labels_that_the_data_has_not_are_refused():
    plain = Dataset(Split(DATA.train.x), Split(DATA.test.x))
    with pytest.raises(DataError, match="classes=2; the data has None"):
        teach(lambda key: ResidualMLP((2,), width=8, blocks=1, classes=2, key=key), plain).build()
