"""Diagnosis of long chains: their record, ArviZ's figures of them, pictures, and what the figures mean."""

from pplemd.diagnosis.chains import Chains as Chains
from pplemd.diagnosis.posterior import Row as Row
from pplemd.diagnosis.posterior import save as save
from pplemd.diagnosis.posterior import table as table
