"""Transition kernels, each BlackJAX behind one contract."""

from pplemd.inference.kernels.base import AbstractKernel as AbstractKernel
from pplemd.inference.kernels.base import Info as Info
from pplemd.inference.kernels.base import State as State
from pplemd.inference.kernels.hmc import HMC as HMC
from pplemd.inference.kernels.langevin import Langevin as Langevin
