"""Training frame, `fit`: from labelled images to a run folder, from the start or where an earlier process ended."""

import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from .. import __version__
from ..data.labels import read_labels
from ..data.prepare import Prepared, prepare
from ..exceptions import Interrupted, RunFailed, WorkbenchError
from ..files import write_csv, write_whole
from ..network.batches import ImageDataset
from ..network.cache import decoded_images
from ..network.device import Precision, arithmetic, join_processes, refuse_misfit, share
from ..network.feed import told_of_shared_memory
from ..network.model import build_model
from ..progress import progress_bar, say
from ..runs import folder as folder_of
from ..runs.run import Run, write_quarantine
from ..runs.start import starting_network
from ..scoring.predictions import Predictions
from ..settings import Settings
from ..tables.frames import kept
from ..text import mark_path
from .route import Job, Route

log = logging.getLogger("mlworkbench")


def fit(
    table: Any,
    run_dir: str | Path,
    overwrite: bool = False,
    resume: bool = False,
    on_epoch_end: Callable[[dict[str, float]], None] | None = None,
    callbacks: Mapping[str, Sequence[Callable]] | None = None,
    **settings: Any,
) -> Run:
    """Train a network on labelled images and write the run folder.

    Ctrl-C and Jupyter's ■ end it after the batch under way, with everything saved; a second Ctrl-C ends it at once.
    SIGTERM does the same and then takes its usual course. What goes on is said on standard output.

    Parameters
    ----------
    table : a LabelTable, or what `read_labels` makes one of: the path of a labels file, or a DataFrame
    overwrite : replace the run that is in the folder
    resume : go on with it where it ended, with its own settings, precision and whatever its labels were read with, to
        its last epoch or to a later one, if `epochs` says so; begin one where there is none
    settings : see `settings.Settings` (model, route, epochs, batch_size, image_size, learning_rate, precision, seed, …)
    on_epoch_end : called with each row of `history.csv`
    callbacks : for the route "ultralytics", functions by the name of Ultralytics' event, each called with its trainer

    Returns
    -------
    Run; after an interrupt with the best weights so far, its `status` saying so

    Raises
    ------
    Interrupted : before the first epoch was done, so that there are no weights yet, or by a second Ctrl-C; a
        KeyboardInterrupt that says what is kept and how to go on
    RunFailed : the loss is not finite; the message names images of the batch

    >>> run = fit(read_labels("labels.csv"), run_dir="runs/first", epochs=15)    # doctest: +SKIP
    """
    table, run = read_labels(table), Run(run_dir)
    resuming = resume and folder_of.holds_run(run.folder)
    chosen = Settings.resumed(run.state["settings"], settings) if resuming else Settings.of(**settings)
    with _before_training(run.folder), join_processes(chosen.device) as processes, ExitStack() as held:
        main = processes.is_main_process
        if processes.num_processes > 1 and chosen.route != "loop":
            raise WorkbenchError(f"route {chosen.route!r} trains in one process; several are for --route loop")
        if chosen.route != "ultralytics" and any((callbacks or {}).values()):
            raise WorkbenchError(f"callbacks with the route {chosen.route!r}; they are for the route 'ultralytics'")
        refuse_misfit(chosen.precision, processes.device)
        route_class = _route(chosen.route)
        route_class.check(chosen, processes.device)

        def hold_folder() -> None:
            held.enter_context(folder_of.writing(run.folder))
            _refuse_run(run.folder, overwrite or resuming)

        exists = run.folder.exists()
        if main:  # refused now rather than after minutes of checking
            hold_folder() if exists else folder_of.refuse_unwritable(run.folder)
        before = run.state["settings"]["epochs"] if resuming else chosen.epochs
        if resuming:
            table = run.as_begun(table)
            if run.status == "finished" and chosen.epochs == before:
                if main and "epochs" in settings:
                    log.warning("%s is finished with its %s epochs; give more to train on", run.folder, before)
                return run
        checkpoint = route_class.read_checkpoint(run) if resuming else None
        with _seeded(chosen.seed, processes.device):  # before any image is read, since much can be wrong with a model
            if checkpoint:
                model = build_model(run.state["architecture"], table.class_names)
            else:
                model = starting_network(chosen.model, table.class_names, silent=not main)
        with processes.main_process_first():
            prepared = prepare(table, chosen.seed, chosen.max_quarantine, silent=not main)
        for line in prepared.in_short() if main else ():
            say(f"- {line}")
        if main and not exists:
            hold_folder()
        with _seeded(chosen.seed, processes.device), arithmetic(tf32=True):
            dataset = _dataset(prepared, chosen, processes)
            if resuming:
                _refuse_other_images(run, prepared)
            job = Job(
                run, chosen, prepared, model, dataset, processes, resuming, checkpoint, on_epoch_end, callbacks or {}
            )
            route = route_class(job)
            if chosen.epochs > before:
                _begin_longer(job, route, before)
            if main:
                _begin(job, route.precision)
                sizes = prepared.split_sizes
                say(f"training on {sizes['train']:,} images, validation on {sizes['val']:,}, device {processes.device}")
            _train(job, route)
    return Run(run.folder)


