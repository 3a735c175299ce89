"""Diagnosis of long chains: their record, ArviZ's figures of them, pictures, and what the figures mean."""

from pplemd.diagnosis.chains import Chains as Chains
