"""The recipe: every number of a distillation that a user may change, in one value."""

import equinox as eqx

from pplemd.diffusion import AbstractSigmas, AbstractWeighting, LogNormal, UniformWeight
from pplemd.errors import RecipeError
from pplemd.inference import Adaptation, Chain, Coordinates, Langevin
from pplemd.learning.anchor import Anchor
from pplemd.learning.choosing import Choosing
from pplemd.learning.compute import Compute
from pplemd.learning.methods import EMD, AbstractMethod
from pplemd.learning.optimisers import AbstractOptimiser, Adam


class ScoreRecipe(eqx.Module):
    """How a denoiser is trained on samples: the student's score network, or a teacher.

    Attributes:
        optimiser: its optimiser.
        sigmas: noise levels that it is trained at.
        weighting: loss weight by sigma; by default `EDMWeight` where the network predicts the noise or a part of it, of
            the denoiser's own sigma_data or 0.5; `InverseVarianceWeight(0.5)` where it predicts x itself, or nothing is
            known of what it predicts.
    """

    optimiser: AbstractOptimiser = Adam(learning_rate=2e-3, final=0.02)
    sigmas: AbstractSigmas = LogNormal(mean=-0.8, std=1.2)
    weighting: AbstractWeighting | None = None


class Recipe(eqx.Module):
    """How a program is distilled.

    Attributes:
        steps: EM steps.
        batch: chains, and samples, per step.
        method: how the generator learns: EM distillation, or a baseline over the same program, teacher, score network
            and loop; of the others `chain`, `adaptation`, `choosing` and `frozen` say nothing.
        sigmas: noise levels of the E-step, one for each chain; of other methods, one for each sample.
        chain: the E-step: kernel, length, noise cancellation.
        adaptation: how a kernel without a step size finds one, by range of sigma.
        choosing: how the coordinates of x_sigma are chosen from the chains' own draws, by range of sigma, where the
            latents move and the program leaves it open (`em.generate(..., centered="auto")`); None for (eps, z).
        frozen: hold the latents fixed, so that the chain moves eps alone.
        anchor: a tie to the teacher's own map from noise to samples, against lost modes; None for none.
        weighting: v(sigma) of the M-step; uniform is w(sigma) = sigma^2 on the KL.
        generator: optimiser of the program's networks.
        score: training of the student's score network.
        score_updates: its updates for each update of the generator (1 to 10 in the literature).
        ema: decay of the averaged program that is sampled and evaluated.
        compute: precision, rematerialisation and microbatches of a step: its memory and time, not what it learns.
        seed: seed of everything random.
        log_every: steps between lines of metrics.jsonl.
        sample_every: steps between pictures.
        checkpoint_every: steps between checkpoints.
        patience: skipped updates in a row after which the run stops.
    """

    steps: int = 6000
    batch: int = 64
    method: AbstractMethod = EMD()
    sigmas: AbstractSigmas = LogNormal(mean=-0.8, std=1.2)
    chain: Chain = Chain(Langevin(Coordinates(noise=0.4**2, latents=0.004**2)), length=4)
    adaptation: Adaptation = Adaptation()
    choosing: Choosing | None = Choosing(every=500, rounds=16)
    frozen: bool = False
    anchor: Anchor | None = None
    weighting: AbstractWeighting = UniformWeight()
    generator: AbstractOptimiser = Adam(learning_rate=1e-3, final=0.02)
    score: ScoreRecipe = ScoreRecipe()
    score_updates: int = 2
    ema: float = 0.998
    compute: Compute = Compute()
    seed: int = 0
    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    patience: int = 20

    def __check_init__(self):
        if self.chain.kernel.step_size is None and self.chain.kernel.wanted_acceptance is None:
            raise RecipeError("the recipe's kernel has no step size, and it says nothing that one could be adapted by.")
        for name in ("steps", "batch", "score_updates", "log_every", "sample_every", "checkpoint_every", "patience"):
            value = getattr(self, name)
            if value < 1:
                raise RecipeError(f"the recipe needs {name} >= 1; found {name}={value}.")
        if not 0 <= self.seed < 2**32:  # what a JAX key takes
            raise RecipeError(f"the recipe needs 0 <= seed < 2**32; found seed={self.seed}.")
        if not 0 <= self.ema < 1:
            raise RecipeError(f"the recipe needs 0 <= ema < 1; found ema={self.ema}.")
