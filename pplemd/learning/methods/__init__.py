"""Methods: how a generator learns from its teacher and its score network, one a file."""

from pplemd.learning.methods.base import AbstractMethod as AbstractMethod
from pplemd.learning.methods.base import AbstractScene as AbstractScene
from pplemd.learning.methods.base import Loss as Loss
from pplemd.learning.methods.base import Moment as Moment
from pplemd.learning.methods.base import Noised as Noised
from pplemd.learning.methods.consistency import Consistency as Consistency
from pplemd.learning.methods.diff_instruct import DiffInstruct as DiffInstruct
from pplemd.learning.methods.dmd import DMD as DMD
from pplemd.learning.methods.emd import EMD as EMD
from pplemd.learning.methods.sid import SiD as SiD
from pplemd.learning.methods.sim import SIM as SIM
