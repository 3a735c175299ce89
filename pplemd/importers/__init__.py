"""Checkpoints of other libraries: their configuration and their arrays become pplemd's networks and teachers."""

from pplemd.importers.classifiers import read_classifier as read_classifier
from pplemd.importers.diffusers import diffusers_ddim as diffusers_ddim
from pplemd.importers.diffusers import diffusers_denoiser as diffusers_denoiser
from pplemd.importers.diffusers import unet_2d as unet_2d
from pplemd.importers.edm import edm_denoiser as edm_denoiser
from pplemd.importers.families import Checkpoint as Checkpoint
from pplemd.importers.families import build as build
from pplemd.importers.families import convention as convention
from pplemd.importers.families import notes as notes
from pplemd.importers.families import shapes as shapes
from pplemd.importers.filling import CONV as CONV
from pplemd.importers.filling import LINEAR as LINEAR
from pplemd.importers.filling import POINTWISE as POINTWISE
from pplemd.importers.filling import SAME as SAME
from pplemd.importers.filling import Constant as Constant
from pplemd.importers.filling import Layout as Layout
from pplemd.importers.filling import Slot as Slot
from pplemd.importers.filling import blank as blank
from pplemd.importers.filling import fill as fill
from pplemd.importers.filling import interleaved as interleaved
from pplemd.importers.imported import Imported as Imported
from pplemd.importers.imported import imported as imported
from pplemd.importers.pixel_transformer import pixel_transformer_denoiser as pixel_transformer_denoiser
from pplemd.importers.reading import read_checkpoint as read_checkpoint
from pplemd.importers.reading import write_teacher_folder as write_teacher_folder
from pplemd.importers.weights import read_arrays as read_arrays
