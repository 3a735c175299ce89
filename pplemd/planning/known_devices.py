"""What is known of devices: memory, and peak operations a second."""

import dataclasses
import os
from typing import Any

import jax

from pplemd.errors import RecipeError

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
