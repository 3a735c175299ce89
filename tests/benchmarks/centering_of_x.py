"""The coordinates of the E-step on digits: (x_sigma, z), (eps, z), or chosen by range of sigma.

Run by hand, not by pytest: `python tests/benchmarks/centering_of_x.py [--steps 1500] [--seeds 0 1 2] [--json]`.

models/digits.py with its latents moving: K transitions of an adjusted Langevin kernel whose step sizes find themselves,
by range of sigma, in each set of coordinates; noise cancelled in pairs; no anchor. The teacher is that of the model
file, from the cache or taught first. Figures are those of the run's evaluation; lambdas the last in use.

Source: arXiv:2405.16852, section 3.2 and its ablation of the two parameterisations of the E-step.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em
from pplemd.dsl import load_file

FORMS = {"(x, z)": True, "(eps, z)": False, "auto": "auto"}
FIGURES = ("frechet", "precision", "recall", "class_kl")


def declared(form, steps, length, seed):
    """The model of a form."""
    file = load_file(Path(__file__).parents[2] / "models" / "digits.py")

    class Digits(em.Program):
        """x = g(z), z ~ N(0, I), x_sigma in such coordinates."""

        net: em.OneStep

        def __call__(self):
            z = em.latent("z", dist.Normal(jnp.zeros(file.data.shape), 1.0))
            return em.generate("x", self.net(z), centered=FORMS[form])

    algorithm = em.EMD(
        chain=em.Chain(em.mala(), length, em.Cancellation.PAIRED),
        reparameterization=em.Reparameterization(every=max(steps // 6, 1), rounds=16),
    )
    training = em.Training(
        steps=steps,
        log_every=max(steps // 30, 1),
        sample_every=steps,
        checkpoint_every=steps,
        seed=seed,
    )
    return dataclasses.replace(
        file.digits,
        program=lambda teacher, key: Digits(em.one_step(teacher, sigma=1.0)),
        algorithm=algorithm,
        training=training,
    )


def row(form, steps, length, seed, teacher_steps=None):
    """Figures of one run."""
    changes = () if teacher_steps is None else (f"teacher.training.steps={teacher_steps}",)
    with tempfile.TemporaryDirectory() as folder:
        model, run = declared(form, steps, length, seed), Path(folder) / "run"
        outcome = em.distil(model, run, overrides=changes, reporter=em.Silent())
        lines = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "acceptance" in line][-5:]
    lambdas = [
        {name: value for name, value in line.items() if name.startswith(("lambda_x", "cost_x"))} for line in lines
    ]
    return {
        "form": form,
        "seed": seed,
        **{name: outcome.report.student[name] for name in FIGURES},
        "acceptance": sum(line["acceptance"] for line in last) / len(last),
        "pull": sum(line["pull"] for line in last) / len(last),
        "chosen": next((found for found in reversed(lambdas) if found), {}),
        "seconds": outcome.seconds,
    }


def main():
    """Print a line for each run, or all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--length", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--teacher-steps", type=int, help="for a quick look; by default the model file's")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    for form in FORMS:
        for seed in given.seeds:
            rows.append(row(form, given.steps, given.length, seed, given.teacher_steps))
            if not given.json:
                shown = "  ".join(f"{name} {rows[-1][name]:.3f}" for name in (*FIGURES, "acceptance", "pull"))
                print(f"{form:9} seed {seed}  {shown}  {rows[-1]['seconds']:.0f} s", rows[-1]["chosen"], flush=True)
    if given.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
