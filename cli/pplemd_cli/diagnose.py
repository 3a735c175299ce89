"""pplemd diagnose: long chains of a run's E-step at several sigma, judged with ArviZ."""

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from pplemd_cli import options, show, stops

if TYPE_CHECKING:
    from pplemd.tasks.base import AbstractDiagnosis


class Kernel(enum.StrEnum):
    """Which transition."""

    nuts = "nuts"
    hmc = "hmc"
    own = "own"


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
        Kernel,
        typer.Option(help="NUTS, HMC of 8 leapfrogs, or the algorithm's own transition, which it is trained with."),
    ] = Kernel.nuts,
    model: options.OtherFile = None,
    seed: options.Seed = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Show whether the E-step's target of a run can be sampled: long MCMC chains at several sigma, judged with ArviZ.

    The target of (eps, z) at sigma is what the chains of training follow for a few transitions: noise and latents,
    tilted from student to teacher. Here they are followed to their end, from fresh draws, with step sizes found in
    warm-up.

    R-hat near 1 says that the chains agree; ESS, how many independent draws they are worth; ESS per gradient, what one
    costs in evaluations of the teacher and of the student's score. Compare sigmas, and --kernel own with the rest.

    Of a fit, the posterior of the latents is followed, non-centered and in the coordinates that are chosen from those
    draws: lambda, the costs behind it, and the least ESS per gradient before and after are printed.

    Writes in RUN/diagnosis: diagnosis.json, chains.nc (arviz.from_netcdf opens it), and the pictures trace, rank,
    autocorrelation, energy, ess and correction, which shows samples before and after the algorithm's own E-step.

    For example:

        pplemd diagnose runs/ring

        pplemd diagnose runs/digits --sigma 0.2 --sigma 1 --draws 2000 --kernel own
    """
    options.prepare(device, debug)
    from pplemd.inference import HMC, NUTS
    from pplemd.report.progress import Terminal
    from pplemd.runs import loading
    from pplemd.storage.folder import RunFolder
    from pplemd.tasks.base import ChainOptions

    chosen = {Kernel.nuts: NUTS(), Kernel.hmc: HMC(leapfrogs=8), Kernel.own: None}[kernel]
    wanted = ChainOptions(tuple(sigma or ()), chains, draws, warm_up, label, chosen, seed or 0)
    reporter, folder = Terminal(), RunFolder(run)
    with stops.saved("Go on with the same command."):
        loaded = loading.load(folder, model, reporter.say)
        found = loaded.plan.diagnose(loaded.state, wanted, folder.path / "diagnosis", reporter)
    if json:
        show.as_json({"run": str(run), **found.figures()})
        return
    for line in found.lines():
        print(line)
    _print(found)


HEADINGS = ("site", "sigma", "R-hat", "ESS", "tail", "/ gradient", "MCSE/sd", "E-BFMI", "accept")


def _print(found: "AbstractDiagnosis") -> None:
    """The table, what is wrong, and where the rest is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    first, console = found.rows[0], Console()
    title = f"step {found.step:,}: {first.chains} chains of {first.draws:,} draws by {found.kernel['type']}{found.of}"
    made = show.table(title, *HEADINGS)
    for column in made.columns[1:]:
        column.justify = "right"
    for row in found.rows:
        numbers = (row.ess_per_gradient, row.mcse_over_sd, row.e_bfmi)
        sigma = "-" if row.sigma is None else f"{row.sigma:.3g}"
        made.add_row(
            row.site, sigma, f"{row.r_hat:.3f}", f"{row.ess_bulk:,.0f}", f"{row.ess_tail:,.0f}",
            *(f"{number:.2g}" for number in numbers), f"{100 * row.acceptance:.0f} %",
        )  # fmt: skip
    console.print(made)
    if not found.findings:
        console.print("Nothing is wrong: the chains agree, and are worth enough draws.")
    advice = Table.grid("", "", padding=(0, 1), pad_edge=False)
    for finding in found.findings:
        what = f"[bold]{escape(finding.found)}[/bold]; expected: {escape(finding.expected)}."
        advice.add_row("-", f"{what} {escape(finding.repair)}")
    console.print(advice, highlight=False)
    console.print(f"\nPictures, chains.nc and diagnosis.json: {found.folder}", highlight=False, soft_wrap=True)
