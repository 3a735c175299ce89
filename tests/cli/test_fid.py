"""pplemd fid: what it takes, and how few images are told."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pplemd.errors import DataError
from pplemd.metrics import inception
from pplemd_cli.fid import fid


@pytest.fixture
def judged(monkeypatch, tmp_path):
    """Run the command with figures that are known; the images that it judged, and its words."""
    seen = {}

    def figures(x, real, reference, weights):
        seen.update(x=x, real=real)
        return {"fid": 234.56789, "kid": 0.0123456, "inception_score": 1234567.0}

    monkeypatch.setattr(inception, "inception_figures", figures)
    monkeypatch.chdir(tmp_path)
    return seen


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3)).astype(np.uint8)


def _files(kind):
    if kind == "npz":
        np.savez("x.npz", x=PIXELS, label=np.zeros(20, int))
        return "x.npz"
    for i, pixels in enumerate(PIXELS):
        name = f"samples/{i // 10:05d}/img{i:08d}.png"
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(name)
        with zipfile.ZipFile("samples.zip", "a") as archive:
            archive.write(name)
    return "samples" if kind == "folder" else "samples.zip"


@pytest.mark.parametrize("kind", ["npz", "folder", "zip"])
def test_images_of_files_and_folders(judged, capsys, caplog, kind):
    path = _files(kind)
    fid(Path(path), against=Path(path))
    for x in (judged["x"], judged["real"]):
        np.testing.assert_array_equal(inception.as_bytes(x), np.moveaxis(PIXELS, 3, 1))
    assert not caplog.records
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines()[:3]] == ["230", "0.012", "1200000"]
    assert "Of 20 images alone: FID is biased upward" in out
    assert "50,000 are usual" in out


def test_programs_get_all_digits_and_the_note(judged, capsys):
    fid(Path(_files("npz")), json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], found["fid"]) == (20, 234.56789)
    assert "Of 20 images alone" in found["note"]


@pytest.mark.parametrize(("count", "fid_", "told"), [(2500, "235", "Of 2,500 images"), (10_000, "234.57", None)])
def test_more_images_more_digits(judged, capsys, count, fid_, told):
    np.savez("x.npz", x=np.zeros((count, 2, 2), np.uint8))
    fid(Path("x.npz"))
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[-1] == fid_
    assert (told in out) if told else ("alone" not in out)


def test_what_holds_no_images(judged, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in {"empty": "no images", "gone": "no file gone"}.items():
        with pytest.raises(DataError, match=message):
            fid(Path(name))
