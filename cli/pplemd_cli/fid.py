"""pplemd fid: the published figures of images, in Inception's features."""

from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show

TITLES = {
    "fid": "FID",
    "fid_reference": "FID, reference statistics",
    "kid": "KID",
    "kid_sd": "KID, s.d. over blocks",
    "inception_score": "Inception score",
    "inception_score_sd": "Inception score, s.d. over splits",
}
USUAL, ENOUGH, FULL_RANK = 50_000, 10_000, 2048  # images: in papers; at least wanted there; Inception's features


def fid(
    samples: Annotated[
        Path,
        typer.Argument(
            help="Images to judge: an .npz file as sample writes it, or a folder or zip.", show_default=False
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(help="Real images, as SAMPLES: FID, KID, precision, recall.", show_default=False),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(help="Reference statistics, an .npz file of mu and sigma, as NVIDIA's.", show_default=False),
    ] = None,
    save_statistics: Annotated[
        Path | None, typer.Option(help="Keep mu and sigma of the samples in this .npz file.", show_default=False)
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Inception's weights; else torch-fidelity downloads them.", show_default=False)
    ] = None,
    floats: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LOW,HIGH",
            help="Black and white in an .npz that is not of bytes; else -1,1 for floats of which some are negative.",
            show_default=False,
        ),
    ] = None,
    json: options.AsJson = False,
) -> None:
    """Judge images by Inception: score, and FID, KID, precision and recall against real ones.

    The figures are torch-fidelity's, which comes with pplemd's extra `fid`. 50,000 samples are usual; of fewer than
    10,000 the figures are rough, and are printed so.

    For example:

        pplemd sample runs/cifar10 -n 50000 --out x.npz

        pplemd fid x.npz --statistics cifar10-32x32.npz

        pplemd fid folder_of_png --against real.zip

        pplemd fid x.npz --against cifar10_train.npz --weights weights-inception-2015-12-05-6726825d.pth
    """
    from pplemd.data import all_images
    from pplemd.metrics import load_statistics
    from pplemd.metrics.inception import inception_figures, inception_statistics

    black_and_white = _range(floats)
    x = all_images(samples, float_range=black_and_white)
    real = None if against is None else all_images(against, float_range=black_and_white)
    reference = None if statistics is None else load_statistics(statistics)
    figures = inception_figures(x, real, reference, weights)
    if save_statistics is not None:
        inception_statistics(x, weights).save(save_statistics)
    count = min(len(x), len(x if real is None else real))
    note = _note(count)
    if json:
        show.as_json({"samples": str(samples), "count": len(x), **figures, "note": note})
        return
    for name, value in figures.items():
        digits = 5 if count >= ENOUGH else 3 if count >= FULL_RANK else 2
        rounded = f"{float(f'{value:.{digits}g}'):.10g}"
        print(f"{TITLES.get(name, name):<34} {rounded}")
    if note is not None:
        print(note)


def _note(count: int) -> str | None:
    """What figures of so few images are worth; None of enough."""
    if count >= ENOUGH:
        return None
    rank = f", and below {FULL_RANK:,} their covariance has not even full rank" if count < FULL_RANK else ""
    return (
        f"Of {count:,} images alone: FID is biased upward the more the fewer there are{rank}. Compare only with "
        f"figures of as many; {USUAL:,} are usual."
    )


def _range(text: str | None) -> tuple[float, float] | None:
    """The two numbers of --range."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--range is {text!r}; expected two numbers, such as 0,1.") from error
    return low, high
