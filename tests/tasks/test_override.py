import dataclasses
import math

import equinox as eqx
import pytest

import pplemd as em
from pplemd.algorithms import AbstractDistillation
from pplemd.errors import RecipeError
from pplemd.tasks.override import as_data, check_fields, override


@dataclasses.dataclass(frozen=True)
class Numbers:
    """As a task holds them."""

    algorithm: AbstractDistillation
    training: em.Training


ALGORITHM = em.EMD(sigmas=em.CoarseToFine((1.0, 6.0), (0.1, 2.5), 0.7), average=0.995)
NUMBERS = Numbers(ALGORITHM, em.Training(steps=2000, batch=128))

TABLE = [
    ("training.steps=500", lambda n: n.training.steps, 500),
    ("training.steps=1e4", lambda n: n.training.steps, 10_000),
    (" training.steps = 10_000 ", lambda n: n.training.steps, 10_000),
    ("training.precision.bf16=true", lambda n: n.training.precision.bf16, True),
    ("algorithm.move_latents=No", lambda n: n.algorithm.move_latents, False),
    ("algorithm.average=0", lambda n: n.algorithm.average, 0.0),
    ("algorithm.generator.learning_rate=1e-4", lambda n: n.algorithm.generator.learning_rate, 1e-4),
    ("algorithm.chain.kernel.step_size.noise=0.5", lambda n: n.algorithm.chain.kernel.step_size.noise, 0.5),
    ("algorithm.chain.length=8", lambda n: n.algorithm.chain.length, 8),
    ("algorithm.chain.expensive_every=2", lambda n: n.algorithm.chain.expensive_every, 2),
    ("algorithm.sigmas.start=0.5,4", lambda n: n.algorithm.sigmas.start, (0.5, 4.0)),
    ("algorithm.sigmas.end=(0.2, 3)", lambda n: n.algorithm.sigmas.end, (0.2, 3.0)),
]

MISTAKES = [
    ("training.steps", "needs path=value"),
    ("=3", "needs path=value"),
    ("training.steps=", "expected a value like 2000"),
    ("training.steps=1.5", "expected a value like 2000"),
    ("training.steps=many", "expected a value like 2000"),
    ("algorithm.move_latents=maybe", "expected a value like True"),
    ("algorithm.average=nan", "expected a value like 0.995"),
    ("algorithm.average=inf", "expected a value like 0.995"),
    ("algorithm.average=1", "0 <= average < 1"),
    ("training.step=3", "no field 'step'; its fields are steps, batch"),
    ("training.steps.more=3", "int has no field 'more'; it has no fields"),
    ("algorithm.chain=3", "set one of its fields: algorithm.chain.kernel, algorithm.chain.length"),
    ("training.microbatches=often", "expected a value like 1 (int)"),
    ("algorithm.chain.expensive_every=3", "expensive_every may be"),
    ("algorithm.score.weighting=3", "cannot be set from the command line"),
    ("algorithm.sigmas.start=1", "expected a value like (1.0, 6.0)"),
    ("algorithm.sigmas.start=6,1", "low < high"),
]
MOVED = [
    ("steps=3", "training.steps"),
    ("compute.accumulate=4", "training.microbatches"),
    ("method.alpha=1", "algorithm.alpha"),
    ("frozen=true", "algorithm.move_latents, its opposite"),
    ("ema=0.9", "algorithm.average"),
    ("choosing.every=3", "algorithm.reparameterization.every"),
]


@pytest.mark.parametrize(("assignment", "now"), MOVED)
def test_paths_of_before_are_told_where_they_went(assignment, now):
    with pytest.raises(RecipeError, match="is "):
        override(NUMBERS, [assignment])
    with pytest.raises(RecipeError) as caught:
        override(NUMBERS, [assignment])
    assert f"It is {now} now" in str(caught.value)


@pytest.mark.parametrize(("assignment", "get", "value"), TABLE)
def test_override(assignment, get, value):
    found = get(override(NUMBERS, [assignment]))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("assignment", "phrase"), MISTAKES)
def test_mistakes(assignment, phrase):
    with pytest.raises(RecipeError) as caught:
        override(NUMBERS, [assignment])
    assert phrase in str(caught.value)


def test_later_overrides_win_and_the_rest_stays():
    found = override(NUMBERS, ["training.steps=3", "training.steps=4", "training.batch=2"])
    assert (found.training.steps, found.training.batch) == (4, 2)
    assert as_data(override(found, ["training.steps=2000", "training.batch=128"])) == as_data(NUMBERS)


def test_another_algorithm_keeps_the_numbers_that_both_have():
    sid = override(NUMBERS, ["algorithm=sid", "algorithm.alpha=1"]).algorithm
    assert sid == em.SiD(sigmas=ALGORITHM.sigmas, average=0.995, alpha=1.0)
    assert override(NUMBERS, ["algorithm=EMD"]) == NUMBERS


def test_as_data_names_types_and_nothing_of_this_process():
    class Thing:
        pass

    data = as_data({"numbers": NUMBERS, "other": (Thing(), math.sqrt, None)})
    assert data["numbers"]["algorithm"]["chain"]["kernel"]["type"] == "Langevin"
    assert data["numbers"]["algorithm"]["sigmas"]["start"] == [1.0, 6.0]
    assert data["other"] == ["Thing", "sqrt", None]


