"""Names of earlier versions, for messages of model files that still use them."""

import re

RENAMED = {
    "Recipe": "em.Training (steps, batch, seed, ...) and an algorithm, such as em.EMD",
    "recipe": "`training=em.Training(...)` and `algorithm=em.EMD(...)`",
    "FitRecipe": "em.Training and em.MonteCarloEM",
    "TeachRecipe": "em.Training and em.ScoreMatching",
    "ScoreRecipe": "em.ScoreUpdates, an algorithm's `score`",
    "Compute": "em.Precision, a training's `precision`",
    "compute": "`precision` and `microbatches` of em.Training",
    "Choosing": "em.Reparameterization, an algorithm's `reparameterization`",
    "choosing": "`reparameterization`",
    "Judging": "em.Diagnostics, a fit's `diagnostics`",
    "judging": "a fit's `diagnostics`",
    "methods": "em.algorithms",
    "method": "`algorithm`",
    "frozen": "`move_latents`, its opposite",
    "rows": "`batch` of em.Training, with `minibatches=True`",
    "labels": "`conditions`",
    "score_network": '`networks={"score": ...}`',
    "label_dropout": "`condition_dropout`",
    "slow_every": "`expensive_every`",
    "LastIsNone": "NullClassDenoiser",
    "ALL": "em.Cancellation.ALL",
    "NONE": "em.Cancellation.NONE",
    "INITIAL": "em.Cancellation.INITIAL",
    "INJECTED": "em.Cancellation.INJECTED",
    "PAIRED": "em.Cancellation.PAIRED",
    "narrator": "`reporter`",
    "distilled": "`result`",
}
PATTERNS = (  # of Python's own messages
    r"unexpected keyword argument '(\w+)'",
    r"module 'pplemd[\w.]*' has no attribute '(\w+)'",
    r"cannot import name '(\w+)' from 'pplemd",
)


def renamed(message: str) -> str:
    """What an earlier version's name is called now, as a sentence; empty where an error is of something else."""
    for pattern in PATTERNS:
        found = re.search(pattern, message)
        if found and found[1] in RENAMED:
            return f" {found[1]} of earlier versions is {RENAMED[found[1]]} now (docs/changelog.md)."
    return ""
