"""Ultralytics' own trainer as a route: its classes for classification, made multi-label by subclasses.

Nothing of the library is changed. What their code cannot do honestly with several labels is refused in one line.
"""

# isort: off
from ..network.foreign import quietly  # first: it says that Ultralytics installs nothing, which is read at its import
# isort: on

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packaging.version import Version
from PIL import Image
from ultralytics import __version__
from ultralytics.cfg import get_cfg
from ultralytics.data import build_dataloader
from ultralytics.data.augment import classify_augmentations
from ultralytics.models.yolo.classify import ClassificationTrainer, ClassificationValidator
from ultralytics.utils import LOGGER, SETTINGS
from ultralytics.utils.callbacks import get_default_callbacks
from ultralytics.utils.metrics import ClassifyMetrics
from ultralytics.utils.plotting import plot_images
from ultralytics.utils.torch_utils import strip_optimizer

from ..decisions.thresholds import Thresholds
from ..exceptions import WorkbenchError
from ..files import put, write_whole
from ..network import model as models
from ..network.batches import augment, sample_uniforms
from ..network.device import Precision
from ..network.feed import count_workers
from ..progress import progress_bar
from ..runs import folder as folder_of
from ..runs.run import Run
from ..scoring.metrics import score
from ..scoring.predictions import Predictions
from ..settings import Settings
from .losses import mean_known
from .route import Job, Route
from .ultralytics_arguments import AUGMENTATIONS, check_arguments, next_rate, recipe

log = logging.getLogger("mlworkbench")

TRIED = ("8.4.150", "8.5.0")  # from, and below


class UltralyticsRoute(Route):
    """See `route.Route`. Goes on from the last whole epoch, as their trainer does, with other random numbers."""

    def __init__(self, job: Job):
        super().__init__(job)
        epochs = 0 if job.checkpoint is None else job.checkpoint["epoch"] + 1
        history = job.run.history[:epochs].to_dict("records") if epochs else ()
        self.recorder, self.arguments = job.recorder(history), _arguments(job)
        if job.checkpoint:
            state = job.checkpoint["model"].state_dict()
            models.load_state(job.model.net, state, job.run.folder / folder_of.ULTRALYTICS_LAST)
        self.precision = Precision({False: "fp32", True: "fp16"}.get(self.arguments["amp"], "bf16"), False)

    @staticmethod
    def check(settings: Settings, device: torch.device) -> None:
        if not Version(TRIED[0]) <= Version(__version__) < Version(TRIED[1]):
            raise WorkbenchError(f"ultralytics {__version__} was not tried; install >={TRIED[0]},<{TRIED[1]}")
        if settings.precision == "bf16" and device.type != "cuda":
            raise WorkbenchError("precision bf16: Ultralytics' trainer has it on CUDA only; choose auto or fp32")
        usual = Settings()
        for name in ("accumulate", "backbone_rate", "head_epochs", "ema", "compile"):
            if getattr(settings, name) != getattr(usual, name):
                raise WorkbenchError(f"{name} is the loop's; the route 'ultralytics' has its own way")
        check_arguments(settings)

    @staticmethod
    def read_checkpoint(run: Run) -> dict[str, Any] | None:
        """Their `last.pt`; None before the first epoch."""
        file = run.folder / folder_of.ULTRALYTICS_LAST
        if not file.exists():
            return None
        checkpoint = models.read_pt(file)
        if checkpoint.get("epoch") == -1:  # stripped at the end of a training, which may be to go on nevertheless
            checkpoint["epoch"] = len(checkpoint["train_results"]["epoch"]) - 1
        return checkpoint

    def next_rate(self) -> float:
        return next_rate(self.job.settings, self.job.checkpoint or {})

    def train(self, stop_asked: Callable[[], bool]) -> bool:
        job, settings = self.job, self.job.settings
        images = len(job.prepared.rows("train"))
        nc = models.declared_classes(settings.model)
        if nc not in (None, len(job.model.class_names)):
            log.warning(
                "%s has nc=%s; set to the %s classes of the labels file", settings.model, nc, len(job.model.class_names)
            )
        if job.checkpoint:
            self._mend()
        done = len(self.recorder.history)
        if done >= settings.epochs or self.recorder.spent(settings.patience):
            return True
        level = LOGGER.level
        loud = self.arguments["verbose"]
        try:
            if not loud:
                LOGGER.setLevel(logging.ERROR)
            with progress_bar(settings.epochs * images, "training", done * images, silent=loud) as bar:
                trainer = MultiLabelTrainer(self, stop_asked, bar, self.arguments)
                trainer.train()
        except _Stop:
            return False
        finally:
            LOGGER.setLevel(level)
        return True

    def _mend(self) -> None:
        """Finish what a killed process may have left undone after its last checkpoint."""
        run, history = self.job.run, self.recorder.history
        results = run.folder / "results.csv"
        if results.exists():
            lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
            write_whole(results, "".join(lines[: 1 + len(history)]).encode())
        if self.recorder.keep(models.save_weights(self.job.model)):
            last = (run.folder / folder_of.ULTRALYTICS_LAST).read_bytes()
            write_whole(run.folder / folder_of.ULTRALYTICS_BEST, last)


