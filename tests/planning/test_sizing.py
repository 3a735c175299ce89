"""What fits a device: microbatches, recomputed features and devices are found in that order of pain."""

import dataclasses

import pytest

from pplemd.planning.sizing import USED, Device, Needs, _options, sized

NEEDS = Needs(resident=100, gradient=10, feature={False: 8.0, True: 2.0}, batch=16)


def found(room):
    return [dataclasses.astuple(option) for option in _options(NEEDS, float(room))]


def test_what_an_option_needs():
    assert NEEDS.option(False, 1).bytes == 100 + 10 + 16 * 8
    assert NEEDS.option(True, 4).bytes == 100 + 20 + 4 * 2
    assert NEEDS.option(False, 1, 4).bytes == 110 + 4 * 8
    assert NEEDS.option(True, 1, 4, sharded=True).bytes == 27 + 4 * 2


def test_the_simplest_of_each_kind():
    assert found(1000)[0] == (False, 1, 1, False, 238)
    assert found(150) == [
        (False, 8, 1, False, 136),
        (True, 1, 1, False, 142),
        (True, 1, 2, False, 126),
        (False, 1, 2, True, 119),
    ]
    assert found(60) == [(False, 1, 4, True, 59)]
    assert found(5) == []


@pytest.fixture(scope="module")
def planned():
    import jax
    import jax.numpy as jnp
    import numpyro.distributions as dist

    import pplemd as em
    from pplemd.planning.describe import describe

    class Copy(em.Program):
        net: em.OneStep

        def __call__(self):
            return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(self.net.shape), 1.0))))

    network = em.networks.ResidualMLP((64,), 64, 2, key=jax.random.key(0))
    model = em.Model(
        program=lambda teacher, key: Copy(em.one_step(teacher, 2.0)),
        teacher=em.Denoiser(network, 0.5),
        algorithm=em.EMD(reparameterization=None, score=em.ScoreUpdates(count=1)),
        training=em.Training(batch=16, precision=em.Precision(bf16=True)),
    )
    traced = model.plan()
    return traced, describe(traced, compiled=False)


@pytest.mark.slow
def test_a_plan_on_devices(planned):
    traced, said = planned
    unknown = sized(traced, said["memory"], said["cost"], Device("this", None))
    assert unknown["fits"] is None
    assert unknown["seconds_at_peak"] is None
    room = unknown["bytes_needed"]
    ample = sized(traced, said["memory"], said["cost"], Device("that", 2 * room, 1e12, 5e11))
    assert ample["fits"]
    assert ample["largest_batch"] > 16
    assert ample["seconds_at_peak"] == said["cost"]["product_flops"] / 1e12
    assert ample["options"][0] | {"bytes": 0} == {
        "rematerialise": False, "microbatches": 1, "devices": 1, "sharded": False, "bytes": 0
    }  # fmt: skip
    tight = sized(traced, said["memory"], said["cost"], Device("small", int(0.7 * room / USED)))
    assert not tight["fits"]
    assert tight["largest_batch"] < 16
    assert all(option["bytes"] <= 0.7 * room for option in tight["options"])
    assert tight["options"]
