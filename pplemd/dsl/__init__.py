"""The declarations of a program, its abstract trace, and the problem that the trace yields."""

from pplemd.dsl.effects import generate as generate
from pplemd.dsl.effects import latent as latent
from pplemd.dsl.explain import explained as explained
from pplemd.dsl.load import load_file as load_file
from pplemd.dsl.load import select as select
from pplemd.dsl.posterior import posterior as posterior
from pplemd.dsl.problem import Output as Output
from pplemd.dsl.problem import Problem as Problem
from pplemd.dsl.problem import Site as Site
from pplemd.dsl.program import Program as Program
from pplemd.dsl.trace import trace as trace
