"""Alarms: each rule fires where it should, is silent where it should be, and says what to do."""

import math

import pytest

from pplemd.algorithms import EMD, ScoreUpdates, SiD
from pplemd.inference import Chain, Langevin, mala
from pplemd.learning import Training

FROZEN = EMD(move_latents=False)
MOVING = EMD()
ADJUSTED = EMD(chain=Chain(mala(0.3), length=4))
ADAPTED = EMD(chain=Chain(mala(), length=4))
HEALTHY = {
    "score_loss": 0.48,
    "pull": 0.004,
    "gradient_norm": 1.0,
    "acceptance": 0.7,
    "divergences": 0.0,
    "latent_norm": 1.01,
    "noise_norm": 1.05,
    "skipped": 0.0,
}


def run(*changes, windows=12):
    """Healthy lines, the last of them changed one after the other."""
    lines = [{"step": 50 * (i + 1), **HEALTHY, "pull": 0.004 * 0.98**i} for i in range(windows)]
    for line, change in zip(lines[windows - len(changes) :], changes, strict=True):
        line.update(change)
    return lines


def alarms(history, algorithm=MOVING, **training):
    return algorithm.alarms(Training(**training), history)


def names(history, algorithm=MOVING, **training):
    return [alarm.name for alarm in alarms(history, algorithm, **training)]


@pytest.mark.parametrize(
    ("name", "algorithm", "history"),
    [
        ("latents_run_away", MOVING, run({"latent_norm": 12.0})),
        ("latents_run_away", ADJUSTED, run({"latent_norm": 12.0})),
        ("noise_runs_away", FROZEN, run({"noise_norm": 30.0})),
        ("non_finite", MOVING, run({"pull": None, "gradient_norm": None, "skipped": 0.3})),
        ("non_finite", MOVING, run({"latent_norm": None})),
        ("non_finite", MOVING, run({"score_loss": None, "skipped": 1.0}, windows=1)),
        ("updates_skipped", MOVING, run({"skipped": 0.2, "gradient_norm": None})),
        ("gradient_explodes", MOVING, run({"gradient_norm": 11.0})),
        ("acceptance_low", ADJUSTED, run({"acceptance": 0.18})),
        ("acceptance_low", ADAPTED, run({"acceptance": 0.1})),
        ("acceptance_full", ADJUSTED, run(*[{"acceptance": 1.0}] * 3)),
        ("acceptance_full", ADAPTED, run(*[{"acceptance": 0.9995}] * 3)),
        ("divergences", ADJUSTED, run({"divergences": 0.08})),
        ("score_lag", MOVING, run({"score_lag": 1.6})),
        ("score_lag", FROZEN, run(*[{"pull": 0.0045}] * 5, windows=10)),
        ("collapse", MOVING, run({"run_recall": 0.9}, {}, {"run_recall": 0.5})),
        ("collapse", MOVING, run({"run_modes": 8.0}, {"run_modes": 6.0})),
        ("collapse", MOVING, run({"run_class_kl": 0.01}, {"run_class_kl": 0.12})),
        ("collapse", MOVING, run({"run_weight_kl": 0.02}, {"run_weight_kl": 0.4})),
    ],
)
def test_a_rule_fires(name, algorithm, history):
    (alarm,) = alarms(history, algorithm)
    assert alarm.name == name
    assert all((alarm.found, alarm.cause, alarm.repair))
    assert names(history[:-1], algorithm) == []  # it is the newest line that does it


def test_an_algorithm_without_chains_is_not_advised_to_lengthen_them():
    history = run({"run_modes": 8.0}, {"run_modes": 6.0})
    told = [alarms(history, algorithm)[0] for algorithm in (SiD(), EMD())]
    assert ["chain" in alarm.repair or "E-step" in alarm.cause for alarm in told] == [False, True]


