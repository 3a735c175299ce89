import dataclasses

import numpy as np
import pytest

from pplemd.diagnosis.chain_record import Chains, ordered
from pplemd.errors import DataError


def chains(sigma=0.5, count=3, length=6, **changed):
    rng = np.random.default_rng(0)
    fields = {
        "sigma": sigma,
        "draws": {"eps": rng.standard_normal((count, length, 2, 2)), "z": rng.standard_normal((count, length))},
        "acceptance": np.ones((count, length)),
        "diverging": np.zeros((count, length), bool),
        "energy": np.zeros((count, length)),
        "gradients": 4 * length,
        **changed,
    }
    return Chains(**fields)


def test_a_site_is_flattened_in_its_own_order():
    run = chains()
    assert (run.count, run.length) == (3, 6)
    assert run.flat("eps").shape == (3, 6, 4)
    np.testing.assert_array_equal(run.flat("eps")[..., 2], run.draws["eps"][:, :, 1, 0])
    assert run.flat("z").shape == (3, 6, 1)


def test_a_chain_is_still_only_where_no_site_moved():
    run = chains()
    for x in run.draws.values():
        x[1] = x[1, 0]
    assert run.still() == 1
    run.draws["z"][1, 5] += 1.0
    assert run.still() == 0


BAD = {
    "one chain": ({"count": 1}, "found 1 chains of 6 draws"),
    "three draws": ({"length": 3}, "at least 2 of 4"),
    "sigma of zero": ({"sigma": 0.0}, "positive, finite sigma"),
    "sigma of NaN": ({"sigma": float("nan")}, "positive, finite sigma"),
    "no gradients": ({"gradients": 0}, "at least one"),
    "draw first": ({"draws": {"eps": np.zeros((6, 3, 2))}}, r"'eps': \(6, 3, 2\).*expected \(3, 6\)"),
    "no elements": ({"draws": {"eps": np.zeros((3, 6, 0))}}, r"\(3, 6, 0\)"),
    "no site": ({"draws": {}}, "of no site"),
    "diverging": ({"diverging": np.zeros((3, 5), bool)}, r"'diverging': \(3, 5\)"),
    "energy": ({"energy": np.zeros((2, 6))}, r"'energy': \(2, 6\)"),
}


@pytest.mark.parametrize(("changed", "message"), BAD.values(), ids=BAD)
def test_chains_refuse(changed, message):
    with pytest.raises(DataError, match=message):
        chains(**changed)


def test_several_sigma_are_put_in_order():
    low, high = chains(0.1), chains(2.0)
    assert ordered([high, low]) == (low, high)
    without = dataclasses.replace(high, draws={"eps": high.draws["eps"]})
    for wrong in ([], [low, low], [low, without], [low, chains(2.0, length=7)]):
        with pytest.raises(DataError, match="each once, all with the same sites"):
            ordered(wrong)
