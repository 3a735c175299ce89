"""Pictures side by side, each under its title."""

import math
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

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