class _Stop(Exception):
    """The user asked to stop; raised between two batches, where everything of their trainer can be left."""


def _arguments(job: Job) -> dict[str, Any]:
    """Arguments of their trainer for our settings."""
    settings = job.settings
    if settings.loss == "softmax" and len(job.model.class_names) < 2:
        raise WorkbenchError("softmax needs at least two classes to choose from")
    device = job.processes.device
    amp = {"fp32": False, "bf16": "bf16", "fp16": True}.get(settings.precision)
    if amp is None:  # auto: what is the norm on such a device
        amp = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else False
    ours = {
        "task": "classify", "mode": "train", "model": settings.model, "data": str(job.prepared.table.source),
        "save_dir": str(job.run.folder), "exist_ok": True, "epochs": settings.epochs, "batch": settings.batch_size,
        "imgsz": settings.image_size, "patience": settings.patience, "seed": settings.seed, "amp": amp,
        "device": str(device.index or 0) if device.type == "cuda" else device.type, "lr0": settings.learning_rate,
        "workers": count_workers(settings.workers),
    }  # fmt: skip
    return dict(vars(get_cfg(overrides={**ours, **recipe(settings)})))


@contextmanager
def _without_ray() -> Iterator[None]:
    """Keep Ultralytics from importing Ray, which takes seconds, for a report to a tuning that cannot be under way."""
    chosen = SETTINGS["raytune"]
    if "ray" not in sys.modules:
        dict.__setitem__(SETTINGS, "raytune", False)  # its own would write the user's file
    try:
        yield
    finally:
        dict.__setitem__(SETTINGS, "raytune", chosen)


