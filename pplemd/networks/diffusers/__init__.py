"""The network of diffusers' unconditional and class-conditional pipelines: UNet2DModel."""

from pplemd.networks.diffusers.options import LevelKind as LevelKind
from pplemd.networks.diffusers.options import TimeKind as TimeKind
from pplemd.networks.diffusers.options import UNet2DOptions as UNet2DOptions
from pplemd.networks.diffusers.unet import UNet2DModel as UNet2DModel
