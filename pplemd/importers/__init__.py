"""Checkpoints of other libraries: their configuration and their arrays become pplemd's networks and teachers."""

from pplemd.importers.checkpoint import Checkpoint as Checkpoint
from pplemd.importers.reading import read_checkpoint as read_checkpoint
