"""Reference statistics of features: mean and covariance, kept as EDM keeps them."""

import io
import zipfile
from pathlib import Path

import equinox as eqx
import numpy as np
from jaxtyping import Float64, Num

from pplemd.errors import DataError
from pplemd.metrics.frechet import frechet_gaussians
from pplemd.metrics.validation import flat
from pplemd.storage.folder import write

PUBLISHED = "such as https://nvlabs-fi-cdn.nvidia.com/edm/fid-refs/cifar10-32x32.npz"


class Statistics(eqx.Module):
    """The Gaussian fit of features."""

    mu: Float64[np.ndarray, " d"]  # mean
    sigma: Float64[np.ndarray, "d d"]  # covariance, of n - 1

    def frechet(self, other: "Statistics") -> float:
        """The squared Frechet distance of the two Gaussians.

        Raises:
            DataError: unlike widths.
        """
        if len(self.mu) != len(other.mu):
            raise DataError(
                f"found statistics of {len(self.mu)} and of {len(other.mu)} features, expected one width: take both "
                "from the same feature network"
            )
        return frechet_gaussians(self.mu, self.sigma, other.mu, other.sigma)

    def save(self, path: Path | str) -> None:
        """Write them as `mu` and `sigma` of an .npz file.

        Raises:
            CheckpointError: where the file cannot be written.
        """
        content = io.BytesIO()
        np.savez(content, mu=self.mu, sigma=self.sigma)
        write(Path(path), content.getvalue())


def statistics(features: Num[np.ndarray, "n *shape"]) -> Statistics:
    """Mean and covariance of features, (n, d), n >= 2.

    Raises:
        DataError: fewer than two samples, NaN.
    """
    rows = flat(features, "features", 2)
    return Statistics(rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)))


def load_statistics(path: Path | str) -> Statistics:
    """Read an .npz file with `mu` (d,) and `sigma` (d, d): NVIDIA's fid-refs, or what `Statistics.save` wrote.

    Raises:
        DataError: where the file cannot be read, or holds something else.
    """
    if not Path(path).exists():
        raise DataError(f"found no file {path}, expected reference statistics, {PUBLISHED}: check the path")
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            found = {name: np.asarray(file[name], np.float64) for name in ("mu", "sigma") if name in file}
            names = list(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read as an .npz file ({error}); expected reference statistics, {PUBLISHED}."
        ) from error
    if set(found) != {"mu", "sigma"}:
        raise DataError(f"{path} holds {', '.join(names) or 'nothing'}; expected the arrays mu and sigma.")
    mu, sigma = found["mu"], found["sigma"]
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise DataError(
            f"{path} holds mu of shape {mu.shape} and sigma of shape {sigma.shape}; expected (d,) and (d, d), finite."
        )
    if not np.allclose(sigma, sigma.T, rtol=1e-5, atol=1e-8 * np.abs(sigma).max()) or (np.diag(sigma) < 0).any():
        raise DataError(
            f"{path} holds a sigma that is no covariance; expected a symmetric one, of no negative variance."
        )
    return Statistics(mu, sigma)
