"""Curves and montages as pictures."""

import numpy as np
from PIL import Image

from pplemd.plotting.curves import COLOURS, Curve, curves
from pplemd.plotting.samples import MARGIN, TITLE, WIDTH, montage


def curve(name, values):
    y = np.asarray(values, float)
    return Curve(name, np.arange(len(y), dtype=float), y, 0.9 * y, 1.1 * y)


def has(picture, colour):
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(np.asarray(picture, int) - wanted).sum(axis=-1) < 12).any())


def test_every_method_has_its_colour_in_every_panel():
    panels = {"frechet": [curve("emd", [100.0, 1.0]), curve("sid", [50.0, 2.0])], "recall": [curve("sid", [0.1, 0.9])]}
    picture = curves(panels, "network evaluations")
    left, right = (
        picture.crop((0, 60, picture.width // 2, picture.height)),
        picture.crop((picture.width // 2, 60, *picture.size)),
    )
    assert has(left, COLOURS[0])
    assert has(left, COLOURS[1])
    assert not has(right, COLOURS[0])
    assert has(right, COLOURS[1])


def test_montage_puts_pictures_where_they_belong():
    red, blue = Image.new("L", (30, 60), 255), Image.new("RGB", (2 * WIDTH, WIDTH), (0, 0, 255))
    found = montage({"a": red, "b": blue}, columns=2)
    assert found.size == (2 * (WIDTH + MARGIN) + MARGIN, 2 * MARGIN + TITLE + 2 * WIDTH)
    assert found.getpixel((MARGIN + WIDTH + MARGIN + 20, MARGIN + TITLE + 20)) == (0, 0, 255)
    assert np.asarray(found)[:TITLE].min() < 100  # the titles' ink
