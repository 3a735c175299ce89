"""The declarations of a program, its abstract trace, and the problem that the trace yields."""

from pplemd.dsl.centering import Centering as Centering
from pplemd.dsl.checks import constants as constants
from pplemd.dsl.effects import generate as generate
from pplemd.dsl.effects import latent as latent
from pplemd.dsl.effects import observe as observe
from pplemd.dsl.effects import plate as plate
from pplemd.dsl.explain import explained as explained
from pplemd.dsl.load import given as given
from pplemd.dsl.load import load_file as load_file
from pplemd.dsl.load import select as select
from pplemd.dsl.numpyro_model import posterior as posterior
from pplemd.dsl.own_mode import in_own_mode as in_own_mode
from pplemd.dsl.problem import Problem as Problem
from pplemd.dsl.program import Program as Program
from pplemd.dsl.siblings import siblings as siblings
from pplemd.dsl.sites import Observed as Observed
from pplemd.dsl.sites import Output as Output
from pplemd.dsl.sites import Plate as Plate
from pplemd.dsl.sites import Site as Site
from pplemd.dsl.support import check_probability as check_probability
from pplemd.dsl.trace import trace as trace
from pplemd.dsl.trace import trace_observed as trace_observed
