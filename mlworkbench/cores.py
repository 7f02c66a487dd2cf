"""Cores: how many this process may use, and threads that sleep while they wait for each other."""

import math
import os
import sys
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or of these microseconds so many


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


def sleep_while_waiting() -> None:
    """Have OpenMP's threads sleep rather than spin, where torch is yet to come and nobody has said how they wait.

    Two trainings beside each other otherwise keep the cores busy with waiting (decision 047).
    """
    if "torch" not in sys.modules and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "0"
