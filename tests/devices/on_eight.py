"""Run in a process with eight virtual devices: trains on one and on several, and prints what came of it as JSON."""

import dataclasses
import json
import signal
import sys
from functools import cache
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from exchanges import exchanges

import pplemd as em
from pplemd.devices import ONE, chosen, mesh
from pplemd.learning import Interrupted, Watcher, compiled_text
from pplemd.storage.checkpoints import Checkpoints

mesh.LARGE = 64  # networks of tests are small
SIGMAS = em.LogUniform(0.3, 2.0)
STEPS = 4


class Picture(em.Program):
    """x = g(z, label), in the teacher's shape, so that it can be anchored."""

    net: em.OneStep

    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros((4, 4, 1)), 1.0))
        return em.generate("x", self.net(z, label))


def network(key):
    return em.networks.ResidualMLP((4, 4, 1), width=16, blocks=1, classes=3, key=key)


def denoiser(key):
    """A network that does something: at its start it returns zeros."""
    arrays, static = eqx.partition(em.Denoiser(network(key), sigma_data=0.5), eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, moved), static)


def model(**changes):
    numbers = {
        "sigmas": SIGMAS,
        "chain": em.Chain(em.Langevin(em.Coordinates(noise=0.1, latents=0.01)), length=3),
        "score": em.ScoreUpdates(sigmas=SIGMAS),
        "anchor": em.Anchor(count=64, sampler=em.teachers.HeunSampler(steps=4)),
        **changes,
    }
    of_training = {field.name for field in dataclasses.fields(em.Training)}
    training = {"steps": STEPS, "batch": 16, "log_every": 2, "checkpoint_every": 2}
    training |= {name: value for name, value in changes.items() if name in of_training}
    return em.Model(
        program=lambda teacher, key: Picture(em.one_step(teacher, sigma=1.0)),
        teacher=denoiser(jax.random.key(5)),
        algorithm=em.EMD(**{name: value for name, value in numbers.items() if name not in of_training}),
        training=em.Training(**training),
    )


def work(**changes):
    planned = model(**changes).plan()
    return planned.assemble(planned.teacher)


def state(devices, checkpoints=None, stop=None, **changes):
    """The last state of a short training, and its reports; None where it was stopped after a step."""
    reports = []

    def advance(step):
        if step == stop:
            signal.raise_signal(signal.SIGTERM)

    watcher = Watcher(advance, report=lambda step, found: reports.append(found))
    try:
        return work(**changes).train(watcher, checkpoints, devices), reports
    except Interrupted:
        return None, reports


@cache
def on_one(**changes):
    """The same on one device."""
    return state(ONE, **changes)


def apart(one, other) -> float:
    """The largest difference of two pytrees' arrays, beside the largest number of each array."""
    worst = 0.0
    for a, b in zip(*(jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for tree in (one, other)), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        scale = max(np.abs(a).max(initial=0.0), 1e-3)
        worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / float(scale))
    return worst


def same_as_one(mesh, **changes):
    """How far training on a mesh is from training on one device: the state, and the reports."""
    (alone, reported), (many, told) = on_one(**changes), state(chosen(mesh, 16), **changes)
    return {
        "state": apart(alone, many),
        "reports": apart(*(jax.tree.map(np.asarray, each) for each in (reported, told))),
    }


def counted(mesh, **changes):
    """What a step sends, and how many parameters its networks have."""
    it = work(**changes)
    first = it.initial()
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(learner.module, eqx.is_inexact_array)))
        for learner in (first.learners["generator"], first.learners["score"])
    ]
    text = compiled_text(it.step, first, it.key, chosen(mesh, 16))
    return {"sizes": sizes, "sent": [vars(one) for one in exchanges(text)]}


def shares(mesh):
    """The largest share of a state that one device keeps."""
    devices = chosen(mesh, 16)
    placed = jax.tree.leaves(eqx.filter(devices.split(work().initial()), eqx.is_array))
    whole = sum(leaf.nbytes for leaf in placed)
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in placed) / whole


def elsewhere(folder, before, after):
    """A training that is saved on some devices and goes on on others, beside one that did both on one."""
    half = Checkpoints(folder)
    state(chosen(before, 16), half, stop=STEPS // 2)
    half.close()
    assert [path.name for path in folder.glob("[0-9]*")] == [str(STEPS // 2)]
    rest = Checkpoints(folder)
    end, _ = state(chosen(after, 16), rest)
    rest.close()
    return apart(on_one()[0], end)


NAMED = {"nuts": em.Chain(em.NUTS(0.2), length=1)}
TASKS = {"same": same_as_one, "counted": counted, "shares": shares, "elsewhere": elsewhere}


def main():
    """Read tasks from standard input, `[name, arguments, changes]` each, and print their results."""
    found = []
    for name, arguments, changes in json.load(sys.stdin):
        given = [Path(one) if "/" in one else one for one in arguments]
        found.append(TASKS[name](*given, **{key: NAMED.get(value, value) for key, value in changes.items()}))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
