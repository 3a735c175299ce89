"""Eight virtual devices: the same training as on one, and what it sends between them."""

import pytest

pytestmark = pytest.mark.slow

ROUNDING = 1e-4  # of float32 after a few steps: sums over a batch in another order, and Adam divides by their roots


def reduced(sent):
    return sum(one["elements"] for one in sent if one["kind"] == "all-reduce")


@pytest.fixture(scope="module")
def quick(on_eight):
    """One process for what is quick."""
    return on_eight(("same", ["data=8"], {}), ("counted", ["data=8"], {}), ("shares", ["data=4,model=2"], {}))


def test_a_batch_that_is_divided_gives_the_same_training(quick):
    apart = quick[0]
    assert 0 < apart["state"] < ROUNDING  # not zero: something was summed in another order
    assert apart["reports"] < ROUNDING


def test_gradients_are_reduced_once_for_each_update_and_chains_send_nothing(quick):
    """Two score updates and one of the generator, an anchor included: each parameter's gradient goes out once."""
    generator, score = quick[1]["sizes"]
    sent = quick[1]["sent"]
    assert {one["kind"] for one in sent} == {"all-reduce"}
    scalars = reduced(sent) - generator - 2 * score
    assert 0 <= scalars < 30  # means over the batch: losses, acceptance, norms
    assert not [one for one in sent if one["looped"]]
    assert not [one for one in sent if "E-step" in one["scope"]]
    by_part = {part: reduced([one for one in sent if part in one["scope"]]) for part in ("score", "generator")}
    assert by_part["score"] >= 2 * score
    assert by_part["generator"] >= generator


def test_half_of_a_state_that_is_split_in_two_is_kept(quick):
    assert 0.5 <= quick[2] < 0.65  # what is small or odd is kept whole


@pytest.fixture(scope="module")
def split(on_eight):
    return on_eight(("same", ["data=4,model=2"], {}), ("counted", ["data=4,model=2"], {}))


def test_parameters_that_are_split_give_the_same_training(split):
    assert split[0]["state"] < ROUNDING
    assert split[0]["reports"] < ROUNDING


def test_split_parameters_are_gathered_outside_of_every_loop(split):
    sent = split[1]["sent"]
    generator, score = split[1]["sizes"]
    assert {one["kind"] for one in sent} <= {"all-reduce", "all-gather", "reduce-scatter"}
    assert not [one for one in sent if one["looped"]]
    assert reduced(sent) <= generator + 2 * score + 50
    assert any(one["kind"] == "all-gather" for one in sent)


def test_what_was_saved_on_some_devices_goes_on_on_others(on_eight, tmp_path):
    apart = on_eight(
        ("elsewhere", [f"{tmp_path}/a", "data=8", "data=1"], {}),
        ("elsewhere", [f"{tmp_path}/b", "model=8", "data=2"], {}),
    )
    assert max(apart) < ROUNDING


def test_chains_of_any_length_send_nothing(on_eight):
    """NUTS ends each chain when it turns: a loop of another length on each device."""
    apart, counted = on_eight(("same", ["data=8"], {"chain": "nuts"}), ("counted", ["data=8"], {"chain": "nuts"}))
    assert apart["state"] < ROUNDING
    assert not [one for one in counted["sent"] if one["looped"] or "E-step" in one["scope"]]
