"""Devices by name, by figures, and as JAX calls them."""

import pytest

from pplemd.errors import RecipeError
from pplemd.planning.sizing import KINDS, KNOWN, here, named, of_kind


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10G", "a10"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("TPU v4", "tpu-v4"),
        ("TPU v5 lite", "tpu-v5e"),
        ("TPU v5p", "tpu-v5p"),
        ("TPU v6 lite", "tpu-v6e"),
    ],
)
def test_kinds(kind, name):
    assert of_kind(kind) == KNOWN[name]


def test_unknown_kinds_and_this_machine():
    assert of_kind("NVIDIA GeForce GTX 1080") is None
    assert {name for _, name in KINDS} == set(KNOWN)
    device = here()
    assert device.name.startswith("cpu: ")
    assert device.bytes > 10**8
    assert device.peak(True) is device.peak(False) is None


def test_devices_by_name_and_by_figures():
    assert named("H100").bytes == 80 * 10**9
    assert named("h100").peak(True) == pytest.approx(2 * named("h100").peak(False), rel=0.01)
    given = named("100.5:24")
    assert (given.peak(True), given.bytes) == (100.5e12, 24 * 10**9)
    for wrong in ("z9", "10:", ":10", "0:10", "1:-2", "nan:1", "10"):
        with pytest.raises(RecipeError, match="expected one of b200, h200"):
            named(wrong)
