"""Options that several commands share, those of a cluster among them, and what their values become."""

import dataclasses
import enum
import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import stops

LOST_AFTER = 100  # seconds without a sign of life after which a process counts as lost; a collective may notice before
SLURM_STEP_TASKS = "SLURM_STEP_NUM_TASKS"  # set for what srun starts, and not for the script around it


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How the processes of a run find each other.

    Attributes:
        coordinator: host and port of process 0.
        processes: how many there are.
        process: which of them this is, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    def several(self, environment: Mapping[str, str]) -> bool:
        """Whether there are others: those that were named, or those that srun started.

        Raises:
            typer.BadParameter: where what was given does not make a cluster.
        """
        if (self.coordinator, self.processes, self.process) == (None, None, None):
            return int(environment.get(SLURM_STEP_TASKS, "1")) > 1
        found = f"--coordinator {self.coordinator} --processes {self.processes} --process-id {self.process}"
        if self.coordinator is None or self.processes is None or self.process is None:
            raise typer.BadParameter(
                f"found {found}; expected all three, as in --coordinator node0:7000 --processes 2 --process-id 0. "
                "Under SLURM, srun tells them, and none is needed."
            )
        _, colon, port = self.coordinator.rpartition(":")
        if not colon or not port.isdigit():
            raise typer.BadParameter(f"--coordinator is {self.coordinator}; expected HOST:PORT, as in node0:7000.")
        if self.process >= self.processes:
            raise typer.BadParameter(f"found {found}; expected a --process-id from 0 to {self.processes - 1}.")
        return True


def join(cluster: Cluster) -> None:
    """Meet the other processes, where there are any.

    Raises:
        typer.BadParameter: where what was given does not make a cluster.
        DeviceError: where the others do not come.
    """
    if not cluster.several(os.environ):
        return
    # what libraries print by themselves when processes meet goes there; standard output is the command's alone
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = open(own, "w", encoding=sys.stdout.encoding, buffering=1)
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from the loop
    try:
        jax.distributed.initialize(
            cluster.coordinator, cluster.processes, cluster.process, heartbeat_timeout_seconds=LOST_AFTER
        )
        jax.devices()  # the processes meet again here
    except (RuntimeError, ValueError) as error:
        from pplemd.errors import DeviceError

        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise DeviceError(
            f"the processes of this run did not meet ({reason}). Start one process for each number from 0 to N - 1, "
            "all with the same --coordinator HOST:PORT, a port of the host of process 0 that the others can reach."
        ) from error
    stops.listen()  # whatever the meeting did to signals


ModelFile = Annotated[Path, typer.Argument(help="The model file: Python code, which is executed.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="A run folder, as printed by distill.", show_default=False)]
TeacherPath = Annotated[
    Path, typer.Argument(help="A teacher's folder, or a checkpoint as its publisher gives it.", show_default=False)
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        "--teacher",
        help="The teacher's checkpoint, where the model's user brings it; a run that is resumed knows its own.",
        show_default=False,
    ),
]
ProgramName = Annotated[
    str | None, typer.Option("--program", help="Which model of the file, where it holds several.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change a number of the task, as in --set training.batch=64; as often as wanted.",
        show_default=False,
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Seed of everything random.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output, for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Stop at the first NaN, and show tracebacks of mistakes.")]
OtherFile = Annotated[
    Path | None,
    typer.Option("--model", help="Where the run's model file is now, if it was moved.", show_default=False),
]


Board = Annotated[
    bool,
    typer.Option("--tensorboard", help="Keep TensorBoard's files too, in OUT/tensorboard (extra `tensorboard`)."),
]


Judge = Annotated[
    bool,
    typer.Option("--evaluation/--no-evaluation", help="Judge it at the end; else later, by pplemd evaluate."),
]


class DeviceName(enum.StrEnum):
    """What JAX may run on."""

    cpu = "cpu"
    gpu = "gpu"
    tpu = "tpu"


Device = Annotated[
    DeviceName | None, typer.Option(help="What to run on; by default the fastest that JAX finds.", show_default=False)
]

Mesh = Annotated[
    str | None,
    typer.Option(
        "--mesh",
        metavar="AXES",
        help="The devices, as in data=8, or data=4,model=2, where model splits the parameters too; by default all that "
        "divide the batch.",
        show_default=False,
    ),
]
Coordinator = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the processes of a run on several hosts meet; under SLURM, srun tells them.",
        show_default=False,
    ),
]
Processes = Annotated[
    int | None, typer.Option(min=1, help="How many processes, with --coordinator.", show_default=False)
]
ProcessId = Annotated[
    int | None, typer.Option(min=0, help="Which of them this is, from 0, with --coordinator.", show_default=False)
]


def changes(overrides: list[str] | None, steps: int | None, seed: int | None) -> tuple[str, ...]:
    """Changes to the numbers of a task, those with options of their own last."""
    own = [f"training.{name}={value}" for name, value in (("steps", steps), ("seed", seed)) if value is not None]
    return (*(overrides or ()), *own)


def set_debug(debug: bool) -> None:
    """Whether mistakes show their tracebacks, and JAX stops at the first NaN."""
    if debug:
        os.environ["PPLEMD_DEBUG"] = "1"
        os.environ["JAX_DEBUG_NANS"] = "1"


def prepare(device: DeviceName | None, debug: bool, cluster: Cluster | None = None) -> None:
    """Set up JAX before it starts; what it compiles is kept between runs.

    Args:
        device: what to run on.
        debug: stop at the first NaN.
        cluster: how processes meet, where a command runs on several hosts.

    Raises:
        typer.BadParameter: where the device is not there, or what was given does not make a cluster.
        DeviceError: where the processes of a run do not meet.
    """
    set_debug(debug)
    # XLA for CPUs prints an error for each compiled program that it loads; what fails is raised in any case
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if device is not None:
        os.environ["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(device.value, device.value)
    if cluster is not None:
        join(cluster)
    gc.disable()  # what is imported lives as long as the process: to look for garbage in it takes a fifth of the start
    import jax

    try:
        import pplemd as pplemd  # tells XLA what to leave out, before JAX starts it

        jax.devices()
    except (RuntimeError, AssertionError) as error:
        raise typer.BadParameter(_no_device(device, (str(error) or "it is not set up").splitlines()[0])) from error
    from pplemd.storage.compiled import keep_compiled

    gc.freeze()
    gc.enable()
    keep_compiled()


def _no_device(device: DeviceName | None, reason: str) -> str:
    """What to do about a device that is not there, by who asked for it."""
    platforms = os.environ.get("JAX_PLATFORMS")
    if device is not None:
        return f"JAX found no device {device.value} ({reason}). Leave --device out, or install JAX for it."
    if platforms:
        requested = f"JAX_PLATFORMS={platforms}, a variable of this environment"
        return f"JAX found no device ({reason}), wanted by {requested}. Unset it, set it to cpu, or install JAX for it."
    return f"JAX found no device ({reason}). Choose one by --device cpu, or install JAX again."


def speaks() -> bool:
    """Whether this process prints what came of a run: the first of them, or the only one."""
    from pplemd.devices import first

    return first()
