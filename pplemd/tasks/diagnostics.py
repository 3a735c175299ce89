"""What a fit is judged by."""

import equinox as eqx

from pplemd.errors import RecipeError
from pplemd.inference import NUTS, AbstractKernel


class Diagnostics(eqx.Module):
    """What a fit is judged by: long chains of its latents' posterior, and an estimate of log p(y).

    Attributes:
        kernel: of the chains; a step size that it lacks is found in their warm-up.
        chains: how many, from where draws of the prior climb to.
        warm_up: transitions of each before its draws.
        draws: kept draws of each.
        rows: rows whose posteriors are looked at, where a step looks at some rows; evenly spread.
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
                "diagnostics need chains >= 2, warm_up >= 20, draws >= 4, rows >= 1 and marginal >= 2; found "
                f"chains={self.chains}, warm_up={self.warm_up}, draws={self.draws}, rows={self.rows}, "
                f"marginal={self.marginal}."
            )
