"""One computation on many devices and hosts: the mesh, what lies where on it, and the processes that share a run."""

from pplemd.devices.mesh import DATA as DATA
from pplemd.devices.mesh import MODEL as MODEL
from pplemd.devices.mesh import ONE as ONE
from pplemd.devices.mesh import Devices as Devices
from pplemd.devices.mesh import at_hand as at_hand
from pplemd.devices.mesh import chosen as chosen
from pplemd.devices.mesh import described as described
from pplemd.devices.mesh import mean_over_rows as mean_over_rows
from pplemd.devices.mesh import over_rows as over_rows
from pplemd.devices.mesh import whole as whole
from pplemd.devices.processes import StopVote as StopVote
from pplemd.devices.processes import arrays_from_first as arrays_from_first
from pplemd.devices.processes import first as first
from pplemd.devices.processes import from_first as from_first
from pplemd.devices.processes import leave as leave
from pplemd.devices.processes import led as led
from pplemd.devices.processes import together as together
