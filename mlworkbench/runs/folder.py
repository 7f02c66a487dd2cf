"""Run folder: its names, and the lock that keeps a second writer out."""

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from ..decisions.thresholds import HAND
from ..exceptions import WorkbenchError
from ..files import Unwritable, clear_left, read_json, write_whole

log = logging.getLogger("mlworkbench")
FORMAT_VERSION = 1
STATE = "run.json"
SPLITS = "splits.csv"
QUARANTINE = "quarantine.csv"
HISTORY = "history.csv"
THRESHOLDS = "thresholds.json"
FILES = (SPLITS, QUARANTINE, HISTORY, THRESHOLDS)  # that a run keeps beside its state
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


def refuse_unwritable(folder: Path) -> None:
    """Raise Unwritable for a folder that is not there yet and could not be made; nothing is left behind."""
    above = next(place for place in folder.absolute().parents if place.exists())
    try:
        tempfile.TemporaryDirectory(dir=above, prefix=".").cleanup()  # what rights mean, only the system knows
    except OSError as error:
        raise Unwritable(folder, error, "--run") from None


@contextmanager
def keeping(folder: Path) -> Iterator[bool]:
    """`writing` for what can be told without being kept: whether it can be is given, and said where it cannot."""
    with ExitStack() as held:
        try:
            held.enter_context(writing(folder))
        except Unwritable as error:
            log.warning("not kept: %s", error)
            yield False
        else:
            yield True


@contextmanager
def writing(folder: Path, option: str = "--run", name: str = "") -> Iterator[None]:
    """Hold the run folder, or another that `option` names, for this process; the lock goes with it, however it ends.

    Parameters
    ----------
    name : begins the names of lock and owner; locks of other names do not mind each other

    Raises
    ------
    WorkbenchError : another process holds it, and which; or nobody ever held it, and yet it holds files that have the
        names of a run's, which a training would replace
    Unwritable : it cannot be written
    """
    owner = folder / f"{name}.owner"  # not in the lock file: opening that for a try empties it
    lock = filelock.FileLock(file := folder / f"{name}.lock")
    if not name and not file.exists() and not holds_run(folder) and (theirs := _entries(folder)):
        raise WorkbenchError(f"{folder} holds {theirs[0].name}, which no run wrote; choose another folder for {option}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
        write_whole(owner, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except filelock.Timeout:
        who = owner.read_text(encoding="utf-8").strip() if owner.is_file() else "another process"
        raise WorkbenchError(f"{folder} is being written by {who}; wait for it or choose another {option}") from None
    except (OSError, Unwritable) as error:
        lock.release()
        raise error if isinstance(error, Unwritable) else Unwritable(folder, error, option) from None
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def holds_run(folder: Path) -> bool:
    """Whether a training has written here."""
    return (folder / STATE).exists()


def _entries(folder: Path) -> list[Path]:
    """What a run has written, `run.json` last; anything else in the folder is not a run's to remove or move."""
    names = ("checkpoints", "predictions", "metrics", *FILES, "report.html")
    theirs = (
        "weights",
        "args.yaml",
        "results.csv",
        "results.png",
        "train_batch*.jpg",
        "val_batch*.jpg",
    )  # Ultralytics'
    return [entry for name in (*names, *theirs, STATE) for entry in sorted(folder.glob(name))]


def hand_made(folder: Path) -> bool:
    """Whether a person has set the thresholds that are saved here."""
    try:
        return bool(read_json(folder / THRESHOLDS)["objective"] == HAND)
    except (WorkbenchError, KeyError, TypeError):  # none, or no file of ours
        return False


def keep_hand_made(folder: Path) -> None:
    """Rename thresholds that a person has set to `thresholds.json.1`, `.2`, …, and say so, before others come."""
    if hand_made(folder):
        number = 1
        while (aside := folder / f"{THRESHOLDS}.{number}").exists():
            number += 1
        (folder / THRESHOLDS).rename(aside)
        log.warning("the thresholds set by hand are kept as %s", aside)


def clear(folder: Path) -> None:
    """Remove the run in `folder`; what notebook 01 found and what a user wrote or set by hand stays."""
    keep_hand_made(folder)
    _clear_left(folder)
    for entry in reversed(_entries(folder)):  # run.json first: without it the rest is no run that could be resumed
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def clear_results(folder: Path) -> list[str]:
    """Remove what was made of weights that will change, and half-written files of a killed process; says what."""
    keep_hand_made(folder)
    _clear_left(folder)
    stale = [
        entry for name in ("predictions", "metrics", THRESHOLDS, "report.html") if (entry := folder / name).exists()
    ]
    for entry in stale:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return [entry.name for entry in stale]


def _clear_left(folder: Path) -> None:
    """Remove what a killed process left half-written, however lately: whoever holds the folder is who writes it."""
    for place in (folder, folder / "checkpoints", folder / "weights"):
        clear_left(place, age=0)


def aside_of(folder: Path) -> Path:
    """Where the run in `folder` would be moved to: `folder.1`, `.2`, …, the first that is free."""
    numbered = (folder.with_name(f"{folder.name}.{number}") for number in count(1))
    return next(place for place in numbered if not place.exists())


def move_aside(folder: Path) -> Path | None:
    """Move the run in `folder` aside (see `aside_of`); returns where it went, or None where there was no run."""
    if not holds_run(folder):
        return None
    with writing(folder):
        aside = aside_of(folder)
        aside.mkdir()
        for entry in _entries(folder):
            entry.rename(aside / entry.name)
    return aside


def best_place(history: Sequence[Mapping[Any, float]]) -> int:
    """Which epoch is the best, the first of equals; 0 where there is none yet.

    Validation mAP decides; the loss does where no class has one, and among ties.
    """

    def rank(place: int) -> tuple[float, float]:
        row = history[place]
        return (-1.0 if np.isnan(row["val_map"]) else row["val_map"], -row["val_loss"])

    return max(range(len(history)), key=rank, default=0)
