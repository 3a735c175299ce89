"""A problem's functions against NumPyro's own density and a change of variables, and what they compile to."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import log_density

from pplemd import dsl
from pplemd.conditions import Classes
from pplemd.errors import ProgramError

_KEY = jax.random.key(0)


class Chain(dsl.Program):
    """Latents that hang together: a Gamma without normal base, a location from z1, a scale from a network."""

    net: eqx.nn.MLP
    spread: eqx.nn.MLP

    def __call__(self) -> Any:
        rate = dsl.latent("rate", dist.Gamma(jnp.full(2, 2.0), 1.5).to_event(1))
        z1 = dsl.latent("z1", dist.Normal(jnp.zeros(2), rate))
        z2 = dsl.latent("z2", dist.Laplace(jnp.tanh(z1), jnp.exp(self.spread(z1))))
        size = dsl.latent("size", dist.LogNormal(z2[0], 0.5))
        return dsl.generate("x", size * self.net(jnp.concatenate([z1, z2])))


class Labelled(dsl.Program):
    """A class-conditional program with a latent of lower dimension than its output."""

    net: eqx.nn.MLP
    means: jax.Array

    def __call__(self, label: Any) -> Any:
        z = dsl.latent("z", dist.Normal(self.means[label], 1.0))
        return dsl.generate("x", self.net(z).reshape(2, 2, 1))


def _chain(key: jax.Array) -> Chain:
    key_net, key_spread = jax.random.split(key)
    return Chain(eqx.nn.MLP(4, 3, 8, 1, key=key_net), eqx.nn.MLP(2, 2, 8, 1, key=key_spread))


def _labelled() -> Labelled:
    return Labelled(eqx.nn.MLP(2, 4, 8, 1, key=_KEY), jnp.array([[0.0, 0.0], [1.0, -1.0], [2.0, 3.0]]))


@pytest.fixture(scope="module")
def chain() -> tuple[Chain, dsl.Problem, dict[str, jax.Array]]:
    program = _chain(_KEY)
    problem = dsl.trace(program, shape=(3,))
    return program, problem, problem.draw(jax.random.key(7), program)


def _numpyro_chain(program: Chain) -> None:
    rate = numpyro.sample("rate", dist.Gamma(jnp.full(2, 2.0), 1.5).to_event(1))
    z1 = numpyro.sample("z1", dist.Normal(jnp.zeros(2), rate))
    z2 = numpyro.sample("z2", dist.Laplace(jnp.tanh(z1), jnp.exp(program.spread(z1))))
    numpyro.sample("size", dist.LogNormal(z2[0], 0.5))


@pytest.mark.slow
def test_log_prior_is_numpyros_log_density(chain: Any) -> None:
    program, problem, u = chain
    z = problem.latents(program, u)
    expected, _ = log_density(_numpyro_chain, (program,), {}, z)
    np.testing.assert_allclose(problem.log_prior(program, z), expected, rtol=1e-5)


def test_log_base_is_the_joint_prior_changed_in_variables(chain: Any) -> None:
    """log_base(u) = log p(T(u)) + log|det dT/du| of the whole chain."""
    program, problem, u = chain
    flat, unravel = ravel_pytree(u)
    jacobian = jax.jit(jax.jacfwd(lambda flat: ravel_pytree(problem.latents(program, unravel(flat)))[0]))(flat)
    expected = problem.log_prior(program, problem.latents(program, u)) + np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(problem.log_base(program, u), expected, rtol=1e-5)


def test_generate_is_the_program_at_its_latents(chain: Any) -> None:
    program, problem, u = chain
    z = problem.latents(program, u)
    expected = z["size"] * program.net(jnp.concatenate([z["z1"], z["z2"]]))
    np.testing.assert_allclose(problem.generate(program, u), expected, rtol=1e-5)


def test_draws_of_the_base_are_standard_normal_and_differ_by_site(chain: Any) -> None:
    program, problem, _ = chain
    u = jax.jit(jax.vmap(lambda key: problem.draw(key, program)))(jax.random.split(_KEY, 4_000))
    z = np.concatenate([u["z1"], u["z2"], u["size"][:, None]], axis=1)
    np.testing.assert_array_less(np.abs(z.mean(axis=0)), 4.5 / np.sqrt(4_000))
    np.testing.assert_array_less(np.abs(np.cov(z.T) - np.eye(5)), 4.5 * np.sqrt(2.0 / 4_000))
    rate = np.exp(u["rate"])  # Gamma(2, 1.5): mean 4/3, variance 8/9
    np.testing.assert_array_less(np.abs(rate.mean(axis=0) - 4.0 / 3.0), 4.5 * np.sqrt(8.0 / 9.0 / 4_000))


def test_functions_follow_the_program_they_are_given(chain: Any) -> None:
    """An EMA is another value of the same structure, without a new trace."""
    program, problem, u = chain
    other = _chain(jax.random.key(1))
    mixed = jax.tree.map(lambda a, b: 0.5 * (a + b) if eqx.is_inexact_array(a) else a, program, other)
    z = problem.latents(mixed, u)
    expected = z["size"] * mixed.net(jnp.concatenate([z["z1"], z["z2"]]))
    np.testing.assert_allclose(problem.generate(mixed, u), expected, rtol=1e-5)
    assert not np.allclose(problem.generate(mixed, u), problem.generate(program, u))


@pytest.mark.slow
def test_gradients_reach_coordinates_and_networks(chain: Any) -> None:
    """The gradient along a random direction, by automatic and by central differences."""
    program, problem, u = chain

    @eqx.filter_jit
    def value(program: Chain, u: dict[str, jax.Array]) -> jax.Array:
        return jnp.sum(problem.generate(program, u) ** 2) + problem.log_base(program, u)

    arrays, rest = eqx.partition(program, eqx.is_inexact_array)
    flat, unravel = ravel_pytree((arrays, u))
    direction = jax.random.normal(jax.random.key(3), flat.shape) / jnp.sqrt(flat.size)

    @jax.jit
    def at(flat: jax.Array) -> jax.Array:
        arrays, u = unravel(flat)
        return value(eqx.combine(arrays, rest), u)

    numeric = (at(flat + 1e-2 * direction) - at(flat - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose(jax.grad(at)(flat) @ direction, numeric, rtol=1e-2)


def test_labels_are_used_and_can_be_vmapped() -> None:
    program = _labelled()
    problem = dsl.trace(program, shape=(2, 2, 1), condition=Classes(3))
    labels, keys = jnp.array([2, 0, 1], jnp.int32), jax.random.split(_KEY, 3)

    @eqx.filter_jit
    def values(program: Labelled) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        def one(key: jax.Array, label: jax.Array) -> Any:
            u = problem.draw(key, program, label)
            return problem.generate(program, u, label), u["z"], problem.latents(program, u, label)

        return jax.vmap(one)(keys, labels)

    x, u, z = values(program)
    np.testing.assert_allclose(z["z"], program.means[labels] + u, rtol=1e-6)
    np.testing.assert_allclose(x, jax.vmap(program.net)(z["z"]).reshape(3, 2, 2, 1), rtol=1e-5)


def test_the_label_must_match_the_classes(chain: Any) -> None:
    program, problem, u = chain
    with pytest.raises(ProgramError, match="condition=None"):
        problem.generate(program, u, 1)
    conditional = dsl.trace(_labelled(), shape=(2, 2, 1), condition=Classes(3))
    with pytest.raises(ProgramError, match="one of 3 classes"):
        conditional.draw(_KEY, _labelled())


def test_a_program_of_another_structure_is_refused(chain: Any) -> None:
    program, problem, u = chain
    wider = eqx.tree_at(lambda p: p.net, program, eqx.nn.MLP(4, 3, 9, 1, key=_KEY))
    other = eqx.tree_at(lambda p: p.net, program, eqx.nn.MLP(4, 3, 8, 1, activation=jax.nn.tanh, key=_KEY))
    for wrong in (wider, other, _labelled()):
        with pytest.raises(ProgramError, match="structure"):
            problem.generate(wrong, u)


def test_sites_of_another_shape_or_name_are_refused(chain: Any) -> None:
    program, problem, u = chain
    with pytest.raises(ProgramError, match=r"jax\.vmap"):
        problem.generate(program, {**u, "z1": jnp.zeros((5, 2))})
    with pytest.raises(ProgramError, match="sites of shape"):
        problem.log_prior(program, {"z1": u["z1"]})


class Counted(dsl.Program):
    """Counts the evaluations of its ``__call__`` in a list that is not part of its structure."""

    net: eqx.nn.MLP
    calls: Any = eqx.field(static=True)

    def __call__(self) -> None:
        self.calls.append(1)
        dsl.generate("x", self.net(dsl.latent("z", dist.Normal(jnp.zeros(2), 1.0))))


class Calls(list):
    """A list that can be a static field."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def test_call_runs_once_and_never_after_the_trace() -> None:
    program = Counted(eqx.nn.MLP(2, 3, 8, 1, key=_KEY), Calls())
    problem = dsl.trace(program, shape=(3,))
    u = problem.draw(_KEY, program)
    jax.jit(lambda u: problem.generate(program, u))(u)
    jax.grad(lambda u: problem.log_base(program, u) + problem.log_prior(program, u))(u)
    problem.latents(program, u)
    assert len(program.calls) == 1


