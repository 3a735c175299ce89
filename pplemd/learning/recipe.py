"""The recipe: every number of a distillation that a user may change, in one value."""

import equinox as eqx

from pplemd.diffusion import AbstractSigmas, AbstractWeighting, LogNormal, UniformWeight
from pplemd.errors import RecipeError
from pplemd.inference import Chain, Coordinates, Langevin
from pplemd.learning.optimisers import AbstractOptimiser, Adam


class ScoreRecipe(eqx.Module):
    """How a denoiser is trained on samples: the student's score network, or a teacher.

    Attributes:
        optimiser: its optimiser.
        sigmas: noise levels that it is trained at.
        weighting: loss weight by sigma; by default EDM's for the denoiser's own sigma_data.
        updates: updates for each update of the generator (1 to 10 in the literature).
    """

    optimiser: AbstractOptimiser = Adam(learning_rate=5e-4)
    sigmas: AbstractSigmas = LogNormal()
    weighting: AbstractWeighting | None = None
    updates: int = 2

    def __check_init__(self):
        if self.updates < 1:
            raise RecipeError(f"the score network needs at least one update a step; found updates={self.updates}.")


class Recipe(eqx.Module):
    """How a program is distilled.

    Attributes:
        steps: EM steps.
        batch: chains, and samples, per step.
        sigmas: noise levels of the E-step, one for each chain.
        chain: the E-step: kernel, length, noise cancellation.
        frozen: hold the latents fixed, so that the chain moves eps alone.
        weighting: v(sigma) of the M-step; uniform is w(sigma) = sigma^2 on the KL.
        generator: optimiser of the program's networks.
        score: training of the student's score network.
        ema: decay of the averaged program that is sampled and evaluated.
        seed: seed of everything random.
        log_every: steps between lines of metrics.jsonl.
        sample_every: steps between pictures.
        checkpoint_every: steps between checkpoints.
        patience: skipped updates in a row after which the run stops.
    """

    steps: int = 2000
    batch: int = 128
    sigmas: AbstractSigmas = LogNormal()
    chain: Chain = Chain(Langevin(Coordinates(noise=0.4**2, latents=0.004**2)), length=4)
    frozen: bool = False
    weighting: AbstractWeighting = UniformWeight()
    generator: AbstractOptimiser = Adam(learning_rate=3e-4)
    score: ScoreRecipe = ScoreRecipe()
    ema: float = 0.995
    seed: int = 0
    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    patience: int = 20

    def __check_init__(self):
        for name in ("steps", "batch", "log_every", "sample_every", "checkpoint_every", "patience"):
            value = getattr(self, name)
            if value < 1:
                raise RecipeError(f"the recipe needs {name} >= 1; found {name}={value}.")
        if not 0 <= self.seed < 2**32:  # what a JAX key takes
            raise RecipeError(f"the recipe needs 0 <= seed < 2**32; found seed={self.seed}.")
        if not 0 <= self.ema < 1:
            raise RecipeError(f"the recipe needs 0 <= ema < 1; found ema={self.ema}.")
