"""What every algorithm of distillation keeps to, inside a step: one table, one set of tests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problems import Centres, Copy
from training_steps import distilling

import pplemd as em
from pplemd.algorithms import DMD, EMD, SIM, Consistency, DiffInstruct, SiD
from pplemd.comparison.contenders import Numbers
from pplemd.conditions import Classes, Labels
from pplemd.diffusion import EDMWeight
from pplemd.dsl import trace
from pplemd.errors import RecipeError
from pplemd.tasks.override import override
from pplemd.teachers import one_step

ALGORITHMS = [EMD(), DiffInstruct(), DMD(), SiD(), SIM(), Consistency(levels=6, count=50)]
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda m: type(m).__name__)
TEACHER = Centres(jnp.array([[1.0, 0.0], [9.0, 9.0], [-1.0, 0.5]]), jnp.asarray(-0.7))
OTHER = Centres(TEACHER.centres + 0.3, TEACHER.log_std + 0.2)
SIGMAS = em.LogUniform(0.3, 2.0)


def prepared(algorithm, teacher=TEACHER):
    """The step, and the state before it, of a copy of a denoiser with labels."""
    program = Copy(one_step(OTHER, 2.0))
    labels, problem = Labels((1.0, 0.0, 2.0)), trace(program, shape=(2,), condition=Classes(3))
    numbers = {"sigmas": SIGMAS, "score": em.ScoreUpdates(sigmas=SIGMAS, weighting=EDMWeight(0.8))}
    if isinstance(algorithm, EMD):
        numbers["reparameterization"] = None
    plain = distilling(problem, teacher, labels, algorithm, steps=10, batch=16, **numbers)
    pool = algorithm.prepare(plain.context, jax.random.key(5), lambda share: None)
    step = distilling(problem, teacher, labels, algorithm, pool, steps=10, batch=16, **numbers)
    return step, step.init({"generator": program, "score": OTHER})


@eqx.filter_jit
def run(step, state, key):
    return step(state, key)


@pytest.mark.slow
@pytest.mark.slow_for("SIM")
@every_algorithm
def test_a_step(algorithm):
    step, before = prepared(algorithm)
    after, metrics = run(step, before, jax.random.key(3))
    again, _ = run(step, before, jax.random.key(3))
    assert eqx.tree_equal(after, again)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    assert int(after.step) == 1
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert float(metrics["pull"]) > 1e-4
    assert not eqx.tree_equal(after.networks["generator"], before.networks["generator"])
    assert ("score" in after.learners) == algorithm.learns_score
    if algorithm.learns_score:
        assert not eqx.tree_equal(after.networks["score"], before.networks["score"])
    assert ("score_loss" in metrics) == algorithm.learns_score
    assert ("acceptance" in metrics) == isinstance(algorithm, EMD)
    assert int(after.skipped_in_a_row) == 0


@pytest.mark.slow_for("SIM")
@every_algorithm
def test_what_a_step_moves_towards(algorithm):
    """The student's centres are 0.3 off in both coordinates: five steps of its own gradient bring them nearer."""
    step, state = prepared(algorithm)
    far = np.abs(np.asarray(state.networks["generator"].net.denoiser.centres - TEACHER.centres)[[0, 2]]).mean()
    for number in range(8):
        state, _ = run(step, state, jax.random.key(number))
    near = np.abs(np.asarray(state.networks["generator"].net.denoiser.centres - TEACHER.centres)[[0, 2]]).mean()
    assert near < far - 1e-3


@every_algorithm
def test_a_teacher_that_returns_nan_changes_no_generator(algorithm):
    step, before = prepared(algorithm)
    broken = eqx.tree_at(lambda s: s.context.teacher, step, jax.tree.map(lambda leaf: leaf * jnp.nan, TEACHER))
    after, _ = run(broken, before, jax.random.key(4))
    assert eqx.tree_equal(after.networks["generator"], before.networks["generator"])
    assert int(after.learners["generator"].skipped) == 1


@pytest.mark.slow_for("EMD", "DiffInstruct")
@every_algorithm
def test_health_tells_what_there_is_to_tell(algorithm):
    step, state = prepared(algorithm)
    figures = eqx.filter_jit(step.algorithm.health)(step.context, state, jax.random.key(0), 8)
    assert ("noise_chi2" in figures) == isinstance(algorithm, EMD)
    assert ("score_lag" in figures) == algorithm.learns_score


@every_algorithm
def test_it_is_named_on_the_command_line(algorithm):
    name = type(algorithm).__name__
    assert type(override(Numbers(), [f"algorithm={name.lower()}"]).algorithm) is type(algorithm)


def test_names_and_fields():
    found = override(Numbers(), ["algorithm=diff-instruct", "algorithm=sid", "algorithm.alpha=1"]).algorithm
    assert found == SiD(alpha=1.0)
    with pytest.raises(RecipeError, match=r"Or name another kind: .*DMD.*SiD"):
        override(Numbers(), ["algorithm=gan"])


@pytest.mark.parametrize(
    ("build", "phrase"),
    [
        (lambda: SiD(alpha=float("nan")), "alpha=nan"),
        (lambda: SIM(softness=0.0), "softness=0.0"),
        (lambda: Consistency(levels=1), "levels=1"),
        (lambda: Consistency(decay=1.0), "decay=1.0"),
    ],
)
def test_refused(build, phrase):
    with pytest.raises(RecipeError, match=phrase):
        build()
