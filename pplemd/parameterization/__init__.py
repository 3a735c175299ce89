"""Centered, non-centered or between: criteria that choose each latent's coordinates, and the policy over them."""

from pplemd.parameterization.base import AbstractCriterion as AbstractCriterion
from pplemd.parameterization.curvature import Curvature as Curvature
from pplemd.parameterization.curvature import best_for_gaussians as best_for_gaussians
from pplemd.parameterization.curvature import shares as shares
from pplemd.parameterization.fisher import Fisher as Fisher
from pplemd.parameterization.fisher import divergence as divergence
from pplemd.parameterization.fisher import isotropic_divergence as isotropic_divergence
from pplemd.parameterization.of_posterior import posterior as posterior
from pplemd.parameterization.of_x import XDraws as XDraws
from pplemd.parameterization.of_x import choose_x as choose_x
from pplemd.parameterization.placement import Change as Change
from pplemd.parameterization.placement import Pilot as Pilot
from pplemd.parameterization.placement import Placement as Placement
from pplemd.parameterization.placement import scored as scored
from pplemd.parameterization.policy import Choice as Choice
from pplemd.parameterization.policy import Policy as Policy
from pplemd.parameterization.policy import parameterize as parameterize
from pplemd.parameterization.summary import described as described
from pplemd.parameterization.trial import Length as Length
from pplemd.parameterization.trial import Trial as Trial
from pplemd.parameterization.trial import trial as trial
