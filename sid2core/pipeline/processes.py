"""The environment variables that describe the processes of one run.

Two modules read them: :mod:`sid2core.training.cluster`, which joins the processes, and
:mod:`sid2core.pipeline.gpu_lease`, which serves runs of one process only.
"""

from __future__ import annotations

from collections.abc import Mapping

COORDINATOR, PROCESSES, PROCESS = "SID2_COORDINATOR", "SID2_PROCESSES", "SID2_PROCESS"
GIVEN = (COORDINATOR, PROCESSES, PROCESS)
"""Set by hand: host and port of process 0, how many processes there are, which one this is."""
OPEN_MPI, SLURM = "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"
"""How many processes Open MPI's ``mpirun``, or SLURM's ``srun``, has started."""


def several(environment: Mapping[str, str]) -> str | None:
    """The launcher's variable that speaks of more than one process, if there is one."""
    for name in (OPEN_MPI, SLURM):
        if int(environment.get(name, "1")) > 1:
            return name
    return None


def given(environment: Mapping[str, str]) -> dict[str, str]:
    """What was set by hand."""
    return {name: environment[name] for name in GIVEN if name in environment}
