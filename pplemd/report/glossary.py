"""What the figures of a run are called, what they say, and how they are drawn."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Meaning:
    """A figure of metrics.jsonl.

    Attributes:
        title: for people.
        says: what to read off it, in a phrase.
        log: whether it is drawn on a logarithmic axis.
        guide: a value that it is compared with.
        second: another figure drawn into the same chart.
    """

    title: str
    says: str = ""
    log: bool = False
    guide: float | None = None
    second: str | None = None


GROUPS: dict[str, dict[str, Meaning]] = {
    "Learning": {
        "pull": Meaning("Pull", "mean square of how far the E-step moves x: falls as the student learns", log=True),
        "log_joint": Meaning("Log joint density", "of data and latents: rises, then is level"),
        "gain": Meaning(
            "Left to climb", "nats that one more M-step would gain at the end: 0 where a fit has converged"
        ),
        "score_loss": Meaning("Score loss", "denoising loss of the student's score network"),
        "anchor": Meaning("Anchor loss", "distance from the teacher's own map of noise to samples", log=True),
        "gradient_norm": Meaning("Gradient norm", "of the generator, before clipping", log=True),
        "skipped": Meaning("Skipped updates", "share whose gradient was not finite: 0 is healthy"),
    },
    "Score network": {
        "score_lag": Meaning("Score lag", "its loss over the teacher's on the student's samples: at most 1", guide=1.0),
        "score_gap": Meaning("Score gap", "sigma times (teacher's less student's score): 0 where they agree", log=True),
        "curl_student": Meaning(
            "Curl, student and teacher", "0 where a score is a gradient; teacher dashed", second="curl_teacher"
        ),
        "loop_student": Meaning(
            "Closed loops, student and teacher", "error of a line integral; teacher dashed", second="loop_teacher"
        ),
    },
    "Chains": {
        "acceptance": Meaning("Acceptance", "of proposals; 1 for unadjusted kernels"),
        "divergences": Meaning("Divergences", "per chain: 0 is healthy", guide=0.0),
        "noise_norm": Meaning("Noise, mean square", "of eps at the ends of chains; 1 under its law", guide=1.0),
        "latent_norm": Meaning("Latents, mean square", "at the ends of chains; 1 under their law", guide=1.0),
        "noise_chi2": Meaning("Noise, chi-square score", "about 0 +- 1 where chains hold N(0, I)", guide=0.0),
        "latents_chi2": Meaning("Latents, chi-square score", "about 0 +- 1 where chains hold N(0, I)", guide=0.0),
        "noise_to_drift": Meaning("Noise to drift", "how much of a chain's movement is noise", log=True),
    },
}
OWN_GROUPS = {  # by how a name begins
    "run_": "Samples on the way",
    "parameter_": "Parameters",
    "move_": "What one more M-step adds",
    "loss_of_": "What a move would lose",
    "lambda_": "Coordinates",
    "kappa_": "Coordinates",
    "cost_": "Coordinates",
    "failed_": "Left out",
}
REST = "Other figures"
ORDER = (
    "Learning",
    "Samples on the way",
    "Score network",
    "Chains",
    "Parameters",
    "What one more M-step adds",
    "What holds parameters",
    "Coordinates",
    "Left out",
    REST,
)
SAYS = {
    "Samples on the way": "of 1,000 samples of the averaged generator",
    "Parameters": "means between lines; at the end, of the averaged program",
    "What holds parameters": "nats that log p(y) loses at most where one moves by its size, or 1, to the better side",
    "Coordinates": "chosen from the chains' own draws",
    "Left out": "1 where what only looks at the training failed; its messages said why",
}

FIGURES = {  # of evaluation.json: title, whether more is better, None where it is neither
    "finite": ("Finite samples", True),
    "frechet": ("Frechet distance", False),
    "frechet_train": ("Frechet distance, train", False),
    "precision": ("Precision", True),
    "recall": ("Recall", True),
    "density": ("Density", True),
    "coverage": ("Coverage", True),
    "class_kl": ("Class KL", False),
    "modes": ("Modes found", True),
    "sharp": ("Sharp", True),
    "weight_kl": ("KL of mode weights", False),
    "sliced_w2": ("Sliced Wasserstein", False),
    "mean_error": ("Error of means", False),
    "sd_error": ("Error of s.d.s", False),
    "std_error": ("Error of s.d.s", False),
    "mmd": ("MMD", False),
    "c2st": ("Told apart by a classifier", False),
    "kid": ("KID", False),
    "class_recall": ("Recall, worst class", True),
    "class_accuracy": ("Class accuracy", True),
    "seconds_per_1000": ("Seconds for 1,000", False),
}
UNIMPORTANT = ("frechet_train", "seconds_per_1000")  # no tile of their own


def meaning(name: str) -> Meaning:
    """What a figure of metrics.jsonl is."""
    for group in GROUPS.values():
        if name in group:
            return group[name]
    own = next((begin for begin in OWN_GROUPS if name.startswith(begin)), "")
    bare = name.removeprefix(own) if own in ("run_", "parameter_", "move_", "loss_of_") else name
    if own == "run_":
        return Meaning(figure_title(bare))
    return Meaning(
        f"{bare}, next step" if own == "move_" else bare if own in ("parameter_", "loss_of_") else spaced(bare)
    )


def group_of(name: str) -> str:
    """The group that a figure of metrics.jsonl belongs to."""
    known = next((title for title, group in GROUPS.items() if name in group), None)
    return known or next((title for begin, title in OWN_GROUPS.items() if name.startswith(begin)), REST)


def grouped(names: set[str]) -> dict[str, list[str]]:
    """Figures by group, in the order in which they are shown; a second figure of another's chart is no own."""
    seconds = {name: one.second for group in GROUPS.values() for name, one in group.items() if one.second}
    shown = names - {second for name, second in seconds.items() if name in names}
    order = [name for group in GROUPS.values() for name in group]
    found: dict[str, list[str]] = {}
    for name in sorted(shown, key=lambda name: (order.index(name) if name in order else len(order), name)):
        found.setdefault(group_of(name), []).append(name)
    return {title: found[title] for title in ORDER if title in found}


def figure_title(name: str) -> str:
    """What a figure of evaluation.json is called."""
    return FIGURES[name][0] if name in FIGURES else spaced(name)


def more_is_better(name: str) -> bool | None:
    """Whether more of a figure is better; None where that is not known."""
    return FIGURES[name][1] if name in FIGURES else None


def spaced(name: str) -> str:
    """A name in words: mean_error is "Mean error"."""
    plain = re.sub("[_ ]+", " ", name).strip()
    return plain[:1].upper() + plain[1:]
