"""Cores: how many this process may use, and how long threads keep them busy while they wait for each other."""

import math
import os
import sys
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or of these microseconds so many
SPINS = 10_000  # fractions of a millisecond; OpenMP's own are 300,000 (decision 047)


def count_cores() -> int:
    """Cores that this process may use: those it is bound to, and no more than its container's share of time."""
    cores = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    try:
        share, period = map(int, QUOTA.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # no such file, or no quota
        return cores
    return min(cores, max(1, math.ceil(share / period)))


def spin_briefly() -> None:
    """Have OpenMP's threads soon sleep while they wait, where torch is yet to come and nobody has said how they wait.

    Two trainings beside each other otherwise keep the cores busy with waiting (decision 047).
    """
    if "torch" not in sys.modules and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
