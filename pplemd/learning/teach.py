"""Teaching a network its prior: denoising score matching on data, with EMA, kept so that it is done once."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.data import Dataset
from pplemd.devices import mean_over_rows
from pplemd.diffusion import LogNormal
from pplemd.errors import DataError, RecipeError, TeacherError
from pplemd.learning.compute import Compute
from pplemd.learning.learner import Learner, average, copied, descend, learner, warmed
from pplemd.learning.loop import AbstractState
from pplemd.learning.microbatches import averaged
from pplemd.learning.optimisers import Adam
from pplemd.learning.recipe import ScoreRecipe
from pplemd.learning.score_matching import default_weight, drawn_noise, matching_loss
from pplemd.networks import AbstractNetwork, dropped
from pplemd.teachers import AbstractDenoiser, Denoiser, Guidance, Guided


class TeachRecipe(eqx.Module):
    """How a teacher is trained.

    Attributes:
        steps: updates.
        batch: images per update.
        score: optimiser, noise levels and weighting.
        ema: decay of the average that becomes the teacher.
        seed: seed of initialisation, batches and noise.
        label_dropout: probability that an image's class is not told, so that the teacher learns the law without classes
            too, as guidance needs; 0.1 is usual. Of no effect in a network without classes.
        compute: precision, rematerialisation and microbatches of an update: its memory and time.
    """

    steps: int = 5000
    batch: int = 128
    score: ScoreRecipe = ScoreRecipe(Adam(learning_rate=1e-3, warmup=200, final=0.0), LogNormal())
    ema: float = 0.999
    seed: int = 0
    label_dropout: float = 0.0
    compute: Compute = Compute()

    def __check_init__(self):
        if self.steps < 1 or self.batch < 1 or not 0 <= self.ema < 1:
            raise RecipeError(
                f"a teacher needs steps >= 1, batch >= 1 and 0 <= ema < 1; found steps={self.steps}, "
                f"batch={self.batch}, ema={self.ema}."
            )
        if not 0 <= self.label_dropout < 1:
            raise RecipeError(
                f"label_dropout is {self.label_dropout}; expected a probability in [0, 1). Use 0 to tell every class."
            )


@dataclasses.dataclass(frozen=True)
class Taught:
    """A teacher that is declared but not yet trained.

    Attributes:
        network: builds the network from a key.
        data: what it learns; only the training split is used.
        recipe: how.
        guidance: how it is guided by the class once it is taught, or None.
    """

    network: Callable[[PRNGKeyArray], AbstractNetwork]
    data: Dataset
    recipe: TeachRecipe
    guidance: Guidance | None = None

    def build(self) -> Denoiser:
        """The untrained denoiser; traced by eqx.filter_eval_shape where only its shapes are wanted.

        Raises:
            DataError: where the network's shape or classes are not the data's.
            TeacherError: where what is built is no network.
        """
        sigma_data = float(np.std(self.data.train.x))
        network = self.network(jax.random.fold_in(jax.random.key(self.recipe.seed), 0))
        if not isinstance(network, AbstractNetwork):
            raise TeacherError(
                f"the function of em.teach built a {type(network).__name__}; expected a network such as "
                f"em.networks.ResidualMLP({self.data.shape}, key=key), or one of your own that derives from "
                "em.networks.AbstractNetwork."
            )
        if network.shape != self.data.shape:
            raise DataError(f"the teacher's network takes x of shape {network.shape}; the data has {self.data.shape}.")
        if network.classes is not None and network.classes != self.data.classes:
            raise DataError(
                f"the teacher's network has classes={network.classes}; the data has {self.data.classes}. Give the "
                "network the data's number, or None to ignore the labels."
            )
        return Denoiser(network, sigma_data)

    def guided(self, denoiser: Denoiser) -> AbstractDenoiser:
        """The teacher that a denoiser of this network is.

        Raises:
            TeacherError: where it is to be guided and has no classes.
        """
        return denoiser if self.guidance is None else Guided(denoiser, self.guidance)


def teach(
    network: Callable[[PRNGKeyArray], AbstractNetwork],
    data: Dataset,
    recipe: TeachRecipe | None = None,
    guidance: Guidance | None = None,
) -> Taught:
    """Declare a teacher prior: a network that learns to denoise data.

    Args:
        network: builds the network from a key, for example `lambda key: em.networks.ResidualMLP(..., key=key)`.
        data: the images.
        recipe: how to train it; with guidance, labels have to be dropped (`label_dropout`, or the network's own).
        guidance: how the teacher is guided by the class.
    """
    return Taught(network, data, recipe or TeachRecipe(), guidance)


class TeachState(AbstractState):
    """A teacher under training.

    Attributes:
        step: updates done.
        denoiser: the denoiser under training.
        average: its moving average.
    """

    step: Int[Array, ""]
    denoiser: Learner
    average: Denoiser

    @property
    def skipped_in_a_row(self) -> Int[Array, ""]:
        """Updates skipped since the last good one."""
        return self.denoiser.skipped_in_a_row


class TeachStep(eqx.Module):
    """(state, key) -> (state, metrics) of a teacher's training.

    Attributes:
        x: the training images.
        labels: their classes, or None where the network takes none.
        recipe: how to train.
    """

    x: Float[Array, "count ..."]
    labels: Int[Array, " count"] | None
    recipe: TeachRecipe

    def init(self, denoiser: Denoiser) -> TeachState:
        """The state before the first update."""
        optimiser = self.recipe.score.optimiser.transformation(self.recipe.steps)
        return TeachState(jnp.zeros((), jnp.int32), learner(denoiser, optimiser), copied(denoiser))

    def __call__(self, state: TeachState, key: PRNGKeyArray) -> tuple[TeachState, dict[str, Float[Array, ""]]]:
        """One update on one minibatch."""
        recipe = self.recipe
        key_batch, key_noise, key_labels = jax.random.split(key, 3)
        index = jax.random.randint(key_batch, (recipe.batch,), 0, self.x.shape[0])
        labels = None if self.labels is None else self.told(key_labels, self.labels[index])
        x, current = self.x[index], state.denoiser.module
        noise, key_dropout = drawn_noise(key_noise, x.shape, recipe.score.sigmas, state.step / recipe.steps)

        weighting = recipe.score.weighting or default_weight(current)

        @eqx.filter_value_and_grad
        def loss_of(denoiser, *rows):
            x, noise, labels, keys = rows
            return matching_loss(recipe.compute.of(denoiser), x, noise, labels, weighting, keys)

        def part(*rows):
            return averaged(lambda *some: loss_of(current, *some), rows, recipe.compute.accumulate)

        loss, gradient = mean_over_rows(part, x, noise, labels, jax.random.split(key_dropout, recipe.batch))
        denoiser = descend(state.denoiser, gradient, recipe.score.optimiser.transformation(recipe.steps))
        smoothed = average(state.average, denoiser.module, warmed(recipe.ema, state.step))
        return TeachState(state.step + 1, denoiser, smoothed), {"loss": loss}

    def told(self, key: PRNGKeyArray, labels: Int[Array, " batch"]) -> Int[Array, " batch"]:
        """The labels, some of them dropped: -1."""
        keys = jax.random.split(key, labels.shape[0])
        return jnp.asarray(jax.vmap(lambda label, key: dropped(label, self.recipe.label_dropout, key))(labels, keys))


def teach_step(taught: Taught) -> TeachStep:
    """The training step of a declared teacher, its data on the device."""
    labelled = eqx.filter_eval_shape(taught.build).classes is not None
    labels = jnp.asarray(taught.data.train.label) if labelled else None
    return TeachStep(jnp.asarray(taught.data.train.x), labels, taught.recipe)
