"""ArviZ's figures of long chains; the only module that meets ArviZ, of either major version."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pplemd.diagnosis.chain_record import Chains, ordered
from pplemd.errors import DataError

ALL_UP_TO = 256  # elements that ArviZ judges one by one in about a second
WORST, SLOWEST = 160, 94  # of a bigger site; with its mean and mean square 256 in all


@dataclasses.dataclass(frozen=True)
class Judged:
    """Numbers of one site along the chains, for ArviZ.

    Attributes:
        x: the numbers: elements first, then, of a big site, the mean and the mean square over all of its elements.
        index: the flat index of each element in the site.
    """

    x: Float[np.ndarray, "chain draw judged"]
    index: Int[np.ndarray, " element"]


def judged(x: Float[np.ndarray, "chain draw element"]) -> Judged:
    """All elements of a site, or of one with more than 256 those that look worst, its mean and its mean square.

    A big site is screened in one pass over all elements: the 160 of the largest classic split R-hat and the 94 of the
    largest lag-one autocorrelation go to ArviZ, whose worst element they hold with near certainty. Mean and mean square
    stand for what moves together: many elements that drift by little each show there.

    Args:
        x: draws of a site, flattened.
    """
    elements = x.shape[2]
    if elements <= ALL_UP_TO:
        return Judged(x, np.arange(elements))
    x = x.astype(np.float64)
    spread = np.argsort(-_or_worst(split_rhat(x)), kind="stable")[:WORST]
    left = np.setdiff1d(np.arange(elements), spread)
    slow = left[np.argsort(-_or_worst(lag_one(x[..., left])), kind="stable")[:SLOWEST]]
    index = np.concatenate([spread, slow])
    with np.errstate(invalid="ignore", over="ignore"):
        together = np.stack([x.mean(axis=2), np.mean(x**2, axis=2)], axis=2)
    return Judged(np.concatenate([x[..., index], together], axis=2), index)


def split_rhat(x: Float[np.ndarray, "chain draw element"]) -> Float[np.ndarray, " element"]:
    """Classic split R-hat of every element: the s.d. of halves together over that within them.

    Source: Vehtari et al. 2021, arXiv:1903.08008, equations 1 to 4, without ranks: a screen, not the verdict.
    """
    half = x.shape[1] // 2
    halves = np.concatenate([x[:, :half], x[:, -half:]])
    with np.errstate(divide="ignore", invalid="ignore"):
        within = halves.var(axis=1, ddof=1).mean(axis=0)
        between = halves.mean(axis=1).var(axis=0, ddof=1)
        return np.sqrt((half - 1) / half + between / within)


def lag_one(x: Float[np.ndarray, "chain draw element"]) -> Float[np.ndarray, " element"]:
    """Lag-one autocorrelation of every element, around the mean of all chains."""
    with np.errstate(divide="ignore", invalid="ignore"):
        y = x - x.mean(axis=(0, 1))
        return np.mean(y[:, 1:] * y[:, :-1], axis=(0, 1)) / np.mean(y**2, axis=(0, 1))


def autocorrelation(x: Float[np.ndarray, "chain draw"], lags: int) -> Float[np.ndarray, "chain lag"]:
    """Autocorrelation of each chain around the mean of all, at lags 0 to `lags` - 1, by the Fourier transform.

    Around the common mean a chain that stays elsewhere does not decorrelate, as it would around its own.
    """
    length = x.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        y = x - x.mean()
        spectrum = np.fft.rfft(y, n=2 ** math.ceil(math.log2(2 * length)), axis=1)  # zeros behind: no wrapping around
        covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : min(lags, length)] / length
        return covariance / covariance[:, :1]


def _or_worst(figures: np.ndarray) -> np.ndarray:
    """NaN, of elements that are constant or not finite, as the worst."""
    return np.where(np.isnan(figures), np.inf, figures)


FEWEST = 30  # log ratios, of which ArviZ fits a tail of six
RELIABLE = 0.7  # arXiv:1507.02646: above it the error of smoothed weights falls so slowly that no count of draws helps
ALIKE = 1e-4  # differences of log ratios that are the rounding of densities in 32 bits
DISTINCT = 5  # ratios of a tail, of which a Pareto shape can be fitted
NAMED = 3  # elements of a site that its row names, and pictures show


@dataclasses.dataclass(frozen=True)
class Row:
    """What ArviZ says of one site at one sigma; what does not depend on the site is repeated in each.

    Attributes:
        site: the site.
        sigma: noise level, in data units; None for a target without one.
        chains: how many chains.
        draws: kept draws of each.
        r_hat: rank-normalised split R-hat, the largest over elements; 1 where chains agree.
        ess_bulk: effective sample size of the bulk over all chains, the smallest over elements.
        ess_tail: the same of the 5 % and 95 % quantiles.
        ess_per_gradient: `ess_bulk` over the score evaluations of all chains.
        mcse_mean: Monte Carlo standard error of the mean, the largest over elements, in the site's units.
        mcse_over_sd: the same over the element's own s.d., the largest.
        e_bfmi: estimated Bayesian fraction of missing information, the smallest over chains; NaN without energies.
        energy_drift: change of energy from the first to the last quarter of a chain, in s.d. within quarters: the
            smallest over chains where all change in one direction, else 0. In stationary chains nothing drifts.
        acceptance: mean acceptance probability.
        divergences: divergent transitions, in all chains.
        still: chains that never moved.
        worst: indices in the site of the elements of the lowest `ess_bulk`, at most three, the lowest first.
        adjusted: whether the kernel may refuse a proposal.
    """

    site: str
    sigma: float | None
    chains: int
    draws: int
    r_hat: float
    ess_bulk: float
    ess_tail: float
    ess_per_gradient: float
    mcse_mean: float
    mcse_over_sd: float
    e_bfmi: float
    energy_drift: float
    acceptance: float
    divergences: int
    still: int
    worst: tuple[tuple[int, ...], ...]
    adjusted: bool = False

    @property
    def where(self) -> str:
        """At which sigma, for a sentence; nothing for a target without one."""
        return "" if self.sigma is None else f" at sigma = {self.sigma:.3g}"


def table(runs: Sequence[Chains]) -> list[Row]:
    """Judge every site at every sigma; elements of big sites as `elements.judged` picks them.

    An element that is constant, or not finite, has no R-hat and no ESS: its figures are NaN, and so are the site's.

    Args:
        runs: the chains, one record for each sigma.

    Returns:
        Rows by site, in the order of the records, each from the lowest sigma to the highest.

    Raises:
        DataError: no chains, or records that differ in more than their sigma.
    """
    runs = ordered(runs)
    return [_row(run, site) for site in runs[0].draws for run in runs]


def _row(run: Chains, site: str) -> Row:
    chosen = judged(run.flat(site))
    # arviZ's figures of each of the numbers, all NaN for one that is constant or not finite
    x = chosen.x
    import xarray

    az = _arviz()
    flat = x.astype(np.float64).reshape(-1, x.shape[2])
    good = np.isfinite(flat).all(axis=0) & np.any(flat != flat[0], axis=0)
    names = ("r_hat", "ess_bulk", "ess_tail", "mcse_mean", "mcse_over_sd")
    of = {name: np.full(x.shape[2], np.nan) for name in names}
    if good.any():
        data = xarray.Dataset({"x": (("chain", "draw", "element"), x[..., good].astype(np.float64))})
        of["r_hat"][good] = az.rhat(data)["x"].values
        of["ess_bulk"][good] = az.ess(data, method="bulk")["x"].values
        of["ess_tail"][good] = az.ess(data, method="tail")["x"].values
        of["mcse_mean"][good] = az.mcse(data, method="mean")["x"].values
        of["mcse_over_sd"][good] = of["mcse_mean"][good] / flat[:, good].std(axis=0, ddof=1)
    worst = _from_worst(of["ess_bulk"][: len(chosen.index)])[:NAMED]
    ess = float(np.min(of["ess_bulk"]))
    return Row(
        site=site,
        sigma=run.sigma,
        chains=run.count,
        draws=run.length,
        r_hat=float(np.max(of["r_hat"])),
        ess_bulk=ess,
        ess_tail=float(np.min(of["ess_tail"])),
        ess_per_gradient=ess / (run.count * run.gradients),
        mcse_mean=float(np.max(of["mcse_mean"])),
        mcse_over_sd=float(np.max(of["mcse_over_sd"])),
        e_bfmi=_e_bfmi(run.energy),
        energy_drift=_drift(run.energy),
        acceptance=float(np.mean(run.acceptance)),
        divergences=int(np.sum(run.diverging)),
        still=run.still(),
        worst=tuple(_index(run, site, chosen, place) for place in worst),
        adjusted=run.adjusted,
    )


def _index(run: Chains, site: str, chosen: Judged, place: np.integer) -> tuple[int, ...]:
    """The index in the site of a judged element."""
    shape = run.draws[site].shape[2:]
    return tuple(int(i) for i in np.unravel_index(chosen.index[place], shape))


def _from_worst(ess: np.ndarray) -> np.ndarray:
    """Places from the lowest ESS up, NaN before all."""
    return np.argsort(np.where(np.isnan(ess), -np.inf, ess), kind="stable")


def _e_bfmi(energy: np.ndarray) -> float:
    """The lowest over chains; NaN where an energy is not known, or never changes."""
    if not np.isfinite(energy).all() or not np.ptp(energy, axis=1).all():
        return float("nan")
    return float(np.min(_arviz().bfmi(energy.astype(np.float64))))


def _drift(energy: np.ndarray) -> float:
    """The smallest change over chains that all change in one direction, in s.d.; 0 where an energy is not known."""
    if not np.isfinite(energy).all() or not np.ptp(energy, axis=1).all():
        return 0.0
    quarter = max(energy.shape[1] // 4, 2)
    first, last = energy[:, :quarter].astype(np.float64), energy[:, -quarter:].astype(np.float64)
    change = last.mean(axis=1) - first.mean(axis=1)
    change /= np.sqrt((first.var(axis=1, ddof=1) + last.var(axis=1, ddof=1)) / 2) + np.finfo(np.float64).tiny
    return float(max(change.min(), 0.0) + min(change.max(), 0.0))


def _arviz() -> Any:
    """ArviZ, imported when it is needed: it takes seconds, and 0.23 warns of its successor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    return arviz


