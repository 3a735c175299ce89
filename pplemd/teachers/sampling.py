"""Draws of a teacher: its own where it has them, otherwise the reverse diffusion; its one-step generator."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.conditions import Condition
from pplemd.diffusion import (
    Rescaled,
    StepVP,
    VPClean,
    VPEps,
    VPSchedule,
    VPVelocity,
    ddim,
    denoised_from_score,
    heun,
    karras_grid,
    record_of,
    step_grid,
)
from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDenoiser, AbstractDensity, AbstractDrawnTeacher, AbstractTeacher
from pplemd.teachers.guided import Guided, LatentDiffusion, convention, unwrapped, without


class HeunSampler(eqx.Module):
    """EDM's deterministic sampler as a value: how many steps, from where to where.

    Source: arXiv:2206.00364, algorithm 1.

    Attributes:
        steps: number of noise levels; a step costs two network evaluations, the last one one.
        low: smallest sigma above zero, in data units.
        high: sigma at which it starts.
    """

    steps: int = eqx.field(static=True, default=18)
    low: float = eqx.field(static=True, default=0.002)
    high: float = eqx.field(static=True, default=80.0)

    @property
    def evaluations(self) -> int:
        """Network evaluations for one sample."""
        return 2 * self.steps - 1

    def __call__(self, key: PRNGKeyArray, teacher: AbstractTeacher, condition: Condition = None) -> Float[Array, "..."]:
        """One draw of the teacher."""
        return self.solve(jax.random.normal(key, teacher.shape), teacher, condition)

    def solve(
        self, noise: Float[Array, "..."], teacher: AbstractTeacher, condition: Condition = None
    ) -> Float[Array, "..."]:
        """The sample that the probability-flow ODE makes of one standard normal noise of x's shape."""
        grid = karras_grid(self.steps, self.low, self.high)
        return heun(lambda x_sigma, sigma: denoise(teacher, x_sigma, sigma, condition), grid[0] * noise, grid)


class DDIMSampler(eqx.Module):
    """DDIM's deterministic sampler on time steps of the teacher's own schedule.

    Source: arXiv:2010.02502, equation 12 with sigma_t = 0.

    Attributes:
        steps: number of time steps, one network evaluation each.
        spacing: of the time steps: leading, trailing or linspace (`pplemd.diffusion.step_grid`).
        offset: added to leading time steps.
        to_zero: whether the last step goes to level 0, or to the schedule's lowest.
        clip: largest absolute value of a denoised pixel, data units; None for no clipping.
    """

    steps: int = eqx.field(static=True, default=50)
    spacing: str = eqx.field(static=True, default="leading")
    offset: int = eqx.field(static=True, default=0)
    to_zero: bool = eqx.field(static=True, default=True)
    clip: float | None = eqx.field(static=True, default=None)

    @property
    def evaluations(self) -> int:
        """Network evaluations for one sample."""
        return self.steps

    def __call__(self, key: PRNGKeyArray, teacher: AbstractTeacher, condition: Condition = None) -> Float[Array, "..."]:
        """One draw of the teacher."""
        return self.solve(jax.random.normal(key, teacher.shape), teacher, condition)

    def solve(
        self, noise: Float[Array, "..."], teacher: AbstractTeacher, condition: Condition = None
    ) -> Float[Array, "..."]:
        """The sample that DDIM makes of one x_t of its first time step, for which a standard normal stands.

        Raises:
            TeacherError: where the teacher has no time steps.
        """
        grid = step_grid(own_schedule(teacher), self.steps, self.spacing, self.offset, self.to_zero)
        return ddim(lambda x_sigma, sigma: denoise(teacher, x_sigma, sigma, condition), noise, grid, self.clip)


def own_schedule(teacher: AbstractTeacher) -> VPSchedule:
    """The time steps that a teacher's network knows its noise levels by, and these levels in units of the teacher's x.

    Raises:
        TeacherError: where it knows them otherwise.
    """
    known = convention(teacher)
    found = _schedule(known)
    if found is not None:
        return found
    owner, known = type(unwrapped(teacher)).__name__, type(known).__name__
    raise TeacherError(
        f"DDIM's time steps are those of the teacher's schedule; the convention of this "
        f"{owner if owner == known else f'{owner}, {known}'}, has none. Use Heun's method."
    )


def _schedule(known: object) -> VPSchedule | None:
    if isinstance(known, Rescaled):  # noise scales with the data
        inner = _schedule(record_of(known.denoiser))
        return None if inner is None else inner.scaled(known.scale)
    return known.schedule if isinstance(known, VPEps | VPVelocity | VPClean | StepVP) else None


def denoise(
    teacher: AbstractTeacher,
    x_sigma: Float[Array, "..."],
    sigma: Float[Array, ""],
    condition: Condition = None,
) -> Float[Array, "..."]:
    """E[x | x_sigma] of any teacher: its denoiser, or Tweedie's formula x_sigma + sigma^2 score."""
    if isinstance(teacher, AbstractDenoiser):
        return teacher.denoise(x_sigma, sigma, condition)
    return denoised_from_score(teacher.score(x_sigma, sigma, condition), x_sigma, sigma)


