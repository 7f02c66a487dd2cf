"""Progress: lines that say what is going on, and bars on a terminal and in a notebook."""

import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
FORMAT = "{desc} {percentage:3.0f}% |{bar}| {remaining} left, {rate_fmt}{postfix}"


def say(text: str) -> None:
    """Print what is no fault but good to know, unless warnings are not to be heard either."""
    if logging.getLogger("mlworkbench").isEnabledFor(logging.WARNING):
        print(text, flush=True)


def progress_bar(total: int, what: str, done: int = 0, silent: bool = False, unit: str = "images") -> tqdm:
    """A bar with images, or another unit, a second and time left: on standard error for people at a terminal, in a
    notebook as one line under the cell, elsewhere silent."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kind = _NotebookBar if hasattr(shell, "kernel") else tqdm
    hidden = silent or (kind is tqdm and not sys.stderr.isatty())
    look = {"bar_format": FORMAT, "unit": f" {unit}", "leave": False, "smoothing": 0.1}
    return kind(total=total, initial=done, desc=what, disable=hidden, **look)


def counted(items: Sequence[T], what: str, unit: str, silent: bool = False) -> Iterator[T]:
    """These, one after the other, under a progress bar."""
    with progress_bar(len(items), what, silent=silent, unit=unit) as bar:
        for item in items:
            yield item
            bar.update()


class _NotebookBar(tqdm):
    """One line of text that is renewed each second and empty at the end: a saved notebook keeps none of it."""

    def __init__(self, **options: Any):
        from IPython.display import display

        self._line: Any = None if options["disable"] else display({"text/plain": ""}, raw=True, display_id=True)
        super().__init__(**options, mininterval=1, ncols=100)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        self._line.update({"text/plain": str(self) if msg is None else msg}, raw=True)

    def close(self) -> None:
        if not self.disable:
            self.display("")
        super().close()
