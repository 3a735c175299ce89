"""pplemd teacher show: what a checkpoint is."""

from pplemd_cli import options
from pplemd_cli import show as printing


def show(checkpoint: options.TeacherPath, json: options.AsJson = False, debug: options.Debug = False) -> None:
    """Say what a checkpoint is: its family, convention, parameters, shape and classes. Nothing of it is executed.

    Takes the folder that `pplemd teacher import` wrote, or the original. The weights are not read.

    For example:

        pplemd teacher show teachers/imagenet64
    """
    options.prepare(None, debug)
    from pplemd.runs.imported_teacher import show as describe

    facts = describe(checkpoint)
    if json:
        printing.as_json(facts)
        return
    rows = {
        "family": facts["architecture"],
        "convention": facts["convention"],
        "shape": " x ".join(str(size) for size in facts["shape"]),
        "classes": "none" if facts["classes"] is None else f"{facts['classes']:,}",
        "parameters": f"{facts['parameters']:,} in {facts['arrays']:,} arrays of {', '.join(facts['dtypes'])}",
    }
    rows |= {name: facts[name] for name in ("source", "sha256") if name in facts}
    rows |= {name: str(value) for name, value in facts["config"].items() if not isinstance(value, dict)}
    for note in facts["notes"]:
        print(f"{'note':<20} {printing.harmless(note)}")
    for name, value in rows.items():
        print(f"{printing.harmless(name):<20} {printing.harmless(value)}")
