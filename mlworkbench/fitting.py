"""`fit`: from labelled images to a run folder, from the start or from where an earlier process ended."""

import copy
import logging
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from . import run as folder_of
from .cache import decoded_images
from .cells import mark_path
from .datasets import EpochBatches, ImageDataset, in_order, make_loader
from .exceptions import RunFailed, WorkbenchError
from .labels import LabelTable, write_csv
from .losses import make_loss, mean_known
from .metrics import average_precision, mean_defined
from .model import YOLOClassifier, build_model
from .precision import Precision, choose_precision, join_processes, refuse_misfit
from .predictions import Predictions
from .prepare import MAX_QUARANTINE, Prepared, prepare, progress_bar, write_quarantine
from .recorder import Recorder, read_checkpoint
from .settings import Settings
from .train import Trainer, infer
from .workflow import Run

log = logging.getLogger("mlworkbench")


def fit(
    table: LabelTable,
    run_dir: str | Path,
    overwrite: bool = False,
    resume: bool = False,
    max_quarantine: float = MAX_QUARANTINE,
    on_epoch_end: Callable[[dict[str, float]], None] | None = None,
    **settings: Any,
) -> Run:
    """Train a network on labelled images and write the run folder.

    Ctrl-C and Jupyter's ■ end it after the batch under way, with everything saved; a second Ctrl-C ends it at once.
    SIGTERM does the same and then takes its usual course.

    Parameters
    ----------
    overwrite : replace the run that is in the folder
    resume : go on with it where it ended, with its own settings and precision; begin one where there is none
    settings : see `settings.Settings` (model, epochs, batch_size, image_size, learning_rate, precision, seed, …)
    on_epoch_end : called with each row of `history.csv`

    Returns
    -------
    Run; after an interrupt with the best weights so far, its `status` saying so

    Raises
    ------
    KeyboardInterrupt : interrupted before the first epoch was done, so that there are no weights yet
    RunFailed : the loss is not finite; the message names images of the batch

    >>> run = fit(read_labels("labels.csv"), run_dir="runs/first", epochs=15)    # doctest: +SKIP
    """
    run = Run(run_dir)
    resuming = resume and folder_of.holds_run(run.folder)
    chosen = Settings.resumed(run.state["settings"], settings) if resuming else Settings.of(**settings)
    with join_processes(chosen.device) as processes, ExitStack() as held:
        main = processes.is_main_process
        refuse_misfit(chosen.precision, processes.device)

        def hold_folder() -> None:
            held.enter_context(folder_of.writing(run.folder))
            _refuse_run(run.folder, overwrite or resuming)

        exists = run.folder.exists()
        if main and exists:  # refused now rather than after minutes of checking
            hold_folder()
        if resuming:
            _refuse_other_labels(run, table)
            if run.status == "finished":
                return run
        checkpoint = read_checkpoint(run.folder) if resuming else None
        with processes.main_process_first():
            prepared = prepare(table, chosen.seed, max_quarantine, silent=not main)
        for line in prepared.in_short() if main else ():
            log.warning(line)
        batches = _batches(prepared, chosen, processes)
        with _seeded(chosen.seed, processes.device):
            model = build_model(run.state["architecture"] if checkpoint else chosen.model, table.class_names)
        if main and not exists:
            hold_folder()
        with _seeded(chosen.seed, processes.device):
            dataset = _dataset(prepared, chosen, processes)
            loss = make_loss(chosen.loss, dataset.targets[batches.rows], chosen.positive_weight)

            def trainer_in(precision: Precision, network: YOLOClassifier = model) -> Trainer:
                return Trainer(network, loss, chosen, precision, len(batches), len(dataset))

            def trial(precision: Precision) -> Callable[[], object]:
                trainer, batch = trainer_in(precision, copy.deepcopy(model)), dataset.__getitems__(next(iter(batches)))
                return lambda: trainer.step(batch)

            if resuming:
                _refuse_other_images(run, prepared)
                precision = Precision(**run.state["precision"])
            else:
                precision = choose_precision(chosen.precision, trial, min(chosen.batch_size, len(batches.rows)))
            trainer, recorder = trainer_in(precision), Recorder(run.folder, checkpoint["history"] if checkpoint else ())
            if checkpoint:
                trainer.load_state(checkpoint)
                _ = run.model if main and recorder.history else None  # refused now if the best weights are gone
            if main:
                _begin(run, prepared, chosen, precision, model, processes, resuming)
            _train(run, recorder, trainer, batches, dataset, prepared, on_epoch_end)
    return Run(run.folder)


