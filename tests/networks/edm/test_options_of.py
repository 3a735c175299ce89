"""Options as one value, or as a shape and sizes by name."""

import equinox as eqx
import jax
import pytest

from pplemd.errors import RecipeError
from pplemd.networks import NCSNPP, DhariwalUNet, SongUNet, UNetOptions

SIZES = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (), "classes": 3}


@pytest.mark.parametrize("build", [SongUNet, DhariwalUNet, lambda *args, **named: SongUNet(*args, NCSNPP, **named)])
def test_a_network_is_the_same_by_either(build):
    key = jax.random.key(0)
    by_value = eqx.filter_eval_shape(lambda: build(UNetOptions((8, 8, 3), **SIZES), key=key))
    assert eqx.filter_eval_shape(lambda: build((8, 8, 3), key=key, **SIZES)) == by_value
    assert by_value.classes == 3


@pytest.mark.parametrize(
    ("options", "sizes", "words"),
    [
        ((8, 8, 3), {"chanels": 8}, r"SongUNet has no argument chanels; .*Did you mean channels\?"),
        (
            UNetOptions((8, 8, 3)),
            {"channels": 8},
            r"SongUNet: found channels beside a UNetOptions; expected them",
        ),
    ],
)
def test_what_is_wrong_is_named(options, sizes, words):
    with pytest.raises(RecipeError, match=words):
        SongUNet(options, key=jax.random.key(0), **sizes)
