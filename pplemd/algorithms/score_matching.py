"""Denoising score matching on data: how a network becomes a teacher."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.conditions import Condition, dropped
from pplemd.diffusion import AbstractSigmas, AbstractWeighting, LogNormal
from pplemd.errors import RecipeError
from pplemd.learning.algorithm import AbstractAlgorithm, Context, Loss, StepInput, Update
from pplemd.learning.denoising import Noise, default_weight, drawn_noise, matching_loss
from pplemd.learning.optimisers import AbstractOptimiser, Adam
from pplemd.teachers import Denoiser


class TeachingContext(Context):
    """What is fixed for the training of a teacher.

    Attributes:
        x: the training images.
        conditions: one for each, or None where the network takes none.
    """

    x: Float[Array, "count ..."]
    conditions: Condition


class Minibatch(eqx.Module):
    """Images with noise.

    Attributes:
        x: the images.
        noise: sigma and eps for each.
        conditions: one for each, null where it is dropped; or None.
        keys: one for each, for the network's dropout.
    """

    x: Float[Array, "batch ..."]
    noise: Noise
    conditions: Condition
    keys: Key[Array, " batch"]


class ScoreMatching(AbstractAlgorithm[TeachingContext]):
    """A denoiser learns to take noise away from data: then (D - x_sigma) / sigma^2 is the score of noised data.

    Source: arXiv:2206.00364, equation 2 and table 1.

    Attributes:
        optimiser: of the denoiser.
        sigmas: noise levels that it is trained at.
        weighting: loss weight by sigma; by default that of `default_weight`.
        average: decay of the average that becomes the teacher.
        condition_dropout: probability that an image's condition is dropped, so that the teacher learns the distribution
            without one too, as guidance needs; 0.1 is usual. Of no effect in a network without a condition.
    """

    optimiser: AbstractOptimiser = Adam(learning_rate=1e-3, warmup=200, final=0.0)
    sigmas: AbstractSigmas = LogNormal()
    weighting: AbstractWeighting | None = None
    average: float = 0.999
    condition_dropout: float = 0.0

    def __check_init__(self):
        if not 0 <= self.average < 1:
            raise RecipeError(f"a teacher needs 0 <= average < 1; found average={self.average}.")
        if not 0 <= self.condition_dropout < 1:
            raise RecipeError(
                f"condition_dropout is {self.condition_dropout}; expected a probability in [0, 1). Use 0 to keep every "
                "condition."
            )

    def optimisers(self) -> dict[str, AbstractOptimiser]:
        """The denoiser's."""
        return {"denoiser": self.optimiser}

    def averages(self) -> dict[str, float]:
        """The denoiser's."""
        return {"denoiser": self.average}

    def updates(self) -> tuple[Update, ...]:
        """One, on a minibatch."""
        return (Update("denoiser", self.draw, self.loss),)

    def draw(self, context: TeachingContext, now: StepInput) -> Minibatch:
        """Some images, drawn with replacement, and noise."""
        batch = context.training.batch
        key_batch, key_noise, key_conditions = jax.random.split(now.key, 3)
        index = jax.random.randint(key_batch, (batch,), 0, context.x.shape[0])
        x, conditions = jax.tree.map(lambda leaf: leaf[index], (context.x, context.conditions))
        form = now.networks["denoiser"].condition
        if form is not None:
            keys = jax.random.split(key_conditions, batch)
            conditions = jax.vmap(lambda one, key: dropped(one, form.null, self.condition_dropout, key))(
                conditions, keys
            )
        noise, key_dropout = drawn_noise(key_noise, x.shape, self.sigmas, now.progress)
        return Minibatch(x, noise, conditions, jax.random.split(key_dropout, batch))

    def loss(self, denoiser: Denoiser, context: TeachingContext, now: StepInput, rows: Minibatch) -> Loss:
        """The weighted squared error of denoised images."""
        weighting = self.weighting or default_weight(denoiser)
        denoiser = context.training.precision.of(denoiser)
        loss = matching_loss(denoiser, rows.x, rows.noise, rows.conditions, weighting, rows.keys)
        return loss, {"loss": loss}
