"""The site x of a distillation: one law in all of its coordinates, the twin in them, and which are chosen."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from training_steps import chains, distilling, m_step

import pplemd as em
from pplemd.algorithms import Reparameterization
from pplemd.algorithms.emd import Tuning
from pplemd.conditions import AbstractCondition
from pplemd.dsl import Centering, trace
from pplemd.inference import Chain, Coordinates, Frame, Potential, Student, difference, emd_target, long_chains
from pplemd.parameterization import Fisher, Policy, XDraws, choose_x

W = np.array([[1.5, 0.3], [0.2, 0.8]], np.float32)
SIGMA = jnp.asarray(0.4)
SIGMAS = em.LogUniform(0.399, 0.401)
NOTHING = Centering({}, {})


class Linear(em.Program):
    """x = W z, z ~ N(0, I)."""

    w: jax.Array

    def __call__(self):
        return em.generate("x", self.w @ em.latent("z", dist.Normal(jnp.zeros(2), 1.0)))


def normal(mean, covariance):
    """A Gaussian teacher, exact at every sigma: of one component, rotated where need be."""
    return Exact(jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32))


class Exact(em.teachers.AbstractTeacher):
    """N(mean, covariance), noised exactly."""

    mean: jax.Array
    covariance: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    condition: AbstractCondition | None = eqx.field(static=True, default=None)

    def score(self, x_sigma, sigma, label=None):
        return jax.grad(self.log_noised)(x_sigma, sigma)

    def log_noised(self, x_sigma, sigma):
        noised = self.covariance + sigma**2 * jnp.eye(2)
        left = x_sigma - self.mean
        return -0.5 * left @ jnp.linalg.solve(noised, left)


TEACHER = normal([0.5, -0.3], [[1.0, 0.4], [0.4, 0.7]])
PROGRAM = Linear(jnp.asarray(W))
PROBLEM = trace(PROGRAM, shape=(2,))
OWN = normal([0.0, 0.0], W @ W.T)  # the student's own law
STUDENT = Student(PROBLEM, PROGRAM, OWN)


def frame(lam, latents=NOTHING):
    return Frame(PROBLEM, PROGRAM, SIGMA, None, jnp.asarray(lam), latents)


def with_value(law):
    """The same law with the value of its potential, which linear-Gaussian models know."""

    def value(x):
        return OWN.log_noised(x, SIGMA) - TEACHER.log_noised(x, SIGMA)

    return dataclasses.replace(law, potential=Potential(value), conditional=None)


BASE = with_value(emd_target(TEACHER, STUDENT, SIGMA, None))


@pytest.mark.slow_for("0.0")
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0, np.array([0.2, 0.9], np.float32)])
def test_the_law_is_the_same_in_all_coordinates(lam):
    own = frame(lam)
    law = with_value(own.target(difference(TEACHER, STUDENT, SIGMA, None)))
    u = Coordinates(jnp.array([0.4, -1.1]), {"z": jnp.array([0.7, -0.2])})
    v = own.from_base(u)
    back = own.to_base(v)
    np.testing.assert_allclose(back.noise, u.noise, atol=1e-6)
    np.testing.assert_allclose(law.log_density(v), BASE.log_density(u), rtol=1e-5)  # the determinant is 1
    np.testing.assert_allclose(law.push(v), BASE.push(u), rtol=1e-5)
    (pulled,) = jax.vjp(own.to_base, v)[1](BASE.score(u))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), law.score(v), pulled)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), law.score(v), jax.grad(law.log_density)(v)
    )
    held = own.target(difference(TEACHER, STUDENT, SIGMA, None)).conditional(v)
    np.testing.assert_allclose(held.target.score(held.position).noise, law.score(v).noise, rtol=2e-4, atol=2e-5)


@pytest.mark.slow
def test_long_chains_agree_in_both():
    """x_sigma follows the teacher's noised law, whatever the coordinates; z | x_sigma the student's posterior."""

    @eqx.filter_jit
    def chains(lam, key):
        own = frame(lam)
        law = own.target(difference(TEACHER, STUDENT, SIGMA, None))
        starts = jax.vmap(
            lambda k: own.from_base(
                Coordinates(jax.random.normal(k, (2,)), PROBLEM.draw(jax.random.fold_in(k, 1), PROGRAM))
            )
        )(jax.random.split(key, 8))
        run = long_chains(key, law, em.HMC(leapfrogs=6), starts, 300, 500)
        u = jax.vmap(jax.vmap(own.to_base))(run.positions)
        return jax.vmap(jax.vmap(BASE.push))(u), u.latents["z"]

    noised = np.asarray(TEACHER.covariance) + 0.16 * np.eye(2)
    gain = W.T @ np.linalg.inv(W @ W.T + 0.16 * np.eye(2))  # E[z | x_sigma] = gain x_sigma
    expected = gain @ noised @ gain.T + np.eye(2) - gain @ W
    for number, lam in enumerate((0.0, 1.0)):
        x, z = (np.asarray(one).reshape(-1, 2) for one in chains(jnp.asarray(lam), jax.random.key(number)))
        np.testing.assert_allclose(x.mean(axis=0), TEACHER.mean, atol=0.12)
        np.testing.assert_allclose(np.cov(x.T), noised, atol=0.15)
        np.testing.assert_allclose(z.mean(axis=0), gain @ np.asarray(TEACHER.mean), atol=0.12)
        np.testing.assert_allclose(np.cov(z.T), expected, atol=0.15)


KERNELS = {
    "langevin": em.Langevin(em.Coordinates(0.1, 0.05)),
    "hmc": em.HMC(0.3, 3),
    "nuts": em.NUTS(0.3, doublings=3),
}


@pytest.mark.slow_for("nuts-all", "nuts-paired", "nuts-injected", "hmc-paired")
@pytest.mark.parametrize(
    "cancel", [em.Cancellation.ALL, em.Cancellation.PAIRED, em.Cancellation.INJECTED], ids=["all", "paired", "injected"]
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_twin_is_the_chain_where_the_student_is_the_teacher(kernel, cancel):
    """Without a potential chain and twin are one, in any coordinates, where the initial noise is shared."""
    own, chain = (
        frame(0.8),
        Chain(KERNELS[kernel], 4, cancel, expensive_every=2 if cancel is em.Cancellation.PAIRED else 1),
    )
    law = own.target(difference(OWN, STUDENT, SIGMA, None))
    start = Coordinates(jnp.array([0.4, -1.1]), {"z": jnp.array([0.7, -0.2])})
    draw = chain.run(jax.random.key(3), law, own.from_base(start), own.reference(chain, start))
    ends = own.to_base(draw.position), own.to_base(draw.coupled)
    moved = np.abs(np.asarray(ends[0].noise - start.noise)).max()
    assert moved > 0.05
    apart = np.abs(np.asarray(ends[0].noise - ends[1].noise)).max()
    if cancel.initial:
        np.testing.assert_allclose(apart, 0.0, atol=1e-5)
    else:
        assert apart > 0.05


class Heavy(em.Program):
    """x = W z, z of Student's t law, which is no push of normal noise."""

    w: jax.Array

    def __call__(self):
        return em.generate("x", self.w @ em.latent("z", dist.StudentT(3.0, jnp.zeros(2), 1.0)))


