import math

import pytest

import pplemd as em
from pplemd.errors import RecipeError
from pplemd.learning import TeachRecipe
from pplemd.learning.fit_recipe import FitRecipe
from pplemd.tasks.override import as_data, check_fields, override

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


def test_a_field_that_is_none_is_set_to_what_its_type_allows():
    assert override(RECIPE, ["anchor=Anchor"]).anchor == em.Anchor()
    assert override(RECIPE, ["anchor.weight=0.5"]).anchor == em.Anchor(weight=0.5)
    assert override(FitRecipe(), ["rows=8"]).rows == 8
    assert override(FitRecipe(choosing=None), ["choosing.every=7"]).choosing.every == 7
    assert override(RECIPE, ["score.weighting=uniform-weight"]).score.weighting == em.diffusion.UniformWeight()
    assert override(RECIPE, ["chain.kernel.truncation=2"]).chain.kernel.truncation == 2.0
    adapted = em.Recipe(chain=em.Chain(em.HMC(), 2))
    assert override(adapted, ["chain.kernel.step_size=0.1"]).chain.kernel.step_size == 0.1
    assert override(adapted, ["chain.kernel.step_size=0.1", "chain.kernel.step_size=none"]) == adapted


@pytest.mark.parametrize(
    ("recipe", "assignment", "phrase"),
    [
        (
            RECIPE,
            "anchor=3",
            "--set anchor: '3' cannot be set from the command line; expected a kind by its name (Anch",
        ),
        (
            RECIPE,
            "score.weighting=3",
            "expected a kind by its name (EDMWeight, InverseVarianceWeight, PowerWeight, Un",
        ),
        (RECIPE, "score.weighting.sigma_data=3", "score.weighting is none, which has no fields; it may hold a kind"),
        (FitRecipe(), "rows=2.5", "--set rows=2.5: expected an integer or none."),
        (FitRecipe(rows=3), "rows=many", "expected a value like 3 (int) or none."),
        (RECIPE, "chain.kernel.truncation=big", "expected a number or none."),
        (em.Recipe(chain=em.Chain(em.HMC(), 2)), "chain.kernel.step_size=big", "expected a number or none."),
    ],
)
def test_what_a_field_may_hold_is_said(recipe, assignment, phrase):
    with pytest.raises(RecipeError) as caught:
        override(recipe, [assignment])
    assert phrase in str(caught.value)
    assert "NoneType" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "phrases"),
    [
        ("teacher.step=5", ["--set teacher.step:", "no field 'step'", "Did you mean teacher.steps?"]),
        ("teacher.score.optimizer.clip=1", ["Did you mean teacher.score.optimiser.clip?"]),
        ("teacher.learning_rate=1", ["Did you mean teacher.score.optimiser.learning_rate?"]),
        ("teacher.steps=many", ["--set teacher.steps=many: expected a value like 5000"]),
        ("teacher.compute=3", ["--set teacher.compute:", "set one of its fields: teacher.compute.bf16, teacher.comp"]),
        ("teacher.score.weighting=EDMWeight", ["--set teacher.score.weighting=EDMWeight: a EDMWeight has no default"]),
        ("teacher.steps", ["--set needs path=value", "found 'teacher.steps'"]),
        ("teacher.steps.more=1", ["--set teacher.steps.more: int has no field 'more'; it has no fields."]),
    ],
)
def test_messages_name_the_whole_path(assignment, phrases):
    with pytest.raises(RecipeError) as caught:
        override(TeachRecipe(), [assignment], "teacher.")
    assert [phrase for phrase in phrases if phrase not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("learning_rate=1", "generator.learning_rate or score.optimiser.learning_rate?"),
        ("kernel.step_size.noise=1", "chain.kernel.step_size.noise?"),
        ("chain.lenght=1", "chain.length?"),
        ("Batch=3", "batch?"),
        ("batch_size=3", "batch?"),
        ("method=sidd", "method=SiD?"),
    ],
)
def test_near_names_are_suggested(assignment, meant):
    with pytest.raises(RecipeError) as caught:
        override(RECIPE, [assignment])
    assert f"Did you mean {meant}" in str(caught.value)
