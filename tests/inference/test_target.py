"""The tilted law's score is the gradient of its density, for a known potential, a known slope, and EM distillation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from pplemd.conditions import Classes
from pplemd.dsl import Program, generate, latent, trace
from pplemd.errors import PplemdError
from pplemd.inference import Coordinates, Potential, ScorePotential, Student, TiltedTarget, emd_target
from pplemd.networks import MLP
from pplemd.teachers import GaussianMixture


def push(u):
    return jnp.stack([u["a"][0] * jnp.exp(u["b"]), jnp.sin(u["a"][1]) + u["b"] ** 2])


def log_base(u):
    return -0.5 * (jnp.sum(u["a"] ** 2) + (u["b"] - 1.0) ** 2)


def value(x):
    return jnp.sum(x**4) + x[0] * x[1]


def slope(x):
    return 4 * x**3 + x[::-1]


U = {"a": jnp.array([0.7, -0.4]), "b": jnp.asarray(0.3)}


def assert_same(found, expected, rtol=1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5), found, expected)


@pytest.mark.parametrize("potential", [Potential(value), ScorePotential(slope)], ids=["value", "slope"])
def test_score_is_the_gradient_of_the_log_density(potential):
    expected = jax.grad(lambda u: log_base(u) - value(push(u)))(U)
    assert_same(TiltedTarget(push, potential, log_base).score(U), expected)


def test_log_density_is_base_less_potential():
    law = TiltedTarget(push, Potential(value), log_base)
    np.testing.assert_allclose(law.log_density(U), log_base(U) - value(push(U)), rtol=1e-6)


def test_a_slope_gives_no_density():
    with pytest.raises(PplemdError, match="Unadjusted"):
        TiltedTarget(push, ScorePotential(slope), log_base).log_density(U)


TEACHER = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], [0.5, 0.3], [3.0, 1.0], labels=True)
SCORE = GaussianMixture([[0.5, -1.0], [0.0, 0.7]], [0.8, 0.6], labels=True)  # the student's noised law, as it believes


class Curved(Program):
    """A hierarchy of latents, a nonlinear generator that sees the label."""

    net: MLP
    spread: jax.Array

    def __call__(self, label):
        scale = latent("scale", dist.LogNormal(0.3, self.spread))
        z = latent("z", dist.Normal(jnp.zeros(3), scale))
        return generate("x", self.net(z, label))


PROGRAM = Curved(MLP((3,), (2,), 16, 2, classes=2, key=jax.random.key(0)), jnp.asarray(0.4))
PROBLEM = trace(PROGRAM, shape=(2,), condition=Classes(2))
LABEL, SIGMA = jnp.asarray(1, jnp.int32), jnp.asarray(0.6)
LATENTS = {"scale": jnp.asarray(0.2), "z": jnp.array([0.3, -1.2, 0.8])}
EPS = jnp.array([-0.4, 0.9])


def log_rho(eps, latents):
    """[q / p](g(z) + sigma eps) N(eps; 0, I) N(u; 0, I), every latent in its base coordinates."""
    x_sigma = PROBLEM.generate(PROGRAM, latents, LABEL) + SIGMA * eps
    ratio = TEACHER.log_density(x_sigma, SIGMA, LABEL) - SCORE.log_density(x_sigma, SIGMA, LABEL)
    squares = jnp.sum(eps**2) + latents["scale"] ** 2 + jnp.sum(latents["z"] ** 2)
    return ratio - 0.5 * squares


@eqx.filter_jit
def emd_score(eps, latents, held):
    law = emd_target(TEACHER, Student(PROBLEM, PROGRAM, SCORE), SIGMA, LABEL, held)
    return law.score(Coordinates(eps, latents))


@pytest.mark.slow
def test_em_distillation_is_the_law_of_the_method():
    expected = jax.grad(log_rho, argnums=(0, 1))(EPS, LATENTS)
    assert_same(emd_score(EPS, LATENTS, None), Coordinates(*expected), rtol=1e-4)


def test_held_latents_leave_the_law_over_eps():
    expected = jax.grad(log_rho)(EPS, LATENTS)
    assert_same(emd_score(EPS, None, LATENTS), Coordinates(expected, None), rtol=1e-4)


def test_a_student_equal_to_its_teacher_leaves_the_base():
    law = emd_target(TEACHER, Student(PROBLEM, PROGRAM, TEACHER), SIGMA, LABEL)
    expected = Coordinates(-EPS, jax.tree.map(jnp.negative, LATENTS))
    assert_same(law.score(Coordinates(EPS, LATENTS)), expected)
