"""What a criterion is: a cost of every lambda, and the lambda of least cost."""

from abc import abstractmethod

import equinox as eqx
from jaxtyping import Array, Float

from pplemd.dsl import Centering
from pplemd.parameterization.placement import Pilot, Placement


class AbstractCriterion(eqx.Module):
    """Decides how centered each element is, from draws with scores.

    Attributes:
        slack: differences of cost up to here do not matter, whatever the cost.
    """

    slack: eqx.AbstractVar[float]

    @abstractmethod
    def fit(self, placement: Placement, pilot: Pilot) -> Centering:
        """The lambdas of least cost.

        Args:
            placement: the program whose latents are placed.
            pilot: draws with scores; 100 or more.
        """

    @abstractmethod
    def cost(self, placement: Placement, pilot: Pilot, lam: Centering) -> Float[Array, ""]:
        """What it costs to sample in the coordinates of lam, in the criterion's own unit, 0 or more; less is better."""
