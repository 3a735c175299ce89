"""Steps of algorithms on problems that tests put together by hand; numbers are given flat, and go where they belong."""

import dataclasses

import jax
import jax.numpy as jnp

from pplemd.algorithms import EMD, DistillationContext, FitContext, MonteCarloEM
from pplemd.algorithms.emd import Tuning
from pplemd.learning import Step, StepInput, Training

OF_TRAINING = {field.name for field in dataclasses.fields(Training)}


def split(numbers):
    """Numbers of a training, and the rest, which are an algorithm's."""
    training = {name: value for name, value in numbers.items() if name in OF_TRAINING}
    return Training(**training), {name: value for name, value in numbers.items() if name not in OF_TRAINING}


def distilling(problem, teacher, labels=None, algorithm=EMD, prepared=None, **numbers):
    """A step of a distillation; `algorithm` is a class, or one with numbers of its own."""
    training, own = split(numbers)
    chosen = algorithm(**own) if isinstance(algorithm, type) else dataclasses.replace(algorithm, **own)
    return Step(DistillationContext(training, problem, teacher, labels, prepared or {}), chosen)


def fitting(problem, **numbers):
    """A step of a fit."""
    training, own = split({"steps": 2000, **numbers})
    return Step(FitContext(training, problem), MonteCarloEM(**own))


def changed(step, **numbers):
    """The same step with other numbers."""
    training = {name: value for name, value in numbers.items() if name in OF_TRAINING}
    own = {name: value for name, value in numbers.items() if name not in OF_TRAINING}
    context = dataclasses.replace(step.context, training=dataclasses.replace(step.context.training, **training))
    return Step(context, dataclasses.replace(step.algorithm, **own))


def at(program, score=None, memory=None, tuning=None, progress=None, key=None):
    """Where a distillation is: what draws and losses look at."""
    networks = {"generator": program} if score is None else {"generator": program, "score": score}
    done, start = jnp.zeros((), jnp.int32), jnp.zeros(()) if progress is None else progress
    return StepInput(networks, memory, tuning or Tuning(), done, start, 0, jax.random.key(0) if key is None else key)


def chains(step, program, score, key, tuning=None):
    """The E-step of a distillation."""
    return step.algorithm.draw(step.context, at(program, score, tuning=tuning), key)


def m_step(step, program, batch):
    """The M-step's loss, and its figures."""
    return step.algorithm.loss(program, step.context, at(program), batch)
