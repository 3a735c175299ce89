"""pplemd diagnose: long chains of a run's E-step at several sigma, judged with ArviZ."""

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from pplemd_cli import options, show, stops

if TYPE_CHECKING:
    from pplemd.inference import AbstractKernel
    from pplemd.runs.diagnose import Diagnosis


class Kernel(enum.StrEnum):
    """Which transition."""

    nuts = "nuts"
    hmc = "hmc"
    recipe = "recipe"


def diagnose(
    run: options.RunPath,
    sigma: Annotated[
        list[float] | None,
        typer.Option(
            help="A noise level, in data units; as often as wanted. By default four that training draws.",
            show_default=False,
        ),
    ] = None,
    chains: Annotated[int, typer.Option(min=2, help="Chains at each sigma, from fresh draws.")] = 4,
    draws: Annotated[int, typer.Option(min=4, help="Draws that are kept of each chain.")] = 500,
    warm_up: Annotated[int, typer.Option(min=0, help="Draws before them, which find step sizes.")] = 500,
    label: Annotated[
        int | None, typer.Option(help="The class of the chains; by default the likeliest.", show_default=False)
    ] = None,
    kernel: Annotated[
        Kernel, typer.Option(help="NUTS, HMC of 8 leapfrogs, or the recipe's own transition as it is trained with.")
    ] = Kernel.nuts,
    model: options.OtherFile = None,
    seed: options.Seed = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Ask whether the E-step's law of a run can be sampled: long MCMC chains at several sigma, judged with ArviZ.

    The law of (eps, z) at sigma is what the chains of training follow for a few transitions: noise and latents, tilted
    from student to teacher. Here they are followed to their end, from fresh draws, with step sizes found in warm-up.

    R-hat near 1 says that the chains agree; ESS, how many independent draws they are worth; ESS per gradient, what one
    costs in evaluations of the teacher and of the student's score. Compare sigmas, and --kernel recipe with the rest.

    Writes in RUN/diagnosis: diagnosis.json, chains.nc (arviz.from_netcdf opens it), and the pictures trace, rank,
    autocorrelation, energy, ess and correction, which shows samples before and after the recipe's own E-step.

    For example:

        pplemd diagnose runs/ring

        pplemd diagnose runs/digits --sigma 0.2 --sigma 1 --draws 2000 --kernel recipe
    """
    options.prepare(device, debug)
    from pplemd.runs.diagnose import Wanted, as_json
    from pplemd.runs.diagnose import diagnose as run_chains
    from pplemd.storage.folder import RunFolder
    from pplemd.viewing.progress import Terminal

    folder, told = RunFolder(run), Terminal()
    transition = _kernel(kernel)
    wanted = Wanted(tuple(sigma or ()), chains, draws, warm_up, label, transition, seed or 0)
    with stops.saved("Go on with the same command."):
        found = run_chains(folder, model, wanted, told)
    if json:
        show.as_json({"run": str(run), **as_json(found)})
    else:
        _print(found)
