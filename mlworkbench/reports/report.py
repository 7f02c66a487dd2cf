"""Report: one page, whole in itself, on a run or on several side by side.

What a section needs and does not find is told in its place. Nothing is computed by the network and nothing but the page
is written: predictions are those that the folder keeps, and the test split is scored only where `evaluate` was run.
"""

from pathlib import Path
from typing import Any

from ..exceptions import WorkbenchError
from ..files import refuse_foreign, write_whole
from ..runs.run import Run
from ..views.style import page
from . import blocks, one, several
from .blocks import subjects_of


def report(runs: Any, out: str | Path | None = None) -> Path:
    """Report on a finished run, or on several side by side, as one HTML page that needs nothing else.

    Parameters
    ----------
    runs : a `Run` or its folder, or a sequence of these; of several, all are compared with the first
    out : file to write, `.html`; by default `report.html` in the run folder

    Returns
    -------
    The file

    Raises
    ------
    WorkbenchError : a folder without a run, another ending, or several runs without `out`

    >>> report("runs/first")      # doctest: +SKIP
    """
    given = [runs] if isinstance(runs, (str, Path, Run)) else list(runs)
    subjects = subjects_of([run if isinstance(run, Run) else Run(run) for run in given])
    single = subjects[0] if len(subjects) == 1 else None
    if not subjects or (single is None and out is None):
        raise WorkbenchError(f"{len(subjects)} runs; say where their page goes: --out FILE.html")
    file = subjects[0].run.folder / "report.html" if out is None else Path(out)
    if file.suffix != ".html":
        raise WorkbenchError(f"--out {file}: expected a name that ends in .html")
    refuse_foreign(file, rb'\s*<!DOCTYPE html>[^"]+"en"[^"]+"utf-8">\s*<meta name="generator" content="mlworkbench')
    for subject in subjects:
        _ = subject.run.state  # without it there is no run to tell of
    parts: dict[str, Any] = several.SECTIONS if single is None else one.SECTIONS
    title = f"{len(subjects)} runs compared" if single is None else f"Run {single.name}"
    sections = [(name, list(blocks.told(part(single or subjects)))) for name, part in parts.items()]
    write_whole(file, page(title, sections).encode("utf-8", "replace"))
    return file
