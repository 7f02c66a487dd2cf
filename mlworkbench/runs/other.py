"""Scores of a run on another labels file: of next year, of another hospital."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.corrections import Correction, correct
from ..data.duplicates import joined_groups, linked_rows
from ..data.images import ImageFault, ImageInfo, check_images, digest, locate
from ..data.labels import LabelTable, read_labels
from ..decisions.thresholds import scores_at
from ..exceptions import WorkbenchError
from ..scoring.predictions import Predictions
from ..text import by_reason
from .run import Run

log = logging.getLogger("mlworkbench")
SEEN = ("train", "val")  # what a run has learned from, or chosen its best epoch and thresholds by


def evaluate_labels(
    run: Run,
    labels: Any,
    root: str | Path | None = None,
    corrections: Iterable[Correction] | None = None,
    prevalence: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Scores of a run on another labels file, at its saved thresholds, as `metrics/SPLIT.json` has them.

    Nothing is written. For the parameters, and what is left out, see `labelled_predictions`; for `prevalence` see
    `scoring.at_prevalence`.
    """
    return scores_at(labelled_predictions(run, labels, root, corrections), run.thresholds(), prevalence)


def labelled_predictions(
    run: Run, labels: Any, root: str | Path | None = None, corrections: Iterable[Correction] | None = None
) -> Predictions:
    """What a run's best weights say of other images, uncalibrated, beside the labels of these.

    Classes are matched by name. Of a class that the file does not have every label is unknown; among tags it is absent.
    Images that the run was trained or tuned on are left out, whatever they are called here. All of it is told.

    Parameters
    ----------
    labels, root : what `read_labels` takes

    Raises
    ------
    WorkbenchError : no class in common, no image that can be read, or none that the run has not seen
    """
    table = read_labels(labels, root)
    table = _with_classes_of(run, table if corrections is None else correct(table, corrections))
    table, groups = _unseen(run, *_readable(table))
    return replace(run.predict(table.paths, table.root, raw=True), y=table.y, groups=groups)


def _with_classes_of(run: Run, table: LabelTable) -> LabelTable:
    """The table with the run's classes in their order."""
    own, names = run.class_names, table.class_names
    known = [name for name in own if name in names]
    if not known:
        raise WorkbenchError(
            f"{table.source} has the classes {', '.join(names)} and {run.folder} has {', '.join(own)}: none in common; "
            "put the run's names into its header, or one a line into classes.txt beside it"
        )
    tags = table.tag_delimiter is not None
    y = np.full((len(table), len(own)), 0 if tags else -1, np.int8)
    y[:, [own.index(name) for name in known]] = table.y[:, [names.index(name) for name in known]]
    if tags:  # an image whose cell is empty is unknown in every class
        y[(table.y == -1).all(1)] = -1
    if missing := [name for name in own if name not in names]:
        log.warning("%s has no %s: %s", table.source, ", ".join(missing), "counted as absent" if tags else "not scored")
    if more := [name for name in names if name not in own]:
        log.warning("%s has classes that the run does not know, left out: %s", table.source, ", ".join(more))
    return replace(table, class_names=own, y=y)


def _readable(table: LabelTable) -> tuple[LabelTable, list[ImageInfo]]:
    """The rows whose image can be read, and what was found of these images."""
    infos = check_images(table.paths, table.root)
    told = zip(table.paths, infos, strict=True)
    for reason, paths in by_reason((path, str(info)) for path, info in told if isinstance(info, ImageFault)).items():
        log.warning("set aside  %s%s: %s", paths[0], f" and {len(paths) - 1:,} more" if paths[1:] else "", reason)
    good = np.array([not isinstance(info, ImageFault) for info in infos], bool)
    if not good.any():
        raise WorkbenchError(f"no image of {table.source} can be read in {table.root}; where they are: --root DIR")
    return table.take(good), [info for info in infos if not isinstance(info, ImageFault)]


def _unseen(run: Run, table: LabelTable, infos: Sequence[ImageInfo]) -> tuple[LabelTable, np.ndarray]:
    """The rows of images that the run was not trained or tuned on, and a number [N] for each one's group.

    Only files of equal size need to be compared.
    """
    groups = joined_groups(linked_rows(infos, table.group))
    try:
        root = run.root
    except ImageFault:
        log.warning("%s: its own images are not here, so nobody knows whether it was trained on these", run.folder)
        return table, groups
    sizes = {locate(path, table.root).stat().st_size for path in table.paths}
    seen = set()
    for path in [path for path, split in run.splits().items() if split in SEEN]:
        try:
            if locate(path, root).stat().st_size in sizes:
                seen.add(digest(path, root))
        except ImageFault:  # gone since: then it is none of those that are here
            continue
    fresh = np.array([info.digest not in seen for info in infos], bool)
    if not fresh.any():
        raise WorkbenchError(
            f"{run.folder} was trained or tuned on every image of {table.source}; a score needs others"
        )
    if not fresh.all():
        first = table.paths[int(np.argmin(fresh))]
        number = f"{(~fresh).sum():,} of {len(table):,} images"
        log.warning("left out: %s was trained or tuned on %s (%s, …)", run.folder, number, first)
    return table.take(fresh), groups[fresh]