@eqx.filter_jit
def sample(
    key: PRNGKeyArray,
    teacher: AbstractTeacher,
    count: int,
    conditions: Condition = None,
    sampler: HeunSampler | DDIMSampler | None = None,
) -> Float[Array, "count ..."]:
    """Draw from a teacher: exactly where it can, else by the reverse diffusion.

    Args:
        key: a key.
        teacher: the teacher.
        count: how many draws.
        conditions: one for each draw, with a leading dimension count, where the teacher has a condition.
        sampler: the reverse diffusion; 18 Heun steps by default.

    Raises:
        TeacherError: where conditions are given that are not of the teacher's form, or not one for each draw; where the
            teacher is a density that only chains can draw from.
    """
    _check_conditions(teacher, conditions, count)
    keys = jax.random.split(key, count)
    run = sampler or HeunSampler()
    if isinstance(teacher, AbstractDrawnTeacher):
        return jax.vmap(teacher.draw)(keys, conditions)
    if isinstance(teacher, AbstractDensity):
        raise TeacherError(
            f"a {type(teacher).__name__} knows its density and no way to draw, and no reverse diffusion starts from "
            "it; expected a teacher that draws, or is a denoiser. Run long chains: em.reference_draws."
        )
    return jax.vmap(lambda k, condition: run(k, teacher, condition))(keys, conditions)


def _check_conditions(teacher: AbstractTeacher, conditions: Condition, count: int) -> None:
    """Raise unless there is a condition of the teacher's form for each draw, or none."""
    if conditions is None:
        return
    found = [leaf.shape for leaf in jax.tree.leaves(conditions)]
    form = teacher.condition
    expected = None if form is None else [(count, *leaf.shape) for leaf in jax.tree.leaves(form.shapes)]
    if found != expected:
        of = "without a condition" if form is None else f"with {form}"
        raise TeacherError(
            f"a teacher {of} was to draw {count} samples with conditions of shapes {found}; expected "
            f"{'conditions=None' if expected is None else f'shapes {expected}'}."
        )


def check(teacher: AbstractTeacher) -> None:
    """See once, abstractly, that a teacher's score has the shape and dtype of its x.

    Raises:
        TeacherError: where it has not.
    """
    x = jax.ShapeDtypeStruct(teacher.shape, jnp.float32)
    sigma = jax.ShapeDtypeStruct((), jnp.float32)
    condition = None if teacher.condition is None else teacher.condition.shapes
    found = eqx.filter_eval_shape(lambda t, *args: t.score(*args), teacher, x, sigma, condition)
    if not isinstance(found, jax.ShapeDtypeStruct) or (found.shape, found.dtype) != (x.shape, x.dtype):
        raise TeacherError(
            f"the score of {type(teacher).__name__} is {found}; expected one array of shape {x.shape} and type "
            f"{x.dtype}, those of x. A score is written for one x, without a batch dimension."
        )


class OneStep(eqx.Module):
    """g(z) = D(sigma* z, sigma*): the teacher's network, evaluated once at one large noise level.

    Source: arXiv:2405.16852, section 4 (initialisation of the generator).

    Attributes:
        denoiser: the denoiser whose weights the M-step trains.
        sigma: sigma*, in data units.
    """

    denoiser: AbstractDenoiser
    sigma: float = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one z, and of one x: the denoiser's."""
        return self.denoiser.shape

    def __call__(self, z: Float[Array, "..."], condition: Condition = None) -> Float[Array, "..."]:
        """One x for one standard normal z of the same shape."""
        sigma = jnp.asarray(self.sigma, z.dtype)
        return self.denoiser.denoise(sigma * z, sigma, condition)


def trainable(denoiser: AbstractDenoiser) -> AbstractDenoiser:
    """What a network that starts as a copy of a teacher copies: its denoiser without guidance and codec."""
    return without(denoiser, Guided, LatentDiffusion)


def one_step(teacher: AbstractTeacher, sigma: float) -> OneStep:
    """The one-step generator that starts as a copy of the teacher; of a guided one, as a copy of what it guides.

    Args:
        teacher: a teacher that is a denoiser network.
        sigma: sigma*, in data units; peers use 1 (Diff-Instruct), 2.5 (SiD), the EMD paper about 20 for images.

    Raises:
        TeacherError: where the teacher has no network to copy, or sigma is not positive.
    """
    if not isinstance(teacher, AbstractDenoiser):
        raise TeacherError(
            f"one_step copies a denoiser network; found a {type(teacher).__name__}, which has none. "
            "Give the program a network of its own, for example em.networks.MLP(...)."
        )
    if not sigma > 0:
        raise TeacherError(f"one_step needs sigma > 0, the noise level at which the teacher is asked; found {sigma}.")
    return OneStep(trainable(teacher), float(sigma))
