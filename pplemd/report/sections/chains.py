"""The E-step seen by long chains (`pplemd diagnose`): ArviZ's table, what is wrong, and the chains themselves."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pplemd.diagnosis import Chains, autocorrelation
from pplemd.plotting.charts import Curve, curves
from pplemd.report.glossary import number
from pplemd.report.page_parts import Chart, Table, chart
from pplemd.report.subject import Subject
from pplemd.storage.folder import dig

HEADINGS = ("site", "sigma", "R-hat", "ESS", "tail ESS", "ESS per gradient", "MCSE / s.d.", "E-BFMI", "accepted")
FIELDS = ("sigma", "r_hat", "ess_bulk", "ess_tail", "ess_per_gradient", "mcse_over_sd", "e_bfmi", "acceptance")
BY_SIGMA = {
    "r_hat": ("R-hat", "1 where chains agree; wanted below the dots", False, 1.01),
    "ess_bulk": ("ESS", "independent draws that the chains are worth", True, None),
    "ess_per_gradient": ("ESS per gradient", "what a draw costs", True, None),
}
MOST_ROWS, MOST_SITES, MOST_SIGMAS, MOST_CHAINS, LAGS = 60, 3, 6, 8, 60


def chains(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Diagnosis of each run, and figures of its E-step over sigma."""
    found = [_of(subject) for subject in subjects]
    return [one for one in found if one["rows"] or one["charts"]]


def _of(subject: Subject) -> dict[str, Any]:
    rows = _rows(subject)
    own = [_over_sigma(subject, title, *both) for title, both in subject.report_data.by_sigma.items()]
    by_sigma = [figure for field in BY_SIGMA if (figure := _by_sigma(rows, field)) is not None]
    cells = [[row["site"], *(number(dig(row, float, name)) for name in FIELDS)] for row in rows]
    found = [one for one in dig(subject.run_record.diagnosis, list, "findings") or [] if isinstance(one, dict)]
    findings = [[dig(one, str, name) or "" for name in ("found", "expected", "repair")] for one in found[:MOST_ROWS]]
    return {
        "subject": subject,
        "kernel": _kernel(subject),
        "rows": Table(HEADINGS, cells) if rows else None,
        "findings": findings,
        "charts": by_sigma + own,
        "traces": [figure for run in subject.chains[:MOST_SIGMAS] for figure in _run(subject, run)] if rows else [],
    }


def _rows(subject: Subject) -> list[dict[str, Any]]:
    found = dig(subject.run_record.diagnosis, list, "rows") or []
    return [row for row in found if isinstance(row, dict) and isinstance(row.get("site"), str)][:MOST_ROWS]


def _kernel(subject: Subject) -> str:
    diagnosis = subject.run_record.diagnosis
    kernel, step = dig(diagnosis, str, "kernel", "type"), dig(diagnosis, int, "step")
    if kernel is None or step is None:
        return ""
    row = (_rows(subject) or [{}])[0]
    many = f"{number(dig(row, float, 'chains'))} chains of {number(dig(row, float, 'draws'))} draws"
    return f"{many} by {kernel}, from the checkpoint of step {step:,}."


def _by_sigma(rows: list[dict[str, Any]], field: str) -> Chart | None:
    """A figure of the table along sigma, a line for each site."""
    title, says, log, guide = BY_SIGMA[field]
    lines = []
    for place, site in enumerate(dict.fromkeys(row["site"] for row in rows)):
        mine = [(dig(row, float, "sigma"), dig(row, float, field)) for row in rows if row["site"] == site]
        known = sorted((sigma, value) for sigma, value in mine if sigma is not None and value is not None)
        if known:
            lines.append(Curve(site, place, [s for s, _ in known], [v for _, v in known]))
    if not lines:
        return None
    drawing = curves(f"{title} over sigma", lines, log=(True, log), guide=guide)
    names = [(f"s{line.colour % 8}", line.label) for line in lines[:MOST_SITES]]
    return chart(drawing, f"{title} over sigma", says, names)


def _over_sigma(subject: Subject, title: str, sigmas: Sequence[float], values: Sequence[float]) -> Chart:
    log = all(value > 0 for value in values) and max(values) > 3 * min(values)
    line = Curve(subject.name, subject.number, list(sigmas), list(values))
    return chart(curves(f"{title} over sigma", [line], log=(True, log)), f"{title} over sigma", "in use by the E-step")


def _run(subject: Subject, run: Chains) -> list[Chart]:
    """Each chain of the worst element of a few sites: its values, and how fast it forgets."""
    where = "" if run.sigma is None else f", sigma {run.sigma:.3g}"
    found = []
    for site in list(run.draws)[:MOST_SITES]:
        worst = _worst(subject, site, run)
        x = run.flat(site)[:MOST_CHAINS, :, worst].astype(float)
        name = f"{site}{'' if run.flat(site).shape[2] == 1 else f'[{worst}]'}{where}"
        draws = list(map(float, range(run.length)))
        traces = [Curve(f"chain {i}", i, draws, one.tolist()) for i, one in enumerate(x)]
        found.append(chart(curves(f"trace of {name}", traces), f"Trace of {name}", "by draw, a colour a chain"))
        lags = autocorrelation(x, min(LAGS, run.length // 2))
        forgets = [Curve(f"chain {i}", i, draws[: len(one)], one.tolist()) for i, one in enumerate(lags)]
        drawing = curves(f"autocorrelation of {name}", forgets, guide=0.0)
        found.append(chart(drawing, f"Autocorrelation of {name}", "by lag"))
    return found


def _worst(subject: Subject, site: str, run: Chains) -> int:
    """The flat place of the element of a site that mixes worst, as the table says; the first where it does not."""
    for row in _rows(subject):
        sigma = dig(row, float, "sigma")
        same = sigma == run.sigma if sigma is None or run.sigma is None else math.isclose(sigma, run.sigma)
        index = dig(row, list, "worst", 0)
        shape = run.draws[site].shape[2:]
        if row["site"] == site and same and index is not None and len(index) == len(shape):
            try:
                return int(np.ravel_multi_index(tuple(index), shape)) if shape else 0
            except (TypeError, ValueError, OverflowError):
                return 0
    return 0
