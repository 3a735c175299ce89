"""The coordinates of x_sigma in EM distillation, by range of sigma: between (eps, z) and (x_sigma, z)."""

import dataclasses
import functools

import jax
import numpy as np
from jaxtyping import Float, Int

from pplemd.parameterization.fisher import Fisher
from pplemd.parameterization.policy import Choice, Policy

LAMBDAS = tuple(float(lam) for lam in np.linspace(0.0, 1.0, 11))  # that are compared: D is smooth in one number
LEAST = 50  # draws of a range of sigma; with fewer its lambda stays


@dataclasses.dataclass(frozen=True)
class XDraws:
    """Ends of E-step chains, in base coordinates, with what their scores become in others.

    With h = g(z) / sigma, v = eps + lambda h has the score of eps, and z has its own less lambda J_h^T (score of eps):
    every moment is a polynomial of lambda, without an evaluation of any model.

    Attributes:
        sigma: noise level of each chain.
        eps: the noise, flat.
        drift: h, flat.
        score: gradient of log rho in eps.
        latents: by site, (z, its score, J_h^T of the noise's score), each flat.
    """

    sigma: Float[np.ndarray, " draw"]
    eps: Float[np.ndarray, "draw n"]
    drift: Float[np.ndarray, "draw n"]
    score: Float[np.ndarray, "draw n"]
    latents: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]

    def cost(self, chosen: Int[np.ndarray, " some"], lam: float, tail: float) -> float:
        """D of some of the draws: of each block, the noise and every site, what one step size for it leaves.

        D = 2 sum over blocks of [sqrt(sum Var v_i sum Var g_i) + sum Cov(v_i, g_i)].

        Args:
            chosen: which draws.
            lam: lambda of x_sigma.
            tail: share of draws winsorised on either side.
        """
        noise = (self.eps[chosen] + lam * self.drift[chosen], self.score[chosen])
        sites = ((z[chosen], score[chosen] - lam * pull[chosen]) for z, score, pull in self.latents.values())
        return sum(_divergence(*(_winsorised(part, tail) for part in block)) for block in (noise, *sites))


def _divergence(v: np.ndarray, score: np.ndarray) -> float:
    covariance = np.mean((v - v.mean(axis=0)) * (score - score.mean(axis=0)), axis=0).sum()
    return float(2.0 * (np.sqrt(v.var(axis=0).sum() * score.var(axis=0).sum()) + covariance))


def _winsorised(x: np.ndarray, tail: float) -> np.ndarray:
    if tail == 0.0:
        return x
    low, high = np.quantile(x, [tail, 1.0 - tail], axis=0)
    return np.clip(x, low, high)


def choose_x(
    policy: Policy, draws: XDraws, bins: Int[np.ndarray, " draw"], present: Float[np.ndarray, " bins"]
) -> Choice:
    """Choose lambda for each range of sigma; costs are NaN where there were too few draws, and lambda stays.

    Args:
        policy: what counts as next to nothing, and how much more what is in use may cost.
        draws: of all ranges.
        bins: the range of each.
        present: the lambdas in use.
    """
    tail = policy.criterion.tail if isinstance(policy.criterion, Fisher) else 0.0

    def chosen(number: int, here: float) -> Choice:
        some = np.flatnonzero(bins == number)
        if len(some) < LEAST:
            unknown = np.asarray(np.nan)
            kept = np.asarray(True)
            return Choice(here, unknown, unknown, unknown, unknown, kept, criterion=type(policy.criterion).__name__)

        @functools.cache
        def cost(lam: float) -> float:
            return draws.cost(some, lam, tail)

        return policy.decide(cost, (0.0, 1.0), min(LAMBDAS, key=cost), [lambda _, end: end], here)

    found = [chosen(number, float(here)) for number, here in enumerate(present)]
    return jax.tree.map(lambda *by_range: np.stack(by_range), *found)
