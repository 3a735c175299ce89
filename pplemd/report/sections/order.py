"""The sections in the order of the page: name, title, and what makes what the template shows."""

from pplemd.report.sections.chains import chains
from pplemd.report.sections.curves import progress
from pplemd.report.sections.figures import figures
from pplemd.report.sections.health import health
from pplemd.report.sections.origin import origin
from pplemd.report.sections.pictures import pictures
from pplemd.report.sections.plans import plans

SECTIONS = {
    "figures": ("Figures", figures),
    "samples": ("Samples", pictures),
    "curves": ("Curves", progress),
    "health": ("Health", health),
    "chains": ("E-step", chains),
    "plan": ("Plan", plans),
    "origin": ("Reproduce", origin),
}
