"""Training images as models see them that were not trained on their labels."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .exceptions import WorkbenchError
from .fitting import fit
from .labels import LabelTable
from .model import quietly
from .predictions import Predictions
from .prepare import prepare
from .probe import seen
from .run import OUT_OF_FOLD, writing
from .splits import stratified_parts
from .workflow import Run


def out_of_fold(run: Run, folds: int = 5, say: Callable[[str], object] = print) -> Predictions:
    """Predict each training image by a model that was trained without its fold, and keep that with the run.

    Where the run began with trained weights, heads are fitted on the features of these, which have seen no label of
    this data: seconds. Where it began with random ones, features that know anything have learned it from the labels,
    so whole networks are trained, each on the other folds by the run's own settings, and stopped by its validation
    images. Folds keep classes balanced and images that belong together whole.

    Parameters
    ----------
    say : is told beforehand what will be done and how long it takes

    Returns
    -------
    Predictions of the training images, their split "train_out_of_fold"; `run.predictions` gives them again

    Raises
    ------
    WorkbenchError : fewer than two folds or groups of images, or the labels file or an image has changed
    KeyboardInterrupt : a training was interrupted; nothing is kept
    """
    if folds < 2:
        raise WorkbenchError(f"{folds} folds; expected at least 2")
    settings, table = run.state["settings"], run.split_table()
    with tempfile.TemporaryDirectory(prefix="mlworkbench-") as temporary, quietly():  # it was all said when run began
        folder = Path(temporary)
        if began_trained(run):
            say(f"{folds} folds of heads on the features of {settings['model']}: seconds once these are computed")
            kept = ("model", "image_size", "batch_size", "device", "workers", "cache_gb", "seed")
            part = _finished(fit(table, folder, route="probe", folds=folds, **{name: settings[name] for name in kept}))
            found = part.predictions(OUT_OF_FOLD, raw=True)
        else:
            found = _by_networks(run, table, folds, folder, say)
    with writing(run.folder):
        run.write_predictions(found, OUT_OF_FOLD)
    return run.predictions(OUT_OF_FOLD)


def _by_networks(run: Run, table: LabelTable, folds: int, folder: Path, say: Callable[[str], object]) -> Predictions:
    settings = run.state["settings"] | {"precision": run.state["precision"]["name"]}  # as it was chosen
    prepared = prepare(table, settings["seed"])
    rows = prepared.rows("train")
    groups = prepared.groups[rows]
    folds = min(folds, len(np.unique(groups)))
    if folds < 2:
        raise WorkbenchError("the training images all belong together; folds need at least two groups of them")
    seconds = run.state.get("seconds", 0.0)
    say(
        f"{folds} networks, each on {1 - 1 / folds:.0%} of the training images: about "
        f"{_duration(seconds * (folds - 1))}, as the run itself took {_duration(seconds)}"
    )
    fold = stratified_parts(prepared.table.y[rows], groups, [1 / folds] * folds, settings["seed"])
    logits = np.empty((len(rows), len(table.class_names)), np.float32)
    place = {path: i for i, path in enumerate(prepared.table.paths[rows])}
    for k in range(folds):
        split = np.where(prepared.split == "test", "", prepared.split)
        split[rows[fold == k]] = "test"  # a run has three splits
        part = replace(prepared.table, split=split).take(split != "")
        held = part.take(split[split != ""] == "test")
        logits[[place[path] for path in held.paths]] = seen(_finished(fit(part, folder / str(k), **settings)), held)[1]
        say(f"network {k + 1} of {folds} is trained")
    return Predictions(prepared.table.paths[rows], run.class_names, logits, prepared.table.y[rows], OUT_OF_FOLD)


def began_trained(run: Run) -> bool:
    """Whether a run has features that have seen no label of its data: those of the weights it began with."""
    return bool(run.state["settings"]["route"] == "probe" or str(run.state["settings"]["model"]).endswith(".pt"))


def _finished(run: Run) -> Run:
    if run.status != "finished":  # Ctrl-C ends a training in good order
        raise KeyboardInterrupt
    return run


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
