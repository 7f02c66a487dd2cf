"""The run folder: its names, whole-file writes, and the lock that keeps a second writer out."""

import json
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from .exceptions import WorkbenchError

FORMAT_VERSION = 1
STATE = "run.json"
SPLITS = "splits.csv"
QUARANTINE = "quarantine.csv"
HISTORY = "history.csv"
THRESHOLDS = "thresholds.json"
BEST = "checkpoints/best.safetensors"
LAST = "checkpoints/last.safetensors"
RESUME = "checkpoints/resume.pt"
PREVIOUS = "checkpoints/previous.pt"  # the checkpoint before, should the last one turn out to be damaged
OUT_OF_FOLD = "train_out_of_fold"  # predictions of training images by heads that have not seen their labels
ULTRALYTICS_BEST = "weights/best.pt"  # of the route "ultralytics", beside the same weights in our form
ULTRALYTICS_LAST = "weights/last.pt"
INSPECT = "inspect"  # written by notebook 01, before a run and for it


def predictions_file(split: str) -> str:
    """Name of a split's predictions inside the run folder."""
    return f"predictions/{split}.parquet"


def metrics_file(split: str) -> str:
    """Name of a split's scores inside the run folder."""
    return f"metrics/{split}.json"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole; NaN becomes null."""
    text = json.dumps(_nan_to_none(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read JSON, or raise WorkbenchError naming the file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise WorkbenchError(f"{path} does not exist; is {path.parent} a run folder?") from None
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{path} is no readable JSON: {error}") from None


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nan_to_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock goes with the process, however that ends.

    Raises
    ------
    WorkbenchError : another process holds it, and which
    """
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / ".owner"  # not in the lock file: opening that for a try empties it
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        who = owner.read_text().strip() if owner.is_file() else "another process"
        raise WorkbenchError(f"{folder} is being written by {who}; wait for it or choose another --run") from None
    try:
        write_whole(owner, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def holds_run(folder: Path) -> bool:
    """Whether a training has written here."""
    return (folder / STATE).exists()


def _entries(folder: Path) -> list[Path]:
    """What a run has written, `run.json` last; anything else in the folder is not a run's to remove or move."""
    names = ("checkpoints", "predictions", "metrics", SPLITS, QUARANTINE, HISTORY, THRESHOLDS, "report.html")
    theirs = (
        "weights",
        "args.yaml",
        "results.csv",
        "results.png",
        "train_batch*.jpg",
        "val_batch*.jpg",
    )  # Ultralytics'
    return [entry for name in (*names, *theirs, STATE) for entry in sorted(folder.glob(name))]


def clear(folder: Path) -> None:
    """Remove the run in `folder`; what notebook 01 found and what a user wrote by hand stays."""
    for entry in reversed(_entries(folder)):  # run.json first: without it the rest is no run that could be resumed
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def clear_results(folder: Path) -> list[str]:
    """Remove what was made of weights that will change, and half-written files of a killed process; says what."""
    for pattern in (".*.csv.*", ".*.json.*", "checkpoints/.*.safetensors.*", "checkpoints/.*.pt.*"):
        for left in folder.glob(pattern):
            left.unlink()
    stale = [
        entry for name in ("predictions", "metrics", THRESHOLDS, "report.html") if (entry := folder / name).exists()
    ]
    for entry in stale:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return [entry.name for entry in stale]


def move_aside(folder: Path) -> Path | None:
    """Move the run in `folder` to `folder.1`, `.2`, …; returns where it went, or None where there was no run."""
    if not holds_run(folder):
        return None
    with writing(folder):
        number = 1
        while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        aside.mkdir()
        for entry in _entries(folder):
            entry.rename(aside / entry.name)
    return aside
