"""EM distillation at ImageNet-64's true size with random weights: time, memory and utilisation of a step.

On a GPU: python tests/benchmarks/imagenet64.py --minutes 8 --json OUT.json
On a CPU: python tests/benchmarks/imagenet64.py --toy; one true step: --case K=1,batch=1 --steps 1 --warm-up 0
Compiled ahead, to save time on a GPU: on any machine with the GPU machine's versions of jax[cuda13] and cuDNN,
    JAX_PLATFORMS=cpu python tests/benchmarks/imagenet64.py --ahead FOLDER --case K=1,batch=16,bf16,remat
and on the GPU machine the same with --compiled FOLDER in place of --ahead FOLDER. Such programs are not tuned to the
device by timing; their files are executable, so load none that you did not write.

Each case is a step of models/imagenet64.py, in a process of its own, so that its peak of memory is its own and one that
does not fit ends alone. A row is printed, and the JSON file written, as each case ends; one that does not end in the
minutes left is stopped. Cases are written K=16,batch=64,bf16,remat,microbatches=2.

Step time: median of some steps after a warm-up, each waited for. Peak memory: what JAX's allocator says of the device
(None on CPUs), and what the compiler says: arguments and temporaries. Utilisation: operations of products and
convolutions, recomputation left out, over the time and the peak of the device for the precision.
"""