def test_check_fields():
    check_fields(ALGORITHM, "algorithm")
    check_fields(em.EMD(chain=em.Chain(em.HMC(0.1), length=2)), "algorithm")
    wrong = override(
        ALGORITHM, ["average=0.9", "generator.b1=0.0"]
    )  # copies, to be spoilt behind the type check's back
    object.__setattr__(wrong.generator, "b1", "none")
    with pytest.raises(RecipeError, match="algorithm.generator.b1 is 'none'"):
        check_fields(wrong, "algorithm")
    object.__setattr__(wrong, "generator", "adam")
    with pytest.raises(RecipeError, match="algorithm.generator is 'adam'.*Optimiser"):
        check_fields(wrong, "algorithm")


def test_what_may_be_left_out_can_be_set_to_none():
    tied = em.EMD(anchor=em.Anchor())
    assert override(tied, ["anchor=none"]).anchor is None
    assert override(tied, ["anchor.weight=0.5"]).anchor.weight == 0.5
    with pytest.raises(RecipeError, match="set one of its fields"):
        override(tied, ["anchor=0.5"])
    with pytest.raises(RecipeError, match="expected a value like"):
        override(tied, ["average=none"])


def test_a_field_that_is_none_is_set_to_what_its_type_allows():
    assert override(ALGORITHM, ["anchor=Anchor"]).anchor == em.Anchor()
    assert override(ALGORITHM, ["anchor.weight=0.5"]).anchor == em.Anchor(weight=0.5)
    none = em.MonteCarloEM(reparameterization=None)
    assert override(none, ["reparameterization.every=7"]).reparameterization.every == 7
    assert override(ALGORITHM, ["score.weighting=uniform-weight"]).score.weighting == em.diffusion.UniformWeight()
    assert override(ALGORITHM, ["chain.kernel.truncation=2"]).chain.kernel.truncation == 2.0
    adapted = em.EMD(chain=em.Chain(em.HMC(), 2))
    assert override(adapted, ["chain.kernel.step_size=0.1"]).chain.kernel.step_size == 0.1
    assert override(adapted, ["chain.kernel.step_size=0.1", "chain.kernel.step_size=none"]) == adapted


@dataclasses.dataclass(frozen=True)
class Teaching:
    """As a teacher's training holds them."""

    algorithm: em.ScoreMatching = em.ScoreMatching()
    training: em.Training = em.Training(steps=5000)


class Optional(eqx.Module):
    """A record with a number that may be left out."""

    rows: int | None = None


@pytest.mark.parametrize(
    ("record", "assignment", "phrase"),
    [
        (
            ALGORITHM,
            "anchor=3",
            "--set anchor: '3' cannot be set from the command line; expected a kind by its name (Anch",
        ),
        (
            ALGORITHM,
            "score.weighting=3",
            "expected a kind by its name (EDMWeight, InverseVarianceWeight, PowerWeight, Un",
        ),
        (ALGORITHM, "score.weighting.sigma_data=3", "score.weighting is none, which has no fields; it may hold a kind"),
        (Optional(), "rows=2.5", "--set rows=2.5: expected an integer or none."),
        (Optional(3), "rows=many", "expected a value like 3 (int) or none."),
        (ALGORITHM, "chain.kernel.truncation=big", "expected a number or none."),
        (em.EMD(chain=em.Chain(em.HMC(), 2)), "chain.kernel.step_size=big", "expected a number or none."),
    ],
)
def test_what_a_field_may_hold_is_said(record, assignment, phrase):
    with pytest.raises(RecipeError) as caught:
        override(record, [assignment])
    assert phrase in str(caught.value)
    assert "NoneType" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "phrases"),
    [
        ("training.step=5", ["--set training.step:", "no field 'step'", "Did you mean training.steps?"]),
        ("algorithm.optimizer.clip=1", ["Did you mean algorithm.optimiser.clip?"]),
        ("learning_rate=1", ["Did you mean algorithm.optimiser.learning_rate?"]),
        ("training.steps=many", ["--set training.steps=many: expected a value like 5000"]),
        ("training.precision=3", ["set one of its fields: training.precision.bf16, training.precision.remat"]),
        ("algorithm.weighting=EDMWeight", ["--set algorithm.weighting=EDMWeight: a EDMWeight has no default"]),
        ("training.steps", ["--set needs path=value", "found 'training.steps'"]),
        ("training.steps.more=1", ["--set training.steps.more: int has no field 'more'; it has no fields."]),
    ],
)
def test_messages_name_the_whole_path(assignment, phrases):
    with pytest.raises(RecipeError) as caught:
        override(Teaching(), [assignment])
    assert [phrase for phrase in phrases if phrase not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("learning_rate=1", "algorithm.generator.learning_rate or algorithm.score.optimiser.learning_rate?"),
        ("kernel.step_size.noise=1", "algorithm.chain.kernel.step_size.noise?"),
        ("algorithm.chain.lenght=1", "algorithm.chain.length?"),
        ("training.Batch=3", "training.batch?"),
        ("training.batch_size=3", "training.batch?"),
        ("algorithm=sidd", "algorithm=SiD?"),
    ],
)
def test_near_names_are_suggested(assignment, meant):
    with pytest.raises(RecipeError) as caught:
        override(NUMBERS, [assignment])
    assert f"Did you mean {meant}" in str(caught.value)
