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


def fid(
    samples: Annotated[Path, typer.Argument(help="Images to judge, an .npz file as sample writes it.")],
    against: Annotated[
        Path | None, typer.Option(help="Real images, an .npz file: FID, KID, precision, recall.", show_default=False)
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
            help="Black and white among floats; else -1,1, and refused where no float is negative.",
            show_default=False,
        ),
    ] = None,
    json: options.AsJson = False,
) -> None:
    """Judge images by Inception: score, and FID, KID, precision and recall against real ones.

    The figures are torch-fidelity's, which comes with pplemd's extra `fid`. 50,000 samples are usual.

    For example:

        pplemd sample runs/cifar10 -n 50000 --out x.npz

        pplemd fid x.npz --statistics cifar10-32x32.npz

        pplemd fid x.npz --against cifar10_train.npz --weights weights-inception-2015-12-05-6726825d.pth
    """
    from pplemd.data import npz_images
    from pplemd.metrics import load_statistics
    from pplemd.metrics.inception import inception_figures, inception_statistics

    black_and_white = _range(floats)
    x = npz_images(samples, float_range=black_and_white)
    real = None if against is None else npz_images(against, float_range=black_and_white)
    reference = None if statistics is None else load_statistics(statistics)
    figures = inception_figures(x, real, reference, weights)
    if save_statistics is not None:
        inception_statistics(x, weights).save(save_statistics)
    if json:
        show.as_json({"samples": str(samples), "count": len(x), **figures})
        return
    for name, value in figures.items():
        print(f"{TITLES.get(name, name):<34} {value:.5g}")


def _range(text: str | None) -> tuple[float, float] | None:
    """The two numbers of --range."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--range is {text!r}; expected two numbers, such as 0,1.") from error
    return low, high
