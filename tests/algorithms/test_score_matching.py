"""Teaching: declared teachers and their mistakes, and that training denoises held-out data better."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.algorithms import ScoreMatching
from pplemd.conditions import AbstractCondition
from pplemd.data import Dataset, Split
from pplemd.diffusion import EDMWeight, LogUniform
from pplemd.errors import DataError, RecipeError, TeacherError
from pplemd.learning import Adam, Precision, StepInput, Training, Watcher, denoising_loss
from pplemd.networks import AbstractNetwork, ResidualMLP
from pplemd.tasks.teacher_training import teach
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
ALGORITHM = ScoreMatching(Adam(5e-3), SIGMAS, average=0.95)
TRAINING = Training(steps=STEPS, batch=64, sample_every=1000, checkpoint_every=1000)


def declared(classes=2, algorithm=ALGORITHM, training=TRAINING):
    network = lambda key: ResidualMLP((2,), width=32, blocks=1, classes=classes, key=key)  # noqa: E731
    return teach(network, DATA, algorithm, training)


def assembled(taught):
    return taught.plan().assemble()


def trained(taught):
    return dataclasses.replace(assembled(taught), key=jax.random.key(3)).train(Watcher())


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


def first_update(**changes):
    """The loss of one update, and what the optimiser remembers of it."""
    work = assembled(declared(training=dataclasses.replace(TRAINING, **changes)))
    state, metrics = eqx.filter_jit(work.step)(work.initial(), jax.random.key(5))
    return float(metrics["loss"]), jax.tree.leaves(eqx.filter(state.learners["denoiser"].memory, eqx.is_inexact_array))


OTHERWISE = [{"precision": Precision(rematerialise=True)}, {"microbatches": 4}, {"precision": Precision(bf16=True)}]


@pytest.mark.slow
@pytest.mark.parametrize("changes", OTHERWISE, ids=["rematerialised", "microbatches", "bf16"])
def test_an_update_computed_in_another_way_is_the_same_up_to_rounding(changes):
    """What the optimiser has after one update is the gradient and its square, times constants."""
    bf16 = changes == OTHERWISE[2]
    (loss, memory), (other_loss, other_memory) = first_update(), first_update(**changes)
    error = 2e-2 if bf16 else 1e-5
    assert other_loss == pytest.approx(loss, rel=error)
    assert all(leaf.dtype == jnp.float32 for leaf in other_memory)
    square = lambda some: sum(float(jnp.sum(leaf**2)) for leaf in some)  # noqa: E731
    apart = [mine - other for mine, other in zip(memory, other_memory, strict=True)]
    assert square(apart) <= error**2 * square(memory)
    assert not bf16 or square(apart) > 1e-12 * square(memory)  # it did compute otherwise


@pytest.mark.slow
def test_training_lowers_the_held_out_loss_and_uses_the_labels(told):
    taught, state = declared(), told
    average = state.averages["denoiser"]
    before, after = held_out_loss(taught.build(), LABELS), held_out_loss(average, LABELS)
    assert float(before) > 0.9  # of order 1 by preconditioning
    assert float(after) < 0.3 * float(before)
    assert float(held_out_loss(average, 1 - LABELS)) > 2 * float(after)  # the wrong class misleads it
    assert int(state.step) == STEPS
    assert int(state.skipped_in_a_row) == 0


FORGETFUL = dataclasses.replace(ALGORITHM, condition_dropout=0.25)


@pytest.mark.slow
def test_dropped_labels_teach_the_law_without_classes(told):
    forgetful, none = trained(declared(algorithm=FORGETFUL)).averages["denoiser"], jnp.full_like(LABELS, -1)
    exact = DenoiserFunction(mixture, (2,))
    best = float(held_out_loss(exact, None))
    assert float(held_out_loss(forgetful, none)) < 1.5 * best
    assert float(held_out_loss(told.averages["denoiser"], none)) > 2 * best
    assert float(held_out_loss(forgetful, LABELS)) < 0.7 * best  # what the class tells


@pytest.mark.slow
def test_labels_are_dropped_at_the_rate_each_by_itself():
    def drawn(algorithm):
        work = assembled(declared(algorithm=algorithm, training=dataclasses.replace(TRAINING, batch=4000)))
        now = StepInput.at(work.initial(), jnp.zeros(()), jax.random.key(8))
        return work.step.algorithm.draw(work.step.context, now)

    rows, whole = drawn(FORGETFUL), drawn(ALGORITHM)
    found, labels = np.asarray(rows.conditions), np.asarray(whole.conditions)
    np.testing.assert_array_equal(rows.x, whole.x)  # the same images
    gone = found == -1
    assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert (found[~gone] == labels[~gone]).all()
    assert set(labels) == {0, 1}


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(RecipeError, match="condition_dropout is"):
        ScoreMatching(condition_dropout=rate)


@pytest.mark.slow
def test_a_guided_teacher_is_built_from_the_network_alone():
    guidance, plain = Guidance(2.0), declared()
    taught = teach(plain.network, DATA, ALGORITHM, TRAINING, guidance)
    denoiser = taught.build()
    assert isinstance(denoiser, Denoiser)
    assert eqx.tree_equal(taught.guided(denoiser), Guided(denoiser, guidance))
    assert plain.guided(denoiser) is denoiser
    without = teach(declared(classes=None).network, DATA, ALGORITHM, TRAINING, guidance)
    with pytest.raises(TeacherError, match="condition=None"):
        without.guided(without.build())


def test_a_network_without_classes_ignores_the_labels():
    assert assembled(declared(classes=None)).step.context.conditions is None
    labelled = assembled(declared()).step.context
    assert jnp.array_equal(labelled.conditions, DATA.train.label)
    assert labelled.x.shape == (400, 2)


@eqx.filter_jit
def update(step, state, key):
    return step(state, key)


class Listener(AbstractNetwork):
    """Notes whether it is given the randomness of dropout."""

    weight: jax.Array
    heard: list = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    condition: AbstractCondition | None = eqx.field(static=True, default=None)

    def __call__(self, x, time, label=None, key=None):
        self.heard.append(key is not None)
        return self.weight * x


def test_dropout_acts_while_training_and_then_alone():
    heard = []
    taught = teach(lambda key: Listener(jnp.ones(()), heard), DATA, ALGORITHM, TRAINING)
    step, denoiser = assembled(taught).step, taught.build()
    eqx.filter_eval_shape(step, step.init({"denoiser": denoiser}), jax.random.key(5))
    assert heard == [True]
    denoiser.score(jnp.zeros(2), jnp.ones(()))
    assert heard == [True, False]


@pytest.mark.slow
def test_an_update_moves_the_average_and_is_decided_by_its_key():
    work = assembled(declared())
    step, before = work.step, work.initial()
    (after, metrics), (again, _), (other, _) = (update(step, before, jax.random.key(key)) for key in (6, 6, 7))
    expected = jax.tree.map(
        lambda old, new: 0.1 * old + 0.9 * new, before.averages["denoiser"], after.networks["denoiser"]
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.averages["denoiser"], expected
    )
    assert not eqx.tree_equal(after.networks["denoiser"], before.networks["denoiser"])
    assert eqx.tree_equal(after, again)
    assert not eqx.tree_equal(after, other)
    assert set(metrics) == {"loss", "gradient_norm", "skipped"}


def test_sigma_data_is_the_spread_of_the_training_split():
    np.testing.assert_allclose(declared().build().sigma_data, DATA.train.x.std(), rtol=1e-6)


def test_the_seed_decides_the_start():
    other = dataclasses.replace(TRAINING, seed=1)
    assert eqx.tree_equal(declared().build(), declared().build())
    assert not eqx.tree_equal(declared().build(), declared(training=other).build())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda key: ResidualMLP((3,), width=8, blocks=1, key=key), r"shape \(3,\); the data has \(2,\)"),
        (
            lambda key: ResidualMLP((2,), width=8, blocks=1, classes=5, key=key),
            "one of 5 classes; the data has classes=2",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(build, message):
    with pytest.raises(DataError, match=message):
        teach(build, DATA).build()
    with pytest.raises(DataError, match=message):
        teach(build, DATA).plan()


def test_labels_that_the_data_has_not_are_refused():
    plain = Dataset(Split(DATA.train.x), Split(DATA.test.x))
    with pytest.raises(DataError, match="one of 2 classes; the data has classes=None"):
        teach(lambda key: ResidualMLP((2,), width=8, blocks=1, classes=2, key=key), plain).build()
