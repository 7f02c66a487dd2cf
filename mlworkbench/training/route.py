"""Route: what every way to train is given, and what it owes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from ..data.prepare import Prepared
from ..network.batches import ImageDataset, in_order
from ..network.device import Precision
from ..network.feed import make_loader
from ..network.infer import infer
from ..network.model import YOLOClassifier
from ..runs.run import Run
from ..settings import Settings
from .losses import Loss, make_loss
from .recorder import Recorder


@dataclass
class Job:
    """One training to be done.

    Attributes
    ----------
    model : the network that learns, in place
    dataset : all images that can be used, decoded where the cache holds them
    processes : this process's place among those that train together
    resuming : whether the run goes on
    checkpoint : where it goes on from, as the route itself wrote it; None is the beginning
    callbacks : a user's functions for Ultralytics' events, by name
    """

    run: Run
    settings: Settings
    prepared: Prepared
    model: YOLOClassifier
    dataset: ImageDataset
    processes: PartialState
    resuming: bool = False
    checkpoint: dict[str, Any] | None = None
    on_epoch_end: Callable[[dict[str, float]], None] | None = None
    callbacks: Mapping[str, Sequence[Callable]] = field(default_factory=dict)

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.processes.is_main_process

    def targets(self, split: str) -> torch.Tensor:
        """Labels of a split, int8 [n, C]."""
        return self.dataset.targets[self.prepared.rows(split)]

    def loss(self) -> Loss:
        """The loss of the settings for the labels of the training split."""
        return make_loss(self.settings.loss, self.targets("train"), self.settings.positive_weight)

    def recorder(self, history: Sequence[Mapping[Any, float]] = ()) -> Recorder:
        """A recorder of this run that goes on from these rows."""
        names, targets = self.model.class_names, self.targets("val")
        return Recorder(self.run.folder, names, self.loss(), targets, history, self.on_epoch_end, self.main)


class Route:
    """A way to train: everything that can refuse does so in `check` or `__init__`, before anything is written.

    Attributes
    ----------
    precision : the arithmetic, as `run.json` tells it
    recorder : see `Recorder`
    """

    precision: Precision
    recorder: Recorder

    def __init__(self, job: Job):
        self.job = job

    @staticmethod
    def check(settings: Settings, device: torch.device) -> None:
        """Refuse what this route cannot do, before any image is looked at."""

    @staticmethod
    def read_checkpoint(run: Run) -> dict[str, Any] | None:
        """Where a run of this route goes on from; None where it must begin anew."""
        return None

    def next_rate(self) -> float:
        """The learning rate of the next step as a share of its peak, of a route that goes on from a checkpoint."""
        raise NotImplementedError

    def train(self, stop_asked: Callable[[], bool]) -> bool:
        """Train to the end, or False after being asked to stop, with everything saved."""
        raise NotImplementedError

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """What the run's best weights say of these rows of the data set, float32 [n, C]."""
        job, order = self.job, in_order(rows, self.job.settings.batch_size)
        device = job.processes.device
        return infer(Run(job.run.folder).model, make_loader(job.dataset, order, job.settings.workers, device), device)
