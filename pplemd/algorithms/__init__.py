"""Algorithms: how networks learn, a file each."""

from pplemd.algorithms.anchor import Anchor as Anchor
from pplemd.algorithms.consistency import Consistency as Consistency
from pplemd.algorithms.convergence import Convergence as Convergence
from pplemd.algorithms.convergence import convergence as convergence
from pplemd.algorithms.diff_instruct import DiffInstruct as DiffInstruct
from pplemd.algorithms.distillation import AbstractDistillation as AbstractDistillation
from pplemd.algorithms.distillation import DistillationContext as DistillationContext
from pplemd.algorithms.distillation import Pulled as Pulled
from pplemd.algorithms.distillation import ScoreUpdates as ScoreUpdates
from pplemd.algorithms.dmd import DMD as DMD
from pplemd.algorithms.emd import EMD as EMD
from pplemd.algorithms.monte_carlo_em import FitContext as FitContext
from pplemd.algorithms.monte_carlo_em import MonteCarloEM as MonteCarloEM
from pplemd.algorithms.reparameterization import Reparameterization as Reparameterization
from pplemd.algorithms.score_matching import ScoreMatching as ScoreMatching
from pplemd.algorithms.score_matching import TeachingContext as TeachingContext
from pplemd.algorithms.sid import SiD as SiD
from pplemd.algorithms.sim import SIM as SIM
from pplemd.learning.algorithm import AbstractAlgorithm as AbstractAlgorithm
