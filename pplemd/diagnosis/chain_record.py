"""Long chains at one noise level, and chains and draws as netCDF files that `arviz.from_netcdf` opens."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pplemd.errors import DataError
from pplemd.storage.folder import write_atomic

NOISE = "eps"  # the site of the standard noise that takes x to x_sigma
LEAST_CHAINS, LEAST_DRAWS = 2, 4  # R-hat compares chains, and halves of each that have a variance


@dataclasses.dataclass(frozen=True)
class Chains:
    """Long chains of the E-step's target at one sigma, or of a posterior; warm-up left out.

    Attributes:
        sigma: noise level, in data units; None for a target without one.
        draws: by site, (chain, draw, *shape): the noise as "eps", and the base coordinates of every latent.
        acceptance: acceptance probability of each transition.
        diverging: whether the transition's energy error was beyond reason.
        energy: total energy (potential and kinetic) at each transition; NaN where the kernel knows none.
        gradients: evaluations of the target's score that one chain spent on all of its kept draws together.
        adjusted: whether the kernel may refuse a proposal: then something follows from one that never does, and from
            energies that are not known.

    Raises:
        DataError: fewer than 2 chains or 4 draws, a sigma or a count that is not positive, or unlike shapes.
    """

    sigma: float | None
    draws: dict[str, np.ndarray]
    acceptance: Float[np.ndarray, "chain draw"]
    diverging: Bool[np.ndarray, "chain_d draw_d"]
    energy: Float[np.ndarray, "chain_e draw_e"]
    gradients: int
    adjusted: bool = False

    def __post_init__(self) -> None:
        if (self.sigma is not None and not 0 < self.sigma < math.inf) or self.gradients < 1:
            raise DataError(
                f"found sigma = {self.sigma} and {self.gradients} gradients, expected a positive, finite sigma and at "
                "least one gradient: pass the noise level and the score evaluations of the chains"
            )
        chains, draws = (*self.acceptance.shape, 0, 0)[:2]
        if chains < LEAST_CHAINS or draws < LEAST_DRAWS:
            raise DataError(
                f"found {chains} chains of {draws} draws, expected at least {LEAST_CHAINS} of {LEAST_DRAWS}: R-hat "
                "compares chains; run four of a few hundred draws"
            )
        arrays = {"diverging": self.diverging, "energy": self.energy}
        unlike = {name: a.shape for name, a in arrays.items() if a.shape != (chains, draws)}
        unlike |= {name: a.shape for name, a in self.draws.items() if a.shape[:2] != (chains, draws) or 0 in a.shape}
        if unlike or not self.draws:
            raise DataError(
                f"found the shapes {unlike or 'of no site'}, expected ({chains}, {draws}), with the site's own shape "
                "behind it for draws: put the chain first, the draw second"
            )

    @property
    def count(self) -> int:
        """How many chains."""
        return self.acceptance.shape[0]

    @property
    def length(self) -> int:
        """Kept draws of each chain."""
        return self.acceptance.shape[1]

    def flat(self, site: str) -> Float[np.ndarray, "chain draw element"]:
        """The draws of a site with its shape flattened."""
        return self.draws[site].reshape(self.count, self.length, -1)

    def still(self) -> int:
        """Chains that never moved: all of their draws are the same in every site."""
        moved = np.zeros(self.count, bool)
        for site in self.draws:
            x = self.flat(site)
            moved |= np.any(x != x[:, :1], axis=(1, 2))
        return int(np.sum(~moved))


def ordered(runs: Sequence[Chains]) -> tuple[Chains, ...]:
    """Chains of several sigma from the lowest to the highest.

    Raises:
        DataError: no chains, two of one sigma, or unlike sites, shapes or lengths.
    """
    shapes = [{name: x.shape for name, x in run.draws.items()} for run in runs]
    sigmas = [run.sigma for run in runs]
    if not runs or len(set(sigmas)) < len(sigmas) or any(shape != shapes[0] for shape in shapes):
        raise DataError(
            f"found chains at sigma {sigmas} of shapes {shapes}, expected at least one sigma, each once, all with the "
            "same sites, chains and draws: run them alike"
        )
    return tuple(sorted(runs, key=lambda run: run.sigma or 0.0))


SITE = "site"  # attribute of a variable: the site's name, from which the variable's may differ
STATISTICS = {"acceptance_rate": "acceptance", "diverging": "diverging", "energy": "energy"}  # ArviZ's name -> ours


def save_groups(
    path: Path,
    groups: Mapping[str, Mapping[str, np.ndarray]],
    attributes: Mapping[str, Any] | None = None,
    sigmas: Sequence[float] = (),
) -> None:
    """Write draws of chains, whole or not at all.

    Args:
        path: the file.
        groups: ArviZ's group, such as "posterior", -> name -> (chain, draw, *shape), or (chain, draw, sigma, *shape).
        attributes: numbers and strings to keep beside them.
        sigmas: the noise levels, where the draws have that dimension.

    Raises:
        DataError: no draws, sets of unlike counts, or a file that cannot be written.
    """
    import xarray

    found = {name: _dataset(values, sigmas, attributes or {}) for name, values in groups.items()}
    try:
        write_atomic(path, bytes(xarray.DataTree.from_dict(found).to_netcdf(engine="h5netcdf")))
    except OSError as error:
        raise DataError(f"found {path} not writable ({error}), expected a writable folder: choose another") from error


def save_chains(path: Path, runs: Sequence[Chains]) -> None:
    """Write long chains, whole or not at all.

    Group posterior holds the sites with dimensions (chain, draw, sigma, *site), group sample_stats acceptance_rate,
    diverging and energy; both have the coordinate sigma and the attributes gradients_per_chain and adjusted, by sigma.
    ArviZ's plot_energy takes one sigma at a time: `data.sel(sigma=...)`. Chains of a target without sigma lack that
    dimension.

    Args:
        path: the file, chains.nc in a run folder.
        runs: the chains, one record for each sigma.

    Raises:
        DataError: no chains, records that differ in more than their sigma, or a file that cannot be written.
    """
    runs = ordered(runs)
    sigmas = [run.sigma for run in runs if run.sigma is not None]

    def along(arrays: list[np.ndarray]) -> np.ndarray:
        return np.stack(arrays, axis=2) if sigmas else arrays[0]

    posterior = {site: along([run.draws[site] for run in runs]) for site in runs[0].draws}
    statistics = {name: along([getattr(run, field) for run in runs]) for name, field in STATISTICS.items()}
    by_run = {"gradients_per_chain": [run.gradients for run in runs], "adjusted": [int(run.adjusted) for run in runs]}
    save_groups(path, {"posterior": posterior, "sample_stats": statistics}, by_run, sigmas)


def load_chains(path: Path, most: int) -> tuple[Chains, ...]:
    """Read back what `save_chains` wrote.

    Args:
        path: the file.
        most: how many numbers to read at most.

    Returns:
        The chains by sigma, from the lowest.

    Raises:
        DataError: a file of another kind, or of more numbers.
    """
    import xarray

    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        posterior, statistics = (tree[group].to_dataset() for group in ("posterior", "sample_stats"))
        size = sum(int(x.size) for data in (posterior, statistics) for x in data.data_vars.values())
        if size > most or "gradients_per_chain" not in posterior.attrs:
            raise DataError(
                f"found {path} with {size:,} numbers, expected chains of `pplemd diagnose` of at most {most:,}: "
                "diagnose again with fewer --draws"
            )
        sigmas = [float(sigma) for sigma in posterior["sigma"].values] if "sigma" in posterior.dims else [None]
        gradients = np.atleast_1d(posterior.attrs["gradients_per_chain"])
        adjusted = np.atleast_1d(posterior.attrs.get("adjusted", np.zeros(len(gradients))))

        def values(variable: Any, place: int) -> np.ndarray:
            one = variable.isel(sigma=place, missing_dims="ignore")  # a target without sigma has no such dimension
            return np.asarray(one.transpose("chain", "draw", ...).values)

        def run(place: int, sigma: float | None) -> Chains:
            draws = {str(x.attrs.get(SITE, name)): values(x, place) for name, x in posterior.data_vars.items()}
            figures = {field: values(statistics[name], place) for name, field in STATISTICS.items()}
            figures["diverging"] = figures["diverging"].astype(bool)
            return Chains(sigma, draws, **figures, gradients=int(gradients[place]), adjusted=bool(adjusted[place]))

        return tuple(run(place, sigma) for place, sigma in enumerate(sigmas))


def _dataset(values: Mapping[str, np.ndarray], sigmas: Sequence[float], attributes: Mapping[str, Any]) -> Any:
    """Draws as xarray's Dataset.

    A variable is called what its site is, with a dot for a slash, which netCDF keeps for groups, and with underscores
    where something in the file already has that name. Its own dimensions are called as ArviZ calls them.
    """
    import xarray

    counts = {x.shape[:2] for x in values.values()}
    if len(counts) != 1 or 0 in next(iter(counts)):
        found = sorted({x.shape[1] for x in values.values()})
        raise DataError(f"found sets of {found} draws, expected one count above 0: draw them together")
    shared = ("chain", "draw", "sigma") if sigmas else ("chain", "draw")
    variables: dict[str, Any] = {}
    taken = set(shared)
    for site, x in values.items():
        name = site.replace("/", ".")
        while taken & {name, *(own := [f"{name}_dim_{i}" for i in range(x.ndim - len(shared))])}:
            name += "_"
        taken |= {name, *own}
        variables[name] = ((*shared, *own), x, {SITE: site})
    data = xarray.Dataset(variables, attrs={"inference_library": "pplemd", **attributes})
    places = {dim: np.arange(size) for dim, size in data.sizes.items()}
    return data.assign_coords(places | ({"sigma": np.asarray(sigmas)} if sigmas else {}))
