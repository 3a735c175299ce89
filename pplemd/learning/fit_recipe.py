"""The recipe of Monte Carlo EM: every number of a fit that a user may change, in one value."""

import equinox as eqx

from pplemd.errors import RecipeError
from pplemd.inference import HMC, NONE, NUTS, AbstractKernel, Adaptation, Chain
from pplemd.learning.choosing import Choosing
from pplemd.learning.newton import Newton
from pplemd.learning.optimisers import AbstractOptimiser


class Judging(eqx.Module):
    """What a fit is judged by: long chains of its latents' posterior, and an estimate of log p(y).

    Attributes:
        kernel: of the chains; a step size that it lacks is found in their warm-up.
        chains: how many, from where draws of the prior climb to.
        warm_up: transitions of each before its draws.
        draws: kept draws of each.
        rows: rows whose posteriors are looked at, where the recipe takes rows; evenly spread.
        marginal: draws of the estimate of log p(y).
    """

    kernel: AbstractKernel = NUTS()
    chains: int = 4
    warm_up: int = 300
    draws: int = 500
    rows: int = 16
    marginal: int = 2000

    def __check_init__(self):
        if self.chains < 2 or self.warm_up < 20 or self.draws < 4 or self.rows < 1 or self.marginal < 2:
            raise RecipeError(
                "judging needs chains >= 2, warm_up >= 20, draws >= 4, rows >= 1 and marginal >= 2; found "
                f"chains={self.chains}, warm_up={self.warm_up}, draws={self.draws}, rows={self.rows}, "
                f"marginal={self.marginal}."
            )


class FitRecipe(eqx.Module):
    """How a program is fitted to its data.

    Attributes:
        steps: EM steps.
        rows: rows of the program's plate in one step; None looks at all data together.
        chains: chains of the latents, where all data are looked at together; else each row has one.
        chain: the E-step, which goes on from where the last one of the same chain ended.
        adaptation: how a kernel without a step size finds one.
        centering: 0 for non-centered latents, 1 for centered ones, or between, for every site that may be either; where
            coordinates are chosen, that is where it starts.
        choosing: how the sites' coordinates are chosen from the chains' own draws; None keeps them as they start.
        optimiser: of the program's networks and parameters: Newton's steps where they are few, else Adam's. Clipped
            gradients of few draws, whose noise is skewed, would not be 0 on average where the likelihood is greatest.
        ema: decay of the averaged program.
        judging: what the fit is judged by at its end.
        seed: seed of everything random.
        log_every: steps between lines of metrics.jsonl.
        sample_every: steps between pictures.
        checkpoint_every: steps between checkpoints.
        patience: skipped updates in a row after which the run stops.
    """

    steps: int = 2000
    rows: int | None = None
    chains: int = 8
    chain: Chain = Chain(HMC(), 2, NONE)
    adaptation: Adaptation = Adaptation(bins=1)
    centering: float = 0.0
    choosing: Choosing | None = Choosing()
    optimiser: AbstractOptimiser = Newton()
    ema: float = 0.99
    judging: Judging = Judging()
    seed: int = 0
    log_every: int = 25
    sample_every: int = 500
    checkpoint_every: int = 500
    patience: int = 20

    def __check_init__(self):
        if self.chain.cancel.paired or self.chain.cancel.initial or self.chain.cancel.injected:
            raise RecipeError("a fit learns from draws of the posterior, with nothing cancelled: Chain(..., em.NONE).")
        for name in ("steps", "chains", "log_every", "sample_every", "checkpoint_every", "patience"):
            if getattr(self, name) < 1:
                raise RecipeError(f"the recipe needs {name} >= 1; found {name}={getattr(self, name)}.")
        if self.rows is not None and self.rows < 1:
            raise RecipeError(f"the recipe needs rows >= 1, or None for all; found rows={self.rows}.")
        if not 0 <= self.centering <= 1:
            raise RecipeError(f"the recipe needs 0 <= centering <= 1; found centering={self.centering}.")
        if not 0 <= self.seed < 2**32:  # what a JAX key takes
            raise RecipeError(f"the recipe needs 0 <= seed < 2**32; found seed={self.seed}.")
        if not 0 <= self.ema < 1:
            raise RecipeError(f"the recipe needs 0 <= ema < 1; found ema={self.ema}.")