@pytest.mark.slow
@pytest.mark.parametrize("cancel", [em.Cancellation.ALL, em.Cancellation.PAIRED], ids=["all", "paired"])
@pytest.mark.parametrize("kernel", ["langevin", "hmc"])
def test_the_twin_of_latents_that_are_not_normal_keeps_their_law(kernel, cancel):
    """Langevin's latents drift along their prior's score, HMC's twin decides by its density."""
    program = Heavy(jnp.asarray(W))
    chain = Chain(KERNELS[kernel], 4, cancel)
    step = distilling(trace(program, shape=(2,)), OWN, steps=1, batch=64, sigmas=SIGMAS, chain=chain)
    draw = chains(step, program, OWN, jax.random.key(0)).draw
    np.testing.assert_allclose(draw.coupled.latents["z"], draw.position.latents["z"], atol=1e-5)
    np.testing.assert_allclose(draw.coupled.noise, draw.position.noise, atol=1e-5)


def of(problem, teacher, **changes):
    chain = em.Chain(em.Langevin(em.Coordinates(0.05, 0.02)), 4)
    return distilling(problem, teacher, steps=10, batch=256, sigmas=SIGMAS, chain=chain, **changes)


@pytest.mark.slow
def test_the_m_step_s_gradient_is_the_same_in_all_coordinates():
    """At the optimum it is 0 in each; elsewhere the chain is another, and the direction that of the likelihood."""
    step = of(PROBLEM, TEACHER)
    gradients = []
    for lam in (None, jnp.zeros(8), jnp.ones(8)):
        batch = chains(step, PROGRAM, OWN, jax.random.key(0), Tuning(None, lam))
        gradients.append(jax.grad(lambda p, b=batch: m_step(step, p, b)[0])(PROGRAM).w)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    cosine = np.sum(gradients[0] * gradients[2]) / np.linalg.norm(gradients[0]) / np.linalg.norm(gradients[2])
    assert cosine > 0.5
    same = chains(of(PROBLEM, OWN), PROGRAM, OWN, jax.random.key(0), Tuning(None, jnp.ones(8)))
    np.testing.assert_allclose(same.draw.residual.noise, 0.0, atol=2e-5)


