"""What a criterion is: a cost of every lambda, and the lambda of least cost."""

from abc import abstractmethod

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.dsl import Centering
from pplemd.errors import RecipeError
from pplemd.inference import AbstractKernel, TiltedLaw
from pplemd.parameterization.placement import Pilot, Placement


class Situation(eqx.Module):
    """What a criterion may look at.

    Attributes:
        placement: the program whose latents are placed.
        pilot: draws with scores, for criteria that look at draws; 100 or more.
        law: in base coordinates, for criteria that ask for densities or run chains; its dictionary is by site.
        kernel: for criteria that run chains.
    """

    placement: Placement
    pilot: Pilot
    law: TiltedLaw | None = None
    kernel: AbstractKernel | None = None

    def needs(self, criterion: str) -> tuple[TiltedLaw, AbstractKernel | None]:
        """The law and the kernel.

        Raises:
            RecipeError: where there is no law.
        """
        if self.law is None:
            raise RecipeError(
                f"{criterion} asks the law itself, and was given draws alone; expected Situation(law=...). Give the "
                "law, or choose by Fisher() or Curvature(), which look at draws and scores."
            )
        return self.law, self.kernel


class AbstractCriterion(eqx.Module):
    """Decides how centered each element is.

    Attributes:
        slack: differences of cost up to here do not matter, whatever the cost.
        from_zero: costs have a zero of their own, so that a share of one means something; a bound's is arbitrary.
    """

    slack: eqx.AbstractVar[float]
    from_zero: eqx.AbstractClassVar[bool]

    @abstractmethod
    def fit(self, key: PRNGKeyArray, situation: Situation) -> Centering:
        """The lambdas of least cost."""

    @abstractmethod
    def cost(self, key: PRNGKeyArray, situation: Situation, lam: Centering) -> Float[Array, ""]:
        """What it costs to sample in the coordinates of lam, in the criterion's own unit; less is better."""