class Plain(dsl.Program):
    """One standard normal latent into a network."""

    net: eqx.nn.MLP

    def __call__(self) -> Any:
        return dsl.generate("x", self.net(dsl.latent("z", dist.Normal(jnp.zeros(4), 1.0))))


def test_generate_compiles_to_the_network_alone() -> None:
    """Same floating-point operations as the network called directly, up to the map z = 0 + 1 u."""
    program = Plain(eqx.nn.MLP(4, 3, 64, 2, key=_KEY))
    problem = dsl.trace(program, shape=(3,))
    arrays, rest = eqx.partition(program, eqx.is_array)
    through = jax.jit(lambda arrays, z: problem.generate(eqx.combine(arrays, rest), {"z": z}))
    direct = jax.jit(lambda arrays, z: eqx.combine(arrays, rest).net(z))
    z = jnp.ones((4,))
    costs = [f.lower(arrays, z).compile().cost_analysis()["flops"] for f in (through, direct)]
    assert costs[1] <= costs[0] <= costs[1] + 2 * z.size
    np.testing.assert_array_equal(through(arrays, z), direct(arrays, z))


def test_shared_work_of_latents_and_output_is_done_once() -> None:
    """A network whose result feeds a latent and the output appears once in the compiled function."""

    class Shared(dsl.Program):
        body: eqx.nn.Linear

        def __call__(self) -> Any:
            hidden = self.body(dsl.latent("z", dist.Normal(jnp.zeros(16), 1.0)))
            return dsl.generate("x", hidden + dsl.latent("y", dist.Normal(hidden, 1.0)))

    program = Shared(eqx.nn.Linear(16, 16, key=_KEY))
    problem = dsl.trace(program, shape=(16,))
    u = {"z": jnp.ones(16), "y": jnp.ones(16)}
    text = str(jax.make_jaxpr(lambda u: problem.generate(program, u))(u))
    assert text.count("dot_general") == 1


