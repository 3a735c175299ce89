"""What the figures of long chains mean: what was found, what is expected, what to do."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from pplemd.diagnosis.arviz_draws import Row

R_HAT = 1.01  # Vehtari et al. 2021, arXiv:1903.08008, section 4: above it chains are not yet of one distribution
ESS_PER_CHAIN = 100  # the same, section 4: below 400 of 4 chains, ESS and standard errors are not reliable themselves
BFMI = 0.3  # Betancourt 2016, arXiv:1604.00695, and Stan's and ArviZ's threshold
ACCEPTANCE_LOW, ACCEPTANCE_HIGH = 0.4, 0.95  # the best rates are .574 (one leapfrog, Roberts & Rosenthal 1998) to .8
GOOD_ACCEPTANCE = "40 to 95 %; best is about 57 % for one leapfrog step, 65 to 80 % for several"
ALL_ACCEPTED = 0.9999  # unadjusted kernels accept everything by definition: nothing follows from it
TOO_GOOD = 0.999  # of an adjusted kernel: steps a hundredth of the target's width, or energies too large to tell apart
DRIFT = 2.0  # s.d. that all energies move by, the same way; simulated: by chance in 1 of 1,000 runs at E-BFMI .02
FAR_TOO_SHORT = 20.0  # times by which chains would have to be longer, where that is no advice any more: a choice
FALL = 4.0  # times by which the ESS of one draw may fall between neighbouring sigma before it is reported: a choice


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        about: which figure, by the name of the row's field.
        sigma: noise level where it is worst; None for a target without one.
        site: the site where it is worst, or None where it is the whole chain's.
        found: what was found, with its number.
        expected: what is expected, with its source.
        repair: what to do about it.
    """

    about: str
    sigma: float | None
    site: str | None
    found: str
    expected: str
    repair: str


def findings(rows: Sequence[Row]) -> list[Finding]:
    """What is wrong with chains, the most serious first; empty where nothing is.

    Of each kind the worst case is reported, with the number of cases beside it.

    Args:
        rows: the table of the chains.
    """
    checks = (
        *(_still, _unknown, _r_hat, _ess, _divergences, _unresolved, _no_energy, _acceptance_low, _drift, _e_bfmi),
        *(_fall, _acceptance_high),
    )
    return [found for check in checks for found in check(rows)]


def _still(rows: Sequence[Row]) -> Iterable[Finding]:
    for row in _worst(rows, lambda row: row.still, 0.0):
        yield Finding(
            "still", row.sigma, None,
            f"{row.still} of {row.chains} chains never moved{row.where}",
            "every chain moves",
            "Take smaller steps, or a longer warm-up that can find them; figures of chains that stand say nothing.",
        )  # fmt: skip


def _unknown(rows: Sequence[Row]) -> Iterable[Finding]:
    for row in _worst(rows, lambda row: math.isnan(row.r_hat) and row.still < row.chains, 0.0):
        yield Finding(
            "r_hat", row.sigma, row.site,
            f"{_at(row)} has draws that are constant or not finite{_others(rows, lambda r: math.isnan(r.r_hat))}",
            "finite draws that vary",
            "Look for NaN in the teacher's or the score network's score (--debug stops at the first). What is constant "
            "by definition, as above the diagonal of a Cholesky factor, is no fault.",
        )  # fmt: skip


def _r_hat(rows: Sequence[Row]) -> Iterable[Finding]:
    for row in _worst(rows, lambda row: row.r_hat, R_HAT):
        yield Finding(
            "r_hat", row.sigma, row.site,
            f"R-hat of {_at(row)} is {row.r_hat:.3f}{_others(rows, lambda r: r.r_hat > R_HAT)}",
            f"at most {R_HAT} (Vehtari et al. 2021)",
            "The chains have not come to one distribution. Run them longer (--warm-up, --draws); where trace.png and "
            "rank.png show chains that stay apart, the target has modes that this kernel does not cross.",
        )  # fmt: skip


def _ess(rows: Sequence[Row]) -> Iterable[Finding]:
    def short(row: Row) -> float:
        """How many times too few."""
        return ESS_PER_CHAIN * row.chains / max(min(row.ess_bulk, row.ess_tail), 1e-9)

    for row in _worst(rows, short, 1.0):
        which, least = ("bulk", row.ess_bulk) if row.ess_bulk <= row.ess_tail else ("tail", row.ess_tail)
        number = row.draws * short(row)
        unit = 10 ** max(math.floor(math.log10(number)) - 1, 0)
        round_up = math.ceil(number / unit) * unit
        repair = f"Draw about {round_up:,} from each chain (--draws), or let a transition go "
        if short(row) > FAR_TOO_SHORT:
            repair = "Longer chains alone will hardly do: let a transition go "
        yield Finding(
            f"ess_{which}", row.sigma, row.site,
            f"{which} ESS of {_at(row)} is {least:,.0f}{_others(rows, lambda r: short(r) > 1)}",
            f"at least {ESS_PER_CHAIN * row.chains}, {ESS_PER_CHAIN} a chain (Vehtari et al. 2021)",
            repair + "further, by more or larger leapfrog steps.",
        )  # fmt: skip


def _divergences(rows: Sequence[Row]) -> Iterable[Finding]:
    for row in _worst(rows, lambda row: row.divergences, 0.0):
        total = row.chains * row.draws
        yield Finding(
            "divergences", row.sigma, None,
            f"{row.divergences:,} of {total:,} transitions diverged{row.where}",
            "none (Betancourt 2016)",
            "The score is steeper there than the steps are short, so the draws leave that region out. Take smaller "
            "steps, or a higher target of acceptance.",
        )  # fmt: skip


