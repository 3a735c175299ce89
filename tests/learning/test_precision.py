"""How a step is computed does not change what it learns: microbatches, recomputed features, bfloat16."""

import dataclasses
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

from pplemd.algorithms import EMD, Anchor, DistillationContext, ScoreUpdates
from pplemd.conditions import Classes, Labels
from pplemd.diffusion import LogNormal, LogUniform
from pplemd.dsl import Program, generate, latent, trace
from pplemd.errors import RecipeError
from pplemd.inference import Cancellation, Chain, Coordinates, Langevin
from pplemd.learning import Optax, Precision, Step, StepInput, Training
from pplemd.networks import DhariwalUNet, NetworkPrecision, ResidualMLP, UNetOptions, with_precision
from pplemd.tasks.override import override
from pplemd.teachers import Denoiser, HeunSampler, OneStep, one_step

SHAPE, BATCH = (8, 8, 3), 4
WHOLE, BF16 = Precision(), Precision(bf16=True)


class Copy(Program):
    """The teacher's denoiser, asked once."""

    net: OneStep

    def __call__(self, label):
        return generate("x", self.net(latent("z", dist.Normal(jnp.zeros(self.net.shape), 1.0)), label))


def moved(tree, seed=5, scale=0.1):
    """Networks with every parameter moved, so that no branch is 0."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (
            leaf + jnp.asarray(scale * draw.standard_normal(leaf.shape), leaf.dtype)
            if eqx.is_inexact_array(leaf)
            else leaf
        ),
        tree,
    )


@cache
def adm():
    """A teacher that is a small ADM, and another denoiser near it."""
    options = UNetOptions(SHAPE, 8, (1,), embedding_multiplier=1, blocks=1, attention=(), classes=3)
    teacher = Denoiser(moved(DhariwalUNet(options, key=jax.random.key(0))), 0.5)
    return teacher, moved(teacher, 6, 0.02)


@cache
def mlp():
    """The same of a residual MLP, which has no blocks to recompute."""
    teacher = Denoiser(moved(ResidualMLP((6,), 16, 2, classes=3, key=jax.random.key(0))), 0.8)
    return teacher, moved(teacher, 6, 0.02)


def begun(teacher, score, batch=BATCH, precision=WHOLE, microbatches=1, count=1, **changes):
    """A step with some changes, and its state before."""
    training = Training(steps=10, batch=batch, precision=precision, microbatches=microbatches)
    own = {
        "sigmas": LogUniform(0.3, 2.0),
        "chain": Chain(Langevin(Coordinates(0.16, 0.01)), 2),
        "generator": Optax(optax.sgd(0.01)),  # linear in the gradient, as Adam is not
        "reparameterization": None,
        **changes,
    }
    algorithm = EMD(score=ScoreUpdates(Optax(optax.sgd(0.01)), LogNormal(), count=count), **own)
    teacher, score = precision.of((teacher, score))
    program = Copy(one_step(teacher, 2.0))
    problem = trace(program, shape=teacher.shape, condition=Classes(3))
    context = DistillationContext(training, problem, teacher, Labels((1.0, 1.0, 1.0)))
    prepared = algorithm.prepare(context, jax.random.key(4), lambda share: None)
    step = Step(dataclasses.replace(context, teacher=precision.kept(teacher), prepared=prepared), algorithm)
    return step, step.init({"generator": program, "score": score})


@eqx.filter_jit
def run(step, state, key):
    return step(state, key)


def after(*networks, **changes):
    """State and metrics after one step."""
    return run(*begun(*networks, **changes), jax.random.key(3))


def parameters(state):
    return jax.tree.leaves(eqx.filter((state.learners, state.averages), eqx.is_inexact_array))


def close(one, other, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@cache
def whole(anchored):
    anchor = Anchor(count=16, sampler=HeunSampler(steps=3)) if anchored else None
    return after(*mlp(), anchor=anchor, count=2, chain=Chain(Langevin(Coordinates(0.16, 0.01)), 2, Cancellation.PAIRED))


@pytest.mark.slow
@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("parts", [2, 4])
def test_microbatches_do_what_the_batch_does(parts, anchored):
    anchor = Anchor(count=16, sampler=HeunSampler(steps=3)) if anchored else None
    chain = Chain(Langevin(Coordinates(0.16, 0.01)), 2, Cancellation.PAIRED)
    state, metrics = after(*mlp(), microbatches=parts, anchor=anchor, count=2, chain=chain)
    expected, figures = whole(anchored)
    assert set(metrics) == set(figures)
    close(metrics, figures, rtol=2e-5)
    close(parameters(state), parameters(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_step_with_recomputed_features_is_the_same():
    (state, metrics), (expected, figures) = (
        after(*mlp(), precision=Precision(rematerialise=again)) for again in (True, False)
    )
    close(metrics, figures, rtol=1e-4)
    close(parameters(state), parameters(expected), rtol=1e-5, atol=1e-6)


def slope(denoiser, x, sigma, labels):
    """Gradient of a loss of many denoised images."""
    params, static = eqx.partition(denoiser, eqx.is_inexact_array)

    def loss(params):
        return jnp.mean((jax.vmap(eqx.combine(params, static).denoise)(x, sigma, labels) - 0.3) ** 2)

    return jax.grad(loss)(params)


@pytest.mark.slow
@pytest.mark.skipif(
    jax.__version_info__ < (0, 11),
    reason="before jax 0.11, XLA for CPUs orders recomputed features so that nothing is saved",
)
def test_blocks_that_are_computed_again_take_less_memory_and_give_the_same_gradient():
    def compiled_for(denoiser):
        return jax.jit(lambda *given: slope(denoiser, *given)).lower(*inputs()).compile()

    compiled = [compiled_for(Precision(rematerialise=again).of(adm()[0])) for again in (False, True)]
    close(*(run_it(*inputs()) for run_it in compiled), rtol=1e-3, atol=1e-6)
    kept, again = (one.memory_analysis().temp_size_in_bytes for one in compiled)
    assert again < 0.7 * kept


def temporaries(step, state):
    """What the compiler says that a step needs besides its arguments."""
    arrays, static = eqx.partition((step, state), eqx.is_array)

    def call(held, key):
        whole, before = eqx.combine(held, static)
        moved_on, metrics = whole(before, key)
        return eqx.filter(moved_on, eqx.is_array), metrics

    return jax.jit(call).lower(arrays, jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_does_not_grow_with_the_chain():
    few, many = (
        temporaries(*begun(*mlp(), batch=64, chain=Chain(Langevin(Coordinates(0.16, 0.01)), length)))
        for length in (2, 64)
    )
    assert many - few < 62 * 64 * 16  # a key and two figures for each step of each chain; a position would be 24 bytes


@pytest.mark.slow
def test_microbatches_take_less_memory():
    whole_batch, cut = (temporaries(*begun(*mlp(), batch=512, microbatches=n)) for n in (1, 16))
    assert cut < 0.5 * whole_batch


@pytest.mark.slow
def test_half_precision_keeps_parameters_in_32_bits_and_the_teacher_in_16():
    step, state = begun(*mlp(), precision=BF16)
    assert {leaf.dtype.name for leaf in parameters(state)} == {"float32"}
    moved_on, metrics = run(step, state, jax.random.key(3))
    assert {leaf.dtype.name for leaf in parameters(moved_on)} == {"float32"}
    assert all(np.isfinite(value) for value in metrics.values())
    _, wide = run(*begun(*mlp()), jax.random.key(3))
    for name, tolerance in (("score_loss", 0.02), ("pull", 0.2), ("gradient_norm", 0.2)):
        np.testing.assert_allclose(metrics[name], wide[name], rtol=tolerance)
        assert metrics[name] != wide[name]
    weights = [
        leaf for leaf in jax.tree.leaves(eqx.filter(step.context.teacher.network.blocks, eqx.is_array)) if leaf.ndim > 1
    ]
    assert {leaf.dtype.name for leaf in weights} == {"bfloat16"}


@eqx.filter_jit
def scores(denoiser, x, sigma, labels):
    return jax.vmap(denoiser.score)(x, sigma, labels)


def inputs(count=16):
    keys = jax.random.split(jax.random.key(8), 3)
    sigma = jnp.exp(jax.random.uniform(keys[0], (count,), minval=-2.0, maxval=2.0))
    x = jax.vmap(jnp.multiply)(jnp.sqrt(sigma**2 + 0.25), jax.random.normal(keys[1], (count, *SHAPE)))
    return x, sigma, jax.random.randint(keys[2], (count,), 0, 3)


@pytest.mark.slow
def test_a_teacher_kept_in_half_precision_says_the_same_bit_for_bit():
    teacher = BF16.of(adm()[0])
    np.testing.assert_array_equal(scores(BF16.kept(teacher), *inputs()), scores(teacher, *inputs()))


@pytest.mark.slow
def test_a_student_that_is_its_teacher_is_pulled_nowhere_in_half_precision():
    step, state = begun(mlp()[0], mlp()[1], precision=BF16)

    @eqx.filter_jit
    def e_step(step, state, score):
        now = StepInput.at(state, jnp.zeros(()))
        now = dataclasses.replace(now, networks={**now.networks, "score": score})
        return step.algorithm.draw(step.context, now, jax.random.key(1)).draw.residual.noise

    assert not np.any(e_step(step, state, BF16.of(mlp()[0])))
    assert np.all(e_step(step, state, state.networks["score"]) != 0)


def relative(found, expected):
    """Root mean square of a difference over that of what is expected."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    off = sum(float(jnp.sum((a - b) ** 2)) for a, b in pairs)
    return (off / sum(float(jnp.sum(b**2)) for _, b in pairs)) ** 0.5


