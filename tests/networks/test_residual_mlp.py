"""What is particular to the residual MLP."""

import equinox as eqx
import jax

from pplemd.networks import ResidualMLP


def _count(classes: int | None) -> int:
    build = lambda key: ResidualMLP((8, 8, 1), classes=classes, key=key)  # noqa: E731
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter_eval_shape(build, jax.random.key(0))))


def test_parameter_count_on_digits() -> None:
    width = 384
    ends = (64 + 1) * width + (width + 1) * 64
    block = (128 + 1) * 2 * width + 2 * (width + 1) * width  # 128: features of the conditioning vector
    expected = (64 + 1) * 128 + ends + 4 * block  # 64 time features
    assert _count(None) == expected == 1_636_928
    assert _count(10) == expected + 10 * 128
