"""What is said of figures that fall short, and of none that do not."""

import pytest

from pplemd.report.glossary import shortfalls

GOOD = {"precision": 0.94, "recall": 0.94, "class_kl": 0.001, "modes": 8.0}
WHY = "The run's alarms and curves tell why."
SPREAD = f"{WHY} Against lost diversity try an anchor (em.EMD(anchor=em.Anchor())) or --set algorithm.score.count=3."
LONGER = f"{WHY} Try more steps (--steps N), a smaller generator.learning_rate, or a larger batch."


def told(count=5000, **rows):
    found = {"floor": GOOD, "teacher": GOOD, "student": GOOD, **rows}
    return shortfalls(lambda who, name: found[who].get(name), count)


def of(name, floor, teacher, student, count=5000):
    """What is said of one figure, None where there is none."""
    rows = {"floor": floor, "teacher": teacher, "student": student}
    return told(count, **{who: {} if value is None else {name: value} for who, value in rows.items()})


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
    ("change", "phrase", "advice"),
    [
        ({"recall": 0.5}, "Recall 0.500 beside 0.940", SPREAD),
        ({"precision": 0.5}, "Precision 0.500 beside 0.940", LONGER),
        ({"modes": 7.0}, "Modes found 7 beside 8", SPREAD),
        ({"class_kl": 0.2}, "Class KL 0.200 beside 0.001", SPREAD),
    ],
)
def test_a_student_beside_its_teacher(change, phrase, advice):
    (sentence,) = told(student={**GOOD, **change})
    assert sentence == f"The student falls short of its teacher: {phrase}. {advice}"


def test_a_teacher_comes_first():
    poor = {**GOOD, "recall": 0.1, "precision": 0.2}
    (sentence,) = told(teacher=poor, student=poor)
    assert "teacher falls short of real samples: Precision 0.200 beside 0.940; Recall 0.100 beside 0.940" in sentence
    assert "The student learns from nothing else. Teach it longer" in sentence


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("frechet", (0.584, 0.760, 0.773)),  # digits of README, floor, teacher, student; one more draw of it
        ("frechet", (0.584, 0.70, 0.90)),
        ("frechet", (0.078, 0.681, 0.989)),  # MNIST of README, its teacher guided
        ("frechet", (None, 0.681, 0.989)),
        ("frechet", (0.584, None, 0.773)),
        ("frechet", (0.6, 0.2, 1.1)),  # a teacher below the floor, of fewer samples
        ("sliced_w2", (0.184, 0.124, 0.276)),  # the ring: draws of one law by different seeds
        ("kid", (-0.003, 0.001, 0.008)),
        ("kid", (0.001, 0.4, 1.2)),
        ("mean_error", (0.03, 0.04, 40.0)),  # in units of the data
        ("mmd", (0.0, 0.0, 0.03)),
        ("c2st", (0.49, 0.5, 0.55)),
        ("class_accuracy", (0.9879, 0.9985, 0.95)),
        ("sharp", (1.0, 1.0, 0.96)),
    ],
)
def test_noise_and_what_a_run_that_went_well_has_are_passed(name, figures):
    assert of(name, *figures) == ()


@pytest.mark.parametrize(
    ("name", "figures", "phrase", "advice"),
    [
        ("frechet", (0.584, 2.96, 6.4), "its teacher: Frechet distance 6.400 beside 2.960", LONGER),
        ("frechet", (None, 2.96, 6.4), "its teacher: Frechet distance 6.400 beside 2.960", LONGER),
        ("frechet", (0.078, None, 6.4), "real samples: Frechet distance 6.400 beside 0.078", LONGER),
        ("kid", (0.001, 0.02, 0.1), "its teacher: KID 0.100 beside 0.02", LONGER),
        ("sliced_w2", (0.029, 0.031, 0.071), "its teacher: Sliced Wasserstein 0.071 beside 0.031", LONGER),
        ("sliced_w2", (0.03, None, 0.1), "real samples: Sliced Wasserstein 0.100 beside 0.03", LONGER),
        ("sd_error", (0.02, 0.02, 0.3), "its teacher: Error of s.d.s 0.300 beside 0.02", LONGER),
        ("mmd", (0.0, 0.01, 0.2), "its teacher: MMD 0.200 beside 0.01", LONGER),
        ("c2st", (0.5, 0.5, 0.8), "its teacher: Told apart by a classifier 0.800 beside 0.500", LONGER),
        ("class_accuracy", (0.99, 0.98, 0.6), "its teacher: Class accuracy 0.600 beside 0.980", LONGER),
        ("frechet", (0.5, 0.6, float("inf")), "its teacher: Frechet distance", LONGER),
    ],
)
def test_a_student_far_off_is_told(name, figures, phrase, advice):
    sentence = of(name, *figures)[-1]
    assert sentence.startswith(f"The student falls short of {phrase}")
    assert sentence.endswith(advice)


@pytest.mark.parametrize(
    ("name", "floor", "teacher"),
    [
        ("class_accuracy", 0.99, 0.60),
        ("class_accuracy", 0.99, 0.85),
        ("precision", 0.969, 0.587),
        ("frechet", 0.076, 24.9),
        ("frechet", 0.5, 2.96),
        ("sliced_w2", 0.03, 0.1),
        ("c2st", 0.5, 0.9),
    ],
)
def test_a_poor_teacher_is_told_whatever_its_student(name, floor, teacher):
    (sentence,) = of(name, floor, teacher, teacher)
    assert sentence.startswith("The teacher falls short of real samples: ")
    assert sentence.endswith("bring a better one.")


def test_of_few_samples_shares_have_their_noise():
    assert of("class_accuracy", 0.8, 0.8, 0.65, count=100) == ()
    assert len(of("class_accuracy", 0.8, 0.8, 0.65, count=10_000)) == 1


def test_errors_of_means_in_s_d_are_judged():
    rows = {"floor": 0.02, "teacher": 0.03, "student": 0.5}
    (sentence,) = told(**{who: {"mean_error": value, "sd_error": 0.01} for who, value in rows.items()})
    assert "Error of means 0.500 beside 0.03" in sentence
