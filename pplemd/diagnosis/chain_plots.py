"""Pictures of long chains and of what they do to samples, on Matplotlib's own objects: no global state, no screen."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import rankdata

from pplemd.diagnosis.arviz_draws import Row, autocorrelation
from pplemd.diagnosis.chain_record import Chains, ordered
from pplemd.diagnosis.findings import BFMI, ESS_PER_CHAIN, R_HAT
from pplemd.errors import DataError
from pplemd.plotting.samples import image_grid, save_png
from pplemd.plotting.scatters import REFERENCE_COLOUR, SAMPLE_COLOUR

COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")  # Dark2
GREY = "#888888"
WIDTH, HEIGHT, TALL, DPI = 3.3, 1.9, 2.4, 100  # of a panel, in inches
PANELS_PER_SITE, MANY_SITES = 2, 6  # with more sites than this, one element of each
BINS = 20  # of ranks, as in Vehtari et al. 2021, arXiv:1903.08008, section 4.3
LAGS = 100  # of the autocorrelation, at most

Panel = Callable[[Axes, Chains, Float[np.ndarray, "chain draw"]], None]


def draw_pictures(folder: Path, runs: Sequence[Chains], rows: Sequence[Row]) -> list[Path]:
    """Write trace.png, rank.png, autocorrelation.png, energy.png and, where there are noise levels, ess.png.

    The first three show the elements of each site that mix worst at each sigma, a column a sigma.

    Args:
        folder: where to.
        runs: the chains, one record for each sigma.
        rows: their table.

    Returns:
        The files.

    Raises:
        DataError: unlike records, or a folder that cannot be written.
    """
    runs = ordered(runs)
    figures = {
        "trace": _by_element(runs, rows, _trace, "draw"),
        "rank": _by_element(runs, rows, _ranks, "rank among the draws of all chains"),
        "autocorrelation": _by_element(runs, rows, _autocorrelation, "lag"),
        "energy": _energies(runs, rows),
    }
    if runs[0].sigma is not None:
        figures["ess"] = _by_sigma(rows)
    for name, figure in figures.items():
        save_png(folder / f"{name}.png", rendered(figure))
    return [folder / f"{name}.png" for name in figures]


def rendered(figure: Figure) -> Image.Image:
    """A figure as a picture, RGB."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return Image.open(buffer).convert("RGB")


def _by_element(runs: tuple[Chains, ...], rows: Sequence[Row], panel: Panel, xlabel: str) -> Figure:
    """A row of panels for each of the worst elements, a column for each sigma."""
    sites = list(runs[0].draws)
    found = {(row.site, row.sigma): row for row in rows}
    most = PANELS_PER_SITE if len(sites) <= MANY_SITES else 1
    lines = [(site, k) for site in sites for k in range(min(most, len(found[site, runs[0].sigma].worst)))]
    figure, grid = _grid(len(lines), len(runs))
    for (site, k), line in zip(lines, grid, strict=True):
        for run, axes in zip(runs, line, strict=True):
            row = found[site, run.sigma]
            place: Any = (..., *row.worst[k])
            panel(axes, run, run.draws[site][place].astype(np.float64))
            axes.set_ylabel(_element(site, row.worst[k]), fontsize=8)
            if k == 0:
                _note(axes, f"{site}: R-hat {row.r_hat:.3f}, ESS {row.ess_bulk:,.0f}")
    for run, axes in zip(runs, grid[0], strict=True):
        axes.set_title(_title(run), fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel, fontsize=8)
    return figure


def _title(run: Chains) -> str:
    return "posterior" if run.sigma is None else f"sigma = {run.sigma:.3g}"


def _grid(lines: int, columns: int, height: float = HEIGHT) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(WIDTH * columns + 0.2, height * lines + 0.6), dpi=DPI, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.tick_params(labelsize=7)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, grid


def _element(site: str, index: tuple[int, ...]) -> str:
    return f"{site}[{', '.join(str(i) for i in index)}]" if index else site


def _colour(chain: int) -> str:
    return COLOURS[chain % len(COLOURS)]


def _note(axes: Axes, text: str) -> None:
    axes.text(
        0.99, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=7, zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )  # fmt: skip


def _trace(axes: Axes, run: Chains, x: Float[np.ndarray, "chain draw"]) -> None:
    """Each chain's values in order; ticks below mark divergent transitions."""
    for chain, values in enumerate(x):
        axes.plot(values, color=_colour(chain), linewidth=0.6, alpha=0.8)
    where = np.flatnonzero(run.diverging.any(axis=0))
    axes.plot(where, np.full(len(where), 0.02), "|", color="black", transform=axes.get_xaxis_transform(), markersize=5)
    axes.set_xlim(0, run.length - 1)
    axes.margins(y=0.2)


def ranks(x: Float[np.ndarray, "chain draw"]) -> Int[np.ndarray, "chain bin"]:
    """How often each chain's draws fall into each of 20 equal shares of the ranks among all draws; NaN ranks highest.

    Source: Vehtari et al. 2021, arXiv:1903.08008, section 4.3.
    """
    share = (rankdata(np.where(np.isnan(x), np.inf, x), axis=None).reshape(x.shape) - 0.5) / x.size
    bins = np.minimum((share * BINS).astype(int), BINS - 1)
    return np.stack([np.bincount(chain, minlength=BINS) for chain in bins])


