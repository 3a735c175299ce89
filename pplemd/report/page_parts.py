"""What the page's template puts into cards and cells, pictures among it."""

import base64
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, tostring

import numpy as np
from jaxtyping import Num
from markupsafe import Markup
from PIL import Image

from pplemd.plotting.samples import image_grid
from pplemd.report.subject import Subject


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing under its title.

    Attributes:
        drawing: SVG.
        title: what it shows.
        says: what to read off it.
        keys: words beside the title, each with the class of its colour.
    """

    drawing: Markup
    title: str
    says: str = ""
    keys: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that can be looked at closely.

    Attributes:
        source: its data URI.
        width: in pixels.
        height: in pixels.
        title: what it shows.
        says: what to read off it.
        fine: whether it is large enough to be shown smoothly.
    """

    source: Markup
    width: int
    height: int
    title: str
    says: str
    fine: bool


class Cell(NamedTuple):
    """A cell of a table that is more than a text."""

    text: str
    bold: bool = False
    small: bool = False
    hint: str | None = None
    stacked: bool = False
    below: tuple[str, ...] = ()


class Table(NamedTuple):
    """A table; the first cell of a row heads it. A run as a cell is its name with its colour."""

    headings: Sequence["str | Subject"]
    rows: Sequence[Sequence[str | Cell]]
    kind: str = ""


def chart(drawing: Element, title: str, says: str = "", keys: Sequence[tuple[str, str]] = ()) -> Chart:
    """A drawing with its title, what it says, and what stands beside the title."""
    return Chart(Markup(tostring(drawing, encoding="unicode", method="html")), title, says, tuple(keys))


MOST_PIXELS = 16_000_000  # of a picture that a run left: one of 4,000 x 4,000
SIDE = 32  # pixels of one image at least, so that the lines between images are thin
FINE = 480  # pixels: pictures that are smaller are enlarged without blurring


def picture(image: Image.Image, title: str, says: str = "") -> Picture:
    """A picture for the page."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    source = Markup(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return Picture(source, *image.size, title, says, max(image.size) >= FINE)


def opened(content: bytes) -> Image.Image:
    """A PNG that a run left, read and checked.

    Raises:
        ValueError: where it is none, is damaged, or is too large.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=["PNG"])
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"it has {image.width} x {image.height} pixels")
        return image.convert("RGB" if image.mode not in ("L", "RGB") else image.mode)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("it is no whole PNG picture") from error


def tiled(x: Num[np.ndarray, "n ..."], columns: int) -> Image.Image:
    """Images side by side; small ones are enlarged by a whole factor."""
    x = x[..., None] if x.ndim == 3 else x
    return image_grid(x, columns=columns, scale=math.ceil(SIDE / max(x.shape[1:3])))
