"""The E-step: kernels, the tilted law they sample, the twin chain that cancels their noise."""

from pplemd.inference.chain import ALL as ALL
from pplemd.inference.chain import INITIAL as INITIAL
from pplemd.inference.chain import INJECTED as INJECTED
from pplemd.inference.chain import NONE as NONE
from pplemd.inference.chain import Cancellation as Cancellation
from pplemd.inference.chain import Chain as Chain
from pplemd.inference.chain import Draw as Draw
from pplemd.inference.corrections import AbstractCorrection as AbstractCorrection
from pplemd.inference.corrections import Exact as Exact
from pplemd.inference.corrections import Unadjusted as Unadjusted
from pplemd.inference.emd import Coordinates as Coordinates
from pplemd.inference.emd import Student as Student
from pplemd.inference.emd import emd_law as emd_law
from pplemd.inference.kernels import HMC as HMC
from pplemd.inference.kernels import AbstractKernel as AbstractKernel
from pplemd.inference.kernels import Info as Info
from pplemd.inference.kernels import Langevin as Langevin
from pplemd.inference.kernels import State as State
from pplemd.inference.potential import AbstractPotential as AbstractPotential
from pplemd.inference.potential import Potential as Potential
from pplemd.inference.potential import ScorePotential as ScorePotential
from pplemd.inference.target import TiltedLaw as TiltedLaw
