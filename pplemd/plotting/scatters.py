"""Pictures of vectors: a histogram in one dimension, a scatter of points in more."""

import math

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pplemd.errors import DataError

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
