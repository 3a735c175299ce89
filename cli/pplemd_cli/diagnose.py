"""pplemd diagnose: long chains of a run's E-step at several sigma, judged with ArviZ."""

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from pplemd_cli import options, show, stops

if TYPE_CHECKING:
    from pplemd.inference import AbstractKernel
    from pplemd.learning import Recipe
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

    wanted = Wanted(tuple(sigma or ()), chains, draws, warm_up, label, _transition(kernel), seed or 0)
    with stops.saved("Go on with the same command."):
        found = run_chains(RunFolder(run), model, wanted, Terminal())
    if json:
        show.as_json({"run": str(run), **as_json(found)})
    else:
        _print(found)


def _transition(kernel: Kernel) -> "Callable[[Recipe], AbstractKernel]":
    """The transition of a name, given the recipe."""
    from pplemd.inference import HMC, NUTS

    if kernel is Kernel.recipe:
        return lambda recipe: recipe.chain.kernel
    chosen = NUTS() if kernel is Kernel.nuts else HMC(leapfrogs=8)
    return lambda recipe: chosen


HEADINGS = ("site", "sigma", "R-hat", "ESS", "tail", "/ gradient", "MCSE/sd", "E-BFMI", "accept")


def _print(found: "Diagnosis") -> None:
    """The table, what is wrong, and where the rest is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    first, console = found.rows[0], Console()
    label = "" if found.label is None else f", class {found.label}"
    title = f"step {found.step:,}: {first.chains} chains of {first.draws:,} draws by {found.kernel['type']}{label}"
    made = show.table(title, *HEADINGS)
    for column in made.columns[1:]:
        column.justify = "right"
    for row in found.rows:
        numbers = (row.ess_per_gradient, row.mcse_over_sd, row.e_bfmi)
        made.add_row(
            row.site, f"{row.sigma:.3g}", f"{row.r_hat:.3f}", f"{row.ess_bulk:,.0f}", f"{row.ess_tail:,.0f}",
            *(f"{number:.2g}" for number in numbers), f"{100 * row.acceptance:.0f} %",
        )  # fmt: skip
    console.print(made)
    if not found.findings:
        console.print("Nothing is wrong: the chains agree, and are worth enough draws.")
    told = Table.grid("", "", padding=(0, 1), pad_edge=False)
    for finding in found.findings:
        what = f"[bold]{escape(finding.found)}[/bold]; expected: {escape(finding.expected)}."
        told.add_row("-", f"{what} {escape(finding.repair)}")
    console.print(told, highlight=False)
    console.print(f"\nPictures, chains.nc and diagnosis.json: {found.folder}", highlight=False, soft_wrap=True)
