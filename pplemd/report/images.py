"""Pictures inside of the page: PNG as data URIs, small, enlarged by the browser."""

import base64
import io
import math

import numpy as np
from jaxtyping import Num
from markupsafe import Markup
from PIL import Image

from pplemd.plotting.samples import image_grid
from pplemd.report.page_parts import Picture

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
