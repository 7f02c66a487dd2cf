"""What a user calls: fit, Run, predict, evaluate. It joins the parts and holds no mathematics."""

import glob
import logging
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from . import run as folder_of
from .cells import mark_path, unmark_path
from .datasets import ImageDataset, make_loader
from .exceptions import RunFailed, WorkbenchError
from .images import SUFFIXES, ImageFault, check_images
from .labels import SPLITS, LabelTable, read_labels, write_csv
from .losses import bce
from .metrics import average_precision, mean_defined, score
from .model import YOLOClassifier, build_model, load_weights, save_weights
from .predictions import Predictions
from .prepare import MAX_QUARANTINE, Prepared, prepare, progress_bar, write_quarantine
from .thresholds import Thresholds
from .train import Settings, choose_device, choose_precision, infer, refuse_misfit, train

log = logging.getLogger("mlworkbench")


def fit(
    table: LabelTable,
    run_dir: str | Path,
    overwrite: bool = False,
    max_quarantine: float = MAX_QUARANTINE,
    on_epoch_end: Callable[[dict[str, float]], None] | None = None,
    **settings: Any,
) -> "Run":
    """Train a network on labelled images and write the run folder.

    Parameters
    ----------
    settings : see `train.Settings` (model, epochs, batch_size, image_size, learning_rate, precision, seed, …)
    on_epoch_end : called with each row of `history.csv`

    Returns
    -------
    Run; after an interrupt with the best weights so far, its `status` saying so

    >>> run = fit(read_labels("labels.csv"), run_dir="runs/first", epochs=15)    # doctest: +SKIP
    """
    chosen, run = Settings.of(**settings), Run(run_dir)
    if run.folder.exists():
        with folder_of.writing(run.folder):  # refused now rather than after minutes of checking
            _refuse_run(run.folder, overwrite)
    device = choose_device(chosen.device)
    refuse_misfit(chosen.precision, device)
    prepared = prepare(table, chosen.seed, max_quarantine)
    if prepared.split_sizes["train"] < 2:
        raise WorkbenchError(f"{table.source}: 1 image to train on; expected at least 2")
    for line in prepared.in_short():
        log.warning(line)
    with torch.random.fork_rng():  # the caller's random state is not ours to seed
        torch.manual_seed(chosen.seed)
        model = build_model(chosen.model, table.class_names)
    with folder_of.writing(run.folder):
        _refuse_run(run.folder, overwrite)
        run._fit(prepared, model, chosen, device, on_epoch_end)
    return run


def _refuse_run(folder: Path, overwrite: bool) -> None:
    if folder_of.holds_run(folder) and not overwrite:
        raise WorkbenchError(f"{folder} holds a run; choose another folder, or --overwrite to replace it")


