"""The record of long chains at one noise level."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from pplemd.errors import DataError

NOISE = "eps"  # the site of the standard noise that takes x to x_sigma
LEAST_CHAINS, LEAST_DRAWS = 2, 4  # R-hat compares chains, and halves of each that have a variance


@dataclasses.dataclass(frozen=True)
class Chains:
    """Long chains of the E-step's target at one sigma, or of a posterior; warm-up left out.

    Attributes:
        sigma: noise level, in data units; None for a target without one.
        draws: by site, (chain, draw, *shape): the noise as "eps", and the base coordinates of every latent.
        acceptance: acceptance probability of each transition.
        diverging: whether the transition's energy error was beyond reason.
        energy: total energy (potential and kinetic) at each transition; NaN where the kernel knows none.
        gradients: evaluations of the target's score that one chain spent on all of its kept draws together.
        adjusted: whether the kernel may refuse a proposal: then something follows from one that never does, and from
            energies that are not known.

    Raises:
        DataError: fewer than 2 chains or 4 draws, a sigma or a count that is not positive, or unlike shapes.
    """

    sigma: float | None
    draws: dict[str, np.ndarray]
    acceptance: Float[np.ndarray, "chain draw"]
    diverging: Bool[np.ndarray, "chain_d draw_d"]
    energy: Float[np.ndarray, "chain_e draw_e"]
    gradients: int
    adjusted: bool = False

    def __post_init__(self) -> None:
        if (self.sigma is not None and not 0 < self.sigma < math.inf) or self.gradients < 1:
            raise DataError(
                f"found sigma = {self.sigma} and {self.gradients} gradients, expected a positive, finite sigma and at "
                "least one gradient: pass the noise level and the score evaluations of the chains"
            )
        chains, draws = (*self.acceptance.shape, 0, 0)[:2]
        if chains < LEAST_CHAINS or draws < LEAST_DRAWS:
            raise DataError(
                f"found {chains} chains of {draws} draws, expected at least {LEAST_CHAINS} of {LEAST_DRAWS}: R-hat "
                "compares chains; run four of a few hundred draws"
            )
        arrays = {"diverging": self.diverging, "energy": self.energy}
        unlike = {name: a.shape for name, a in arrays.items() if a.shape != (chains, draws)}
        unlike |= {name: a.shape for name, a in self.draws.items() if a.shape[:2] != (chains, draws) or 0 in a.shape}
        if unlike or not self.draws:
            raise DataError(
                f"found the shapes {unlike or 'of no site'}, expected ({chains}, {draws}), with the site's own shape "
                "behind it for draws: put the chain first, the draw second"
            )

    @property
    def count(self) -> int:
        """How many chains."""
        return self.acceptance.shape[0]

    @property
    def length(self) -> int:
        """Kept draws of each chain."""
        return self.acceptance.shape[1]

    def flat(self, site: str) -> Float[np.ndarray, "chain draw element"]:
        """The draws of a site with its shape flattened."""
        return self.draws[site].reshape(self.count, self.length, -1)

    def still(self) -> int:
        """Chains that never moved: all of their draws are the same in every site."""
        moved = np.zeros(self.count, bool)
        for site in self.draws:
            x = self.flat(site)
            moved |= np.any(x != x[:, :1], axis=(1, 2))
        return int(np.sum(~moved))


def ordered(runs: Sequence[Chains]) -> tuple[Chains, ...]:
    """Chains of several sigma from the lowest to the highest.

    Raises:
        DataError: no chains, two of one sigma, or unlike sites, shapes or lengths.
    """
    shapes = [{name: x.shape for name, x in run.draws.items()} for run in runs]
    sigmas = [run.sigma for run in runs]
    if not runs or len(set(sigmas)) < len(sigmas) or any(shape != shapes[0] for shape in shapes):
        raise DataError(
            f"found chains at sigma {sigmas} of shapes {shapes}, expected at least one sigma, each once, all with the "
            "same sites, chains and draws: run them alike"
        )
    return tuple(sorted(runs, key=lambda run: run.sigma or 0.0))
