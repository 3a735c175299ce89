"""The sections of a report, a file each: from its runs to a part of the page, None where there is nothing to show."""

from pplemd.report.sections.chains import chains as chains
from pplemd.report.sections.curves import progress as progress
from pplemd.report.sections.figures import figures as figures
from pplemd.report.sections.health import health as health
from pplemd.report.sections.origin import origin as origin
from pplemd.report.sections.overview import overview as overview
from pplemd.report.sections.pictures import pictures as pictures
from pplemd.report.sections.plans import plans as plans
