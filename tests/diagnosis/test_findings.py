"""Each fault is told of with its number, and sound chains are not."""

import dataclasses
import math

import pytest

from pplemd.diagnosis.arviz_draws import Row
from pplemd.diagnosis.findings import findings

SOUND = Row(
    site="z", sigma=0.5, chains=4, draws=500, r_hat=1.004, ess_bulk=900.0, ess_tail=700.0, ess_per_gradient=0.05,
    mcse_mean=0.03, mcse_over_sd=0.03, e_bfmi=0.9, energy_drift=0.3, acceptance=0.7, divergences=0, still=0,
    worst=((0,),),
)  # fmt: skip
NAN = math.nan


def row(**changed):
    return dataclasses.replace(SOUND, **changed)


def test_sound_chains_are_not_spoken_of():
    assert findings([SOUND, row(sigma=2.0), row(site="eps", ess_per_gradient=0.19), row(e_bfmi=NAN)]) == []
    assert findings([row(acceptance=1.0)]) == []  # an unadjusted kernel's
    assert findings([row(adjusted=True)]) == []
    assert findings([]) == []


FAULTS = {
    "R-hat": ({"r_hat": 1.0873}, "r_hat", "z", "R-hat of z at sigma = 0.5 is 1.087", "at most 1.01 (Vehtari", "modes"),
    "bulk": ({"ess_bulk": 87.0}, "ess_bulk", "z", "bulk ESS of z at sigma = 0.5 is 87", "at least 400", "2,300 from"),
    "tail": ({"ess_tail": 8.0}, "ess_tail", "z", "tail ESS of z at sigma = 0.5 is 8", "100 a chain", "hardly do"),
    "E-BFMI": ({"e_bfmi": 0.123}, "e_bfmi", None, "E-BFMI is 0.12", "at least 0.3 (Betancourt", "energy.png"),
    "falls": ({"energy_drift": -4.23, "e_bfmi": 0.02}, "energy_drift", None,
              "the energy falls along every chain at sigma = 0.5, by 4.2 s.d.", "level", "finer quadrature"),
    "diverged": ({"divergences": 13}, "divergences", None, "13 of 2,000", "none", "smaller steps"),
    "rejects": ({"acceptance": 0.213}, "acceptance", None, "21 % of proposals", "40 to 95 %", "smaller steps"),
    "accepts": ({"acceptance": 0.987}, "acceptance", None, "98.7 % of proposals", "40 to 95 %", "larger steps"),
    "all": ({"acceptance": 1.0, "adjusted": True}, "acceptance", None,
            "100.00 % of proposals are accepted at sigma = 0.5, by a kernel that should", "40 to 95 %", "32 bits"),
    "nearly all": ({"acceptance": 0.9995}, "acceptance", None, "99.95 % of proposals", "40 to 95 %", "far too short"),
    "no energy": ({"e_bfmi": NAN, "adjusted": True}, "e_bfmi", None,
                  "E-BFMI is undefined at sigma = 0.5: energies", "at least 0.3", "rounding decides"),
    "still": ({"still": 2}, "still", None, "2 of 4 chains never moved", "every chain moves", "smaller steps"),
    "NaN": ({"r_hat": NAN, "ess_bulk": NAN, "ess_tail": NAN, "ess_per_gradient": NAN}, "r_hat", "z",
            "z at sigma = 0.5 has draws that are constant or not finite", "finite draws", "--debug"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_once_with_its_number(fault):
    changed, about, site, found, expected, repair = FAULTS[fault]
    (finding,) = findings([row(site="eps"), row(**changed), row(sigma=2.0)])
    assert (finding.about, finding.sigma, finding.site) == (about, 0.5, site)
    assert finding.found.startswith(found)
    assert expected in finding.expected
    assert repair in finding.repair


def test_the_worst_case_is_told_with_the_number_of_cases():
    (finding,) = findings([row(r_hat=1.02), row(r_hat=1.5, sigma=1.0), SOUND, row(r_hat=1.3, site="eps")])
    assert finding.found == "R-hat of z at sigma = 1 is 1.500 (3 of 4 cases)"


def test_a_fall_along_sigma_is_told_whichever_way():
    falls = [row(site="eps"), row(sigma=0.1, ess_per_gradient=0.01), SOUND, row(sigma=2.0, ess_per_gradient=0.1)]
    (finding,) = findings(falls)
    assert finding.found == "bulk ESS of z per gradient falls from 0.05 at sigma = 0.5 to 0.01 at sigma = 0.1"
    (finding,) = findings([SOUND, row(sigma=2.0, ess_per_gradient=0.002)])
    assert finding.sigma == 2.0


def test_the_most_serious_comes_first():
    bad = row(r_hat=1.2, ess_bulk=20.0, acceptance=0.99, still=1, e_bfmi=0.1, divergences=3)
    order = ["still", "r_hat", "ess_bulk", "divergences", "e_bfmi", "acceptance"]
    assert [finding.about for finding in findings([bad])] == order


def test_chains_of_a_law_without_sigma_are_told_of_without_it():
    (finding,) = findings([row(sigma=None, r_hat=1.2)])
    assert finding.found == "R-hat of z is 1.200"
    (finding,) = findings([row(sigma=None, divergences=13)])
    assert finding.found == "13 of 2,000 transitions diverged"
