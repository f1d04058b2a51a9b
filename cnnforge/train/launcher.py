"""Was this process started by an MPI launcher? Its environment says so; no MPI is loaded to find out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

#: What launchers call a process's number and how many there are: MPICH, Intel MPI and Slurm's pmi2; Open MPI; MVAPICH;
#: Slurm's pmix, which leaves the second to Slurm.
_NAMES = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)


@dataclass(frozen=True)
class Launch:
    """This process's number, from 0, and how many there are; None where the launcher does not say."""

    rank: int
    size: int | None


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What a launcher says of this process; None where there was none, or it started only this one."""
    for rank, size in _NAMES:
        if (number := environment.get(rank, "")).isdecimal():
            count = environment.get(size, "")
            found = Launch(int(number), int(count) if count.isdecimal() else None)
            return None if found.size == 1 else found
    return None
