"""The coupling flow: the identity at the start, one to one afterwards, its log-determinant that of its Jacobian."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError
from pplemd.networks import CouplingFlow


def trained(shape, layers=4, size=0.3):
    """A flow whose every parameter was moved."""
    flow = CouplingFlow(shape, layers, width=16, depth=1, key=jax.random.key(0))
    leaves, structure = jax.tree.flatten(flow)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + size * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


FLOWS = {"even": trained((6,)), "odd": trained((5,), 3), "image": trained((2, 2, 1)), "pair": trained((2,), 5)}


@pytest.mark.slow
@pytest.mark.slow_for("image")
@pytest.mark.parametrize("name", FLOWS)
def test_inverse_and_log_determinant(name):
    flow = FLOWS[name]
    z = 1.5 * np.random.default_rng(2).normal(size=(20, *flow.in_shape))

    @jax.jit
    @jax.vmap
    def both(z):
        placed = exact.placed(z)
        size = z.size
        jacobian = jax.jacobian(lambda u: exact(u.reshape(z.shape)).reshape(-1))(z.reshape(-1))
        sign, expected = jnp.linalg.slogdet(jacobian.reshape(size, size))
        return placed.x, exact.inverse(placed.x), placed.log_det, expected, jnp.abs(sign)

    with jax.enable_x64(True):  # layers that stretch lose digits on the way back, and in the Jacobian
        exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), flow)
        x, back, found, expected, sign = jax.tree.map(np.asarray, both(jnp.asarray(z)))
    assert np.all(sign == 1)
    np.testing.assert_allclose(back, z, atol=1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.std(found) > 0.05  # it is no linear map
    np.testing.assert_allclose(jax.vmap(flow)(jnp.asarray(z, jnp.float32)), x, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_it_starts_as_the_identity():
    flow = CouplingFlow((7,), key=jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (7,))
    np.testing.assert_allclose(flow(z), z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(flow.placed(z).log_det, 0.0, atol=1e-5)
    narrow = CouplingFlow((7,), scale=0.3, key=jax.random.key(0))
    np.testing.assert_allclose(narrow(z), 0.3 * z, rtol=1e-5, atol=1e-6)
    with pytest.raises(RecipeError, match="above 0"):
        CouplingFlow((7,), scale=0.0, key=jax.random.key(0))


@pytest.mark.slow
def test_every_number_moves_by_others():
    flow = FLOWS["odd"]
    jacobian = np.asarray(jax.jacobian(flow)(jnp.full(5, 0.3)))
    assert np.all(np.abs(jacobian - np.diag(np.diag(jacobian))).sum(axis=1) > 1e-4)


@pytest.mark.slow
def test_every_parameter_learns():
    flow = FLOWS["even"]
    gradient = eqx.filter_grad(lambda f, z: jnp.sum(f(z) ** 2))(flow, jnp.linspace(-1, 1, 6))
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_far_points_stay_finite():
    z = jnp.full(6, 50.0)
    placed = FLOWS["even"].placed(z)
    assert np.all(np.isfinite(placed.x))
    assert np.isfinite(placed.log_det)


@pytest.mark.parametrize(("shape", "layers"), [((1,), 4), ((4,), 1), ((), 4), ((4,), 0)])
def test_mistakes_are_named(shape, layers):
    with pytest.raises(RecipeError, match="expected"):
        CouplingFlow(shape, layers, key=jax.random.key(0))


def test_a_latent_of_another_shape_is_refused():
    flow = FLOWS["even"]
    for call in (flow, flow.inverse, flow.placed):
        with pytest.raises(RecipeError, match="expected one sample"):
            call(jnp.zeros(5))