def pareto_smoothed(log_ratios: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], float]:
    """Importance weights whose largest are those of a fitted Pareto tail, and the tail's shape k.

    Args:
        log_ratios: log of target over proposal at draws of the proposal, up to a constant.

    Returns:
        Log weights, whose exponentials sum to 1, and k: 0 where the tail's ratios are all alike, NaN where too few of
        them differ for a tail to be fitted; both leave the weights as they are.

    Raises:
        DataError: fewer than 30 draws where the target has any mass, too few for a tail, or a ratio that is NaN or
            infinite (-inf apart).

    Source: Vehtari et al., arXiv:1507.02646, section 2.
    """
    bad = int((np.isnan(log_ratios) | (log_ratios == np.inf)).sum())
    known = int(np.isfinite(log_ratios).sum())
    if known < FEWEST or bad:
        raise DataError(
            f"found {len(log_ratios)} log ratios, {known} of them finite, {bad} NaN or infinite; expected {FEWEST} or "
            "more, all finite: draw more, and see that the target has a density at the draws, a finite one"
        )
    log_weights, k_hat = _smoothed(log_ratios - log_ratios.max())
    return log_weights - np.logaddexp.reduce(log_weights), k_hat


def _smoothed(log_ratios: np.ndarray) -> tuple[np.ndarray, float]:
    """Log ratios with a fitted tail, and its shape; as they are where the tail's are alike, or no tail fits."""
    count = len(log_ratios)
    tail = np.sort(log_ratios)[-math.ceil(min(count / 5, 3 * math.sqrt(count))) :]
    if tail[-1] - tail[0] < ALIKE:
        return log_ratios, 0.0
    if len(np.unique(tail)) < DISTINCT:
        return log_ratios, math.nan
    psis, sign = _smoothing()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a large k, which is returned
        try:
            smoothed, k_hat = psis(sign * log_ratios)
        except ValueError:  # of a tail in which too many are alike
            return log_ratios, math.nan
    return (np.asarray(smoothed, np.float64), float(k_hat)) if np.isfinite(k_hat) else (log_ratios, math.nan)


@functools.cache
def _smoothing() -> tuple[Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], float]:
    """ArviZ's Pareto smoothing, and the sign of log ratios in it: some releases take them, some their negatives."""
    az = _arviz()
    if hasattr(az, "psislw"):
        psis = az.psislw
    else:  # ArviZ 1.x keeps it in the package of its statistics
        from arviz_stats.base import array_stats

        psis = array_stats.psislw
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe, _ = psis(np.linspace(0.0, 3.0, 100))
    return psis, float(np.sign(probe[-1] - probe[0]))
