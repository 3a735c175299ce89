"""What a chain does to samples: a picture of them before and after, like figure 1 of arXiv:2405.16852."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from pplemd.diagnosis.chain_plots import DPI, GREY, rendered
from pplemd.errors import DataError
from pplemd.plotting.samples import image_grid, save_png
from pplemd.plotting.scatters import REFERENCE_COLOUR, SAMPLE_COLOUR

MOST_IMAGES, MOST_POINTS = 12, 1000  # in a row; in a cloud, where more lines hide each other
GAP, FONT = 10, 15  # pixels: between pairs, and of the row's names

WHEN = ("before", "after")
Pairs = Mapping[str, tuple[np.ndarray, np.ndarray]]


def before_after(pairs: Pairs, path: Path) -> None:
    """Write a picture of samples before and after a chain's correction.

    Images are rows, the same chain in the same column; points are joined by a line; numbers are two histograms.

    Args:
        pairs: what is shown, as "g(z)": (before, after), each (n, *shape) of one chain after the other.
        path: the PNG file.

    Raises:
        DataError: nothing to show, unlike shapes, or a file that cannot be written.
    """
    shapes = {name: (before.shape, after.shape) for name, (before, after) in pairs.items()}
    if not pairs or len({shape for both in shapes.values() for shape in both}) > 1:
        raise DataError(f"found pairs of shapes {shapes}, expected one shape for all: draw them of the same chains")
    shape = next(iter(shapes.values()))[0][1:]
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
        save_png(path, _images(pairs))
    else:
        save_png(path, rendered(_points(pairs)))


def _images(pairs: Pairs) -> Image.Image:
    font = ImageFont.load_default(FONT)
    strips = [(f"{name} {when}", _strip(x)) for name, both in pairs.items() for when, x in zip(WHEN, both, strict=True)]
    left = max(int(font.getlength(text)) for text, _ in strips) + 2 * GAP
    width, height = strips[0][1].size
    total = len(strips) * height + (len(pairs) - 1) * GAP
    canvas = Image.new("RGB", (left + width, total), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (text, strip) in enumerate(strips):
        top = number * height + (number // 2) * GAP
        canvas.paste(strip.convert("RGB"), (left, top))
        pen.text((left - GAP, top + height / 2), text, fill="black", font=font, anchor="rm")
    return canvas


def _strip(x: np.ndarray) -> Image.Image:
    x = x[:MOST_IMAGES]
    return image_grid(x[..., None] if x.ndim == 3 else x, columns=len(x))


def _points(pairs: Pairs) -> Figure:
    figure = Figure(figsize=(4.6 * len(pairs), 4.8), dpi=DPI, layout="constrained")
    for axes, (name, (before, after)) in zip(
        figure.subplots(1, len(pairs), squeeze=False)[0], pairs.items(), strict=True
    ):
        flat = [x[:MOST_POINTS].reshape(min(len(x), MOST_POINTS), -1).astype(np.float64) for x in (before, after)]
        finite = np.isfinite(np.concatenate(flat, axis=1)).all(axis=1)
        lost = "" if finite.all() else f", {np.sum(~finite)} not finite"
        axes.set_title(f"{name}{lost}", fontsize=11)
        (_moved if flat[0].shape[1] > 1 else _counted)(axes, flat[0][finite], flat[1][finite])
    _share_limits(figure.axes)
    figure.axes[0].legend(fontsize=9, loc="upper right", markerscale=3.0)
    return figure


def _moved(axes: Axes, before: Float[np.ndarray, "n d"], after: Float[np.ndarray, "n d"]) -> None:
    """Two clouds of the first two dimensions, each pair joined."""
    lines = np.stack([before[:, :2], after[:, :2]], axis=1)
    axes.add_collection(LineCollection(list(lines), colors=GREY, linewidths=0.4, alpha=0.5))
    for x, colour, name in zip((before, after), (SAMPLE_COLOUR, REFERENCE_COLOUR), WHEN, strict=True):
        axes.plot(x[:, 0], x[:, 1], ".", color=colour, markersize=3.0, alpha=0.8, label=name)
    axes.set(xlabel="x[0]", ylabel="x[1]", aspect="equal")


def _counted(axes: Axes, before: Float[np.ndarray, "n 1"], after: Float[np.ndarray, "n 1"]) -> None:
    """Two histograms."""
    edges = np.histogram_bin_edges(np.concatenate([before, after]), 40)
    for x, colour, name in zip((before, after), (SAMPLE_COLOUR, REFERENCE_COLOUR), WHEN, strict=True):
        axes.hist(x[:, 0], list(edges), density=True, color=colour, alpha=0.55, label=name)
    axes.set(xlabel="x", ylabel="density")


def _share_limits(panels: list[Axes]) -> None:
    """The same square of the plane in every panel, or the same numbers where there is one dimension."""
    low, high = (np.array([pick(axes.dataLim) for axes in panels]) for pick in (lambda b: b.min, lambda b: b.max))
    low, high = low.min(axis=0), high.max(axis=0)
    if not np.isfinite(low).all() or not np.isfinite(high).all():  # no point is finite
        return
    middle, half = (low + high) / 2, 0.53 * max(high - low) or 1.0
    for axes in panels:
        if axes.get_aspect() == 1.0:
            axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
        else:
            axes.set(xlim=(low[0], high[0]), ylim=(0, 1.05 * high[1]))
