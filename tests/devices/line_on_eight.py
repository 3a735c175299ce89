"""Run in a process with eight virtual devices: the loop with a small step, and what came of it as JSON."""

import json
import signal
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from exchanges import exchanges

from pplemd.devices import ONE, chosen, mean_over_rows, mesh, over_rows
from pplemd.learning import Interrupted, Training, Watcher, compiled_text, fit
from pplemd.learning.loop import AbstractState
from pplemd.storage.checkpoints import Checkpoints

mesh.LARGE = 64
KEY = jax.random.key(0)
TRAINING = Training(steps=6, log_every=2, sample_every=3, checkpoint_every=3, patience=5)


class Line(AbstractState):
    """Weights under training."""

    w: jax.Array
    b: jax.Array

    @property
    def skipped_in_a_row(self):
        return jnp.zeros((), jnp.int32)


class Step(eqx.Module):
    """Chains that move each row, then a gradient of least squares on their ends."""

    scale: jax.Array

    def __call__(self, state, key):
        key_x, key_chain = jax.random.split(key)
        x, keys = jax.random.normal(key_x, (16, 16)), jax.random.split(key_chain, 16)

        def one(x, key):
            def move(x, k):
                return 0.9 * x + 0.1 * jnp.tanh(state.w @ x) + self.scale * jax.random.normal(k, x.shape), None

            return jax.lax.scan(move, x, jax.random.split(key, 5))[0]

        def slope(ends):
            def loss(w, b):
                return jnp.mean(jax.vmap(lambda x: jnp.sum((w @ x + b - 1.0) ** 2))(ends))

            return jax.value_and_grad(loss, (0, 1))(state.w, state.b)

        loss, (w, b) = mean_over_rows(slope, over_rows(jax.vmap(one), x, keys))
        return Line(state.w - 1e-3 * w, state.b - 1e-3 * b), {"loss": loss}


STEP = Step(jnp.asarray(0.3))


def start():
    return Line(jnp.eye(16), jnp.zeros(16))


def trained(devices, folder=None, stop=None):
    """The last state, what was reported, and the states that were looked at."""
    reports, seen = [], []

    def advance(step):
        if step == stop:
            signal.raise_signal(signal.SIGTERM)

    watcher = Watcher(
        advance,
        report=lambda step, found: reports.append(found["loss"]),
        picture=lambda step, state: seen.append((np.array(state.w), len(state.w.sharding.device_set))),
    )
    checkpoints = None if folder is None else Checkpoints(folder)
    try:
        end = fit(STEP, start(), KEY, TRAINING, watcher, checkpoints, devices)
        return np.asarray(end.w), reports, seen
    except Interrupted:
        return None, reports, seen
    finally:
        if checkpoints is not None:
            checkpoints.close()


def on(mesh):
    """How far a mesh is from one device; on how many devices looked-at states lie; what is sent."""
    devices = chosen(mesh, 16)
    (w, reports, seen), (alone, told, watched) = trained(devices), trained(ONE)
    differences = [
        w - alone,
        np.subtract(reports, told),
        *(a - b for (a, _), (b, _) in zip(seen, watched, strict=True)),
    ]
    sent = [vars(one) for one in exchanges(compiled_text(STEP, start(), KEY, devices))]
    return {
        "devices": devices.count,
        "apart": max(float(np.abs(each).max()) for each in differences),
        "looked at on": max(count for _, count in seen),
        "kept": devices.split(start()).w.addressable_shards[0].data.size,
        "sent": sent,
    }


def resumed(folder, before, after):
    """How far a run that was stopped on some devices, and went on on others, is from one on one device."""
    trained(chosen(before, 16), folder, stop=4)
    w, reports, _ = trained(chosen(after, 16), folder)
    alone, told, _ = trained(ONE)
    assert len(reports) == 1
    return float(max(np.abs(w - alone).max(), abs(reports[-1] - told[-1])))


def main():
    """Print what meshes give, by default and by name, and what resuming gives."""
    folder = Path(sys.argv[1])
    found = {
        "default": on(None),
        "data=4,model=2": on("data=4,model=2"),
        "nothing divides": str(chosen(None, 15)),
        "resumed": [resumed(folder / "a", "data=8", "data=1"), resumed(folder / "b", None, "data=2,model=4")],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