def _route(name: str) -> type[Route]:
    """The class of that route; the others' imports wait until they are needed."""
    module, attribute = {
        "loop": ("loop", "LoopRoute"),
        "ultralytics": ("ultralytics_route", "UltralyticsRoute"),
        "probe": ("probe", "ProbeRoute"),
    }[name]
    return getattr(import_module(f"mlworkbench.training.{module}"), attribute)


def _refuse_run(folder: Path, replaced: bool) -> None:
    if folder_of.holds_run(folder) and not replaced:
        raise WorkbenchError(
            f"{folder} holds a run; choose another folder, --resume to go on with it, or --overwrite to replace it"
        )


def _refuse_other_images(run: Run, prepared: Prepared) -> None:
    same = run.splits() == dict(zip(prepared.table.paths, prepared.split, strict=True))
    if not same or run.state["images_hash"] != prepared.images_hash:
        raise WorkbenchError(
            f"the images or their splits have changed since {run.folder} was begun; train into another folder"
        )


def _begin_longer(job: Job, route: Route, before: int) -> None:
    """Say how a run goes on that gets more epochs; one that patience has ended would not."""
    settings, done = job.settings, len(route.recorder.history)
    if route.recorder.spent(settings.patience):
        raise WorkbenchError(
            f"{job.run.folder} ended after {done} epochs, {settings.patience} of them without a better one, and would "
            f"at once again; to train on, begin another run with its weights: --model {job.run.folder}"
        )
    if job.main and job.checkpoint:
        log.warning(
            "goes on from epoch %d to %d instead of %d: the learning rate now follows the schedule of %d epochs, "
            "next %.2g of its peak", done, settings.epochs, before, settings.epochs, route.next_rate(),
        )  # fmt: skip


