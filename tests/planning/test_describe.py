"""What a plan says of itself, and the count of operations behind it."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.planning.cost import operations
from pplemd.planning.describe import describe
from pplemd.tasks.describing import parameters
from pplemd_cli.plans import show_plan

SPLIT = em.data.Split(np.zeros((9, 3), np.float32) + np.eye(9, 3, dtype=np.float32), None)


class Two(em.Program):
    net: em.networks.MLP
    loc: jax.Array

    def __call__(self):
        scale = em.latent("scale", dist.LogNormal(0.0, 1.0))
        z = em.latent("z", dist.Normal(self.loc, scale).to_event(1))
        return em.generate("x", self.net(z))


def build(teacher, key):
    return Two(em.networks.MLP((3,), (3,), width=4, depth=1, key=key), jnp.zeros(3))


def network(key):
    return em.networks.ResidualMLP((3,), width=8, blocks=1, key=key)


@pytest.fixture(scope="module")
def found():

    data = em.data.Dataset(SPLIT, SPLIT, None)
    model = em.Model(
        build,
        em.teach(network, data),
        algorithm=em.EMD(chain=em.Chain(em.Langevin(0.1), 3)),
        training=em.Training(steps=5, batch=7),
    )
    return describe(model.plan())


def test_sites_and_dependencies(found):
    scale, z = found["sites"]
    assert (scale["name"], scale["shape"], scale["depends_on"]) == ("scale", [], [])
    assert (z["name"], z["shape"], z["depends_on"], z["learned"]) == ("z", [3], ["scale"], True)
    assert z["eligible"]
    assert z["parameterization"] == "non-centered"
    output = {"name": "x", "shape": [3], "depends_on": ["z"], "conditioned": False, "centered": "auto"}
    assert found["output"] == output | {"coordinates": "from (eps, z), by sigma: auto"}


def test_networks_and_memory(found):
    denoiser = parameters(eqx.filter_eval_shape(network, jax.random.key(0)))
    assert found["networks"] == {"Two.net": 31, "Two.loc": 3, "score network": denoiser, "teacher": denoiser}
    # program, its average, two moments; score network and two moments; teacher: four bytes a number, and some counters
    least = 4 * (4 * 34 + 4 * denoiser)
    assert least <= found["memory"]["held_bytes"] <= least + 200
    assert found["memory"]["temporary_bytes"] > 0


def test_teacher_recipe_and_cost(found):
    assert found["teacher"]["taught_on"] == {"train": 9, "held_out": 9}
    assert found["teacher"]["numbers"]["algorithm"]["type"] == "ScoreMatching"
    assert found["cost"]["chains"] == 7
    assert found["cost"]["kernel_steps_per_chain"] == 3
    assert found["cost"]["flops_per_step"] > 7 * 3 * 2 * 2 * 31
    json.dumps(found)


def test_operations_of_products_loops_and_branches():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    assert operations(jnp.matmul, a, b) == 2 * 3 * 4 * 5
    assert operations(jax.vmap(jnp.matmul, (0, None)), jnp.ones((6, 3, 4)), b) == 6 * 2 * 3 * 4 * 5
    assert operations(jnp.add, a, a) == 12

    def loop(x):
        return jax.lax.scan(lambda c, _: (c * 2.0, None), x, length=10)[0]

    assert operations(loop, a) == 120
    assert operations(jax.jit(loop), a) == 120

    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, loop, lambda y: y + 1.0, x)

    assert 120 <= operations(branch, a) < 160

    image, kernel = jnp.ones((1, 8, 8, 2)), jnp.ones((3, 3, 2, 5))
    dimensions = ("NHWC", "HWIO", "NHWC")
    convolve = lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=dimensions)  # noqa: E731
    assert operations(convolve, image, kernel) == 2 * 8 * 8 * 5 * 9 * 2


def heights(y=None):
    numpyro.sample("y", dist.Normal(numpyro.sample("mean", dist.Normal(0.0, 1.0)), 1.0), obs=y)


def test_what_was_assumed_of_a_posterior_is_said(capsys):
    with pytest.warns(UserWarning, match="y=None was left out"):
        posterior = em.posterior(heights)
    model = em.Model(
        lambda teacher, key: Pushed(jnp.ones(2)),
        posterior,
        training=em.Training(batch=4),
        networks={
            "score": lambda key: em.Denoiser(em.networks.TimedMLP((2,), width=4, blocks=1, key=key), sigma_data=1.0)
        },
    )
    said = {"model": "heights", **describe(model.plan(), compiled=False)}
    assert said["teacher"]["notes"] == list(posterior.notes)
    show_plan(said, json=False)
    assert "note: argument y=None was left out" in " ".join(capsys.readouterr().out.split())


class Pushed(em.Program):
    scale: jax.Array

    def __call__(self):
        return em.generate("x", self.scale * em.latent("z", dist.Normal(jnp.zeros(2), 1.0)))
