"""Errors that are a user's to mend: one line each, no traceback on the command line or in a notebook."""

from collections.abc import Sequence
from pathlib import Path


class WorkbenchError(ValueError):
    """What is wrong, where, and what would be right, in one line: refused, exit status 2."""

    exit_status = 2

    def _render_traceback_(self) -> list[str]:
        """What IPython shows under a failed cell in place of a traceback."""
        # Not print_last: from Python 3.12 on it prints sys.last_exc, which IPython does not set.
        where = "import sys, traceback; traceback.print_exception(sys.last_value)"
        return [f"{type(self).__name__}: {self}", f"(where it arose: {where})"]


class RunFailed(WorkbenchError):
    """Begun and failed on the way: exit status 1."""

    exit_status = 1


class Interrupted(KeyboardInterrupt):
    """Stopped by Ctrl-C or Jupyter's ■ with nothing to go on with yet: what is kept, and how to go on."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class LabelFaults(WorkbenchError):
    """Every fault found in a labels file; the text tells one that more than a few rows have once.

    Parameters
    ----------
    source : path of the labels file
    faults : (physical line, message) pairs, in the order of the file
    """

    SHOWN, ALIKE = 50, 3

    def __init__(self, source: Path, faults: Sequence[tuple[int, str]]):
        self.source, self.faults = source, sorted(faults)
        alike: dict[str, list[int]] = {}
        for line, message in self.faults:
            alike.setdefault(message, []).append(line)
        shown = []
        for message, lines in alike.items():
            told = lines if len(lines) <= self.ALIKE else lines[:1]
            more = "" if len(lines) <= self.ALIKE else f" (in {len(lines):,} rows)"
            shown += [f"{source}:{line}: {message}{more}" for line in told]
        if len(shown) > self.SHOWN:
            shown = [*shown[: self.SHOWN], f"… and {len(shown) - self.SHOWN:,} more"]
        count = f"{len(self.faults):,} faults" if len(self.faults) > 1 else "1 fault"
        super().__init__("\n".join([f"{count} in {source}", *shown]))