def test_a_problem_is_static_for_jit() -> None:
    """It holds no arrays, so that it may be an argument of a jitted step without being traced again."""
    program = Plain(eqx.nn.MLP(4, 3, 8, 1, key=_KEY))
    problem = dsl.trace(program, shape=(3,))
    assert [leaf for leaf in jax.tree.leaves(problem) if eqx.is_array(leaf)] == []

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def step(problem: dsl.Problem, program: Plain, key: jax.Array) -> jax.Array:
        return problem.generate(program, problem.draw(key, program))

    first, second = step(problem, program, _KEY), step(problem, program, jax.random.key(1))
    assert not np.array_equal(first, second)


def test_a_latent_that_nothing_uses_is_kept() -> None:
    class Spare(dsl.Program):
        net: eqx.nn.MLP

        def __call__(self) -> Any:
            dsl.latent("spare", dist.Normal(0.0, 1.0))
            return dsl.generate("x", self.net(dsl.latent("z", dist.Normal(jnp.zeros(4), 1.0))))

    program = Spare(eqx.nn.MLP(4, 3, 8, 1, key=_KEY))
    problem = dsl.trace(program, shape=(3,))
    u = problem.draw(_KEY, program)
    assert {name: value.shape for name, value in u.items()} == {"spare": (), "z": (4,)}
    np.testing.assert_allclose(
        problem.log_base(program, u), sum(jax.scipy.stats.norm.logpdf(value).sum() for value in u.values()), rtol=1e-6
    )
