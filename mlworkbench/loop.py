"""The route of our own loop: `train.Trainer` with validation, checkpoints, several processes."""

import copy
from collections.abc import Callable
from typing import Any

from . import recorder
from .datasets import EpochBatches, in_order, make_loader
from .exceptions import WorkbenchError
from .job import Job, Route
from .model import save_weights
from .precision import Precision, choose_precision, share
from .prepare import progress_bar
from .train import Trainer
from .workflow import Run


class LoopRoute(Route):
    """See `job.Route`."""

    def __init__(self, job: Job):
        super().__init__(job)
        settings = job.settings
        self.batches, loss = self._make_batches(), job.loss()

        def trial(precision: Precision) -> Callable[[], object]:
            network, batch = copy.deepcopy(job.model), job.dataset.__getitems__(next(iter(self.batches)))
            trainer = Trainer(network, loss, settings, precision, len(self.batches), len(job.dataset))
            return lambda: trainer.step(batch)

        if job.resuming:
            self.precision = Precision(**job.run.state["precision"])
        else:
            images = min(settings.batch_size, len(self.batches.rows))
            self.precision = choose_precision(settings.precision, trial, images)
        self.trainer = Trainer(job.model, loss, settings, self.precision, len(self.batches), len(job.dataset))
        self.recorder = job.recorder(job.checkpoint["history"] if job.checkpoint else ())
        if job.checkpoint:
            self.trainer.load_state(job.checkpoint)
        if job.main and self.recorder.history:
            _ = job.run.model  # refused now if the best weights are gone

    @staticmethod
    def read_checkpoint(run: Run) -> dict[str, Any] | None:
        return recorder.read_checkpoint(run.folder)

    def train(self, stop_asked: Callable[[], bool]) -> bool:
        job, trainer, records, settings = self.job, self.trainer, self.recorder, self.job.settings
        loader = make_loader(job.dataset, self.batches, settings.workers, pin=trainer.device.type == "cuda")
        validation = in_order(share(job.prepared.rows("val").tolist()), settings.batch_size)
        val_loader = make_loader(job.dataset, validation, settings.workers)
        trainer.stop_asked = stop_asked

        def end_epoch(row: dict[str, float]) -> bool:
            row = records.epoch(row, trainer.logits(val_loader))
            if job.main:
                records.keep(save_weights(trainer.average))
                records.checkpoint(trainer.state())
                bar.set_postfix(loss=f"{row['train_loss']:.4f}", val_map=f"{row['val_map']:.4f}")
                records.tell()
            return not records.spent(settings.patience)

        images = len(self.batches.rows)
        done = (trainer.place.epoch - 1) * images
        with progress_bar(settings.epochs * images, "training", done, silent=not job.main) as bar:
            finished = records.spent(settings.patience) or trainer.train(loader, self.batches, end_epoch, bar.update)
        if job.main and not finished:
            records.checkpoint(trainer.state())
        return finished

    def _make_batches(self) -> EpochBatches:
        """The batches of an epoch, each of them large enough for every process and piece to have two images."""
        job, settings = self.job, self.job.settings
        rows, source = job.prepared.rows("train"), job.prepared.table.source
        pieces = settings.accumulate * job.processes.num_processes
        for what, number in ((f"{source}: images to train on", len(rows)), ("batch_size", settings.batch_size)):
            if number < 2 * pieces:
                raise WorkbenchError(f"{what}: {number}; expected at least 2 for each of {pieces} pieces of a batch")
        return EpochBatches(rows, settings.batch_size, settings.seed, 2 * pieces, share)
