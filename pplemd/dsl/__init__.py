"""The declarations of a program, its abstract trace, and the problem that the trace yields."""

from pplemd.dsl.effects import generate as generate, latent as latent
from pplemd.dsl.problem import Output as Output, Problem as Problem, Site as Site
from pplemd.dsl.program import Program as Program
from pplemd.dsl.trace import trace as trace
