"""Names of methods on the command line."""

import pytest

import pplemd as em
from pplemd.comparison import Budget, contenders
from pplemd.errors import RecipeError
from pplemd.learning.methods import EMD, DiffInstruct, SiD
from pplemd.tasks.override import override


def recipe(one):
    return override(em.Recipe(anchor=em.Anchor()), one.overrides)


def test_names_become_recipes():
    plain, long, instruct, sid = contenders("emd, emd-16,diff-instruct,sid:method.alpha=1:anchor=none")
    assert recipe(plain) == em.Recipe(anchor=em.Anchor())
    assert (recipe(long).method, recipe(long).chain.length) == (EMD(), 16)
    assert recipe(instruct).method == DiffInstruct()
    assert (recipe(sid).method, recipe(sid).anchor) == (SiD(1.0), None)
    assert [one.folder for one in (long, sid)] == ["emd-16", "sid-method.alpha=1-anchor=none"]


def test_changes_of_either_sign_have_folders_of_their_own():
    less, more = contenders("sid:method.alpha=-1,sid:method.alpha=1")
    assert less.folder != more.folder


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (" , ", "at least one name"),
        ("emd,sid,emd", "names emd twice"),
        ("gan", "Or name another kind"),
        ("emd-0x", "Or name another kind"),
        ("emd-0", "at least one step"),
        ("sid:alpha", "no path=value"),
    ],
)
def test_mistakes(text, phrase):
    with pytest.raises(RecipeError, match=phrase):
        contenders(text)


def test_budgets():
    assert Budget.read("steps=2000") == Budget("steps", 2000.0)
    assert str(Budget.read("evaluations=2.5e6")) == "evaluations=2.5e+06"


@pytest.mark.parametrize("text", ["steps", "steps=", "hours=3", "seconds=-1", "steps=0", "steps=inf", "steps=nan"])
def test_other_budgets_are_refused(text):
    with pytest.raises(RecipeError, match="expected steps=N, evaluations=N or seconds=N"):
        Budget.read(text)
