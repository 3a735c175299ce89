"""Pictures inside of the page: PNG as data URIs, small, enlarged by the browser."""

import base64
import io
import math

import numpy as np
from jaxtyping import Num
from PIL import Image

from pplemd.plotting.samples import image_grid
from pplemd.report.markup import Element, element, words

MOST_PIXELS = 16_000_000  # of a picture that a run left: one of 4,000 x 4,000
SIDE = 32  # pixels of one image at least, so that the lines between images are thin
FINE = 480  # pixels: pictures that are smaller are enlarged without blurring


def picture(image: Image.Image, title: str, says: str = "") -> Element:
    """A picture that can be looked at closely."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    width, height = image.size
    kind = "pixels" if max(width, height) < FINE else None
    attributes = {"src": source, "alt": title, "width": str(width), "height": str(height), "class": kind}
    shown = element("button", {"class": "zoom", "type": "button", "title": "look closely"}, element("img", attributes))
    caption = element("figcaption", {}, words("b", title), words("small", says) if says else None)
    return element("figure", {"class": "card picture"}, caption, shown)


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
