"""All figures of two sets of features at once, of any feature function."""

import numpy as np
from jaxtyping import Num

from pplemd.metrics.balls import balls
from pplemd.metrics.checks import flat, same_width
from pplemd.metrics.frechet import frechet
from pplemd.metrics.kernel import kernel_distance
from pplemd.metrics.posteriors import mmd, told_apart

PAIRS = 2000  # samples of each set that figures over all pairs are of: their cost is quadratic


def feature_figures(
    real: Num[np.ndarray, "n *shape_real"], fake: Num[np.ndarray, "m *shape_fake"], k: int = 5, seed: int = 0
) -> dict[str, float]:
    """frechet, kid, kid_sd, precision, recall, density, coverage, mmd and c2st.

    The last two are of at most 2,000 samples of each, every feature in s.d. of the real ones.

    Args:
        real: features of real samples, (n, d).
        fake: features of samples to judge, (m, d).
        k: neighbours that set the radius of balls.
        seed: of blocks and of the 2,000.

    Raises:
        DataError: fewer than k + 1 (10 for c2st) samples in a set, unlike dimensions, NaN.
    """
    rows_real, rows_fake = flat(real, "real features", k + 1), flat(fake, "features", k + 1)
    same_width(rows_real, rows_fake)
    kernel, around = kernel_distance(rows_real, rows_fake, seed=seed), balls(rows_real, rows_fake, k)
    centre, spread = rows_real.mean(axis=0), rows_real.std(axis=0)
    varying = spread > 0
    a, b = (
        ((rows - centre[None])[:, varying] / spread[None, varying])[_some(len(rows), seed)]
        for rows in (rows_real, rows_fake)
    )
    return {
        "frechet": frechet(rows_fake, rows_real),
        "kid": kernel.mean,
        "kid_sd": kernel.std,
        "precision": around.precision,
        "recall": around.recall,
        "density": around.density,
        "coverage": around.coverage,
        "mmd": mmd(a, b),
        "c2st": told_apart(a, b),
    }


def _some(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)[:PAIRS]
