"""From a labels file to images that can be trained on: checked, set aside, split. `fit` and `check` begin so."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from . import run as folder_of
from .cells import mark_path
from .corrections import correct, read_corrections
from .demo import make_demo
from .duplicates import joined_groups, linked_rows
from .exceptions import WorkbenchError
from .findings import label_balance, linked_images
from .images import ImageFault, check_images
from .labels import SPLITS, LabelTable, read_labels, write_csv
from .splits import stratified_split

PROJECT = Path(__file__).resolve().parent.parent
DEMO_LABELS = Path("data/digit_scenes/labels.csv")
MAX_QUARANTINE = 0.20


@dataclass(frozen=True)
class Prepared:
    """Labelled images that can be trained on, and what was found on the way.

    Attributes
    ----------
    table : the usable rows
    split : object array [N] of "train", "val", "test", aligned with `table`
    quarantine : columns `line, image_path, reason`
    warnings : (kind, message) pairs
    sizes : int64 [N, 2], width and height
    digests : list of N str, of the content of each image
    groups : int [N], equal where images belong together (identical, nearly so, or of one given group)
    """

    table: LabelTable
    split: np.ndarray
    quarantine: pd.DataFrame
    warnings: list[tuple[str, str]]
    sizes: np.ndarray
    digests: list[str]
    groups: np.ndarray

    @property
    def images_hash(self) -> str:
        """Of the content of all images, in order."""
        return hashlib.blake2b(" ".join(self.digests).encode(), digest_size=16).hexdigest()

    def rows(self, split: str) -> np.ndarray:
        """Which rows are in a split, int64 [n]."""
        return np.flatnonzero(self.split == split)

    def of(self, split: str) -> LabelTable:
        """The rows of one split."""
        return self.table.take(self.split == split)

    def spread(self, split: str, most: int) -> LabelTable:
        """Some rows of a split, evenly spread: neighbours in a file are often neighbours in time."""
        table = self.of(split)
        return table.take(np.unique(np.linspace(0, len(table) - 1, most).astype(int)))

    def in_short(self) -> list[str]:
        """A line for each kind of finding: how many, and the first of them."""
        lines = []
        if len(self.quarantine):
            first = self.quarantine.iloc[0]
            lines.append(f"set aside: {len(self.quarantine)} images, the first {first.image_path!r}: {first.reason}")
        for kind in dict.fromkeys(kind for kind, _ in self.warnings):
            messages = [message for other, message in self.warnings if other == kind]
            more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
            lines.append(f"{kind}: {messages[0]}{more}")
        return lines

    @property
    def split_sizes(self) -> dict[str, int]:
        """How many images each split has."""
        return {name: int((self.split == name).sum()) for name in SPLITS}


def model_from_project(model: str) -> str:
    """A model as notebooks take it: a checkpoint's path starts at the project's root, a name stays a name."""
    return str(from_project(model)) if from_project(model).is_file() else model


def from_project(path: str | Path) -> Path:
    """A path as notebooks take it: a relative one starts at the project's root."""
    return PROJECT / path


def open_labels(
    labels_file: str | Path,
    image_root: str | Path | None = None,
    classes_file: str | Path | None = None,
    splits_file: str | Path | None = None,
    corrections: str | Path | None = None,
) -> LabelTable:
    """Read a notebook's labels file; the built-in data set is made on first need."""
    file = from_project(labels_file)
    if file == from_project(DEMO_LABELS) and not file.exists():
        print(f"making the built-in data set in {DEMO_LABELS.parent} (once)")
        make_demo(file.parent)
    root, classes, splits = (None if p is None else from_project(p) for p in (image_root, classes_file, splits_file))
    table = read_labels(file, root, classes, splits)
    return table if corrections is None else correct(table, read_corrections(from_project(corrections)))