@pytest.mark.parametrize(
    ("algorithm", "history"),
    [
        (MOVING, run()),
        (MOVING, run(windows=1)),
        (FROZEN, run({"latent_norm": 12.0})),  # held latents are the fresh draws themselves
        (MOVING, run({"latent_norm": 3.0, "noise_norm": 6.0})),  # the tilt from a far student
        (MOVING, run({"skipped": 0.02, "gradient_norm": None})),  # one update of fifty
        (MOVING, run({"gradient_norm": 8.0})),
        (MOVING, run({"gradient_norm": 50.0}, windows=3)),  # no usual size yet
        (MOVING, run({"acceptance": 0.1})),  # nothing is refused, nothing is wanted
        (MOVING, run(*[{"acceptance": 1.0}] * 3)),
        (ADAPTED, run(*[{"acceptance": 1.0}] * 2)),
        (ADJUSTED, run({"acceptance": 0.3})),
        (ADAPTED, run({"acceptance": 0.05}, windows=2)),  # step sizes are on their way
        (ADJUSTED, run({"divergences": 0.03})),
        (MOVING, run({"score_lag": 1.4})),
        (MOVING, run(*[{"pull": 0.0045}] * 5, windows=9)),  # too early to tell
        (MOVING, run(*[{"pull": 0.0045}] * 2)),  # two windows are no trend
        (MOVING, run({"run_recall": 0.9}, {"run_recall": 0.6})),
        (MOVING, run({"run_recall": 0.5})),  # nothing to fall from
        (MOVING, run({"run_recall": 0.9}, {"run_recall": None})),
        (MOVING, run({"run_modes": 8.0}, {"run_modes": 7.0})),
        (MOVING, run({"run_class_kl": 0.05}, {"run_class_kl": 0.12})),
        (MOVING, run() + [{"step": 605, "score_gap": 0.2, "score_lag": 0.9, "run_recall": 0.9}]),
    ],
)
def test_the_rules_are_silent(algorithm, history):
    assert names(history, algorithm) == []


def test_few_numbers_may_vary_more():
    assert names(run({"latent_norm": 9.4}), batch=1, log_every=1) == []
    assert names(run({"latent_norm": 9.5}), batch=1, log_every=1) == ["latents_run_away"]
    assert math.isclose(1 + 6 * math.sqrt(2), 9.485, abs_tol=1e-3)


def test_a_cause_is_told_before_what_it_causes():
    history = run({"latent_norm": 1e9, "gradient_norm": None, "skipped": 0.5, "score_lag": 3.0})
    assert names(history) == ["latents_run_away", "score_lag"]


def test_causes_and_repairs_fit_the_kernel():
    unadjusted, adjusted = (alarms(run({"latent_norm": 50.0}), one)[0] for one in (MOVING, ADJUSTED))
    assert "unadjusted" in unadjusted.cause
    assert "em.mala()" in unadjusted.repair
    assert "move_latents=false" in unadjusted.repair
    assert "unadjusted" not in adjusted.cause
    assert "adaptation.initial" in alarms(run({"acceptance": 0.1}), ADAPTED)[0].repair
    assert "step_size" in alarms(run({"acceptance": 0.1}), ADJUSTED)[0].repair


def test_nan_from_the_first_step_is_the_teacher_s():
    (alarm,) = alarms(run({"pull": None, "noise_norm": None, "skipped": 1.0}, windows=1), FROZEN)
    assert "teacher" in alarm.cause
    (later,) = alarms(run({"pull": None, "noise_norm": None, "skipped": 1.0}), FROZEN)
    assert "teacher" not in later.cause


def test_a_lagging_score_network_is_given_more_updates():
    (alarm,) = alarms(run({"score_lag": 1.8}), EMD(score=ScoreUpdates(count=3)))
    assert "--set algorithm.score.count=6" in alarm.repair


def test_frozen_langevin_of_other_steps_is_judged_alike():
    assert names(run({"noise_norm": 1e4}), EMD(move_latents=False, chain=Chain(Langevin(1.5), 2))) == [
        "noise_runs_away"
    ]