def _ranks(axes: Axes, run: Chains, x: Float[np.ndarray, "chain draw"]) -> None:
    """A histogram of ranks for each chain, one above the other; even where the chains agree."""
    counts = ranks(x) / (run.length / BINS)  # 1 is even
    edges = np.linspace(0, x.size, BINS + 1)
    for chain, heights in enumerate(counts):
        axes.stairs(
            chain + np.minimum(0.45 * heights, 0.95), edges, baseline=chain, fill=True, color=_colour(chain), alpha=0.7
        )
        axes.axhline(chain + 0.45, color="black", linewidth=0.6, linestyle=":")
    axes.set(xlim=(0, x.size), ylim=(0, run.count + 0.5), yticks=np.arange(run.count) + 0.45)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_yticklabels([f"{chain}" for chain in range(run.count)] if run.count <= 8 else [""] * run.count)


def _autocorrelation(axes: Axes, run: Chains, x: Float[np.ndarray, "chain draw"]) -> None:
    """Each chain's autocorrelation; the grey band is what independent draws would show."""
    lags = min(LAGS, run.length // 2) + 1
    for chain, values in enumerate(autocorrelation(x, lags)):
        axes.plot(values, color=_colour(chain), linewidth=0.9)
    band = 1.96 / np.sqrt(run.length)  # 95 % of the autocorrelations of independent draws
    axes.axhspan(-band, band, color=GREY, alpha=0.25, linewidth=0)
    axes.set(xlim=(0, lags - 1), ylim=(-0.35, 1.05))


def _energies(runs: tuple[Chains, ...], rows: Sequence[Row]) -> Figure:
    """The energies of the draws beside the steps from one draw's energy to the next's.

    Source: Betancourt 2016, arXiv:1604.00695: where steps are much narrower, momenta explore energies too slowly.
    """
    found = {row.sigma: row for row in rows}
    figure, grid = _grid(1, len(runs), TALL)
    for run, axes in zip(runs, grid[0], strict=True):
        axes.set_title(_title(run), fontsize=10)
        axes.set(yticks=[])
        axes.set_xlabel("energy, less its mean", fontsize=8)
        energy = run.energy[np.isfinite(run.energy).all(axis=1)].astype(np.float64)
        if not len(energy) or not np.ptp(energy):
            axes.text(0.5, 0.5, "no energies", transform=axes.transAxes, ha="center", fontsize=9, color=GREY)
            continue
        marginal, steps = (energy - energy.mean(axis=1, keepdims=True)).ravel(), np.diff(energy, axis=1).ravel()
        low, high = np.quantile(np.concatenate([marginal, steps]), [0.002, 0.998])
        edges = np.linspace(low - 1e-9, high + 1e-9, 41)
        for values, colour, name in ((marginal, COLOURS[2], "draws"), (steps, COLOURS[1], "steps between draws")):
            axes.hist(values, edges, density=True, color=colour, alpha=0.55, label=name)
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the words
        axes.legend(fontsize=7, frameon=False, loc="upper left")
        _note(axes, f"E-BFMI {found[run.sigma].e_bfmi:.2f}\n(at least {BFMI})")
    return figure


def _by_sigma(rows: Sequence[Row]) -> Figure:
    """R-hat, effective draws, and what they cost, along sigma."""
    figure, grid = _grid(1, 3, TALL)
    for number, site in enumerate(dict.fromkeys(row.site for row in rows)):
        mine = [row for row in rows if row.site == site]
        sigma = [row.sigma for row in mine]
        style = {"color": _colour(number), "marker": "o", "markersize": 3.5, "linewidth": 1.2}
        grid[0, 0].plot(sigma, [row.r_hat for row in mine], label=site, **style)
        grid[0, 1].plot(sigma, [row.ess_bulk for row in mine], **style)
        grid[0, 1].plot(sigma, [row.ess_tail for row in mine], **{**style, "linestyle": "--", "marker": None})
        grid[0, 2].plot(sigma, [row.ess_per_gradient for row in mine], **style)
    grid[0, 0].axhline(R_HAT, color=GREY, linestyle=":")
    grid[0, 1].axhline(ESS_PER_CHAIN * rows[0].chains, color=GREY, linestyle=":")
    titles = ("R-hat (wanted: below the dots)", "ESS: bulk, dashed tail", "bulk ESS per gradient")
    sigmas = sorted({row.sigma for row in rows if row.sigma is not None})
    scale = "log" if any(row.ess_bulk > 0 for row in rows) else "linear"  # NaN alone has no logarithm
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
        axes.set_xscale(scale)
        axes.set_xticks(sigmas, [f"{sigma:.3g}" for sigma in sigmas])
        axes.minorticks_off()
        axes.set_xlabel("sigma", fontsize=8)
    for axes in grid[0, 1:]:
        axes.set_yscale(scale)
    grid[0, 0].legend(fontsize=7, frameon=False)
    return figure


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
