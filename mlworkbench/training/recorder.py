"""Recorder of a training, epoch by epoch, so that a kill at any moment loses at most one of them."""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..exceptions import WorkbenchError
from ..files import put, write_csv, write_whole
from ..runs import folder as folder_of
from ..runs.folder import best_place
from ..scoring.metrics import average_precision, mean_defined
from .losses import Loss, mean_known

log = logging.getLogger("mlworkbench")


class Recorder:
    """The files that grow while a network trains.

    Each is written whole, and the checkpoint from which a training goes on comes last: whatever else a killed process
    had already written is written again when it does.

    Parameters
    ----------
    history : the rows so far
    loss : what the validation loss is made of
    targets : int8 [N, C], labels of the validation split
    on_epoch_end : called with each new row
    writes : whether this process is the one that writes
    """

    def __init__(
        self,
        folder: Path,
        class_names: Sequence[str],
        loss: Loss,
        targets: torch.Tensor,
        history: Sequence[Mapping[Any, float]] = (),
        on_epoch_end: Callable[[dict[str, float]], None] | None = None,
        writes: bool = True,
    ):
        self.folder, self.class_names, self.loss, self.targets = folder, class_names, loss, targets
        self.history, self.on_epoch_end, self.writes = [dict(row) for row in history], on_epoch_end, writes

    def epoch(self, row: Mapping[str, float], logits: np.ndarray) -> dict[str, float]:
        """Take an epoch's `epoch, lr, train_loss, seconds` and its validation logits [N, C]; returns its whole row.

        Raises
        ------
        FloatingPointError : the logits are not finite; such an epoch is never the best
        """
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"the logits of epoch {row['epoch']} are not finite", [])
        ap = average_precision(self.targets.numpy(), logits)
        whole = {
            **{name: row[name] for name in ("epoch", "lr", "train_loss")},
            "val_loss": mean_known(self.loss(torch.from_numpy(logits), self.targets), self.targets).item(),
            "val_map": float(mean_defined(ap)),
            **{f"ap_{name}": float(value) for name, value in zip(self.class_names, ap, strict=True)},
            "seconds": round(row["seconds"], 2),
        }
        self.history.append(whole)
        if self.writes:
            rows = (list(row.values()) for row in self.history)
            write_whole(self.folder / folder_of.HISTORY, write_csv(rows, list(whole)))
        return whole

    def keep(self, weights: bytes) -> bool:
        """Keep the weights of the last epoch; returns whether it is the best."""
        best = best_place(self.history) == len(self.history) - 1
        if best:
            write_whole(self.folder / folder_of.BEST, weights)
        write_whole(self.folder / folder_of.LAST, weights)
        return best

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep everything that is needed to go on from here, and the checkpoint before it."""
        buffer, file = io.BytesIO(), self.folder / folder_of.RESUME
        torch.save({**state, "history": self.history}, buffer)
        if file.exists():
            put(file, self.folder / folder_of.PREVIOUS)
        write_whole(file, buffer.getvalue())

    def tell(self) -> None:
        """Hand the last row to whoever asked for it, now that everything of it is written."""
        if self.on_epoch_end is not None:
            self.on_epoch_end(self.history[-1])

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
