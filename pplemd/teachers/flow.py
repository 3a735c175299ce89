"""A flowjax distribution as a teacher; the only module that meets flowjax."""

import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.conditions import Condition
from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDensity, AbstractDrawnTeacher, AbstractNoised, Quadratic


class Flow(AbstractDensity, AbstractDrawnTeacher):
    """A flowjax distribution: its density, its draws; see `AbstractDensity` for what noise makes of it.

    Args:
        flow: the distribution, unconditional: a trained flow, or any other of flowjax.
        noised: what stands for the score of q_sigma.

    Raises:
        TeacherError: where flowjax is not installed, or the flow is something else or conditional.
    """

    flow: PyTree
    noised: AbstractNoised
    condition: None

    def __init__(self, flow: PyTree, noised: AbstractNoised | None = None):
        # flowjax's base class
        try:
            from flowjax.distributions import AbstractDistribution  # here: an optional extra
        except ImportError as error:
            raise TeacherError(
                f"em.Flow found no flowjax ({error}); expected it to be installed: pip install 'pplemd[flows]'."
            ) from error
        distribution = AbstractDistribution
        if not isinstance(flow, distribution):
            raise TeacherError(
                f"em.Flow was given a {type(flow).__name__}; expected a flowjax distribution, such as "
                "flowjax.flows.masked_autoregressive_flow(...). Wrap other densities by em.Density."
            )
        if flow.cond_shape is not None:
            raise TeacherError(
                f"em.Flow was given a flow that is conditional on an array of shape {flow.cond_shape}; expected an "
                "unconditional one. Fix the condition: em.Density(lambda x: flow.log_prob(x, condition), flow.shape)."
            )
        self.flow, self.noised, self.condition = flow, noised or Quadratic(), None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one x: the flow's."""
        return self.flow.shape

    def log_q(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        """The flow's log density, normalised."""
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # flowjax keeps to neither
            return self.flow.log_prob(x)

    def draw(self, key: PRNGKeyArray, condition: Condition = None) -> Float[Array, "..."]:
        """One draw of the flow."""
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return self.flow.sample(key)
