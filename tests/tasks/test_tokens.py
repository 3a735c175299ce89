"""A condition that is no class, from a teacher taught with it to guided one-step samples, by the public API alone."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.data import Dataset, Split
from pplemd.errors import DataError, RecipeError

WORDS, LENGTH = 5, 3
FORM = em.conditions.Tokens(LENGTH, WORDS)
PROMPTS = {
    "tokens": np.array([[1, 2, 0], [3, 0, 0]], np.int32),
    "mask": np.array([[True, True, False], [True, False, False]]),
}
CENTRES = np.array([[-0.6, 0.2], [0.5, -0.4]], np.float32)  # of the two prompts


class Prompted(em.networks.AbstractNetwork):
    """An MLP of x, the time and the mean of the tokens' vectors; none where all are masked."""

    words: jax.Array
    layers: em.networks.MLP
    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    condition: em.conditions.Tokens = eqx.field(static=True, default=FORM)

    def __init__(self, key):
        key_words, key_layers = jax.random.split(key)
        self.words = jax.random.normal(key_words, (WORDS, 8))
        self.layers = em.networks.MLP((11,), (2,), width=64, depth=2, key=key_layers)
        self.shape, self.condition = (2,), FORM

    def __call__(self, x, time, condition=None, key=None):
        text = FORM.null if condition is None else condition
        mask = jnp.asarray(text["mask"]).astype(jnp.float32)
        mean = mask @ self.words[text["tokens"]] / jnp.maximum(jnp.sum(mask), 1.0)
        return self.layers(jnp.concatenate([x, jnp.atleast_1d(time), mean]))


class Student(em.Program):
    net: em.OneStep

    def __call__(self, prompt):
        return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(2), 1.0)), prompt))


def points(count, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.integers(2, size=count)
    return (CENTRES[chosen] + 0.05 * rng.normal(size=(count, 2))).astype(np.float32), chosen


def taught(conditions="each"):
    (x, chosen), (held_out, _) = points(2000, 0), points(200, 1)
    prompts = jax.tree.map(lambda leaf: leaf[chosen], PROMPTS) if conditions == "each" else conditions
    training, algorithm = em.Training(steps=1500, batch=128), em.ScoreMatching(condition_dropout=0.2)
    data = Dataset(Split(x, None), Split(held_out, None), classes=None)
    return em.teach(Prompted, data, algorithm, training, em.Guidance(1.5), conditions=prompts)


def model(**changes):
    numbers = {"teacher": taught(), "conditions": em.conditions.Listed(PROMPTS), "training": em.Training(300, 64)}
    return em.Model(
        lambda teacher, key: Student(em.one_step(teacher, 1.0)), algorithm=em.EMD(), **{**numbers, **changes}
    )


@pytest.mark.slow
def test_prompts_lead_to_their_samples(tmp_path):
    outcome = em.distil(model(), tmp_path / "run", reporter=em.Silent())
    for number, centre in enumerate(CENTRES):
        prompt = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf[number])[None], 200, axis=0), PROMPTS)  # noqa: B023
        mean = np.mean(np.asarray(outcome.result.sample(jax.random.key(1), 200, prompt)), axis=0)
        assert np.abs(mean - centre).max() < 0.15, (number, mean)
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["student"]["sliced_w2"] < 0.2


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="conditioned on up to 3 of 5 tokens; the data has classes=None"):
        taught(conditions=None).plan()
    with pytest.raises(DataError, match="not one for each of 2,000 training images: 2"):
        taught(conditions=PROMPTS).plan()
    with pytest.raises(RecipeError, match="conditioned on up to 3 of 5 tokens, and has no prior of it"):
        model(conditions=None).plan()
    with pytest.raises(RecipeError, match="is of 2 classes; the teacher takes up to 3 of 5 tokens"):
        model(conditions=em.Labels([1, 1])).plan()
