"""Methods compared: the same model distilled by each, under one budget, over seeds."""

from pplemd.comparison.bench import Compared as Compared
from pplemd.comparison.bench import Comparison as Comparison
from pplemd.comparison.bench import compare as compare
from pplemd.comparison.contenders import Budget as Budget
from pplemd.comparison.contenders import Contender as Contender
from pplemd.comparison.contenders import contenders as contenders
from pplemd.comparison.contenders import forwards_per_step as forwards_per_step