def _acceptance_low(rows: Sequence[Row]) -> Iterable[Finding]:
    for row in _worst(rows, lambda row: -row.acceptance, -ACCEPTANCE_LOW):
        yield Finding(
            "acceptance", row.sigma, None,
            f"{100 * row.acceptance:.0f} % of proposals are accepted{row.where}",
            GOOD_ACCEPTANCE,
            "Take smaller steps, or a longer warm-up that can find them.",
        )  # fmt: skip


def _unresolved(rows: Sequence[Row]) -> Iterable[Finding]:
    adjusted = [row for row in rows if row.adjusted or row.acceptance < ALL_ACCEPTED]
    for row in _worst(adjusted, lambda row: row.acceptance, TOO_GOOD):
        yield Finding(
            "acceptance", row.sigma, None,
            f"{100 * row.acceptance:.2f} % of proposals are accepted{row.where}, by a kernel that should refuse some",
            GOOD_ACCEPTANCE,
            "Either the steps are far too short: let the warm-up find them. Or nothing is decided: log densities so "
            "large that 32 bits do not tell one from the next. Then the draws are of another distribution: subtract "
            "what is constant, and measure latents and data in units near their s.d.",
        )  # fmt: skip


def _no_energy(rows: Sequence[Row]) -> Iterable[Finding]:
    for row in _worst(rows, lambda row: row.adjusted and math.isnan(row.e_bfmi) and row.still < row.chains, 0.0):
        yield Finding(
            "e_bfmi", row.sigma, None,
            f"E-BFMI is undefined{row.where}: energies are not finite, or never change",
            f"at least {BFMI} (Betancourt 2016)",
            "Look for log densities that are infinite, or so large that 32 bits do not tell one from the next: then "
            "rounding decides on proposals, and the draws are of another distribution.",
        )  # fmt: skip


def _acceptance_high(rows: Sequence[Row]) -> Iterable[Finding]:
    usual = [row for row in rows if row.acceptance <= TOO_GOOD]
    for row in _worst(usual, lambda row: row.acceptance, ACCEPTANCE_HIGH):
        yield Finding(
            "acceptance", row.sigma, None,
            f"{100 * row.acceptance:.1f} % of proposals are accepted{row.where}",
            GOOD_ACCEPTANCE,
            "Nothing is wrong, but larger steps would go further for the same number of scores.",
        )  # fmt: skip


def _drift(rows: Sequence[Row]) -> Iterable[Finding]:
    for row in _worst(rows, lambda row: abs(row.energy_drift), DRIFT):
        way = "falls" if row.energy_drift < 0 else "rises"
        yield Finding(
            "energy_drift", row.sigma, None,
            f"the energy {way} along every chain{row.where}, by {abs(row.energy_drift):.1f} s.d.",
            "a level energy",
            "Either the warm-up was too short (--warm-up), or this is no energy: line integrals of scores that are "
            "not gradients, or on too few nodes, add up to no density. Then accepting and rejecting favour loops, and "
            "E-BFMI says nothing. Compare a finer quadrature, or smaller steps.",
        )  # fmt: skip


def _e_bfmi(rows: Sequence[Row]) -> Iterable[Finding]:
    steady = [row for row in rows if abs(row.energy_drift) <= DRIFT]  # of an energy that drifts it says nothing
    for row in _worst(steady, lambda row: -row.e_bfmi, -BFMI):
        yield Finding(
            "e_bfmi", row.sigma, None,
            f"E-BFMI is {row.e_bfmi:.2f}{row.where}",
            f"at least {BFMI} (Betancourt 2016)",
            "Fresh momenta change the energy too little to reach the target's tails: see energy.png. Longer "
            "trajectories do not help; step sizes of each block of coordinates, or other coordinates, do.",
        )  # fmt: skip


def _fall(rows: Sequence[Row]) -> Iterable[Finding]:
    """Bulk ESS per gradient that changes much from one sigma to the next."""
    cases = []
    for site in dict.fromkeys(row.site for row in rows):
        mine = [row for row in rows if row.site == site and row.ess_per_gradient > 0 and row.sigma is not None]
        mine = sorted(mine, key=lambda row: row.sigma or 0.0)
        cases += [sorted(pair, key=lambda row: -row.ess_per_gradient) for pair in pairwise(mine)]
    good, bad = max(cases, key=lambda pair: pair[0].ess_per_gradient / pair[1].ess_per_gradient, default=(None, None))
    if good is None or bad is None or good.ess_per_gradient <= FALL * bad.ess_per_gradient:
        return
    yield Finding(
        "ess_per_gradient", bad.sigma, bad.site,
        f"bulk ESS of {bad.site} per gradient falls from {good.ess_per_gradient:.2g} at sigma = {good.sigma:.3g} to "
        f"{bad.ess_per_gradient:.2g} at sigma = {bad.sigma:.3g}",
        f"less than {FALL:.0f} times between neighbouring sigma",
        "One step size does not suit every sigma: adapt it by sigma, scale the latents' by the generator's slope "
        "over sigma, or train with more transitions where mixing is slow.",
    )  # fmt: skip


def _worst(rows: Iterable[Row], figure: Callable[[Row], float], limit: float) -> list[Row]:
    """The row of the largest figure, where that is above the limit; NaN is not compared."""
    above = [row for row in rows if figure(row) > limit]
    return [max(above, key=figure)] if above else []


def _at(row: Row) -> str:
    return f"{row.site}{row.where}"


def _others(rows: Sequence[Row], wrong: Callable[[Row], bool]) -> str:
    """How many other cases there are of the kind whose worst is reported."""
    count = sum(wrong(row) for row in rows)
    return f" ({count} of {len(rows)} cases)" if count > 1 else ""
