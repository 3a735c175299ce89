"""The sections of a report, a file each: from its runs to what the template shows, empty where there is nothing."""

from pplemd.report.sections.chains import chains as chains
from pplemd.report.sections.figures import figures as figures
from pplemd.report.sections.figures import health as health
from pplemd.report.sections.figures import progress as progress
from pplemd.report.sections.overview import card as card
from pplemd.report.sections.overview import origin as origin
from pplemd.report.sections.pictures import pictures as pictures
from pplemd.report.sections.plans import plans as plans
