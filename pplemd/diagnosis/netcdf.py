"""Chains and draws as netCDF files for ArviZ; the only module that meets xarray's files.

ArviZ 0.23 and 1.x share the layout; their containers differ. So groups are written as plain Datasets.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pplemd.diagnosis.chains import Chains, ordered
from pplemd.errors import DataError

SITE = "site"  # attribute of a variable: the site's name, from which the variable's may differ


def save_draws(path: Path, values: Mapping[str, np.ndarray], attributes: Mapping[str, Any] | None = None) -> None:
    """Write independent draws as the posterior of one chain, in a netCDF file that `arviz.from_netcdf` opens.

    Args:
        path: the file.
        values: name -> (draw, *shape).
        attributes: numbers and strings to keep beside them.

    Raises:
        DataError: no draws, sets of unlike counts, or a file that cannot be written.
    """
    save_groups(path, {"posterior": {name: x[None] for name, x in values.items()}}, attributes)


def save_groups(
    path: Path, groups: Mapping[str, Mapping[str, np.ndarray]], attributes: Mapping[str, Any] | None = None
) -> None:
    """Write draws of chains in a netCDF file that `arviz.from_netcdf` opens, whole or not at all.

    Args:
        path: the file.
        groups: ArviZ's group, such as "posterior", -> name -> (chain, draw, *shape).
        attributes: numbers and strings to keep beside them.

    Raises:
        DataError: no draws, sets of unlike counts, or a file that cannot be written.
    """
    _write(path, {group: _dataset(values, attributes or {}) for group, values in groups.items()})


def _dataset(values: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> Any:
    import xarray

    counts = {x.shape[:2] for x in values.values()}
    if len(counts) != 1 or 0 in next(iter(counts)):
        found = sorted({x.shape[1] for x in values.values()})
        raise DataError(f"found sets of {found} draws, expected one count above 0: draw them together")
    chains, draws = counts.pop()
    coords: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(draws)}
    variables, own = _variables(values, tuple(coords))
    return xarray.Dataset(variables, coords | own, {"inference_library": "pplemd", **attributes})


def save(path: Path, runs: Sequence[Chains]) -> None:
    """Write long chains in a netCDF file that `arviz.from_netcdf` opens, whole or not at all.

    Group posterior holds the sites with dimensions (chain, draw, sigma, *site), group sample_stats acceptance_rate,
    diverging and energy; both have the coordinate sigma and the attributes gradients_per_chain and adjusted, by sigma.
    ArviZ's plot_energy takes one sigma at a time: `data.sel(sigma=...)`. Chains of a law without sigma lack that
    dimension.

    Args:
        path: the file, chains.nc in a run folder.
        runs: the chains, one record for each sigma.

    Raises:
        DataError: no chains, records that differ in more than their sigma, or a file that cannot be written.
    """
    _write(path, _groups(ordered(runs)))


def load_chains(path: Path, most: int) -> tuple[Chains, ...]:
    """Read back what `save` wrote.

    Args:
        path: the file.
        most: how many numbers to read at most.

    Returns:
        The chains by sigma, from the lowest.

    Raises:
        DataError: a file of another kind, or of more numbers.
    """
    import xarray

    with (
        xarray.open_dataset(path, group="posterior", engine="h5netcdf") as posterior,
        xarray.open_dataset(path, group="sample_stats", engine="h5netcdf") as stats,
    ):
        size = sum(int(variable.size) for data in (posterior, stats) for variable in data.data_vars.values())
        if size > most or "gradients_per_chain" not in posterior.attrs:
            raise DataError(
                f"found {path} with {size:,} numbers, expected chains of `pplemd diagnose` of at most {most:,}: "
                "diagnose again with fewer --draws"
            )
        gradients = np.atleast_1d(posterior.attrs["gradients_per_chain"])
        adjusted = np.atleast_1d(posterior.attrs.get("adjusted", np.zeros(len(gradients))))
        sigmas = [float(sigma) for sigma in posterior["sigma"].values] if "sigma" in posterior.dims else [None]
        return tuple(
            _one(posterior, stats, sigma, (int(gradients[i]), bool(adjusted[i]))) for i, sigma in enumerate(sigmas)
        )


def _one(posterior: Any, stats: Any, sigma: float | None, told: tuple[int, bool]) -> Chains:
    """The record of one sigma."""

    def values(data: Any, name: str) -> np.ndarray:
        chosen = data[name] if sigma is None else data[name].sel(sigma=sigma)
        return np.asarray(chosen.transpose("chain", "draw", ...).values)

    draws = {str(posterior[name].attrs.get(SITE, name)): values(posterior, str(name)) for name in posterior.data_vars}
    diverging = values(stats, "diverging").astype(bool)
    return Chains(sigma, draws, values(stats, "acceptance_rate"), diverging, values(stats, "energy"), *told)


def _write(path: Path, groups: dict[str, Any]) -> None:
    """Write groups, whole or not at all.

    Raises:
        DataError: where the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
            whole = Path(beside) / path.name
            for number, (name, data) in enumerate(groups.items()):
                data.to_netcdf(whole, mode="a" if number else "w", group=name, engine="h5netcdf")
            with whole.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(whole, path)
    except OSError as error:
        raise DataError(f"found {path} not writable ({error}), expected a writable folder: choose another") from error


def _variables(values: Mapping[str, np.ndarray], dims: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Variables for xarray, one for each site, and the coordinates of their own dimensions, which come after `dims`.

    A variable is called what its site is, with underscores where something in the file already is.
    """
    variables: dict[str, Any] = {}
    coords: dict[str, np.ndarray] = {}
    for site, x in values.items():
        shape = x.shape[len(dims) :]
        name = site.replace("/", ".")  # netCDF keeps the slash for groups
        while {*dims, *variables, *coords} & {name, *_own_dimensions(name, len(shape))}:
            name += "_"
        own = _own_dimensions(name, len(shape))
        coords |= {dim: np.arange(size) for dim, size in zip(own, shape, strict=True)}
        variables[name] = ((*dims, *own), x, {SITE: site})
    return variables, coords


def _own_dimensions(name: str, rank: int) -> tuple[str, ...]:
    return tuple(f"{name}_dim_{i}" for i in range(rank))  # ArviZ's names


def _groups(runs: tuple[Chains, ...]) -> dict[str, Any]:
    """Group name -> xarray Dataset."""
    import xarray

    coords: dict[str, Any] = {"chain": np.arange(runs[0].count), "draw": np.arange(runs[0].length)}
    if noised := runs[0].sigma is not None:
        coords["sigma"] = [run.sigma for run in runs]
    dims = tuple(coords)

    def along(arrays: list[np.ndarray]) -> np.ndarray:
        return np.stack(arrays, axis=2) if noised else arrays[0]

    posterior, own = _variables({site: along([run.draws[site] for run in runs]) for site in runs[0].draws}, dims)
    fields = {"acceptance_rate": "acceptance", "diverging": "diverging", "energy": "energy"}
    stats = {name: (dims, along([getattr(run, field) for run in runs])) for name, field in fields.items()}
    by_run = {"gradients_per_chain": [run.gradients for run in runs], "adjusted": [int(run.adjusted) for run in runs]}
    attributes = {"inference_library": "pplemd", **by_run}
    return {
        "posterior": xarray.Dataset(posterior, coords | own, attributes),
        "sample_stats": xarray.Dataset(stats, coords, attributes),
    }
