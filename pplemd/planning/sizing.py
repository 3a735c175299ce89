"""What fits a device that is known, and what makes it fit: rematerialisation, microbatches, more devices."""

import dataclasses
import math
import os
from typing import Any

import jax

from pplemd.errors import RecipeError
from pplemd.planning.describe import gradients, temporaries
from pplemd.tasks.base import AbstractPlan

GB, TERA = 10**9, 10**12


@dataclasses.dataclass(frozen=True)
class Device:
    """A device to plan for.

    Attributes:
        name: what it is called.
        bytes: its memory, or None where that is unknown.
        peak16: floating-point operations a second of matrix products in bfloat16, dense; None where unknown.
        peak32: the same for 32-bit inputs as JAX multiplies them by default: TF32 on GPUs, bfloat16 passes on TPUs.
    """

    name: str
    bytes: int | None
    peak16: float | None = None
    peak32: float | None = None

    def peak(self, bf16: bool) -> float | None:
        """Operations a second, by precision."""
        return self.peak16 if bf16 else self.peak32


def _known(name: str, gigabytes: int, peak16: int | float, peak32: int | float) -> Device:
    return Device(name, gigabytes * GB, float(peak16 * TERA), float(peak32 * TERA))


# The vendors' data sheets, without sparsity: NVIDIA B200, H200, H100, A100, L40S, L4, A10, RTX 4090; Google Cloud's
# system architecture pages for TPUs.
KNOWN = {
    "b200": _known("NVIDIA B200", 180, 2250, 1125),
    "h200": _known("NVIDIA H200", 141, 989, 495),
    "h100": _known("NVIDIA H100 (SXM)", 80, 989, 495),
    "h100-pcie": _known("NVIDIA H100 PCIe", 80, 756, 378),
    "a100-80gb": _known("NVIDIA A100 80GB", 80, 312, 156),
    "a100-40gb": _known("NVIDIA A100 40GB", 40, 312, 156),
    "l40s": _known("NVIDIA L40S", 48, 362, 183),
    "l4": _known("NVIDIA L4", 24, 121, 60),
    "a10": _known("NVIDIA A10", 24, 125, 62.5),
    "rtx-4090": _known("NVIDIA GeForce RTX 4090", 24, 165, 82.6),
    "tpu-v6e": _known("TPU v6e", 32, 918, 918),
    "tpu-v5p": _known("TPU v5p", 95, 459, 459),
    "tpu-v5e": _known("TPU v5e", 16, 197, 197),
    "tpu-v4": _known("TPU v4", 32, 275, 275),
}
KINDS = (  # words of JAX's device_kind, the more special first -> the name above
    ("b200", "b200"),
    ("h200", "h200"),
    ("h100 pcie", "h100-pcie"),
    ("h100", "h100"),
    ("a100 40gb", "a100-40gb"),
    ("a100", "a100-80gb"),
    ("l40s", "l40s"),
    ("nvidia l4", "l4"),
    ("nvidia a10", "a10"),
    ("4090", "rtx-4090"),
    ("tpu v6", "tpu-v6e"),
    ("tpu v5p", "tpu-v5p"),
    ("tpu v5 lite", "tpu-v5e"),
    ("tpu v5", "tpu-v5p"),
    ("tpu v4", "tpu-v4"),
)


def here() -> Device:
    """The first device of this process; what JAX does not say of its memory is taken from the table."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return Device(f"cpu: {device.device_kind}", _machine_bytes())
    known = of_kind(device.device_kind)
    limit = (device.memory_stats() or {}).get("bytes_limit")
    name = f"{device.platform}: {device.device_kind}"
    if known is None:
        return Device(name, limit)
    return dataclasses.replace(known, name=name, bytes=limit or known.bytes)


def of_kind(kind: str) -> Device | None:
    """The device of the table that JAX calls so, or None."""
    plain = kind.lower().replace("-", " ").replace("sxm4 ", "")
    return next((KNOWN[name] for words, name in KINDS if words in plain), None)


def named(text: str) -> Device:
    """A device by its name in the table, or by its figures, `TFLOPS:GB`.

    Args:
        text: such as h100, or 989:80 for a peak of 989 TFLOP/s and 80 GB.

    Raises:
        RecipeError: where it is neither.
    """
    if text.lower() in KNOWN:
        return KNOWN[text.lower()]
    peak, colon, gigabytes = text.partition(":")
    try:
        figures = float(peak), float(gigabytes)
    except ValueError:
        figures = (0.0, 0.0)
    if not colon or not all(0 < figure < 1e9 for figure in figures):
        raise RecipeError(
            f"--target {text}: no device of that name; expected one of {', '.join(KNOWN)}, or its peak and memory as "
            "TFLOPS:GB, such as 989:80."
        )
    return Device(text, int(figures[1] * GB), figures[0] * TERA, figures[0] * TERA)


def _machine_bytes() -> int | None:
    """Memory of this machine, where the system says it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def as_data(device: Device) -> dict[str, Any]:
    """A device as plain data."""
    return dataclasses.asdict(device)


