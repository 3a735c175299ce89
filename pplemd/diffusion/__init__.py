"""Noise levels, conventions, preconditioning, weightings and reverse samplers."""

from pplemd.diffusion.convert import FlowClean as FlowClean
from pplemd.diffusion.convert import FlowVelocity as FlowVelocity
from pplemd.diffusion.convert import Rescaled as Rescaled
from pplemd.diffusion.convert import VPClean as VPClean
from pplemd.diffusion.convert import VPEps as VPEps
from pplemd.diffusion.convert import VPSchedule as VPSchedule
from pplemd.diffusion.convert import VPVelocity as VPVelocity
from pplemd.diffusion.convert import linear_schedule as linear_schedule
from pplemd.diffusion.grids import karras_grid as karras_grid
from pplemd.diffusion.precondition import Preconditioning as Preconditioning
from pplemd.diffusion.precondition import precondition as precondition
from pplemd.diffusion.samplers import ancestral as ancestral
from pplemd.diffusion.samplers import euler as euler
from pplemd.diffusion.samplers import heun as heun
from pplemd.diffusion.scores import denoised_from_score as denoised_from_score
from pplemd.diffusion.scores import score_from_denoised as score_from_denoised
from pplemd.diffusion.sigmas import AbstractSigmas as AbstractSigmas
from pplemd.diffusion.sigmas import CoarseToFine as CoarseToFine
from pplemd.diffusion.sigmas import LogNormal as LogNormal
from pplemd.diffusion.sigmas import LogUniform as LogUniform
from pplemd.diffusion.weighting import AbstractWeighting as AbstractWeighting
from pplemd.diffusion.weighting import EDMWeight as EDMWeight
from pplemd.diffusion.weighting import InverseVarianceWeight as InverseVarianceWeight
from pplemd.diffusion.weighting import PowerWeight as PowerWeight
from pplemd.diffusion.weighting import UniformWeight as UniformWeight
