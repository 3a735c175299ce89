"""What fits a device, and what makes it fit: rematerialisation, microbatches, more devices."""

import dataclasses
import math
from typing import Any

from pplemd.planning.describe import gradients, temporaries
from pplemd.planning.known_devices import Device, as_data
from pplemd.tasks.base import AbstractPlan

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
