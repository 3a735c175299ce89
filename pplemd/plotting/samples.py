"""Pictures of samples: grids of images, what `scatters.py` draws of vectors, pictures side by side; their files."""

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pplemd.errors import DataError
from pplemd.storage.folder import write_atomic

MID_GREY = 128  # what a NaN pixel becomes, and the margin between images
TARGET_SIDE = 64  # pixels: small images are enlarged by whole factors to at least this
MAX_IMAGES = 1024  # in one grid: 32 x 32


def _bytes(x: Num[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    """[-1, 1] to 0..255, clipped; NaN to mid-grey."""
    levels = (np.clip(x.astype(np.float64), -1.0, 1.0) + 1.0) * 127.5
    return np.where(np.isnan(levels), float(MID_GREY), np.round(levels)).astype(np.uint8)


def image_grid(x: Num[np.ndarray, "n h w c"], columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Images side by side, enlarged by nearest neighbour, with a margin between them.

    Args:
        x: images in [-1, 1], (n, h, w, c) with c = 1 or 3; values outside are clipped, NaN becomes mid-grey. Of more
            than 1,024 the first are drawn.
        columns: images in a row; by default the grid is about square.
        scale: whole factor of enlargement; by default the least that makes the longer side 64 pixels.

    Returns:
        The picture, grey or RGB.

    Raises:
        DataError: no images, another shape, or columns or scale below 1.
    """
    if x.ndim != 4 or 0 in x.shape or x.shape[3] not in (1, 3):
        raise DataError(f"found images of shape {x.shape}, expected (n, h, w, 1) or (n, h, w, 3): reshape them")
    x = x[:MAX_IMAGES]
    count, height, width, channels = x.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    scale = math.ceil(TARGET_SIDE / max(height, width)) if scale is None else scale
    if columns < 1 or scale < 1:
        raise DataError(f"found columns = {columns} and scale = {scale}, expected at least 1: leave them out")
    margin = max(1, scale // 4)
    rows = math.ceil(count / columns)
    step_y, step_x = height * scale + margin, width * scale + margin
    canvas = np.full((rows * step_y + margin, columns * step_x + margin, channels), MID_GREY, dtype=np.uint8)
    enlarged = _bytes(x).repeat(scale, axis=1).repeat(scale, axis=2)
    for index, image in enumerate(enlarged):
        top, left = margin + (index // columns) * step_y, margin + (index % columns) * step_x
        canvas[top : top + height * scale, left : left + width * scale] = image
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas)


def draw(
    x: Num[np.ndarray, "n *sizes"], shape: tuple[int, ...], reference: Num[np.ndarray, "m *sizes_m"] | None = None
) -> Image.Image:
    """The picture that suits the samples: a grid for (h, w, 1), (h, w, 3) or (h, w), else a scatter.

    Args:
        x: samples, of any shape with the numbers of `shape` in each.
        shape: the shape of one sample.
        reference: samples drawn beneath a scatter; a grid has no room for them.

    Returns:
        The picture.

    Raises:
        DataError: samples that do not have that shape.
    """
    if x.ndim < 1 or math.prod(x.shape[1:]) != math.prod(shape):
        raise DataError(f"found samples of shape {x.shape[1:]}, expected {shape}: check the generator's shape")
    if len(shape) == 2:
        return image_grid(x.reshape(len(x), *shape, 1))
    if len(shape) == 3 and shape[2] in (1, 3):
        return image_grid(x.reshape(len(x), *shape))
    from pplemd.plotting.scatters import (  # here: Matplotlib takes half a second, which a start would wait for
        flat,
        scatter,
    )

    return scatter(flat(x), None if reference is None else flat(reference))


def save_png(path: str | os.PathLike[str], picture: Image.Image, facts: Mapping[str, str] | None = None) -> None:
    """Write the picture beside the path, then rename: a reader sees the old file or the whole new one.

    Args:
        path: the file.
        picture: what to write.
        facts: what the file says of itself, as text by name.

    Raises:
        DataError: the folder cannot be written.
    """
    target, content, texts = Path(path), io.BytesIO(), PngInfo()
    for name, text in (facts or {}).items():
        texts.add_text(name, text)
    try:
        picture.save(content, format="PNG", **({"pnginfo": texts} if facts else {}))
        write_atomic(target, content.getvalue())
    except OSError as error:
        raise DataError(f"found {target} not writable ({error}), expected a writable folder: choose another") from error


COLUMNS = 4
WIDTH = 420  # pixels of one picture
TITLE, MARGIN = 28, 10  # pixels


def montage(pictures: Mapping[str, Image.Image], columns: int = COLUMNS) -> Image.Image:
    """Put pictures into a grid, brought to one width.

    Args:
        pictures: by title; at least one.
        columns: pictures in a row.
    """
    columns = min(columns, len(pictures))
    scaled = {title: _scaled(picture) for title, picture in pictures.items()}
    height = TITLE + max(picture.height for picture in scaled.values())
    rows = math.ceil(len(scaled) / columns)
    canvas = Image.new("RGB", (columns * (WIDTH + MARGIN) + MARGIN, rows * (height + MARGIN) + MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=18)
    for number, (title, picture) in enumerate(scaled.items()):
        left = MARGIN + (number % columns) * (WIDTH + MARGIN)
        top = MARGIN + (number // columns) * (height + MARGIN)
        draw.text((left, top), title, fill="black", font=font)
        canvas.paste(picture, (left, top + TITLE))
    return canvas


def _scaled(picture: Image.Image) -> Image.Image:
    """The picture at the common width; enlarged by whole pixels, made smaller smoothly."""
    way = Image.Resampling.NEAREST if picture.width <= WIDTH else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((WIDTH, round(picture.height * WIDTH / picture.width)), way)
