"""How the processes of a run on several hosts meet.

It must be done before JAX looks for devices, which importing BlackJAX does: so it is done here, not in the library.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping

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
    _to_standard_error()
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


def _to_standard_error() -> None:
    """What libraries print by themselves when processes meet goes there; standard output is the command's alone."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = open(own, "w", encoding=sys.stdout.encoding, buffering=1)