def _refuse_run(folder: Path, replaced: bool) -> None:
    if folder_of.holds_run(folder) and not replaced:
        raise WorkbenchError(
            f"{folder} holds a run; choose another folder, --resume to go on with it, or --overwrite to replace it"
        )


def _refuse_other_labels(run: Run, table: LabelTable) -> None:
    if table.sha256 != run.state["labels_sha256"] or list(table.class_names) != run.class_names:
        raise WorkbenchError(
            f"{table.source} or its classes have changed since {run.folder} was begun; train into another folder"
        )


def _refuse_other_images(run: Run, prepared: Prepared) -> None:
    same = run.splits() == dict(zip(prepared.table.paths, prepared.split, strict=True))
    if not same or run.state["images_hash"] != prepared.images_hash:
        raise WorkbenchError(
            f"the images or their splits have changed since {run.folder} was begun; train into another folder"
        )


def _batches(prepared: Prepared, settings: Settings, processes: PartialState) -> EpochBatches:
    """The batches of an epoch, each of them large enough for every process and piece to have two images."""
    rows, source = prepared.rows("train"), prepared.table.source
    pieces = settings.accumulate * processes.num_processes
    for what, number in ((f"{source}: images to train on", len(rows)), ("batch_size", settings.batch_size)):
        if number < 2 * pieces:
            raise WorkbenchError(f"{what}: {number}; expected at least 2 for each of {pieces} pieces of a batch")
    return EpochBatches(rows, settings.batch_size, settings.seed, 2 * pieces, _share)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers of our own; the caller's state is as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], bool]]:
    """While this is open, Ctrl-C, Jupyter's ■ and SIGTERM are only noted; a second Ctrl-C interrupts at once.

    Whoever was asked to terminate still does, at the end.
    """
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if signal.SIGTERM in asked:
            os.kill(os.getpid(), signal.SIGTERM)


def _share(rows: list[int]) -> list[int]:
    """This process's part of rows that all processes share."""
    with PartialState().split_between_processes(rows) as mine:
        return mine


def _dataset(prepared: Prepared, settings: Settings, processes: PartialState) -> ImageDataset:
    """All images that can be used, decoded where the cache holds them."""
    table, size = prepared.table, settings.image_size
    dataset = ImageDataset(table.paths, table.root, table.y, size)
    # First each process decodes its share, then each makes sure of all: files of another machine or an evicted one.
    everything = list(range(len(table)))
    for rows in [_share(everything), everything] if processes.num_processes > 1 else [everything]:
        with progress_bar(len(rows), "decoding images", silent=not processes.is_main_process) as bar:
            dataset.pixels = decoded_images(
                prepared.digests, size, dataset.decode, settings.cache_gb * 1e9, rows, bar.update
            )
        processes.wait_for_everyone()
    return dataset


def _begin(
    run: Run,
    prepared: Prepared,
    settings: Settings,
    precision: Precision,
    model: YOLOClassifier,
    processes: PartialState,
    resuming: bool,
) -> None:
    """Write what is known before the first step; everything that can refuse has had its say."""
    table = prepared.table
    places = {
        "labels_file": str(table.source.resolve()),
        "image_root": str(table.root.resolve()),
        "classes_file": None if table.classes_file is None else str(table.classes_file.resolve()),
        "device": str(processes.device),
        "processes": processes.num_processes,
        "versions": _versions(),
        "status": "running",
    }
    if resuming:
        if stale := folder_of.clear_results(run.folder):
            log.warning("removed, made of weights that will change: %s", ", ".join(stale))
        run.write_state(**places)
        return
    folder_of.clear(run.folder)
    splits = zip(map(mark_path, table.paths), prepared.split, strict=True)
    folder_of.write_whole(run.folder / folder_of.SPLITS, write_csv(splits, ("image_path", "split")))
    write_quarantine(prepared.quarantine, run.folder / folder_of.QUARANTINE)
    run.write_state(  # last: where it stands, all of the run's beginning does
        format_version=folder_of.FORMAT_VERSION,
        class_names=table.class_names,
        settings=asdict(settings),
        precision=asdict(precision),
        preprocessing={"resize": "whole image to a square", "scale": "0..1", "normalisation": None},
        architecture=model.architecture,
        labels_sha256=table.sha256,
        images_hash=prepared.images_hash,
        tag_delimiter=table.tag_delimiter,
        **places,
    )


