"""Training images as models see them that have not seen their labels: what label suspects are told by."""

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
from .run import OUT_OF_FOLD, predictions_file, writing
from .splits import stratified_parts
from .workflow import Run


def for_suspects(
    run: Run, split: str, folds: int | None = None, in_sample: bool = False, say: Callable[[str], object] = print
) -> Predictions:
    """What the labels of a split are to be judged by, for `errors.suspects`; which that is, is said.

    Validation and test images by the run itself, as it has not been trained on their labels. Training images out of
    fold where that was done before, or `folds` asks for it, or the run began with trained weights: then it takes
    seconds and ranks better. A run from random weights is the better judge of its own training images than networks
    that had fewer of them to learn from (measured in `benchmarks/noise.py`), though it believes some wrong labels.

    Parameters
    ----------
    folds : compute them anew, with so many folds
    in_sample : by the run itself, in any case
    """
    if split != "train":
        say(f"the run has not been trained on the labels of {split}")
        return run.predictions(split, steady=True)
    kept = (run.folder / predictions_file(OUT_OF_FOLD)).exists()
    if in_sample or not (folds or kept or _began_trained(run)):
        say("in sample: the network was trained on these very labels, and believes some of the wrong ones too")
        return run.predictions("train", steady=True)
    if folds or not kept:
        out_of_fold(run, folds or 5, say)
    say("out of fold: each label is judged by a model that was trained without it")
    return run.predictions(OUT_OF_FOLD)


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
        if _began_trained(run):
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
        split[rows[fold == k]] = "test"  # held out: `fit` predicts it at the end
        part = replace(prepared.table, split=split).take(split != "")
        held = _finished(fit(part, folder / str(k), **settings)).predictions("test", raw=True, steady=True)
        logits[[place[path] for path in held.paths]] = held.logits
        say(f"network {k + 1} of {folds} is trained")
    return Predictions(prepared.table.paths[rows], run.class_names, logits, prepared.table.y[rows], OUT_OF_FOLD)


def _began_trained(run: Run) -> bool:
    return bool(run.state["settings"]["route"] == "probe" or str(run.state["settings"]["model"]).endswith(".pt"))


def _finished(run: Run) -> Run:
    if run.status != "finished":  # Ctrl-C ends a training in good order
        raise KeyboardInterrupt
    return run


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
