"""Pictures of samples: grids of images, scatters of vectors, pictures side by side; their files."""

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Num, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
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
    from pplemd.plotting.samples import (
        flat,
        scatter,
    )  # here: Matplotlib takes half a second, which a start would wait for

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


MAX_POINTS = 20_000  # in one scatter: more only slow it down
MAX_PANELS = 3  # pairs of dimensions drawn side by side
SAMPLE_COLOUR, REFERENCE_COLOUR = "#d95f02", "#7570b3"  # told apart by the colour-blind: ColorBrewer Dark2


def flat(x: np.ndarray) -> np.ndarray:
    """Samples as vectors."""
    return x.reshape(len(x), math.prod(x.shape[1:]))  # -1 would refuse an empty batch


def _finite_rows(x: Num[np.ndarray, "n *shape"]) -> np.ndarray:
    rows = flat(x).astype(np.float64)
    return rows[np.isfinite(rows).all(axis=1)][:MAX_POINTS]


def _limits(sets: list[np.ndarray], dimension: int) -> tuple[float, float]:
    """What shows nearly all of the reference (the last set, where it has points), with some room."""
    shown = next((rows[:, dimension] for rows in reversed(sets) if len(rows)), np.array([-1.0, 1.0]))
    low, high = (float(edge) for edge in np.quantile(shown, [0.001, 0.999]))
    room = 0.15 * (high - low) or 1.0
    return low - room, high + room


def _cloud(axes: Axes, sets: list[np.ndarray], first: int) -> None:
    named = list(zip(sets, (SAMPLE_COLOUR, REFERENCE_COLOUR), ("samples", "reference"), strict=False))
    for rows, colour, name in reversed(named):  # samples on top
        axes.plot(rows[:, first], rows[:, first + 1], ".", color=colour, label=name, markersize=2.0, alpha=0.5)
    edges = [_limits(sets, first), _limits(sets, first + 1)]
    half = max(high - low for low, high in edges) / 2.0  # one span for both: a square with equal units
    xlim, ylim = [((low + high) / 2.0 - half, (low + high) / 2.0 + half) for low, high in edges]
    axes.set(xlabel=f"x[{first}]", ylabel=f"x[{first + 1}]", aspect="equal", xlim=xlim, ylim=ylim)


def scatter(x: Num[np.ndarray, "n *shape"], reference: Num[np.ndarray, "m *shape_m"] | None = None) -> Image.Image:
    """A picture of vectors: a histogram in one dimension, points in two, pairs of the first dimensions above.

    Samples with NaN or infinity are dropped and counted in the title; at most 20,000 are drawn.

    Args:
        x: samples, (n, d) or of any shape of d numbers.
        reference: samples drawn beneath; the axes show their range.

    Returns:
        The picture, RGB.

    Raises:
        DataError: no batch dimension, or unlike dimensions.
    """
    given = [x] if reference is None else [x, reference]
    if any(samples.ndim < 2 for samples in given) or len({math.prod(samples.shape[1:]) for samples in given}) > 1:
        shapes = [samples.shape for samples in given]
        raise DataError(f"found samples of shapes {shapes}, expected (n, d) of one d: check the generator's shape")
    sets = [_finite_rows(samples) for samples in given]
    width = sets[0].shape[1]
    panels = 1 if width == 1 else min(width // 2, MAX_PANELS)
    figure = Figure(figsize=(5.0 * panels, 5.0), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for panel in range(panels):
        axes = figure.add_subplot(1, panels, panel + 1)
        if width == 1:
            bins = np.linspace(*_limits(sets, 0), 81)
            for rows, colour, name in zip(
                sets, (SAMPLE_COLOUR, REFERENCE_COLOUR), ("samples", "reference"), strict=False
            ):
                heights = np.histogram(rows[:, 0], bins)[0] / (max(len(rows), 1) * np.diff(bins))
                axes.stairs(heights, bins, color=colour, label=name, fill=name == "samples", alpha=0.8)
            axes.set(xlabel="x", ylabel="density")
        else:
            _cloud(axes, sets, 2 * panel)
    dropped = len(x) - int(np.isfinite(flat(x)).all(axis=1).sum())
    if dropped:
        figure.suptitle(f"{dropped} of {len(x)} samples are not finite")
    if reference is not None:
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=2, markerscale=4.0)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


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
