"""Pickles read as data: a small machine with a closed table of names, which executes nothing."""

from pplemd.importers.pickles.machine import Budget as Budget
from pplemd.importers.pickles.stand_ins import Module as Module
from pplemd.importers.pickles.stand_ins import Tensor as Tensor
from pplemd.importers.pickles.stand_ins import plain as plain
from pplemd.importers.pickles.stand_ins import state_dicts as state_dicts
from pplemd.importers.pickles.torch_save import read_network as read_network
from pplemd.importers.pickles.torch_save import read_torch_save as read_torch_save
from pplemd.importers.pickles.torch_save import state_dict as state_dict
