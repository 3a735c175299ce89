"""Networks for one sample, channels last, whose array leaves are all trainable parameters."""

from pplemd.networks.base import AbstractNetwork as AbstractNetwork
from pplemd.networks.coupling import CouplingFlow as CouplingFlow
from pplemd.networks.mlp import MLP as MLP
from pplemd.networks.pixel_transformer import PixelTransformer as PixelTransformer
from pplemd.networks.residual_mlp import ResidualMLP as ResidualMLP
from pplemd.networks.timed_mlp import TimedMLP as TimedMLP
from pplemd.networks.unet import UNet as UNet