@pytest.mark.slow
def test_half_precision_costs_a_percent_of_scores_and_some_of_gradients():
    teacher = adm()[0]
    x, sigma, labels = inputs()
    narrow, wide = (scores(known, x, sigma, labels) for known in (BF16.of(teacher), teacher))
    errors = [relative(sigma_ * a, sigma_ * b) for sigma_, a, b in zip(sigma, narrow, wide, strict=True)]
    assert 1e-5 < max(errors) < 0.02, errors

    run_it = eqx.filter_jit(slope)
    off = relative(run_it(BF16.of(teacher), x, sigma, labels), run_it(teacher, x, sigma, labels))
    assert 1e-5 < off < 0.15  # of so few channels


@pytest.mark.slow
def test_health_looks_at_scores_in_32_bits_and_in_microbatches():
    step, state = begun(*mlp(), precision=BF16, microbatches=2)
    other, _ = begun(*mlp(), precision=BF16)
    figures, expected = (
        eqx.filter_jit(one.algorithm.health)(one.context, state, jax.random.key(2), 6) for one in (step, other)
    )
    for name in ("curl_teacher", "loop_student", "score_gap", "score_lag"):
        np.testing.assert_allclose(figures[name], expected[name], rtol=1e-3)


def test_microbatches_of_other_counts_are_no_larger():
    assert Training(batch=128, microbatches=16).parts(64) == 8
    assert Training(batch=32).parts(64) == 2
    assert Training(batch=9, microbatches=3).parts(64) == 32
    assert Training(batch=64).parts(7) == 1


def test_mistakes_are_named():
    with pytest.raises(RecipeError, match=r"microbatches=3.*--set training.batch=N"):
        begun(*mlp(), batch=64, microbatches=3)
    with pytest.raises(RecipeError, match="microbatches >= 1; found microbatches=0"):
        Training(microbatches=0)
    changed = override(Training(), ["precision.bf16=true", "microbatches=4", "precision.rematerialise=yes"])
    assert changed == Training(precision=Precision(True, True), microbatches=4)


def test_nothing_is_changed_where_nothing_is_asked():
    teacher = adm()[0]
    assert Precision().of(teacher) is teacher
    assert with_precision(BF16.of(teacher), NetworkPrecision()).precision == NetworkPrecision()
