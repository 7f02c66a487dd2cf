"""Table of runs: what lies below a folder, each run with its settings and scores in one row."""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ..exceptions import WorkbenchError
from ..files import read_json
from . import folder as folder_of
from .run import Run

log = logging.getLogger("mlworkbench")
COLUMNS = ("run", "status", "started", "model", "route", "epochs", "image_size", "val_map", "test_map", "f1_macro")


def list_runs(folder: str | Path) -> pd.DataFrame:
    """Table of the run folders below a folder, the newest first; a run inside of a run is none of them.

    Returns
    -------
    Columns `run` (its folder, from `folder` on), `status, started` (UTC), `model, route, epochs` (done so far),
    `image_size, val_map` (of the best epoch), and where the test split was evaluated `test_map` and `f1_macro`. What is
    not known is NaN. A run that cannot be read is told in one line and left out.

    Raises
    ------
    WorkbenchError : no such folder

    >>> list_runs("runs").nlargest(3, "val_map")      # doctest: +SKIP
    """
    top, rows = Path(folder), []
    if not top.is_dir():
        raise WorkbenchError(f"{top} is no folder; expected one with runs in it")
    for place, inside, files in os.walk(top):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        if folder_of.STATE in files:
            inside.clear()
            try:
                rows.append(_row(Run(place), top))
            except WorkbenchError as error:
                log.warning("left out: %s", error)
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("started", ascending=False, kind="stable", ignore_index=True)


def _row(run: Run, top: Path) -> dict[str, Any]:
    settings, began = run.state["settings"], run.state.get("started")
    if began is None:  # begun before run.json said when
        began = datetime.fromtimestamp((run.folder / folder_of.STATE).stat().st_mtime, UTC)
    done = (run.folder / folder_of.HISTORY).exists()
    test = run.folder / folder_of.metrics_file("test")
    scores = read_json(test) if test.exists() else {}
    try:
        return {
            "run": str(run.folder.relative_to(top)),
            "status": run.status,
            "started": pd.Timestamp(began).tz_convert("UTC"),
            **{name: settings[name] for name in ("model", "route", "image_size")},
            "epochs": len(run.history) if done else 0,
            "val_map": float(run.best_epoch["val_map"]) if done else float("nan"),
            "test_map": _number(scores.get("map")),
            "f1_macro": _number(scores.get("f1_macro")),
        }
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, WorkbenchError):
            raise
        raise WorkbenchError(f"{run.folder}: {error}; was it edited by hand?") from None


def age(began: pd.Timestamp) -> str:
    """How long ago, in the largest unit that fits."""
    minutes = max(0, int((pd.Timestamp.now("UTC") - began).total_seconds() // 60))
    for size, unit in ((1440, "days"), (60, "h"), (1, "min")):
        if minutes >= 2 * size:
            return f"{minutes // size:,} {unit} ago"
    return "just now"


def _number(score: Any) -> float:
    """A score of a JSON file, in which one that is undefined is null."""
    return float("nan") if score is None else float(score)
