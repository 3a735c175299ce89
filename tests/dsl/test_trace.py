"""The trace computes nothing: programs of any size, of shapes alone, give the same problem."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from pplemd import dsl


class Net(dsl.Program):
    """One latent into a network, with a constant array and a key among its fields."""

    net: eqx.nn.MLP
    offset: np.ndarray

    def __call__(self, label: Any = None) -> Any:
        z = dsl.latent("z", dist.Normal(jnp.zeros(self.net.in_size), 1.0))
        return dsl.generate("x", self.net(z) + self.offset)


def _net(width: int) -> Net:
    return Net(eqx.nn.MLP(4, 3, width, 2, key=jax.random.key(0)), np.full(3, 0.5, np.float32))


def test_shapes_alone_are_enough() -> None:
    """A hidden layer of 4e12 bytes can be traced where it is never made."""
    abstract = eqx.filter_eval_shape(_net, 1_000_000)
    problem = dsl.trace(abstract, shape=(3,))
    assert problem.sites[0].shape == (4,)
    assert problem.output.shape == (3,)


def test_abstract_and_concrete_programs_give_the_same_problem() -> None:
    program = _net(8)
    abstract = dsl.trace(eqx.filter_eval_shape(_net, 8), shape=(3,))
    concrete = dsl.trace(program, shape=(3,))
    assert (abstract.sites, abstract.output) == (concrete.sites, concrete.output)
    u = concrete.draw(jax.random.key(1), program)
    np.testing.assert_array_equal(concrete.generate(program, u), program.net(u["z"]) + program.offset)
    np.testing.assert_array_equal(abstract.generate(program, u), concrete.generate(program, u))


def test_sites_are_described() -> None:
    problem = dsl.trace(_net(8), shape=(3,))
    (site,) = problem.sites
    assert (problem.name, site.name, site.dtype, site.base_shape) == ("Net", "z", np.dtype("float32"), (4,))
    assert (problem.output.name, problem.output.dtype) == ("x", np.dtype("float32"))
    assert problem.classes is None


def test_tracing_works_inside_of_another_transformation() -> None:
    """A problem can be made while something else is traced: nothing of the outer trace leaks into it."""
    program = _net(8)
    made: list[dsl.Problem] = []

    @jax.jit
    def outer(a: jax.Array) -> jax.Array:
        made.append(dsl.trace(program, shape=(3,)))
        return made[-1].generate(program, {"z": a})

    a = jnp.arange(4.0)
    np.testing.assert_allclose(outer(a), made[0].generate(program, {"z": a}), rtol=1e-6)