@contextmanager
def _before_training(folder: Path) -> Iterator[None]:
    """An interrupt in here that nobody has told more of came while nothing was written."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted(f"stopped before the training began: nothing was written to {folder}; start again") from None


def _stopped(job: Job, route: Route) -> str:
    """What is kept of a training that was stopped, and how to go on."""
    if done := len(route.recorder.history):
        what = f"after {done} {'epoch' if done == 1 else 'epochs'}; the best weights so far are kept"
    elif (job.run.folder / folder_of.RESUME).exists():
        what = "in the first epoch; there are no weights to use yet, but what was trained so far is kept"
    else:
        what = "before the first epoch was done; nothing trained is kept"
    return f"training stopped {what}. To go on: the same call with resume=True (command line: --resume)"


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


def _dataset(prepared: Prepared, settings: Settings, processes: PartialState) -> ImageDataset:
    """All images that can be used, decoded where the cache holds them."""
    table, size = prepared.table, settings.image_size
    dataset = ImageDataset(table.paths, table.root, table.y, size, prepared.digests)
    # First each process decodes its share, then each makes sure of all: files of another machine or an evicted one.
    everything = list(range(len(table)))
    if processes.is_main_process:
        say(f"decoding {len(table):,} images to {size} px, or finding them in the cache")
    for rows in [share(everything), everything] if processes.num_processes > 1 else [everything]:
        with progress_bar(len(rows), "decoding images", silent=not processes.is_main_process) as bar:
            dataset.pixels = decoded_images(
                prepared.digests, size, dataset.decode, settings.cache_gb * 1e9, rows, bar.update
            )
        processes.wait_for_everyone()
    return dataset


def _begin(job: Job, precision: Precision) -> None:
    """Write what is known before the first step; everything that can refuse has had its say."""
    run, prepared, table = job.run, job.prepared, job.prepared.table
    told = set(run.state.get("given", ())) if job.resuming else set()
    places = {
        "given": sorted(told | table.given.keys()),
        "labels_file": str(kept(table.source, run.folder).resolve()),
        "image_root": str(table.root.resolve()),
        "device": str(job.processes.device),
        "processes": job.processes.num_processes,
        "versions": _versions(),
        "status": "running",
    }
    if job.resuming:
        if stale := folder_of.clear_results(run.folder):
            log.warning("removed, made of weights that will change: %s", ", ".join(stale))
        run.write_state(**places, settings={**run.state["settings"], "epochs": job.settings.epochs})
        return
    folder_of.clear(run.folder)
    splits = zip(map(mark_path, table.paths), prepared.split, prepared.groups.tolist(), strict=True)
    write_whole(run.folder / folder_of.SPLITS, write_csv(splits, ("image_path", "split", "group")))
    write_quarantine(prepared.quarantine, run.folder / folder_of.QUARANTINE)
    run.write_state(  # last: where it stands, all of the run's beginning does
        format_version=folder_of.FORMAT_VERSION,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        class_names=table.class_names,
        settings=asdict(job.settings),
        precision=asdict(precision),
        preprocessing={"resize": "whole image to a square", "scale": "0..1", "normalisation": None},
        architecture=job.model.architecture,
        labels_sha256=table.sha256,
        corrections=table.changed,
        images_hash=prepared.images_hash,
        tag_delimiter=table.tag_delimiter,
        **places,
    )


def _train(job: Job, route: Route) -> None:
    """Train to the end or until asked to stop, then let the best weights say what they see."""
    run, dataset = job.run, job.dataset
    start, before = time.perf_counter(), run.state.get("seconds", 0.0) if job.resuming else 0.0
    try:
        with told_of_shared_memory(), _stop_on_signals() as stop_asked:
            finished = route.train(stop_asked)
            if job.main and not finished:
                run.write_state(status="interrupted", seconds=round(before + time.perf_counter() - start, 2))
            job.processes.wait_for_everyone()  # whoever was asked to terminate does so after this
        if job.main and finished:
            for name in ("val", "test"):
                rows = job.prepared.rows(name)
                part = Predictions(
                    dataset.paths[rows], run.class_names, route.logits(rows), dataset.targets[rows].numpy()
                )
                run.write_predictions(part, name)
            run.write_state(status="finished", seconds=round(before + time.perf_counter() - start, 2))
    except BaseException as error:
        if job.main and run.status == "running":  # an end that was written already stays what it was
            run.write_state(status="interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(_stopped(job, route)) from None
        if isinstance(error, FloatingPointError):
            paths = ", ".join(repr(dataset.paths[row]) for row in error.args[1])
            where = f"; the batch holds {paths}" if paths else ""
            raise RunFailed(f"{error.args[0]}{where}; try a lower --lr") from None
        raise
    job.processes.wait_for_everyone()
    if not finished:
        if not route.recorder.history:
            raise Interrupted(_stopped(job, route))
        if job.main:
            say(_stopped(job, route))


def _versions() -> dict[str, str]:
    packages = ("torch", "torchvision", "ultralytics", "accelerate", "numpy", "pillow", "simplejpeg", "scikit-learn")
    own = {"python": platform.python_version(), "mlworkbench": __version__}  # sources on the path need not be installed
    return own | {name: version(name) for name in packages}