class MultiLabelTrainer(ClassificationTrainer):
    """Their trainer on a labels file: multi-hot targets, our losses and metrics, checkpoints of their classes."""

    model: Any
    last: Path
    best: Path

    def __init__(self, route: UltralyticsRoute, stop_asked: Callable[[], bool], bar: Any, arguments: dict[str, Any]):
        self.route, self.job, self.stop_asked, self.bar = route, route.job, stop_asked, bar
        self.uniforms: tuple[int, torch.Tensor] = (-1, torch.empty(0))
        self.own_augmentation = all(arguments[name] == value for name, value in AUGMENTATIONS.items())
        results = self.job.run.folder / "results.csv"
        earlier = results.read_bytes() if self.job.checkpoint and results.exists() else b""
        with _without_ray():
            super().__init__(overrides=arguments, _callbacks=_with_all_events(self.job.callbacks))
        if earlier:  # which it removes
            write_whole(results, earlier)
        self.model, self.resume = self.job.model.net, self.job.checkpoint is not None
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout) and self.args.dropout:
                module.p = self.args.dropout
        if self.job.settings.loss != "softmax":
            self.model.criterion = _Criterion(route.recorder.loss)
        self.add_callback("on_train_batch_end", MultiLabelTrainer._after_batch)

    def get_dataset(self) -> dict[str, Any]:
        rows = {name: self.job.prepared.rows(name).tolist() for name in ("train", "val", "test")}
        names = dict(enumerate(self.job.model.class_names))
        return {**rows, "names": names, "nc": len(names), "channels": 3}

    def setup_model(self) -> dict[str, Any] | None:
        super().setup_model()
        return self.job.checkpoint

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        size, train = self.args.imgsz, mode == "train"
        theirs = None
        if train and not self.own_augmentation:
            chosen = {"scale": (1 - self.args.scale, 1.0), "hflip": self.args.fliplr, "vflip": self.args.flipud}
            same = ("erasing", "auto_augment", "hsv_h", "hsv_s", "hsv_v")
            theirs = classify_augmentations(size=size, **chosen, **{name: getattr(self.args, name) for name in same})
        rows = _Rows(self.job, dataset_path, theirs)
        return build_dataloader(rows, batch_size, self.args.workers, train, rank=-1, device=self.device)

    def preprocess_batch(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.rows = batch["row"]
        batch = super().preprocess_batch(batch)
        if batch["img"].dtype == torch.uint8:
            if self.uniforms[0] != self.epoch:
                samples, seed = len(self.job.dataset), self.args.seed
                self.uniforms = (self.epoch, sample_uniforms(samples, self.epoch + 1, seed))
            flip, crop = self.job.settings.flip, self.job.settings.crop
            batch["img"] = augment(batch["img"], self.uniforms[1][self.rows], flip, crop)
        return _targets(batch, self.job.settings)

    def optimizer_step(self) -> None:
        if not torch.isfinite(self.loss):
            raise FloatingPointError(f"the loss is {self.loss:g} in epoch {self.epoch + 1}", self.rows.tolist())
        super().optimizer_step()

    def get_validator(self) -> "MultiLabelValidator":
        return MultiLabelValidator(self.job, self.test_loader, self.save_dir, copy(self.args), self.callbacks)

    def validate(self) -> tuple[Any, Any]:
        self.trained_for = time.time() - self.epoch_time_start
        self.validator.args.plots = self.args.plots  # it switches them off for good before the epoch that it wants
        return super().validate()

    def save_metrics(self, metrics: dict[str, float]) -> None:
        super().save_metrics(metrics)
        loss = next(iter(self.tloss.values())).item()
        row = {"epoch": self.epoch + 1, "lr": self.lr["lr/pg0"], "train_loss": loss, "seconds": self.trained_for}
        self.route.recorder.epoch(row, self.validator.logits)

    def save_model(self) -> bool:
        """Their checkpoint, written whole, its head of torch's own layers; then the weights in our form."""
        folder, ema, last, best, size = self.job.run.folder, self.ema.ema, self.last, self.best, self.args.imgsz
        try:
            with tempfile.TemporaryDirectory(prefix="mlworkbench-") as temporary:
                self.last = self.best = Path(temporary) / "last.pt"
                self.ema.ema = models.for_plain_yolo(ema, size, self.job.settings.loss != "softmax")
                self.args.imgsz = models.exported_shape(size)
                super().save_model()
                data = self.last.read_bytes()
        finally:
            self.ema.ema, self.last, self.best, self.args.imgsz = ema, last, best, size
        write_whole(folder / folder_of.ULTRALYTICS_LAST, data)
        rounded = {name: v.half().to(v.dtype) if v.is_floating_point() else v for name, v in ema.state_dict().items()}
        if self.route.recorder.keep(models.weights_bytes(rounded)):  # as their file has them: both say the same
            write_whole(folder / folder_of.ULTRALYTICS_BEST, data)
        self.route.recorder.tell()
        return True

    def final_eval(self) -> None:
        """Drop the optimiser from the checkpoints; the best one's scores are known."""
        for file in (self.last, self.best):
            stripped = file.with_suffix(".part")
            with quietly():
                strip_optimizer(file, str(stripped))
            put(stripped, file)

    def plot_training_samples(self, batch: dict[str, torch.Tensor], ni: int) -> None:
        _plot(batch["img"], batch["cls"] > 0, self.data["names"], self.save_dir / f"train_batch{ni}.jpg", self.on_plot)

    def _after_batch(self) -> None:
        self.bar.update(len(self.rows))
        if self.stop_asked():
            raise _Stop


def _with_all_events(callbacks: Mapping[str, Sequence[Callable]]) -> dict[str, list]:
    """Their events with their own functions and a user's."""
    events = get_default_callbacks()
    for event, functions in callbacks.items():
        if event not in events:
            raise WorkbenchError(f"no event {event!r} in Ultralytics' trainer; expected one of {', '.join(events)}")
        events[event] = events[event] + [f for f in functions if f not in events[event]]
    return events


def _targets(batch: dict[str, torch.Tensor], settings: Settings) -> dict[str, torch.Tensor]:
    """For their cross entropy, which takes shares of one: an image's classes have equal ones."""
    if settings.loss == "softmax":
        present = (batch["cls"] == 1).float()
        batch["cls"] = present / present.sum(1, keepdim=True).clamp(min=1)
    return batch


class _Criterion:
    """What their model calls for its loss, on logits [B, C] and targets [B, C] of 1, 0, -1."""

    def __init__(self, loss: Callable):
        self.loss = loss

    def __call__(self, preds: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = preds[1] if isinstance(preds, (list, tuple)) else preds
        value = mean_known(self.loss(logits.float(), batch["cls"]), batch["cls"])
        return value, {"loss": value.detach()}


class _Rows(torch.utils.data.Dataset):
    """Rows of the data set as their loaders want them; `theirs` are their augmentations, if asked for."""

    def __init__(self, job: Job, rows: list[int], theirs: Callable | None):
        self.dataset, self.rows, self.theirs = job.dataset, rows, theirs

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        row = self.rows[place]
        image, target, _ = self.dataset[row]
        if self.theirs is not None:
            image = self.theirs(Image.fromarray(image.permute(1, 2, 0).numpy()))
        return {"img": image, "cls": target, "row": row}


class MultiLabelMetrics(ClassifyMetrics):
    """Scores of a split; `scores` holds all of them, as `metrics.score` gives them at 0.5."""

    scores: Mapping[str, Any] = {"map": 0.0, "f1_macro": 0.0, "exact_match": 0.0}

    def process(self, predictions: Predictions) -> None:
        self.scores = score(predictions, Thresholds.default(predictions.class_names).values, resamples=0)

    @property
    def map(self) -> float:
        return float(self.scores["map"])

    @property
    def fitness(self) -> float:
        return -1.0 if np.isnan(self.map) else self.map

    @property
    def keys(self) -> list[str]:
        return ["metrics/mAP", "metrics/F1", "metrics/exact_match"]

    @property
    def results_dict(self) -> dict[str, float]:
        values = (self.scores[name] for name in ("map", "f1_macro", "exact_match"))
        return {**dict(zip(self.keys, values, strict=True)), "fitness": self.fitness}


class MultiLabelValidator(ClassificationValidator):
    """Collects the logits of the validation split and scores each class; used by the trainer."""

    names: Any
    rows: list[torch.Tensor]
    pred: list[torch.Tensor]
    targets: list[torch.Tensor]

    def __init__(self, job: Job, *arguments: Any):
        super().__init__(*arguments)
        self.job, self.metrics = job, MultiLabelMetrics()

    def get_desc(self) -> str:
        return ("%22s" + "%11s" * 3) % ("classes", "mAP", "F1 at 0.5", "exact")

    def init_metrics(self, model: torch.nn.Module) -> None:
        self.names, self.rows = model.names, []
        self.pred, self.targets = [], []

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess(batch)
        batch["img"] = batch["img"] / 255
        return _targets(batch, self.job.settings)

    def postprocess(self, preds: Any) -> torch.Tensor:
        logits = (preds[1] if isinstance(preds, (list, tuple)) else preds).float()
        return models.softmax_odds(logits) if self.job.settings.loss == "softmax" else logits

    def update_metrics(self, preds: torch.Tensor, batch: dict[str, Any]) -> None:
        self.pred.append(preds.cpu())
        self.rows.append(batch["row"])

    def get_stats(self) -> dict[str, float]:
        rows, order = torch.cat(self.rows).sort()  # as the split has them
        self.logits = torch.cat(self.pred)[order].numpy()
        paths, y = self.job.dataset.paths[rows.numpy()], self.job.dataset.targets[rows].numpy()
        self.metrics.process(Predictions(paths, self.job.model.class_names, self.logits, y, "val"))
        return self.metrics.results_dict

    def finalize_metrics(self) -> None:
        self.metrics.speed, self.metrics.save_dir = self.speed, self.save_dir

    def print_results(self) -> None:
        values = list(self.metrics.results_dict.values())[:3]
        LOGGER.info(("%22s" + "%11.3g" * 3) % ("all", *values))

    def plot_val_samples(self, batch: dict[str, Any], ni: int) -> None:
        _plot(batch["img"], batch["cls"] > 0, self.names, self.save_dir / f"val_batch{ni}_labels.jpg", self.on_plot)

    def plot_predictions(self, batch: dict[str, Any], preds: torch.Tensor, ni: int) -> None:
        _plot(batch["img"], preds >= 0, self.names, self.save_dir / f"val_batch{ni}_pred.jpg", self.on_plot)


def _plot(images: torch.Tensor, present: torch.Tensor, names: Mapping[int, str], file: Path, on_plot: Any) -> None:
    """Their mosaic of images, each with all of its classes as one text."""
    texts = {i: ", ".join(names[c] for c in row.nonzero().flatten().tolist()) or "–" for i, row in enumerate(present)}
    places = torch.arange(len(images))
    plot_images(
        {"img": images.detach().clone(), "cls": places, "batch_idx": places}, fname=file, names=texts, on_plot=on_plot
    )
