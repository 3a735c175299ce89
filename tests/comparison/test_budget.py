"""What a step costs in forward passes, against counts by hand: 2 K + 3 held, 5 K + 3 moving, 4 for a score update."""

import dataclasses

import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.comparison import forwards_per_step
from pplemd.comparison.budget import one_forward, seconds_per_step
from pplemd.distillation import distillation
from pplemd.learning.methods import DMD, EMD, Consistency, DiffInstruct, SiD
from pplemd.model import plan

WIDTH, BATCH = 64, 512  # so large that optimisers and averages, once a batch, hardly count


class Student(em.Program):
    """The denoiser asked once, as wide as the score network."""

    net: em.OneStep

    def __call__(self):
        return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(8), 1.0))))


def network(key):
    return em.Denoiser(em.networks.ResidualMLP((8,), width=WIDTH, blocks=2, key=key), sigma_data=0.5)


def declared(**changes):
    import jax

    return em.Model(
        program=lambda teacher, key: Student(em.one_step(teacher, sigma=2.0)),
        teacher=network(jax.random.key(0)),
        recipe=dataclasses.replace(em.Recipe(batch=BATCH, score_updates=1), **changes),
    )


def held(length, **kernel):
    return em.Chain(em.Langevin(em.Coordinates(0.16, 0.01)), length, **kernel)


@pytest.mark.parametrize(
    ("changes", "by_hand"),
    [
        ({"chain": held(1), "frozen": True}, 2 * 1 + 1 + 3 + 4),  # the E-step asks the held generator once, too
        ({"chain": held(8), "frozen": True}, 2 * 8 + 1 + 3 + 4),
        ({"chain": held(4), "choosing": None}, 5 * 4 + 3 + 4),
        ({"method": DiffInstruct()}, 2 + 1 + 3 + 4),
        ({"method": DMD(), "score_updates": 3}, 2 + 1 + 3 + 12),
        ({"method": DiffInstruct(), "anchor": em.Anchor(count=64)}, 2 + 1 + 3 + 4 + 3),
        ({"method": SiD()}, 1 + 2 + 2 * 2 - 2 + 3 + 4 - 1),  # forward of all three; back through inputs, and weights
        ({"method": Consistency(count=64)}, 2 + 1 + 3),  # Heun asks twice, the target once; no score network
    ],
    ids=["emd-1", "emd-8", "emd-4 moving", "diff-instruct", "dmd", "anchor", "sid", "consistency"],
)
def test_a_step_costs_what_counting_by_hand_says(changes, by_hand):
    found = forwards_per_step(plan(declared(**changes)))
    assert found == pytest.approx(by_hand, rel=0.15), found


def test_one_forward_is_two_operations_for_each_multiplication():
    planned = plan(declared())
    products = 2 * (8 * WIDTH + 2 * (2 * WIDTH**2) + WIDTH * 8)  # input, two blocks of two layers, output; time apart
    assert products < one_forward(planned) < 3 * products


def test_a_step_takes_time():
    planned = plan(declared(method=EMD(), chain=held(1), frozen=True, batch=8))
    import pplemd.comparison.budget as budget

    budget_enough, budget.ENOUGH = budget.ENOUGH, 0.0
    try:
        assert 1e-6 < seconds_per_step(distillation(planned, planned.model.teacher)) < 5
    finally:
        budget.ENOUGH = budget_enough
