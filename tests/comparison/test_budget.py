"""What a step costs in forward passes, against counts by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.algorithms import DMD, EMD, Consistency, DiffInstruct, ScoreUpdates, SiD
from pplemd.comparison import forwards_per_step
from pplemd.comparison.contenders import one_forward, seconds_per_step
from pplemd.devices import ONE

WIDTH, BATCH = 64, 512  # so large that optimisers and averages, once a batch, hardly count


class Student(em.Program):
    """The denoiser asked once, as wide as the score network."""

    net: em.OneStep

    def __call__(self):
        return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(8), 1.0))))


def network(key):
    return em.Denoiser(em.networks.ResidualMLP((8,), width=WIDTH, blocks=2, key=key), sigma_data=0.5)


def declared(algorithm=EMD, batch=BATCH, count=1, **changes):
    return em.Model(
        program=lambda teacher, key: Student(em.one_step(teacher, sigma=2.0)),
        teacher=network(jax.random.key(0)),
        algorithm=algorithm(score=ScoreUpdates(count=count), **changes),
        training=em.Training(batch=batch),
    )


def held(length, **kernel):
    return em.Chain(em.Langevin(em.Coordinates(0.16, 0.01)), length, **kernel)


@functools.cache
def worth(**changes):
    return forwards_per_step(declared(**changes).plan())


@pytest.mark.slow
def test_a_step_of_a_held_chain_asks_two_networks():
    one, eight = worth(chain=held(1), move_latents=False), worth(chain=held(8), move_latents=False)
    assert (eight - one) / 7 == pytest.approx(2.0, rel=0.02)


def test_moving_latents_cost_a_generator_and_its_pull_back():
    """Two networks, one generator forward and back; asked at one sigma, it costs less than the score network."""
    two, four = (worth(chain=held(length), reparameterization=None) for length in (2, 4))
    assert 2.5 < (four - two) / 2 < 5


def test_one_held_step_costs_what_diff_instruct_and_dmd_cost():
    one = worth(chain=held(1), move_latents=False)
    assert worth(algorithm=DiffInstruct) == pytest.approx(one, rel=0.02)
    assert worth(algorithm=DMD) == pytest.approx(one, rel=0.02)


def test_a_score_update_is_a_sample_and_a_gradient():
    """Forward and back through all weights, three times a forward or a little more, and a fresh sample."""
    one, three = worth(algorithm=DMD), worth(algorithm=DMD, count=3)
    assert 3 < (three - one) / 2 < 4.5
    assert 5 < one < 10


@pytest.mark.slow
def test_the_anchor_and_derivatives_through_networks_cost_more_and_no_score_network_less():
    plain = worth(algorithm=DiffInstruct)
    assert 0.5 < worth(algorithm=DiffInstruct, anchor=em.Anchor(count=64)) - plain < 4
    assert 0.2 < worth(algorithm=SiD) - plain < 3
    none = forwards_per_step(
        dataclasses.replace(declared(), algorithm=Consistency(count=64), training=em.Training(batch=BATCH)).plan()
    )
    assert 6 < none < 10  # Heun asks twice, the target once; a gradient is three or a little more


def test_one_forward_is_two_operations_for_each_multiplication():
    planned = declared().plan()
    products = 2 * (8 * WIDTH + 2 * (2 * WIDTH**2) + WIDTH * 8)  # input, two blocks of two layers, output; time apart
    assert products < one_forward(planned) < 3 * products


@pytest.mark.slow
def test_a_step_takes_time(monkeypatch):
    monkeypatch.setattr(budget, "ENOUGH", 0.0)
    work = declared(chain=held(1), move_latents=False, batch=8).plan().build(em.Silent(), ONE)
    assert 1e-6 < seconds_per_step(work) < 5
