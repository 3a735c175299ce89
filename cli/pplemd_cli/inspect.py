"""pplemd inspect: the plan of a model file, without running it."""

from pplemd_cli import options, plans


def inspect(
    model: options.ModelFile,
    program: options.ProgramName = None,
    overrides: options.Overrides = None,
    teacher: options.Teacher = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Print what a model file would do: sites, teacher, networks, numbers, memory and cost of a step.

    The program is traced, and its step compiled, but nothing is trained or drawn.

    For example:

        pplemd inspect models/digits.py

        pplemd inspect models/digits.py --set training.batch=512
    """
    options.prepare(device, debug)
    plans.show_plan(plans.planned(model, program, tuple(overrides or ()), teacher, compiled=True), json)
