"""Names of algorithms on the command line."""

import dataclasses

import pytest

import pplemd as em
from pplemd.comparison import Budget, contenders
from pplemd.comparison.contenders import Numbers
from pplemd.errors import RecipeError
from pplemd.tasks.override import override


def algorithm(one):
    return override(Numbers(em.EMD(anchor=em.Anchor())), one.overrides).algorithm


def test_names_become_algorithms():
    plain, long, instruct, sid = contenders("emd, emd-16,diff-instruct,sid:algorithm.alpha=1:algorithm.anchor=none")
    assert algorithm(plain) == em.EMD(anchor=em.Anchor())
    assert algorithm(long) == em.EMD(anchor=em.Anchor(), chain=dataclasses.replace(em.EMD().chain, length=16))
    assert algorithm(instruct) == em.DiffInstruct(anchor=em.Anchor())
    assert algorithm(sid) == em.SiD(alpha=1.0)
    assert [one.folder for one in (long, sid)] == ["emd-16", "sid-algorithm.alpha=1-algorithm.anchor=none"]


def test_changes_of_either_sign_have_folders_of_their_own():
    less, more = contenders("sid:algorithm.alpha=-1,sid:algorithm.alpha=1")
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


@pytest.mark.parametrize(
    "text",
    [
        "steps",
        "steps=",
        "hours=3",
        "seconds=-1",
        "steps=0",
        "steps=inf",
        "steps=nan",
    ],
)
def test_other_budgets_are_refused(text):
    with pytest.raises(RecipeError, match="expected steps=N, evaluations=N or seconds=N"):
        Budget.read(text)