def test_where_the_coordinates_of_x_come_from():
    class Declared(em.Program):
        w: jax.Array
        how: object = eqx.field(static=True)

        def __call__(self):
            return em.generate("x", self.w @ em.latent("z", dist.Normal(jnp.zeros(2), 1.0)), centered=self.how)

    def found(how, **changes):
        program = Declared(jnp.asarray(W), how)
        step = of(trace(program, shape=(2,)), TEACHER, **changes)
        own = step.algorithm.frame(step.context, program, SIGMA, None, None)
        return step.algorithm.adjusts_every(step.context) is not None, None if own is None else own.x

    assert found(False) == (False, None)
    assert found(True)[1] == 1.0
    np.testing.assert_allclose(found((0.0, 0.5))[1], [0.0, 0.5])
    assert found("auto") == (True, None)
    assert found("auto", move_latents=False)[0] is False
    assert found("auto", reparameterization=None) == (False, None)


@pytest.mark.parametrize(("told", "expected"), [(0.0, 0.0), (100.0, 1.0)])
def test_centered_where_the_teacher_tells_much_of_x(told, expected):
    """x = z, sigma = 1, U = told x_sigma^2 / 2: the precision is I + told [1, 1; 1, 1] in (eps, z).

    In (x_sigma, z) it is [1 + told, -1; -1, 2], whose correlation falls as told grows.
    """
    precision = np.eye(2) + told * np.ones((2, 2))
    u = np.random.default_rng(0).normal(size=(4000, 2)) @ np.linalg.cholesky(np.linalg.inv(precision)).T
    eps, z, score = u[:, :1], u[:, 1:], -u @ precision
    draws = XDraws(np.ones(4000), eps, z, score[:, :1], {"z": (z, score[:, 1:], score[:, :1])})
    policy, bins = Policy(Fisher(slack=0.05, tail=0.0)), np.zeros(4000, int)
    choice = choose_x(policy, draws, bins, np.array([0.5, 0.5]))
    assert choice.lam.tolist() == [expected, 0.5]  # nothing was drawn of the other range
    assert np.isnan(choice.chosen[1])
    exact = {0.0: told_by(precision), 1.0: told_by(np.array([[1 + told, -1.0], [-1.0, 2.0]]))}
    np.testing.assert_allclose(
        [choice.noncentered[0], choice.centered[0]], [exact[0.0], exact[1.0]], rtol=0.1, atol=0.05
    )
    kept = choose_x(policy, draws, bins, choice.lam + 1e-3)
    np.testing.assert_allclose(kept.lam, choice.lam + 1e-3)  # what is in use costs nothing more


def told_by(precision):
    """D of a Gaussian whose blocks are its two coordinates: 2 sum [sqrt(P_ii (P^-1)_ii) - 1]."""
    return 2.0 * float(np.sum(np.sqrt(np.diag(precision) * np.diag(np.linalg.inv(precision))) - 1.0))


@pytest.mark.slow
def test_a_choice_is_part_of_the_state_and_compiles_nothing():
    step = of(PROBLEM, TEACHER, reparameterization=Reparameterization(every=2, rounds=4))
    algorithm = step.algorithm
    network = em.Denoiser(em.networks.TimedMLP((2,), width=8, blocks=1, key=jax.random.key(0)), 1.0)
    run = eqx.filter_jit(eqx.debug.assert_max_traces(step.__call__, max_traces=1))
    state = step.init({"generator": PROGRAM, "score": network})
    assert state.tuning.centering.shape == (8,)
    for number in range(4):
        state, _ = run(state, jax.random.key(number))
        if number == 1:
            state, found = algorithm.adjust(step.context, jax.random.key(9), state)
    here = int(algorithm.adaptation.bin_of(SIGMA))
    middle = algorithm.adaptation.middles[here]
    assert found[f"lambda_x_{middle:.3g}"] == pytest.approx(float(state.tuning.centering[here]))
    assert found["cost_x_chosen"] <= max(found["cost_x_noncentered"], found["cost_x_centered"])
