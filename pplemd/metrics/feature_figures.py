"""All figures of two sets of features at once, of any feature function."""

import numpy as np
from jaxtyping import Num

from pplemd.metrics.balls import balls
from pplemd.metrics.frechet import frechet
from pplemd.metrics.kernel import kernel_distance
from pplemd.metrics.posterior_figures import c2st, mmd
from pplemd.metrics.validation import flat, in_deviations, same_width

PAIRS = 2000  # samples of each set that figures over all pairs are of: their cost is quadratic


def feature_figures(
    real: Num[np.ndarray, "n *shape_real"], fake: Num[np.ndarray, "m *shape_fake"], k: int = 5, seed: int = 0
) -> dict[str, float]:
    """frechet, kid, kid_sd, precision, recall, density, coverage, mmd and c2st.

    kid_sd is left out where there is one block alone, of no more than 1,000 samples of each. The last two are of at
    most 2,000 samples of each, every feature in s.d. of the real ones.

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
    some_real, some_fake = (rows[_some(len(rows), seed)] for rows in in_deviations(rows_real, rows_fake))
    return {
        "frechet": frechet(rows_fake, rows_real),
        "kid": kernel.mean,
        **({} if kernel.std is None else {"kid_sd": kernel.std}),
        "precision": around.precision,
        "recall": around.recall,
        "density": around.density,
        "coverage": around.coverage,
        "mmd": mmd(some_real, some_fake),
        "c2st": c2st(some_fake, some_real),
    }


def _some(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)[:PAIRS]
