"""EDM's full-size networks against recorded values: python tests/benchmarks/parity_fullsize.py [FOLDER].

CIFAR-10's SongUNet (55,735,299 parameters) and ImageNet-64's DhariwalUNet (295,899,267), with weights drawn from their
names; minutes on a CPU, and 3 GB for the larger one. Then 18 Heun steps of a small DhariwalUNet. It prints the largest
error of the images relative to their largest value, and fails above 2e-5. Products are of the highest precision, which
CPUs have anyway: on a GPU, 32-bit inputs would go through TF32. FOLDER holds the recorded values.
"""

import json
import sys
import time
import zlib
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.importers import edm_denoiser
from pplemd.teachers import HeunSampler

PARITY = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[2].parent / "shared" / "parity"
jax.config.update("jax_default_matmul_precision", "highest")
NAMES = ("fullsize_cifar10_cond_vp", "fullsize_imagenet64_cond_adm")


def weight(key: str, shape: tuple[int, ...], data: dict[str, np.ndarray]) -> np.ndarray:
    """The recorded network's array of a name."""
    if key.endswith("resample_filter"):
        return data["resample_filter"]
    draw = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, np.float32)
    if "norm" in key and key.endswith("weight"):
        return 1 + np.float32(0.1) * draw
    return draw / np.float32(np.sqrt(np.prod(shape[1:]))) if len(shape) > 1 else np.float32(0.1) * draw


def images(array: np.ndarray) -> jax.Array:
    """Channels last."""
    return jnp.asarray(np.moveaxis(array, 1, -1))


def compare(name: str) -> float:
    """Print and return the largest relative error of one network."""
    with np.load(PARITY / f"{name}.npz") as file:
        data = dict(file)
    shapes = json.loads(str(data["shapes"]))
    arrays = {key: weight(key, tuple(shape), data) for key, shape in shapes.items()}
    teacher = edm_denoiser(json.loads(str(data["config"])), arrays)
    del arrays
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(teacher, eqx.is_array)))
    assert count == int(data["params"]), (count, data["params"])
    run = eqx.filter_jit(lambda teacher, *inputs: jax.vmap(teacher.denoise)(*inputs))
    start = time.perf_counter()
    labels = jnp.asarray(data["labels"].argmax(1))
    found = np.asarray(run(teacher, images(data["x"]), jnp.asarray(data["sigma"]), labels))
    expected = np.asarray(images(data["D"]))
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    seconds = time.perf_counter() - start
    print(f"{name}: {len(shapes)} arrays, {count:,} parameters, error {error:.2e}, {seconds:.0f} s", flush=True)
    return error


def samples(name: str = "edm_adm") -> float:
    """Print and return the largest relative error of the sampler's images."""
    with np.load(PARITY / f"{name}.npz") as file:
        data = dict(file)
    arrays = {key[3:]: value for key, value in data.items() if key.startswith("sd/")}
    teacher, sampler = edm_denoiser(json.loads(str(data["config"])), arrays), HeunSampler()
    run = eqx.filter_jit(lambda *inputs: jax.vmap(lambda noise, label: sampler.solve(noise, teacher, label))(*inputs))
    found = np.asarray(run(images(data["latents"]), jnp.asarray(data["labels"].argmax(1)[:2])))
    expected = np.moveaxis(data["heun"], 1, -1)
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    print(f"{name}: 18 Heun steps, error {error:.2e}", flush=True)
    return error


if __name__ == "__main__":
    if not PARITY.is_dir():
        sys.exit(f"the recorded values are not at hand: expected {PARITY}")
    print(jax.devices()[0].device_kind)
    sys.exit(max(samples(), *map(compare, NAMES)) > 2e-5)
