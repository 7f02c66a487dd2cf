"""The route of the frozen backbone: pooled features once, then a linear head fitted to convergence in seconds."""

import copy
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from . import run as folder_of
from .cache import cached_array
from .datasets import Batch, ImageDataset, in_order, make_loader
from .job import Job, Route
from .labels import LabelTable
from .linear import fit_linear
from .losses import mean_known
from .model import YOLOClassifier, save_weights
from .precision import Precision, choose_device
from .predictions import Predictions
from .prepare import progress_bar
from .settings import Settings
from .train import infer
from .workflow import Run

log = logging.getLogger("mlworkbench")


class ProbeRoute(Route):
    """See `job.Route`. Epochs, rates, augmentation and precision have no part in it.

    The fitted head takes the place of the network's last layer. Its out-of-fold logits of the training split, each by a
    head that has not seen the image's label, are kept beside the predictions.
    """

    def __init__(self, job: Job):
        super().__init__(job)
        self.precision, self.recorder = Precision("fp32", channels_last=True), job.recorder()
        if not job.model.trained and job.main:
            log.warning("model %s starts from random weights: its features know little of images", job.settings.model)

    def train(self, stop_asked: Callable[[], bool]) -> bool:
        job, start = self.job, time.perf_counter()
        rows = job.prepared.rows("train")
        given = job.model, job.dataset, job.prepared.images_hash, job.settings, job.processes.device
        features = cached_features(*given, stop_asked, silent=not job.main)
        if features is None:
            return False
        self.features = features
        x, y = features[rows], job.dataset.targets[rows]
        fitted = fit_linear(x, y.numpy(), job.prepared.groups[rows], job.settings.seed, job.settings.folds)
        head = job.model.head
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(fitted.weight))
            head.bias.copy_(torch.from_numpy(fitted.bias))
        loss = mean_known(self.recorder.loss(torch.from_numpy(self.logits(rows)), y), y).item()
        seconds = time.perf_counter() - start
        row = {"epoch": 1, "lr": float("nan"), "train_loss": loss, "seconds": seconds}
        self.recorder.epoch(row, self.logits(job.prepared.rows("val")))
        self.recorder.keep(save_weights(job.model))
        unseen = Predictions(job.dataset.paths[rows], job.model.class_names, fitted.out_of_fold, y.numpy(), "train")
        job.run.write_predictions(unseen, folder_of.OUT_OF_FOLD)
        self.recorder.tell()
        return True

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """What the network says of these rows, without running it again."""
        return self.job.model.logits_of(self.features[rows])


def cached_features(
    model: YOLOClassifier,
    dataset: ImageDataset,
    images_hash: str,
    settings: Settings,
    device: torch.device,
    stop_asked: Callable[[], bool] = lambda: False,
    silent: bool = False,
) -> np.ndarray | None:
    """Features of all images of a run, float32 [N, D], from the cache if they are there; None after a wish to stop.

    Parameters
    ----------
    images_hash : names the content of the images, see `prepare.Prepared`
    """
    backbone = {name: value for name, value in model.net.state_dict().items() if ".linear." not in name}
    weights = hashlib.blake2b(digest_size=16)
    for value in backbone.values():
        weights.update(value.cpu().numpy().tobytes())
    key = f"features {images_hash} {settings.image_size} {weights.hexdigest()}"

    def compute() -> np.ndarray | None:
        batches = _batches(dataset, settings.batch_size, settings.workers, "computing features", stop_asked, silent)
        features = pooled_features(model, batches, device)
        return features if len(features) == len(dataset) else None

    return cached_array(key, compute, settings.cache_gb * 1e9)


def pooled_features(
    model: YOLOClassifier, batches: Iterable[Batch], device: torch.device, steady: bool = False
) -> np.ndarray:
    """What the last layer is given, float32 [N, 1280], for batches as `datasets.make_loader` yields them."""
    headless = copy.deepcopy(model)
    headless.exclusive, headless.net.model[-1].linear = False, torch.nn.Identity()  # type: ignore[index, union-attr]
    return infer(headless, batches, device, steady=steady)


def seen(run: Run, table: LabelTable) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 1280] of images and what the run says of them, logits [N, C]: means over five views of each."""
    settings = run.state["settings"]
    dataset = ImageDataset(table.paths, table.root, None, settings["image_size"])
    batches = _batches(dataset, settings["batch_size"], settings["workers"], "judging labels")
    features = pooled_features(run.model, batches, choose_device(), steady=True)
    return features, run.model.logits_of(features)


def _batches(
    dataset: ImageDataset,
    size: int,
    workers: int,
    what: str,
    stop_asked: Callable[[], bool] = lambda: False,
    silent: bool = False,
) -> Iterator[Batch]:
    """All images in order, under a progress bar, until asked to stop."""
    with progress_bar(len(dataset), what, silent=silent) as bar:
        for batch in make_loader(dataset, in_order(range(len(dataset)), size), workers):
            if stop_asked():
                return
            yield batch
            bar.update(len(batch[0]))
