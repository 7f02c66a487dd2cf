"""What a training leaves in its run folder, epoch by epoch, so that a kill at any moment loses at most one of them."""

import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import run as folder_of
from .exceptions import WorkbenchError
from .labels import write_csv
from .model import save_weights
from .train import Trainer

log = logging.getLogger("mlworkbench")


class Recorder:
    """The files that grow while a network trains.

    Each is written whole, and `resume.pt`, which holds everything, is written last: whatever else a killed process had
    already written is written again, the same, when the training goes on.

    Attributes
    ----------
    history : a row per epoch
    """

    def __init__(self, folder: Path, history: Sequence[dict[str, float]] = ()):
        self.folder, self.history = folder, list(history)

    def epoch(self, row: dict[str, float], trainer: Trainer) -> None:
        """Take the row of an epoch and keep its weights."""
        self.history.append(row)
        weights = save_weights(trainer.average)
        if best_place(self.history) == len(self.history) - 1:
            folder_of.write_whole(self.folder / folder_of.BEST, weights)
        folder_of.write_whole(self.folder / folder_of.LAST, weights)
        rows = (list(row.values()) for row in self.history)
        folder_of.write_whole(self.folder / folder_of.HISTORY, write_csv(rows, list(row)))
        self.checkpoint(trainer)

    def checkpoint(self, trainer: Trainer) -> None:
        """Keep everything that is needed to go on from here, and the checkpoint before it."""
        buffer, file = io.BytesIO(), self.folder / folder_of.RESUME
        torch.save(trainer.state() | {"history": self.history}, buffer)
        if file.exists():
            os.replace(file, self.folder / folder_of.PREVIOUS)
        folder_of.write_whole(file, buffer.getvalue())

    def spent(self, patience: int) -> bool:
        """Whether this many epochs have passed without a better one; never for 0."""
        return 0 < patience < len(self.history) - best_place(self.history)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint that can be read; None where none was written.

    Raises
    ------
    WorkbenchError : there are some, and none of them can be read
    """
    damaged = []
    for name in (folder_of.RESUME, folder_of.PREVIOUS):
        if not (folder / name).exists():
            continue
        data = io.BytesIO((folder / name).read_bytes())
        try:
            checkpoint = torch.load(data, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever damaged bytes run into
            damaged.append(f"{folder / name} ({type(error).__name__})")
            log.warning("%s is damaged; going on from the one before", damaged[-1])
        else:
            if damaged:  # or it would become the one before
                (folder / folder_of.RESUME).unlink(missing_ok=True)
            return checkpoint
    if damaged:
        raise WorkbenchError(f"no checkpoint can be read: {', '.join(damaged)}; --overwrite begins anew")
    return None


def best_place(history: Sequence[Mapping[Any, float]]) -> int:
    """Which epoch is the best, the first of equals; 0 where there is none yet.

    Validation mAP decides; the loss does where no class has one, and among ties.
    """

    def rank(place: int) -> tuple[float, float]:
        row = history[place]
        return (-1.0 if np.isnan(row["val_map"]) else row["val_map"], -row["val_loss"])

    return max(range(len(history)), key=rank, default=0)
