"""Networks for one sample, channels last, whose array leaves are all trainable parameters."""

from pplemd.networks.base import AbstractNetwork as AbstractNetwork
from pplemd.networks.coupling import CouplingFlow as CouplingFlow
from pplemd.networks.diffusers import LevelKind as LevelKind
from pplemd.networks.diffusers import TimeKind as TimeKind
from pplemd.networks.diffusers import UNet2DModel as UNet2DModel
from pplemd.networks.diffusers import UNet2DOptions as UNet2DOptions
from pplemd.networks.edm import DDPMPP as DDPMPP
from pplemd.networks.edm import NCSNPP as NCSNPP
from pplemd.networks.edm import DhariwalUNet as DhariwalUNet
from pplemd.networks.edm import FourierNoise as FourierNoise
from pplemd.networks.edm import PositionalNoise as PositionalNoise
from pplemd.networks.edm import Side as Side
from pplemd.networks.edm import SongUNet as SongUNet
from pplemd.networks.edm import SongVariant as SongVariant
from pplemd.networks.edm import UNetOptions as UNetOptions
from pplemd.networks.embeddings import dropped as dropped
from pplemd.networks.layers import Conv as Conv
from pplemd.networks.layers import GroupNorm as GroupNorm
from pplemd.networks.layers import LayerNorm as LayerNorm
from pplemd.networks.layers import Linear as Linear
from pplemd.networks.mlp import MLP as MLP
from pplemd.networks.pixel_transformer import PixelTransformer as PixelTransformer
from pplemd.networks.residual_mlp import ResidualMLP as ResidualMLP
from pplemd.networks.timed_mlp import TimedMLP as TimedMLP
from pplemd.networks.unet import UNet as UNet