def save_inspection(prepared: Prepared, run_dir: str | Path) -> Path:
    """Write what notebook 01 found to `inspect/` of the run folder: `summary.json` and `quarantine.csv`."""
    folder = Path(run_dir) / folder_of.INSPECT
    table = prepared.table
    positives = {name: (prepared.of(name).y == 1).sum(0).tolist() for name in SPLITS}
    summary = {
        "labels_sha256": table.sha256,
        "rows": len(table) + len(prepared.quarantine),
        "class_names": table.class_names,
        "splits": prepared.split_sizes,
        "positives": positives,
        "warnings": [{"kind": kind, "message": message} for kind, message in prepared.warnings],
    }
    folder_of.write_json(folder / "summary.json", summary)
    write_quarantine(prepared.quarantine, folder / folder_of.QUARANTINE)
    return folder


def write_quarantine(quarantine: pd.DataFrame, file: Path) -> None:
    """Write `quarantine.csv`: `line,image_path,reason`."""
    rows = quarantine.assign(image_path=quarantine.image_path.map(mark_path)).itertuples(index=False)
    folder_of.write_whole(file, write_csv(rows, ("line", "image_path", "reason")))


class TooFewImages(WorkbenchError):
    """More images set aside than allowed; `quarantine` holds them all."""

    def __init__(self, message: str, quarantine: pd.DataFrame):
        super().__init__(message)
        self.quarantine = quarantine


def prepare(table: LabelTable, seed: int = 0, max_quarantine: float = MAX_QUARANTINE, silent: bool = False) -> Prepared:
    """Check every image, set the bad ones aside, and split the rest; `silent` shows no progress.

    Raises
    ------
    TooFewImages : more than `max_quarantine` set aside, or none left
    WorkbenchError : nothing left of a split, or a seed below 0
    """
    if seed < 0:
        raise WorkbenchError(f"seed {seed}; expected a whole number of at least 0")
    with progress_bar(len(table), "checking images", silent=silent) as bar:
        found = check_images(table.paths, table.root, progress=bar.update)
    infos = [item for item in found if not isinstance(item, ImageFault)]
    bad = np.array([isinstance(item, ImageFault) for item in found], bool)
    reasons = [str(item) for item in found if isinstance(item, ImageFault)]
    quarantine = pd.DataFrame({"line": table.lines[bad], "image_path": table.paths[bad], "reason": reasons})
    if bad.mean() > max_quarantine or not infos:
        first = quarantine.iloc[0]
        message = (
            f"{table.source}: {bad.sum():,} of {len(table):,} images cannot be used (line {first.line}, "
            f"{first.image_path!r}: {first.reason}), more than {max_quarantine:.0%}; is the image root right?"
        )
        raise TooFewImages(message, quarantine)
    table = table.take(~bad)
    links = linked_rows(infos, table.group)
    warnings = [*table.notes, *linked_images(table, links)]
    groups = joined_groups(links)
    split = table.split if table.split is not None else stratified_split(table.y, groups, seed)
    for name in SPLITS:
        rows = split == name
        if not rows.any():
            raise WorkbenchError(f"{table.source}: no image is left for the split {name!r}; expected at least one")
    warnings += label_balance(table, split)
    sizes = np.array([(info.width, info.height) for info in infos], np.int64)
    return Prepared(table, split, quarantine, warnings, sizes, [info.digest for info in infos], groups)


def progress_bar(total: int, what: str, done: int = 0, silent: bool = False) -> tqdm:
    """A bar with images a second and time left: on standard error for people at a terminal, in a notebook as one line
    under the cell, elsewhere silent."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kind = _NotebookBar if hasattr(shell, "kernel") else tqdm
    hidden = silent or (kind is tqdm and not sys.stderr.isatty())
    return kind(total=total, initial=done, desc=what, unit=" images", disable=hidden, leave=False, smoothing=0.1)


class _NotebookBar(tqdm):
    """One line of text that is renewed each second and empty at the end: a saved notebook keeps none of it."""

    def __init__(self, **options: Any):
        from IPython.display import display

        self._line: Any = None if options["disable"] else display({"text/plain": ""}, raw=True, display_id=True)
        super().__init__(**options, mininterval=1, ncols=100)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        self._line.update({"text/plain": str(self) if msg is None else msg}, raw=True)

    def close(self) -> None:
        if not self.disable:
            self.display("")
        super().close()
