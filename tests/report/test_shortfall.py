"""What is said of figures that fall short, and of none that do not."""

import pytest

from pplemd.report.shortfall import shortfalls

GOOD = {"precision": 0.94, "recall": 0.94, "class_kl": 0.001, "modes": 8.0}


def told(**rows):
    found = {"floor": GOOD, "teacher": GOOD, "student": GOOD, **rows}
    return shortfalls(lambda who, name: found[who].get(name))


@pytest.mark.parametrize(
    "student",
    [
        GOOD,
        {**GOOD, "recall": 0.6 * 0.94 + 1e-6},
        {**GOOD, "class_kl": 0.1},
        {"frechet": 3.0},
        {**GOOD, "recall": float("nan")},
    ],
)
def test_nothing_where_nothing_falls_short(student):
    assert told(student=student) == ()


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"recall": 0.5}, "Recall 0.500 beside 0.940"),
        ({"precision": 0.5}, "Precision 0.500 beside 0.940"),
        ({"modes": 7.0}, "Modes found 7 beside 8"),
        ({"class_kl": 0.2}, "Class KL 0.200 beside 0.001"),
    ],
)
def test_a_student_beside_its_teacher(change, phrase):
    (sentence,) = told(student={**GOOD, **change})
    assert sentence == f"The student falls short of its teacher: {phrase}. The run's alarms and curves tell why."


def test_a_teacher_comes_first():
    poor = {**GOOD, "recall": 0.1, "precision": 0.2}
    (sentence,) = told(teacher=poor, student=poor)
    assert "teacher falls short of real samples: Precision 0.200 beside 0.940; Recall 0.100 beside 0.940" in sentence
