"""pplemd diagnose: long chains of a run's E-step at several sigma, judged with ArviZ."""

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pplemd_cli import options, show, stops

if TYPE_CHECKING:
    from pplemd.inference import AbstractKernel
    from pplemd.learning import FitRecipe, Recipe
    from pplemd.runs.diagnose import Diagnosis
    from pplemd.runs.fit_diagnosis import FitDiagnosis


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

    Of a fit, the posterior of the latents is followed, non-centered and in the coordinates that are chosen from those
    draws: lambda, the costs behind it, and the least ESS per gradient before and after are printed.

    Writes in RUN/diagnosis: diagnosis.json, chains.nc (arviz.from_netcdf opens it), and the pictures trace, rank,
    autocorrelation, energy, ess and correction, which shows samples before and after the recipe's own E-step.

    For example:

        pplemd diagnose runs/ring

        pplemd diagnose runs/digits --sigma 0.2 --sigma 1 --draws 2000 --kernel recipe
    """
    options.prepare(device, debug)
    from pplemd.report.progress import Terminal
    from pplemd.runs import fit_diagnosis, loading
    from pplemd.runs.diagnose import Wanted, as_json
    from pplemd.runs.diagnose import diagnose as run_chains
    from pplemd.runs.x_diagnosis import worded
    from pplemd.storage.folder import RunFolder

    wanted = Wanted(tuple(sigma or ()), chains, draws, warm_up, label, _transition(kernel), seed or 0)
    told, folder = Terminal(), RunFolder(run)
    with stops.saved("Go on with the same command."):
        loaded = loading.load_any(folder, model, told.say)
        if isinstance(loaded, loading.LoadedFit):
            of_fit = fit_diagnosis.diagnose_fit(folder, loaded, wanted, told)
            _show_fit(of_fit, {"run": str(run), **fit_diagnosis.as_json(of_fit)} if json else None)
            return
        found = run_chains(folder, loaded, wanted, told)
    if json:
        show.as_json({"run": str(run), **as_json(found)})
    else:
        for row in found.x:
            print(worded(row))
        _print(found, "" if found.label is None else f", class {found.label}")


def _transition(kernel: Kernel) -> "Callable[[Recipe | FitRecipe], AbstractKernel]":
    """The transition of a name, given the recipe."""
    from pplemd.inference import HMC, NUTS

    if kernel is Kernel.recipe:
        return lambda recipe: recipe.chain.kernel
    chosen = NUTS() if kernel is Kernel.nuts else HMC(leapfrogs=8)
    return lambda recipe: chosen


HEADINGS = ("site", "sigma", "R-hat", "ESS", "tail", "/ gradient", "MCSE/sd", "E-BFMI", "accept")


def _show_fit(found: "FitDiagnosis", printed: dict[str, Any] | None) -> None:
    """A fit's diagnosis: as JSON, or the choice of coordinates and the table."""
    if printed is not None:
        show.as_json(printed)
        return
    for line in found.words:
        print(line)
    if found.choice:
        gain = found.after / found.before if found.before else float("nan")
        before, after = f"{1e3 * found.before:.3g} non-centered", f"{1e3 * found.after:.3g} in the chosen coordinates"
        print(f"least ESS per 1,000 gradients: {before}, {after} ({gain:.2f} times)\n")
    _print(found, "")


def _print(found: "Diagnosis | FitDiagnosis", label: str) -> None:
    """The table, what is wrong, and where the rest is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    first, console = found.rows[0], Console()
    title = f"step {found.step:,}: {first.chains} chains of {first.draws:,} draws by {found.kernel['type']}{label}"
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
    told = Table.grid("", "", padding=(0, 1), pad_edge=False)
    for finding in found.findings:
        what = f"[bold]{escape(finding.found)}[/bold]; expected: {escape(finding.expected)}."
        told.add_row("-", f"{what} {escape(finding.repair)}")
    console.print(told, highlight=False)
    console.print(f"\nPictures, chains.nc and diagnosis.json: {found.folder}", highlight=False, soft_wrap=True)