def _train(
    run: Run,
    recorder: Recorder,
    trainer: Trainer,
    batches: EpochBatches,
    dataset: ImageDataset,
    prepared: Prepared,
    on_epoch_end: Callable[[dict[str, float]], None] | None,
) -> None:
    """Train to the end or until asked to stop, with validation and everything written after each epoch."""
    settings, main = trainer.settings, trainer.accelerator.is_main_process
    loader = make_loader(dataset, batches, settings.workers, pin=trainer.device.type == "cuda")
    val_rows = prepared.rows("val")
    validation = in_order(_share(val_rows.tolist()), settings.batch_size)
    val_loader, targets = make_loader(dataset, validation, settings.workers), dataset.targets[val_rows]

    def end_epoch(row: dict[str, float]) -> bool:
        logits = trainer.logits(val_loader)
        if not np.isfinite(logits).all():
            raise FloatingPointError(f"the logits of epoch {row['epoch']} are not finite", [])
        ap = average_precision(targets.numpy(), logits)
        row |= {
            "val_loss": mean_known(trainer.loss(torch.from_numpy(logits), targets), targets).item(),
            "val_map": float(mean_defined(ap)),
            **{f"ap_{name}": float(value) for name, value in zip(trainer.model.class_names, ap, strict=True)},
            "seconds": round(row.pop("seconds"), 2),
        }
        if main:
            recorder.epoch(row, trainer)
            bar.set_postfix(loss=f"{row['train_loss']:.4f}", val_map=f"{row['val_map']:.4f}")
            if on_epoch_end is not None:
                on_epoch_end(row)
        else:
            recorder.history.append(row)
        return not recorder.spent(settings.patience)

    images = len(batches.rows)
    done = (trainer.place.epoch - 1) * images
    with progress_bar(settings.epochs * images, "training", done, silent=not main) as bar:
        try:
            with _stop_on_signals() as stop_asked:
                trainer.stop_asked = stop_asked
                finished = recorder.spent(settings.patience) or trainer.train(loader, batches, end_epoch, bar.update)
                if main and not finished:
                    recorder.checkpoint(trainer)
                    run.write_state(status="interrupted")
                trainer.accelerator.wait_for_everyone()  # whoever was asked to terminate does so after this
            if main and finished:
                best = Run(run.folder).model
                for name in ("val", "test"):
                    rows = prepared.rows(name)
                    order = make_loader(dataset, in_order(rows, settings.batch_size), settings.workers)
                    logits = infer(best, order, trainer.device, trainer.precision.memory_format)
                    part = Predictions(dataset.paths[rows], best.class_names, logits, prepared.table.y[rows])
                    run.write_predictions(part, name)
                run.write_state(status="finished")
        except BaseException as error:
            if main and run.status == "running":  # an end that was written already stays what it was
                run.write_state(status="interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            if isinstance(error, FloatingPointError):
                paths = ", ".join(repr(dataset.paths[row]) for row in error.args[1])
                where = f"; the batch holds {paths}" if paths else ""
                raise RunFailed(f"{error.args[0]}{where}; try a lower --lr") from None
            raise
    trainer.accelerator.wait_for_everyone()
    if not finished and not recorder.history:
        raise KeyboardInterrupt


def _versions() -> dict[str, str]:
    packages = ("mlworkbench", "torch", "torchvision", "ultralytics", "accelerate", "numpy", "pillow", "scikit-learn")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
