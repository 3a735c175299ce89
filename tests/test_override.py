import math

import pytest

import pplemd as em
from pplemd.errors import RecipeError
from pplemd.override import as_data, check_fields, override

RECIPE = em.Recipe(steps=2000, batch=128, ema=0.995, sigmas=em.CoarseToFine((1.0, 6.0), (0.1, 2.5), 0.7))

TABLE = [
    ("steps=500", lambda r: r.steps, 500),
    ("steps=1e4", lambda r: r.steps, 10_000),
    (" steps = 10_000 ", lambda r: r.steps, 10_000),
    ("frozen=true", lambda r: r.frozen, True),
    ("frozen=No", lambda r: r.frozen, False),
    ("ema=0", lambda r: r.ema, 0.0),
    ("generator.learning_rate=1e-4", lambda r: r.generator.learning_rate, 1e-4),
    ("chain.kernel.step_size.noise=0.5", lambda r: r.chain.kernel.step_size.noise, 0.5),
    ("chain.length=8", lambda r: r.chain.length, 8),
    ("chain.slow_every=2", lambda r: r.chain.slow_every, 2),
    ("sigmas.start=0.5,4", lambda r: r.sigmas.start, (0.5, 4.0)),
    ("sigmas.end=(0.2, 3)", lambda r: r.sigmas.end, (0.2, 3.0)),
]

MISTAKES = [
    ("steps", "needs path=value"),
    ("=3", "needs path=value"),
    ("steps=", "expected a value like 2000"),
    ("steps=1.5", "expected a value like 2000"),
    ("steps=many", "expected a value like 2000"),
    ("frozen=maybe", "expected a value like False"),
    ("ema=nan", "expected a value like 0.995"),
    ("ema=inf", "expected a value like 0.995"),
    ("ema=1", "0 <= ema < 1"),
    ("step=3", "no field 'step'; its fields are steps, batch"),
    ("steps.more=3", "int has no field 'more'; it has no fields"),
    ("chain=3", "set one of its fields: chain.kernel, chain.length, chain.cancel"),
    ("compute.accumulate=often", "expected a value like 1 (int)"),
    ("chain.slow_every=3", "slow_every may be"),
    ("score.weighting=3", "cannot be set from the command line"),
    ("sigmas.start=1", "expected a value like (1.0, 6.0)"),
    ("sigmas.start=6,1", "low < high"),
]


@pytest.mark.parametrize(("assignment", "get", "value"), TABLE)
def test_override(assignment, get, value):
    found = get(override(RECIPE, [assignment]))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("assignment", "phrase"), MISTAKES)
def test_mistakes(assignment, phrase):
    with pytest.raises(RecipeError) as caught:
        override(RECIPE, [assignment])
    assert phrase in str(caught.value)


def test_later_overrides_win_and_the_rest_stays():
    found = override(RECIPE, ["steps=3", "steps=4", "batch=2"])
    assert (found.steps, found.batch) == (4, 2)
    assert as_data(override(found, ["steps=2000", "batch=128"])) == as_data(RECIPE)


def test_as_data_names_types_and_nothing_of_this_process():
    class Thing:
        pass

    data = as_data({"recipe": RECIPE, "other": (Thing(), math.sqrt, None)})
    assert data["recipe"]["chain"]["kernel"]["type"] == "Langevin"
    assert data["recipe"]["sigmas"]["start"] == [1.0, 6.0]
    assert data["other"] == ["Thing", "sqrt", None]


def test_check_fields():
    check_fields(RECIPE, "recipe")
    check_fields(em.Recipe(chain=em.Chain(em.HMC(0.1), length=2)), "recipe")
    wrong = override(RECIPE, ["steps=2000", "generator.b1=0.0"])  # copies, to be spoilt behind the type check's back
    object.__setattr__(wrong.generator, "b1", "none")
    with pytest.raises(RecipeError, match="recipe.generator.b1 is 'none'"):
        check_fields(wrong, "recipe")
    object.__setattr__(wrong, "generator", "adam")
    with pytest.raises(RecipeError, match="recipe.generator is 'adam'.*Optimiser"):
        check_fields(wrong, "recipe")


def test_what_may_be_left_out_can_be_set_to_none():
    recipe = em.Recipe(anchor=em.Anchor())
    assert override(recipe, ["anchor=none"]).anchor is None
    assert override(recipe, ["anchor.weight=0.5"]).anchor.weight == 0.5
    with pytest.raises(RecipeError, match="set one of its fields"):
        override(recipe, ["anchor=0.5"])
    with pytest.raises(RecipeError, match="expected a value like"):
        override(recipe, ["steps=none"])
