"""The loop on eight virtual devices, with a step of a few operations."""

import pytest

pytestmark = pytest.mark.slow

ROUNDING = 1e-5


@pytest.mark.parametrize("mesh", ["default", "data=4,model=2"])
def test_a_mesh_gives_what_one_device_gives(line_on_eight, mesh):
    found = line_on_eight[mesh]
    assert found["devices"] == 8
    assert 0 < found["apart"] < ROUNDING  # not zero: something was summed in another order
    assert found["looked at on"] == 1
    assert not [one for one in found["sent"] if one["looped"]]


def test_one_reduction_of_one_gradient(line_on_eight):
    """Of 16 x 16 weights, 16 biases and the loss, and nothing else."""
    sent = line_on_eight["default"]["sent"]
    assert {one["kind"] for one in sent} == {"all-reduce"}
    assert sum(one["elements"] for one in sent) == 16 * 16 + 16 + 1


def test_a_state_is_kept_whole_along_data_and_split_along_model(line_on_eight):
    assert line_on_eight["default"]["kept"] == 256
    assert line_on_eight["data=4,model=2"]["kept"] == 128


def test_a_batch_that_cannot_be_divided_stays_on_one_device(line_on_eight):
    assert line_on_eight["nothing divides"] == "one device"


def test_a_run_goes_on_on_other_devices(line_on_eight):
    assert max(line_on_eight["resumed"]) < ROUNDING
