"""Transition kernels, each BlackJAX behind one contract."""

from pplemd.inference.kernels.base import AbstractKernel as AbstractKernel
from pplemd.inference.kernels.base import Info as Info
from pplemd.inference.kernels.base import LogDensity as LogDensity
from pplemd.inference.kernels.base import State as State
from pplemd.inference.kernels.base import sized as sized
from pplemd.inference.kernels.base import with_common_noise as with_common_noise
from pplemd.inference.kernels.hmc import HMC as HMC
from pplemd.inference.kernels.hmc import mala as mala
from pplemd.inference.kernels.langevin import Langevin as Langevin
from pplemd.inference.kernels.mclmc import MCLMC as MCLMC
from pplemd.inference.kernels.nuts import NUTS as NUTS
from pplemd.inference.kernels.one_shot import OneShot as OneShot
from pplemd.inference.kernels.one_shot import barkers as barkers
