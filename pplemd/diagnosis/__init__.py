"""Diagnosis of long chains: their record, ArviZ's figures of them, pictures, and what the figures mean."""

from pplemd.diagnosis.arviz_draws import FEWEST as FEWEST
from pplemd.diagnosis.arviz_draws import RELIABLE as RELIABLE
from pplemd.diagnosis.arviz_draws import Row as Row
from pplemd.diagnosis.arviz_draws import autocorrelation as autocorrelation
from pplemd.diagnosis.arviz_draws import pareto_smoothed as pareto_smoothed
from pplemd.diagnosis.arviz_draws import table as table
from pplemd.diagnosis.chain_record import Chains as Chains
from pplemd.diagnosis.chain_record import load_chains as load_chains
from pplemd.diagnosis.chain_record import save_chains as save_chains
from pplemd.diagnosis.chain_record import save_groups as save_groups
from pplemd.diagnosis.findings import Finding as Finding
from pplemd.diagnosis.findings import findings as findings
