import dataclasses

import numpy as np
import pytest
from PIL import Image

from pplemd.diagnosis.arviz_draws import table
from pplemd.diagnosis.chain_plots import before_after, draw_pictures, ranks
from pplemd.diagnosis.chain_record import Chains
from pplemd.errors import DataError

NAMES = ["autocorrelation.png", "energy.png", "ess.png", "rank.png", "trace.png"]


def chains(sigma, sites=("eps", "z"), count=3, length=60):
    rng = np.random.default_rng(0)
    shapes = {"eps": (4, 4, 1)}
    return Chains(
        sigma,
        {site: rng.standard_normal((count, length, *shapes.get(site, ()))).astype(np.float32) for site in sites},
        rng.uniform(size=(count, length)),
        rng.uniform(size=(count, length)) < 0.05,
        rng.standard_normal((count, length)),
        4 * length,
    )


def drawn(folder, runs):
    paths = draw_pictures(folder, runs, table(runs))
    assert sorted(path.name for path in paths) == sorted(path.name for path in folder.iterdir()) == NAMES
    return {path.stem: np.asarray(Image.open(path)) for path in paths}


@pytest.mark.slow
def test_a_column_for_each_sigma_a_row_for_each_element(tmp_path):
    one = drawn(tmp_path / "one", [chains(1.0)])
    two = drawn(tmp_path / "two", [chains(1.0), chains(0.2)])
    for name in ("trace", "rank", "autocorrelation"):
        assert two[name].shape[0] == one[name].shape[0] == 3 * 190 + 60  # two elements of eps, the one of z
        assert one[name].shape[1] == 350
        assert two[name].shape[1] == 680
    assert two["ess"].shape[1] == 1010
    assert two["energy"].shape[:2] == (300, 680)


@pytest.mark.slow
def test_pictures_of_what_cannot_be_judged(tmp_path):
    run = chains(1.0)
    run.draws["eps"][0, :, 0, 0, 0] = np.nan
    run.draws["z"][:] = 2.0
    blank = dataclasses.replace(run, energy=np.full((3, 60), np.nan))
    with_energy = drawn(tmp_path / "with", [run])["energy"]
    assert (drawn(tmp_path / "without", [blank])["energy"] != with_energy).any()


@pytest.mark.slow
def test_a_program_of_many_latents_gets_one_element_of_each(tmp_path):
    sites = ("eps", *(f"z{i}" for i in range(6)))
    assert drawn(tmp_path / "many", [chains(1.0, sites, length=8)])["trace"].shape[0] == 7 * 190 + 60


def test_ranks_are_even_where_chains_agree_and_one_sided_where_not():
    x = np.random.default_rng(0).standard_normal((4, 2000))
    counts = ranks(x)
    assert counts.shape == (4, 20)
    np.testing.assert_array_equal(counts.sum(axis=0), 400)  # ranks are shared out evenly, by their meaning
    np.testing.assert_allclose(counts, 100, atol=4 * np.sqrt(100))
    x[1] += 100.0
    assert (ranks(x)[1] == [0] * 15 + [400] * 5).all()


def test_images_before_and_after_stand_one_above_the_other(tmp_path):
    before, after = np.full((5, 8, 8, 1), -1.0, np.float32), np.full((5, 8, 8, 1), 1.0, np.float32)
    before_after({"g(z)": (before, after), "denoised": (after, before)}, tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    height = 64 + 2 * 2
    assert picture.shape[0] == 4 * height + 10
    middle = picture[[height // 2, height + height // 2, 2 * height + 10 + height // 2, -height // 2], -30, 0]
    assert list(middle) == [0, 255, 255, 0]
    assert picture[:, -(5 * 66 + 2) :].shape[1] == 332
    before_after({"g(z)": (np.repeat(before, 5, 0), np.repeat(after, 5, 0))}, tmp_path / "b.png")
    assert np.asarray(Image.open(tmp_path / "b.png")).shape[1] < 12 * 66 + 2 + 150  # the first twelve


@pytest.mark.parametrize("width", [1, 2, 5])
def test_points_before_and_after(tmp_path, width):
    rng = np.random.default_rng(0)
    before = rng.standard_normal((40, width))
    before_after({"g(z)": (before, before)}, tmp_path / "same.png")
    before_after({"g(z)": (before, before + 1)}, tmp_path / "moved.png")
    before[3] = np.nan
    before_after({"g(z)": (before, before), "x": (before, before)}, tmp_path / "nan.png")
    same, moved, nan = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("same", "moved", "nan"))
    assert same.shape == moved.shape == (480, 460, 3)
    assert (same != moved).any()
    assert nan.shape == (480, 920, 3)


@pytest.mark.parametrize("pairs", [{}, {"a": (np.zeros((3, 2)), np.zeros((4, 2)))}])
def test_unlike_pairs_are_refused(tmp_path, pairs):
    with pytest.raises(DataError, match="one shape for all"):
        before_after(pairs, tmp_path / "a.png")