class Run:
    """One training and all that came of it, read from its folder.

    >>> run = Run("runs/first")                          # doctest: +SKIP
    >>> run.predictions("val").probabilities.shape       # doctest: +SKIP
    (450, 10)
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    @cached_property
    def state(self) -> dict[str, Any]:
        """The content of `run.json`."""
        state = folder_of.read_json(self.folder / folder_of.STATE)
        if not isinstance(state, dict) or state.get("format_version") != folder_of.FORMAT_VERSION:
            raise WorkbenchError(f"{self.folder / folder_of.STATE} is of no version that this package reads")
        return state

    @property
    def class_names(self) -> list[str]:
        return list(self.state["class_names"])

    @property
    def status(self) -> str:
        return str(self.state["status"])

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch: `epoch, lr, train_loss, val_loss, val_map, seconds`."""
        return pd.read_csv(self.folder / folder_of.HISTORY)

    @property
    def best_epoch(self) -> pd.Series:
        """The row of `history` whose weights are the run's."""
        rows = self.history.to_dict("records")
        return self.history.iloc[max(range(len(rows)), key=lambda place: _rank(rows[place]))]

    @property
    def root(self) -> Path:
        """Where the run's image paths start."""
        return Path(self.state["image_root"])

    @cached_property
    def model(self) -> YOLOClassifier:
        """The network with the best weights, in eval mode."""
        empty = build_model(self.state["architecture"], self.class_names)
        return load_weights(empty, self.folder / folder_of.BEST).eval()

    def predictions(self, split: str) -> Predictions:
        """What the best weights say of a split, computed once and kept in the run folder."""
        file = self.folder / folder_of.predictions_file(split)
        if not file.exists():
            if split not in SPLITS:
                raise WorkbenchError(f"split {split!r}; expected one of {', '.join(SPLITS)}")
            table = self._table(split)
            with folder_of.writing(self.folder):  # not while its weights are still changing
                self._predict_split(table, split)
        return Predictions.from_frame(pd.read_parquet(file), split)

    def predict(self, paths: Iterable[str], root: Path, device: torch.device | None = None) -> Predictions:
        """What the best weights say of any images; one that cannot be read raises ImageFault."""
        settings = self.state["settings"]
        dataset = ImageDataset(np.array(list(paths), dtype=object), root, None, settings["image_size"])
        loader = make_loader(dataset, settings["batch_size"], workers=settings["workers"])
        logits = infer(self.model, loader, device or choose_device())
        return Predictions(dataset.paths, self.class_names, logits)

    def thresholds(self) -> Thresholds:
        """The saved thresholds, else 0.5 for every class."""
        file = self.folder / folder_of.THRESHOLDS
        if not file.exists():
            return Thresholds.default(self.class_names)
        data = folder_of.read_json(file)
        return Thresholds.from_dict(data, frozenset(self._paths_of(data.get("split"))))

    def save_thresholds(self, thresholds: Thresholds) -> Path:
        """Write `thresholds.json`; every later decision of this run uses it."""
        file = self.folder / folder_of.THRESHOLDS
        with folder_of.writing(self.folder):
            folder_of.write_json(file, thresholds.to_dict())
        return file

    def evaluate(self, split: str = "test") -> dict[str, Any]:
        """Scores of a split at the saved thresholds, written to `metrics/SPLIT.json`."""
        scores = evaluate(self.predictions(split), self.thresholds())
        with folder_of.writing(self.folder):
            folder_of.write_json(self.folder / folder_of.metrics_file(split), scores)
        return scores

    def _table(self, split: str) -> LabelTable:
        state = self.state
        table = read_labels(
            state["labels_file"], state["image_root"], state["classes_file"], tag_delimiter=state["tag_delimiter"]
        )
        if table.sha256 != state["labels_sha256"]:
            raise WorkbenchError(f"{table.source} has changed since this run was trained; train again to use it")
        rows = pd.Series(np.arange(len(table)), index=table.paths)
        return table.take(rows.loc[self._paths_of(split)].to_numpy())

    def _paths_of(self, split: str) -> list[str]:
        """The images of a split, as `splits.csv` has them."""
        splits = pd.read_csv(self.folder / folder_of.SPLITS, keep_default_na=False, dtype=str)
        return [unmark_path(path) for path in splits.image_path[splits.split == split]]

    def _predict_split(self, table: LabelTable, split: str, device: torch.device | None = None) -> None:
        found = replace(self.predict(table.paths, table.root, device), y=table.y)
        data = found.to_frame().to_parquet(None, index=False)
        folder_of.write_whole(self.folder / folder_of.predictions_file(split), data)

    def _write_state(self, **changes: Any) -> None:
        self.state = {**self.__dict__.get("state", {}), **changes}
        folder_of.write_json(self.folder / folder_of.STATE, self.state)

    def _fit(
        self,
        prepared: Prepared,
        model: YOLOClassifier,
        settings: Settings,
        device: torch.device,
        on_epoch_end: Callable[[dict[str, float]], None] | None,
    ) -> None:
        table = prepared.table
        train_rows, val_rows = prepared.of("train"), prepared.of("val")
        size, batch, seed = settings.image_size, settings.batch_size, settings.seed
        train_set = ImageDataset(train_rows.paths, table.root, train_rows.y, size, True, settings.flip, seed)
        val_set = ImageDataset(val_rows.paths, table.root, val_rows.y, size)
        train_loader = make_loader(train_set, batch, train=True, workers=settings.workers)
        val_loader = make_loader(val_set, batch, workers=settings.workers)
        first = train_set.__getitems__(list(range(min(batch, len(train_set)))))
        precision = choose_precision(settings.precision, model, first, device)
        folder_of.clear(self.folder)  # everything that can refuse has had its say
        self._write_state(
            format_version=folder_of.FORMAT_VERSION,
            status="running",
            class_names=table.class_names,
            settings=asdict(settings) | {"device": str(device)},
            precision=asdict(precision),
            preprocessing={"resize": "whole image to a square", "scale": "0..1", "normalisation": None},
            architecture=model.architecture,
            labels_file=str(table.source.resolve()),
            labels_sha256=table.sha256,
            tag_delimiter=table.tag_delimiter,
            image_root=str(table.root.resolve()),
            classes_file=None if table.classes_file is None else str(table.classes_file.resolve()),
            versions=_versions(),
        )
        splits = zip(map(mark_path, table.paths), prepared.split, strict=True)
        folder_of.write_whole(self.folder / folder_of.SPLITS, write_csv(splits, ("image_path", "split")))
        write_quarantine(prepared.quarantine, self.folder / folder_of.QUARANTINE)

        history: list[dict[str, float]] = []
        targets = torch.from_numpy(val_rows.y)

        def end_epoch(row: dict[str, float]) -> None:
            logits = infer(model, val_loader, device, precision.channels_last)
            if not np.isfinite(logits).all():
                raise FloatingPointError(f"the logits of epoch {row['epoch']} are not finite", [])
            val_loss = bce(torch.from_numpy(logits), targets).item()
            val_map = float(mean_defined(average_precision(val_rows.y, logits)))
            seconds = row.pop("seconds")
            row |= {"val_loss": val_loss, "val_map": val_map, "seconds": round(seconds, 2)}
            weights = save_weights(model)
            folder_of.write_whole(self.folder / folder_of.LAST, weights)
            if not history or _rank(row) > max(map(_rank, history)):
                folder_of.write_whole(self.folder / folder_of.BEST, weights)
            history.append(row)
            table_of_epochs = write_csv((list(r.values()) for r in history), list(row))
            folder_of.write_whole(self.folder / folder_of.HISTORY, table_of_epochs)
            bar.set_postfix(loss=f"{row['train_loss']:.4f}", val_map=f"{val_map:.4f}")
            if on_epoch_end is not None:
                on_epoch_end(row)

        with progress_bar(settings.epochs * len(train_set), "training") as bar:
            try:
                train(model, train_loader, settings, precision, device, end_epoch, bar.update)
            except KeyboardInterrupt:
                self._write_state(status="interrupted")
                if not history:
                    raise
            except FloatingPointError as error:
                self._write_state(status="failed")
                images = ", ".join(repr(train_rows.paths[i]) for i in error.args[1][:3])
                where = f"; the batch begins with {images}" if images else ""
                raise RunFailed(f"{error.args[0]}{where}; try a lower --lr") from None
            except BaseException:
                self._write_state(status="failed")
                raise
            try:
                for name in ("val", "test"):
                    self._predict_split(prepared.of(name), name, device)
            except BaseException:
                self._write_state(status="failed")
                raise
        if self.status == "running":
            self._write_state(status="finished")


