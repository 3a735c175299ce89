"""What every method keeps to, inside the EM step: one table, one set of tests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problems import Centres, Copy

import pplemd as em
from pplemd.diffusion import EDMWeight
from pplemd.dsl import trace
from pplemd.errors import RecipeError
from pplemd.learning import EMStep, HealthCheck, Labels
from pplemd.learning.methods import DMD, EMD, SIM, Consistency, DiffInstruct, SiD
from pplemd.tasks.override import override
from pplemd.teachers import one_step

METHODS = [EMD(), DiffInstruct(), DMD(), SiD(), SIM(), Consistency(levels=6, count=50)]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
TEACHER = Centres(jnp.array([[1.0, 0.0], [9.0, 9.0], [-1.0, 0.5]]), jnp.asarray(-0.7))
OTHER = Centres(TEACHER.centres + 0.3, TEACHER.log_std + 0.2)
SIGMAS = em.LogUniform(0.3, 2.0)


def prepared(method, teacher=TEACHER):
    """The step, and the state before it, of a copy of a denoiser with labels."""
    program = Copy(one_step(OTHER, 2.0))
    score = em.ScoreRecipe(sigmas=SIGMAS, weighting=EDMWeight(0.8))
    recipe = em.Recipe(steps=10, batch=16, method=method, sigmas=SIGMAS, score=score, choosing=None)
    labels = Labels((1.0, 0.0, 2.0))
    pool = method.prepare(jax.random.key(5), teacher, labels, lambda share: None)
    step = EMStep(trace(program, shape=(2,), classes=3), teacher, recipe, labels, None, pool)
    return step, step.init(program, OTHER)


@eqx.filter_jit
def run(step, state, key):
    return step(state, key)


@every_method
def test_a_step(method):
    step, before = prepared(method)
    after, metrics = run(step, before, jax.random.key(3))
    again, _ = run(step, before, jax.random.key(3))
    assert eqx.tree_equal(after, again)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert int(after.step) == 1
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert float(metrics["pull"]) > 1e-4
    assert not eqx.tree_equal(after.generator.module, before.generator.module)
    assert eqx.tree_equal(after.score.module, before.score.module) != method.learns_score
    assert ("score_loss" in metrics) == method.learns_score
    assert ("acceptance" in metrics) == method.chains
    assert int(after.skipped_in_a_row) == 0


@every_method
def test_what_a_step_moves_towards(method):
    """The student's centres are 0.3 off in both coordinates: five steps of its own gradient bring them nearer."""
    step, state = prepared(method)
    far = np.abs(np.asarray(state.generator.module.net.denoiser.centres - TEACHER.centres)[[0, 2]]).mean()
    for number in range(8):
        state, _ = run(step, state, jax.random.key(number))
    near = np.abs(np.asarray(state.generator.module.net.denoiser.centres - TEACHER.centres)[[0, 2]]).mean()
    assert near < far - 1e-3


@every_method
def test_a_teacher_that_returns_nan_changes_no_generator(method):
    step, before = prepared(method)
    broken = eqx.tree_at(lambda s: s.teacher, step, jax.tree.map(lambda leaf: leaf * jnp.nan, TEACHER))
    after, _ = run(broken, before, jax.random.key(4))
    assert eqx.tree_equal(after.generator.module, before.generator.module)
    assert int(after.generator.skipped) == 1


@every_method
def test_health_tells_what_there_is_to_tell(method):
    step, state = prepared(method)
    figures = eqx.filter_jit(HealthCheck(step, 8))(state, jax.random.key(0))
    assert ("noise_chi2" in figures) == method.chains
    assert ("score_lag" in figures) == method.learns_score


@every_method
def test_it_is_named_on_the_command_line(method):
    name = type(method).__name__
    assert type(override(em.Recipe(), [f"method={name.lower()}"]).method) is type(method)


def test_names_and_fields():
    found = override(em.Recipe(), ["method=diff-instruct", "method=sid", "method.alpha=1"]).method
    assert found == SiD(1.0)
    with pytest.raises(RecipeError, match=r"Or name another kind: .*DMD.*SiD"):
        override(em.Recipe(), ["method=gan"])


@pytest.mark.parametrize(
    ("build", "phrase"),
    [
        (lambda: SiD(float("nan")), "alpha=nan"),
        (lambda: SIM(0.0), "softness=0.0"),
        (lambda: Consistency(levels=1), "levels=1"),
        (lambda: Consistency(decay=1.0), "decay=1.0"),
    ],
)
def test_refused(build, phrase):
    with pytest.raises(RecipeError, match=phrase):
        build()
