"""The coordinates of x_sigma in EM distillation, by range of sigma: between (eps, z) and (x_sigma, z)."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from pplemd.parameterization.fisher import Fisher
from pplemd.parameterization.policy import Policy

LAMBDAS = np.linspace(0.0, 1.0, 11)  # that are compared: D is a smooth function of one number
LEAST = 50  # draws of a range of sigma; with fewer its lambda stays


@dataclasses.dataclass(frozen=True)
class XDraws:
    """Ends of E-step chains, in base coordinates, with what their scores become in others.

    With h = g(z) / sigma, v = eps + lambda h has the score of eps, and z has its own less lambda J_h^T (score of eps):
    every moment is a polynomial of lambda, and no model is asked for it.

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


@dataclasses.dataclass(frozen=True)
class XChoice:
    """Lambda of x_sigma for each range of sigma, and the numbers behind it; NaN where there were too few draws.

    Attributes:
        lam: lambda.
        noncentered: D at lambda = 0, (eps, z).
        centered: D at lambda = 1, (x_sigma, z).
        least: the least D of those compared.
        chosen: D at `lam`.
    """

    lam: Float[np.ndarray, " bins"]
    noncentered: Float[np.ndarray, " bins"]
    centered: Float[np.ndarray, " bins"]
    least: Float[np.ndarray, " bins"]
    chosen: Float[np.ndarray, " bins"]


def choose_x(
    policy: Policy, draws: XDraws, bins: Int[np.ndarray, " draw"], present: Float[np.ndarray, " bins"]
) -> XChoice:
    """Choose lambda for each range of sigma: the least D, snapped to an end that costs next to nothing more.

    Args:
        policy: what counts as next to nothing, and how much more what is in use may cost.
        draws: of all ranges.
        bins: the range of each.
        present: the lambdas in use.
    """
    tail = policy.criterion.tail if isinstance(policy.criterion, Fisher) else 0.0
    rows = []
    for number, here in enumerate(present):
        some = np.flatnonzero(bins == number)
        if len(some) < LEAST:
            rows.append((float(here), *[float("nan")] * 4))
            continue
        costs = np.array([draws.cost(some, lam, tail) for lam in LAMBDAS])
        margin = max(policy.relative * costs.min(), policy.criterion.slack)
        end = 0 if costs[0] <= costs[-1] else -1
        best = end if costs[end] <= costs.min() + margin else int(costs.argmin())
        lam, cost = float(LAMBDAS[best]), float(costs[best])
        now = draws.cost(some, float(here), tail)
        if now <= cost + policy.hysteresis * margin:
            lam, cost = float(here), now
        rows.append((lam, float(costs[0]), float(costs[-1]), float(costs.min()), cost))
    return XChoice(*(np.asarray(column) for column in zip(*rows, strict=True)))
