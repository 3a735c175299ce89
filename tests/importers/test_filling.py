"""Filling a network by another library's names: layouts, and a list of everything that does not fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from pplemd.errors import ImporterError
from pplemd.importers import CONV, LINEAR, POINTWISE, SAME, Constant, Slot, blank, fill, interleaved
from pplemd.networks.layers import Conv, Linear


class Pair(eqx.Module):
    """Two layers."""

    matrix: Linear
    conv: Conv


def template() -> Pair:
    return blank(lambda: Pair(Linear(2, 3, key=jax.random.key(0)), Conv(2, 4, key=jax.random.key(1))))


def slots(pair: Pair) -> list[Slot]:
    return [
        Slot(pair.matrix.weight, "m.weight", LINEAR),
        Slot(pair.matrix.bias, "m.bias"),
        Slot(pair.conv.weight, "c.weight", CONV),
        Slot(pair.conv.bias, "c.bias"),
    ]


def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = {"m.weight": (3, 2), "m.bias": (3,), "c.weight": (4, 2, 3, 3), "c.bias": (4,)}
    return {key: draw.normal(size=shape) for key, shape in shapes.items()}


def test_layouts() -> None:
    pair, given = template(), arrays()
    found = fill(pair, slots(pair), given)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(found.matrix.weight[1, 2], given["m.weight"][2, 1], rtol=1e-6)
    np.testing.assert_allclose(found.conv.weight[0, 2, 1, 3], given["c.weight"][3, 1, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(found.conv.bias, given["c.bias"], rtol=1e-6)


def test_attention_channels_are_taken_apart() -> None:
    """Channel (head, feature, q k v) of the original is channel (q k v, head, feature) of ours."""
    heads, size = 2, 4
    original = np.arange(heads * size * 3)
    ours = interleaved(SAME, heads).convert(original).reshape(3, heads, size)
    for head in range(heads):
        for feature in range(size):
            for kind in range(3):
                assert ours[kind, head, feature] == (head * size + feature) * 3 + kind
    weight = np.tile(original[:, None, None, None], (1, 5, 1, 1))
    np.testing.assert_array_equal(interleaved(POINTWISE, heads).convert(weight), np.tile(ours.reshape(-1), (5, 1)))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floating_point_types_are_converted(dtype) -> None:
    pair = template()
    given = {key: value.astype(dtype) for key, value in arrays().items()}
    np.testing.assert_allclose(fill(pair, slots(pair), given).matrix.bias, given["m.bias"].astype(np.float32))


def test_the_network_does_not_share_memory_with_the_arrays() -> None:
    pair = template()
    given = {key: value.astype(np.float32) for key, value in arrays().items()}
    found, kept = fill(pair, slots(pair), given), given["m.bias"].copy()
    given["m.bias"][:] = 0
    np.testing.assert_array_equal(found.matrix.bias, kept)


def test_everything_that_does_not_fit_is_in_one_message() -> None:
    pair, given = template(), arrays()
    del given["m.bias"]
    given["m.weight"] = given["m.weight"].T
    given["c.weight"][0, 0, 0, :2] = np.nan
    given["c.bias"] = np.arange(4)
    given["surplus"] = np.zeros(1)
    given["f"] = np.ones(2)
    with pytest.raises(ImporterError) as caught:
        fill(pair, slots(pair), given, [Constant("f", np.array([1.0, 2.0])), Constant("g", np.ones(1), required=True)])
    for line in (
        "7 things do not fit",
        "missing: m.bias",
        "missing: g",
        "left over: surplus",
        "shape of m.weight: found (2, 3), expected (3, 2)",
        "not finite: 2 of 72 values of c.weight",
        "type of c.bias: found int64, expected floating point",
        "values of f: up to 1 ",
    ):
        assert line in str(caught.value), line


def test_constants_may_be_absent_and_left_overs_ignored() -> None:
    pair = template()
    given = {**arrays(), "step": np.zeros(1)}
    fill(pair, slots(pair), given, [Constant("f", np.ones(2))], ignored=lambda key: key == "step")


def test_a_network_that_was_not_walked_whole_is_a_mistake_of_the_importer() -> None:
    pair = template()
    with pytest.raises(KeyError):
        fill(pair, slots(pair)[:-1], {key: value for key, value in arrays().items() if key != "c.bias"})