import argparse
import dataclasses
import json
import lzma
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "imagenet64.py"
TOY = {"img_resolution": 16, "model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "label_dim": 10}
CASES = [  # the most telling first
    "K=1,batch=16,bf16,remat",
    "K=16,batch=16,bf16,remat",
    "K=1,batch=16,bf16",
    "K=16,batch=64,bf16,remat",
    "K=4,batch=16,bf16,remat",
    "K=1,batch=16,remat",
    "K=16,batch=128,bf16,remat,microbatches=4",
    "K=1,batch=64,bf16,remat",
    "K=1,batch=16",
    "K=16,batch=128,bf16,remat",
]
TOYS = ["K=1,batch=4", "K=4,batch=4", "K=16,batch=4", "K=4,batch=4,bf16", "K=4,batch=4,remat,microbatches=2"]
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 15 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""  # XLA's GpuTargetConfigProto
COLUMNS = {
    "case": "{}",
    "compile_s": "{:.0f}",
    "step_s": "{:.3f}",
    "images_per_s": "{:.1f}",
    "peak_gb": "{:.1f}",
    "compiler_gb": "{:.1f}",
    "estimate_gb": "{:.1f}",
    "utilisation": "{:.1%}",
}


def parsed(text: str) -> dict:
    """A case as data."""
    words = dict(word.partition("=")[::2] for word in text.split(","))
    return {
        "algorithm.chain.length": int(words.get("K", 1)),
        "training.batch": int(words.get("batch", 1)),
        "training.precision.bf16": "bf16" in words,
        "training.precision.rematerialise": "remat" in words,
        "training.microbatches": int(words.get("microbatches", 1)),
    }


def planned(case: dict, toy: bool):
    """The plan of a case, and the device's peak for its precision."""
    from pplemd.planning.sizing import here
    from pplemd.runs.declared import declare

    overrides = tuple(f"{name}={str(value).lower()}" for name, value in case.items())
    model = declare(MODEL, None, overrides).distillation
    if toy:
        small = dataclasses.replace(model.teacher, config={**model.teacher.config, **TOY})
        model = dataclasses.replace(model, teacher=small)
    return model.plan(), here().peak(case["training.precision.bf16"])


def random_teacher(shapes):
    """A teacher of these shapes: kernels of unit gain, norms' gains 1, the rest 0."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    draw = np.random.default_rng(0)

    def weight(path, leaf):
        if leaf.ndim > 1:
            fan_in = np.float32(np.prod(leaf.shape[:-1]))
            return jnp.asarray(draw.standard_normal(leaf.shape, np.float32) / np.sqrt(fan_in))
        return (jnp.ones if "scale" in jax.tree_util.keystr(path) else jnp.zeros)(leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: weight(path, leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, shapes
    )


def leaves_and_rest(tree) -> tuple[list, object]:
    """Arrays of a module, or their shapes, as a list; and a function that puts such a list back in."""
    import equinox as eqx
    import jax

    arrays, static = eqx.partition(tree, lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct))
    leaves, structure = jax.tree.flatten(arrays)
    return leaves, lambda some: eqx.combine(jax.tree.unflatten(structure, some), static)


def traced_step(step, state, place=None):
    """The step as a function of lists of arrays (constant, moving, key), traced; and these lists.

    Args:
        step: the training step, or its shapes.
        state: the state before it, or its shapes.
        place: the sharding of all arrays, where they are on a device that is not here.
    """
    import equinox as eqx
    import jax

    constant, whole_step = leaves_and_rest(step)
    moving, whole_state = leaves_and_rest(state)

    def advance(constant, moving, key):
        after, metrics = whole_step(constant)(whole_state(moving), key)
        return jax.tree.leaves(eqx.filter(after, eqx.is_array)), metrics

    arguments = (constant, moving, jax.eval_shape(lambda: jax.random.key(0)))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arguments)
    return jax.jit(advance, donate_argnums=1).trace(*shapes), constant, moving


def ahead(text: str, toy: bool, folder: Path) -> str:
    """Compile one case for an H100 that is not here, and write the program into a folder."""
    import jax
    from jax.experimental import serialize_executable, topologies

    began = time.perf_counter()
    topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    place = jax.sharding.SingleDeviceSharding(topology.devices[0])
    plan, _ = planned(parsed(text), toy)
    traced, _, _ = traced_step(*plan.shapes_of(lambda work: (work.step, work.initial())), place)
    program = traced.lower(lowering_platforms=("cuda",)).compile()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / text).write_bytes(lzma.compress(pickle.dumps(serialize_executable.serialize(program)), preset=2))
    size = program.memory_analysis()
    return (
        f"{text}: {time.perf_counter() - began:.0f} s, arguments {size.argument_size_in_bytes / 1e9:.2f} GB, "
        f"temporaries {size.temp_size_in_bytes / 1e9:.2f} GB"
    )


def loaded(text: str, folder: Path):
    """The program that `ahead` wrote."""
    from jax.experimental import serialize_executable

    return serialize_executable.deserialize_and_load(*pickle.loads(lzma.decompress((folder / text).read_bytes())))


def forward_flops(teacher) -> float:
    """Products' operations of one evaluation of the network for one image."""
    import jax

    from pplemd.planning.cost import products, traced

    label = None if teacher.classes is None else 0
    return products(traced(lambda x, sigma: teacher.denoise(x, sigma, label), jax.numpy.zeros(teacher.shape), 1.0))


def one(text: str, toy: bool, warm_up: int, steps: int, folder: Path | None) -> dict:
    """Run one case in this process; compiled here, or ahead."""
    import jax
    import numpy as np

    from pplemd.planning.cost import peak_bytes, products
    from pplemd.tasks.describing import parameters

    began, case = time.perf_counter(), parsed(text)
    plan, peak = planned(case, toy)
    teacher = random_teacher(plan.teacher)
    work = plan.assemble(teacher)
    start = time.perf_counter()
    traced, constant, moving = traced_step(work.step, work.initial())
    trace_s, start, trace = time.perf_counter() - start, time.perf_counter(), traced.jaxpr.jaxpr
    advance = traced.lower().compile() if folder is None else loaded(text, folder)
    compile_s = time.perf_counter() - start
    forward = forward_flops(plan.model.training.precision.of(teacher))
    count = parameters(teacher)
    del work, teacher
    analysis = advance.memory_analysis()
    ready_s, times, metrics = time.perf_counter() - began, [], {}
    for number in range(warm_up + steps):
        start = time.perf_counter()
        moving, metrics = advance(constant, moving, jax.random.key(number))
        jax.block_until_ready((moving, metrics))
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times[warm_up:])
    again = case["training.precision.rematerialise"] * (
        case["algorithm.chain.length"] + plan.model.algorithm.score.count + 1
    )
    done = products(trace)
    model = (
        done - case["training.batch"] * again * forward
    )  # what is computed again is one evaluation for each gradient
    stats = jax.devices()[0].memory_stats() or {}
    size = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    return {
        "parameters": count,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "ready_s": ready_s,
        "trace_s": trace_s,
        "compile_s": compile_s,
        "step_s": seconds,
        "steps_s": times,
        "images_per_s": case["training.batch"] / seconds,
        "peak_gb": stats["peak_bytes_in_use"] / 1e9 if "peak_bytes_in_use" in stats else None,
        "compiler_gb": size / 1e9,
        "temporaries_gb": analysis.temp_size_in_bytes / 1e9,
        "estimate_gb": (analysis.argument_size_in_bytes + peak_bytes(trace)) / 1e9,
        "model_tflop": model / 1e12,
        "done_tflop": done / 1e12,
        "utilisation": None if peak is None else model / seconds / peak,
        "finite": bool(np.all([np.isfinite(value) for value in metrics.values()])),
        "metrics": {name: float(value) for name, value in metrics.items()},
    }


