"""Pictures of figures over what was spent: a panel for each figure, a line and its band for each method."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

COLUMNS = 3  # panels in a row
# told apart by the colour-blind: Okabe and Ito's eight, the yellow left out, which is pale on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        name: of the method.
        x: what was spent.
        middle: the line.
        low: the band's lower edge.
        high: its upper edge.
    """

    name: str
    x: Float[np.ndarray, " n"]
    middle: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]


def curves(panels: Mapping[str, Sequence[Curve]], spent: str) -> Image.Image:
    """Draw panels of curves.

    Args:
        panels: curves by figure.
        spent: what the horizontal axes show.
    """
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows + 0.5), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    names = list(dict.fromkeys(curve.name for some in panels.values() for curve in some))
    for number, (title, some) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        for curve in some:
            place = names.index(curve.name)
            colour, dashes = COLOURS[place % len(COLOURS)], ("-", "--", ":")[place // len(COLOURS) % 3]
            axes.plot(curve.x, curve.middle, dashes, color=colour, label=curve.name, linewidth=1.5)
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        low, high = (f([f(values) for curve in some for values in (curve.low, curve.high)]) for f in (np.min, np.max))
        if low > 0 and high > 20 * low:
            axes.set_yscale("log")
        axes.set(title=title.replace("_", " "), xlabel=spent)
    handles = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels())}  # noqa: B905
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), 6))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