USED = 0.9  # share of a device's memory that is planned with: the rest is the runtime's, and lost in gaps
REACHED = 0.4  # share of its peak that convolutional networks of this size reach: usual, not measured here
MOST_DEVICES = 1024


@dataclasses.dataclass(frozen=True)
class Option:
    """A way to compute a step, and what each device needs for it.

    Attributes:
        rematerialise: whether features are computed again.
        microbatches: parts of a batch, one after the other.
        devices: that share the batch.
        sharded: whether they share parameters, averages and optimisers too.
        bytes: what each needs.
    """

    rematerialise: bool
    microbatches: int
    devices: int
    sharded: bool
    bytes: int


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a step needs, as a sum: held + one gradient, two with microbatches + features of one microbatch.

    Attributes:
        held: bytes of networks, averages, optimisers, teacher.
        gradient: bytes of a gradient.
        feature: bytes of features for one sample of the batch, without and with rematerialisation.
        batch: the training's batch.
    """

    resident: int
    gradient: int
    feature: dict[bool, float]
    batch: int

    def option(self, rematerialise: bool, microbatches: int, devices: int = 1, sharded: bool = False) -> Option:
        """A way to compute a step; sharded parameters are gathered layer by layer, so that little of them is whole."""
        local = math.ceil(self.batch / devices / microbatches)
        kept = self.resident + self.gradient * (1 if microbatches == 1 else 2)
        needed = kept / (devices if sharded else 1) + self.feature[rematerialise] * local
        return Option(rematerialise, microbatches, devices, sharded, int(needed))


def sized(planned: AbstractPlan, memory: dict[str, Any], flops: dict[str, Any], device: Device) -> dict[str, Any]:
    """What fits a device, and how long a step takes at its peak.

    Keys: the device's (name, bytes, peak16, peak32); fits and bytes_needed of the training as it stands, largest_batch;
    options: ways to compute the step that fit, the simplest of each kind; seconds_at_peak, and seconds at a usual share
    of it (`share`); None where the device does not say enough.

    Args:
        planned: the plan.
        memory: what `describe` says of its memory, estimated.
        flops: what it says of its cost.
        device: the device.
    """
    training = planned.task.training
    needs, precision = _needs(planned, memory), training.precision
    now = needs.option(precision.rematerialise, training.microbatches)
    found = {**as_data(device), "bytes_needed": now.bytes, **_time(flops, device, precision.bf16)}
    if device.bytes is None:
        return {**found, "fits": None, "largest_batch": None, "options": []}
    room = USED * device.bytes
    share = needs.feature[precision.rematerialise] / training.microbatches  # of a sample of the batch
    largest = max(0, int((room - now.bytes) // share + training.batch)) if share else training.batch
    options = [dataclasses.asdict(option) for option in _options(needs, room)]
    return {**found, "fits": now.bytes <= room, "largest_batch": largest, "options": options}


def _needs(planned: AbstractPlan, memory: dict[str, Any]) -> Needs:
    """From the trace of the step as it stands, and from one with rematerialisation the other way."""
    training, gradient = planned.task.training, gradients(planned)
    precision = training.precision
    other = dataclasses.replace(precision, rematerialise=not precision.rematerialise)
    changed = planned.task.with_training(dataclasses.replace(training, precision=other))
    found = {
        precision.rematerialise: memory["temporary_bytes"],
        other.rematerialise: temporaries(changed.plan()),
    }
    fixed = gradient * (1 if training.microbatches == 1 else 2)
    micro = training.batch // training.microbatches
    feature = {rematerialise: max(total - fixed, 0) / micro for rematerialise, total in found.items()}
    return Needs(memory["held_bytes"], gradient, feature, training.batch)


def _options(needs: Needs, room: float) -> list[Option]:
    """The fewest microbatches that fit, by rematerialisation; the fewest devices, by what they share."""
    divisors = [parts for parts in range(1, needs.batch + 1) if needs.batch % parts == 0]
    counts = [2**power for power in range(1, MOST_DEVICES.bit_length()) if needs.batch % 2**power == 0]
    found = []
    for again in (False, True):
        found += [next((o for parts in divisors if (o := needs.option(again, parts)).bytes <= room), None)]
    for sharded in (False, True):
        ways = (needs.option(again, 1, count, sharded) for count in counts for again in (False, True))
        found += [next((option for option in ways if option.bytes <= room), None)]
    return [option for option in found if option is not None]


def _time(flops: dict[str, Any], device: Device, bf16: bool) -> dict[str, Any]:
    peak = device.peak(bf16)
    if peak is None:
        return {"seconds_at_peak": None, "seconds": None, "share": REACHED}
    seconds = flops["product_flops"] / peak
    return {"seconds_at_peak": seconds, "seconds": seconds / REACHED, "share": REACHED}
