"""Centered, non-centered or between: criteria that choose each latent's coordinates, and the policy over them."""

from pplemd.parameterization.fisher import AbstractCriterion as AbstractCriterion
from pplemd.parameterization.fisher import Change as Change
from pplemd.parameterization.fisher import Curvature as Curvature
from pplemd.parameterization.fisher import Fisher as Fisher
from pplemd.parameterization.fisher import Pilot as Pilot
from pplemd.parameterization.fisher import Placement as Placement
from pplemd.parameterization.fisher import best_for_gaussians as best_for_gaussians
from pplemd.parameterization.fisher import divergence as divergence
from pplemd.parameterization.fisher import isotropic_divergence as isotropic_divergence
from pplemd.parameterization.fisher import scored as scored
from pplemd.parameterization.fisher import shares as shares
from pplemd.parameterization.of_posterior import posterior as posterior
from pplemd.parameterization.of_x import XDraws as XDraws
from pplemd.parameterization.of_x import choose_x as choose_x
from pplemd.parameterization.policy import Choice as Choice
from pplemd.parameterization.policy import Length as Length
from pplemd.parameterization.policy import Policy as Policy
from pplemd.parameterization.policy import Trial as Trial
from pplemd.parameterization.policy import described as described
from pplemd.parameterization.policy import parameterize as parameterize
from pplemd.parameterization.policy import trial as trial
