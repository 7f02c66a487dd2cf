"""Errors that are a user's to mend: one line each, no traceback on the command line."""

from collections.abc import Sequence
from pathlib import Path


class WorkbenchError(ValueError):
    """What is wrong, where, and what would be right, in one line: refused, exit status 2."""

    exit_status = 2


class RunFailed(WorkbenchError):
    """Begun and failed on the way: exit status 1."""

    exit_status = 1


class LabelFaults(WorkbenchError):
    """Every fault found in a labels file.

    Parameters
    ----------
    source : path of the labels file
    faults : (physical line, message) pairs, in the order of the file
    """

    SHOWN = 50

    def __init__(self, source: Path, faults: Sequence[tuple[int, str]]):
        self.source, self.faults = source, sorted(faults)
        shown = [f"{source}:{line}: {message}" for line, message in self.faults[: self.SHOWN]]
        if len(self.faults) > self.SHOWN:
            shown.append(f"… and {len(self.faults) - self.SHOWN:,} more")
        count = f"{len(self.faults):,} faults" if len(self.faults) > 1 else "1 fault"
        super().__init__("\n".join([f"{count} in {source}", *shown]))
