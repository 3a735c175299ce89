"""The networks of EDM's checkpoints: SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM)."""

from pplemd.networks.edm.options import DDPMPP as DDPMPP
from pplemd.networks.edm.options import NCSNPP as NCSNPP
from pplemd.networks.edm.options import FourierNoise as FourierNoise
from pplemd.networks.edm.options import PositionalNoise as PositionalNoise
from pplemd.networks.edm.options import Side as Side
from pplemd.networks.edm.options import SongVariant as SongVariant
from pplemd.networks.edm.options import UNetOptions as UNetOptions
from pplemd.networks.edm.unet import DhariwalUNet as DhariwalUNet
from pplemd.networks.edm.unet import SongUNet as SongUNet