def _rank(row: Mapping[Any, float]) -> tuple[float, float]:
    """What makes an epoch the better one: validation mAP; the loss decides where no class has one, and ties."""
    return (-1.0 if np.isnan(row["val_map"]) else row["val_map"], -row["val_loss"])


def _versions() -> dict[str, str]:
    packages = ("mlworkbench", "torch", "torchvision", "ultralytics", "numpy", "pillow", "scikit-learn")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def evaluate(predictions: Predictions, thresholds: Thresholds) -> dict[str, Any]:
    """Every score of these predictions at these thresholds, as `metrics/SPLIT.json` holds them.

    Raises
    ------
    WorkbenchError : the thresholds were tuned on (some of) these images
    """
    thresholds.refuse_tuned_images(predictions)
    return score(predictions, thresholds.aligned(predictions.class_names))


def predict(run: Run, source: str | Path) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Probabilities and decisions for an image, a folder, a glob or a labels file.

    Returns
    -------
    A frame of `image_path`, `p_CLASS` for every class, then `present_CLASS` at the run's thresholds; and the
    (path, reason) pairs of the images that were set aside
    """
    root, paths = _images_of(str(source))
    found = check_images(paths, root)
    bad = [(path, str(item)) for path, item in zip(paths, found, strict=True) if isinstance(item, ImageFault)]
    good = [path for path, item in zip(paths, found, strict=True) if not isinstance(item, ImageFault)]
    if not good:
        first = f" ({bad[0][0]!r}: {bad[0][1]})" if bad else ""
        raise WorkbenchError(f"no image to predict in {str(source)!r}{first}")
    predictions = run.predict(good, root)
    present = run.thresholds().decide(predictions)
    columns: dict[str, np.ndarray] = {"image_path": predictions.paths}
    columns |= {f"p_{name}": predictions.probabilities[:, c] for c, name in enumerate(run.class_names)}
    columns |= {f"present_{name}": present[:, c].astype(np.int8) for c, name in enumerate(run.class_names)}
    return pd.DataFrame(columns), bad


def _images_of(source: str) -> tuple[Path, list[str]]:
    """The root and the relative image paths that a source names."""
    path = Path(source)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES)
        return path, [str(f.relative_to(path)) for f in files]
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return path.parent, [path.name]
    if path.is_file():
        table = read_labels(path)
        return table.root, list(table.paths)
    files = sorted(Path(f) for f in glob.glob(source, recursive=True) if Path(f).suffix.lower() in SUFFIXES)
    if not files:
        raise WorkbenchError(f"{source!r} names no image, folder, glob or labels file")
    root = Path(os.path.commonpath([f.parent for f in files]))
    return root, [str(f.relative_to(root)) for f in files]