def apart(text: str, arguments, left: float) -> dict:
    """One case in a process of its own; what went wrong where something did."""
    command = [sys.executable, __file__, "--one", text, "--warm-up", str(arguments.warm_up)]
    command += ["--steps", str(arguments.steps), *(["--toy"] if arguments.toy else [])]
    command += [] if arguments.compiled is None else ["--compiled", str(arguments.compiled)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")])
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=left, env={**environment, "PYTHONPATH": path}
        )
    except subprocess.TimeoutExpired:
        return {"case": text, "failed": "stopped: out of time"}
    if ended.returncode == 0:
        return {"case": text, **json.loads(ended.stdout.splitlines()[-1])}
    lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
    said = next((line for line in reversed(lines) if "RESOURCE_EXHAUSTED" in line), lines[-1])
    return {"case": text, "failed": ("out of memory: " if "RESOURCE_EXHAUSTED" in said else "") + said[:300]}


def row(found: dict) -> str:
    """A line of the table."""
    if "failed" in found:
        return f"| {found['case']} | {found['failed']} |"
    cells = [form.format(found[name]) if found[name] is not None else "-" for name, form in COLUMNS.items()]
    return "| " + " | ".join(cells) + " |" + ("" if found["finite"] else " NOT FINITE")


def main() -> None:
    """Run the cases, one after the other, until they end or the time does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="a case; as often as wanted; by default a list of them")
    parser.add_argument("--minutes", type=float, default=60.0, help="time for all cases")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="a small network, to see that this script works")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--ahead", type=Path, help="compile for an H100 that is not here, into this folder")
    parser.add_argument("--compiled", type=Path, help="the folder of what was compiled ahead")
    parser.add_argument("--one", help="a case to run in this process")
    arguments = parser.parse_args()
    if arguments.one is not None:
        found = one(arguments.one, arguments.toy, arguments.warm_up, arguments.steps, arguments.compiled)
        print(json.dumps(found))
        return
    if arguments.ahead is not None:
        for text in arguments.case or (TOYS if arguments.toy else CASES):
            print(ahead(text, arguments.toy, arguments.ahead), flush=True)
        return
    began, found = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:  # what one case compiled, and tuned, serves the next
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)
        print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
        for text in arguments.case or (TOYS if arguments.toy else CASES):
            left = 60 * arguments.minutes - (time.monotonic() - began)
            if left < 10:
                break
            found.append(apart(text, arguments, left))
            print(row(found[-1]), flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
