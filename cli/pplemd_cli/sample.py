"""pplemd sample: draw from a run's one-step generator."""

import enum
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pplemd_cli import options, show
from pplemd_cli.progress import bar, say

CHUNK = 5000  # samples of one compiled call


class Format(enum.StrEnum):
    """What to write."""

    png = "png"
    npz = "npz"


def sample(
    run: options.RunPath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many samples.")] = 100,
    label: Annotated[int | None, typer.Option(help="One class for all of them.", show_default=False)] = None,
    seed: options.Seed = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; RUN/sample.png or .npz by default.", show_default=False)
    ] = None,
    format: Annotated[Format | None, typer.Option(help="By default that of --out, else png.", show_default=False)] = None,
    model: options.OtherFile = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Draw from a run's generator, one network evaluation a sample: a picture, or arrays in an .npz file.

    The .npz holds x (count, ...) in data units and, for a class-conditional generator, label (count,).

    Examples:

        pplemd sample runs/digits

        pplemd sample runs/digits -n 50000 --out digits.npz --seed 3
    """
    options.prepare(device, debug)
    import numpy as np
    from pplemd import runs
    from pplemd.checkpoint import RunFolder
    from pplemd.pictures import draw, save_png

    chosen = format or (Format.npz if out is not None and out.suffix == ".npz" else Format.png)
    folder = RunFolder(run)
    target = out or folder.path / f"sample.{chosen}"
    loaded = runs.load(folder, model, say)
    drawn = _draw(loaded.distilled, count, label, seed or 0)
    if chosen is Format.png:
        save_png(target, draw(drawn["x"], loaded.distilled.problem.output.shape))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, **{name: drawn[name] for name in ("x", "label") if name in drawn})
    figures = {"out": str(target), "count": count, "step": loaded.step, "per_second": round(drawn["per_second"])}
    if json:
        show.as_json(figures)
    else:
        print(f"{target}: {count:,} samples of step {loaded.step}, {figures['per_second']:,} a second")


def _draw(distilled: Any, count: int, label: int | None, seed: int) -> dict[str, Any]:
    """All samples, in chunks of one compiled size; the rate leaves compilation out."""
    import jax
    import numpy as np

    labels = _labels(distilled, count, label, seed)
    size = min(count, CHUNK)
    key = jax.random.key(seed)

    def one(start: int) -> np.ndarray:
        part = None if labels is None else np.resize(labels[start : start + size], size)
        return np.asarray(distilled.sample(jax.random.fold_in(key, start), size, part))

    one(0)
    began, parts = time.perf_counter(), []
    with bar("sample ", count) as progress:
        for start in range(0, count, size):
            parts.append(one(start))
            progress.to(min(start + size, count))
    seconds = time.perf_counter() - began
    drawn = {"x": np.concatenate(parts)[:count], "per_second": len(parts) * size / seconds}
    return drawn if labels is None else {**drawn, "label": labels}


def _labels(distilled: Any, count: int, label: int | None, seed: int) -> Any:
    import jax
    import numpy as np
    from pplemd.errors import RecipeError

    classes = distilled.problem.classes
    if label is None:
        if distilled.labels is None:
            return None
        return np.asarray(distilled.labels.draw(jax.random.fold_in(jax.random.key(seed), 1), count))
    if classes is None:
        raise RecipeError(f"--label {label}: this generator is unconditional; leave --label out.")
    if not 0 <= label < classes:
        raise RecipeError(f"--label {label}: this generator has classes 0 to {classes - 1}.")
    return np.full(count, label, np.int32)
