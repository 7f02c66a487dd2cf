"""Predictions of a finished run for an image, a folder, a glob, a list of paths or a labels file."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data.images import SUFFIXES, ImageFault, is_image, kind_of, load_image
from ..data.labels import LabelTable
from ..exceptions import WorkbenchError
from ..network.batches import Batch, squared
from ..progress import progress_bar
from ..runs.run import Run
from ..scoring.predictions import Predictions
from ..tables.columns import PATH_COLUMNS
from ..tables.rows import read_table
from ..text import number, printable, short, unmark_path

log = logging.getLogger("mlworkbench")
ELSEWHERE = ("missing", "outside the image root")  # what is wrong with a path that starts in another folder


def predict(
    run: Run | str | Path, source: Any, root: str | Path | None = None
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Probabilities and decisions for any images.

    Parameters
    ----------
    run : a finished run, or its folder
    source : an image, a folder, a glob, a file of image paths (a labels file too; labels are not looked at), paths, a
        LabelTable, or a DataFrame with a column of paths
    root : where relative paths start (default: the folder of the file of paths, else the working folder)

    Returns
    -------
    A frame of `image_path`, `p_CLASS` for every class, then `present_CLASS` at the run's thresholds; and the
    (path, reason) pairs of the images that were set aside

    Raises
    ------
    WorkbenchError : no image that can be read
    """
    run = run if isinstance(run, Run) else Run(run)
    start, paths = images_of(source, None if root is None else Path(root))
    settings, thresholds, faults = run.state["settings"], run.thresholds(), dict[int, ImageFault]()
    logits = run.logits(_decoded(paths, start, settings["image_size"], settings["batch_size"], faults))
    bad = [(paths[row], str(fault)) for row, fault in sorted(faults.items())]
    if not len(logits):
        _refuse_all(source, start, bad)
    good = np.array([path for row, path in enumerate(paths) if row not in faults], object)
    predictions = thresholds.calibrated(Predictions(good, run.class_names, logits))
    present = thresholds.decide(predictions)
    columns: dict[str, np.ndarray] = {"image_path": predictions.paths}
    columns |= {f"p_{name}": predictions.probabilities[:, c] for c, name in enumerate(run.class_names)}
    columns |= {f"present_{name}": present[:, c].astype(np.int8) for c, name in enumerate(run.class_names)}
    return pd.DataFrame(columns), bad


def told(frame: pd.DataFrame) -> Iterator[str]:
    """What `predict` found, line by line for a screen: of one image every class, of several what is present in each."""
    classes = [name.removeprefix("p_") for name in frame.columns[1 : 1 + len(frame.columns) // 2]]
    for path, *cells in frame.itertuples(index=False):
        p, present = cells[: len(classes)], cells[len(classes) :]
        ranked = sorted(zip(p, map(printable, classes), present, strict=True), key=lambda row: -row[0])
        if len(frame) > 1:
            there = ", ".join(f"{name} {number(p)}" for p, name, present in ranked if present)
            yield f"{printable(path)}: {there or '(no class present)'}"
            continue
        yield f"{'class':<24} {'p':>8}  present"
        for p, name, present in ranked:
            yield f"{name:<24} {number(p):>8}  {'yes' if present else 'no'}"


def _refuse_all(source: Any, root: Path, bad: Sequence[tuple[str, str]]) -> None:
    """Raise the error of a source of which no image could be read."""
    what = repr(str(source)) if isinstance(source, (str, Path)) else "what was given"
    if bad and all(reason.startswith(ELSEWHERE) for _, reason in bad):
        raise WorkbenchError(
            f"none of the {len(bad):,} images of {what} is in {root} ({bad[0][0]!r}: {bad[0][1]}); say where their "
            "paths start: --root DIR, in Python predict(…, root=DIR)"
        )
    raise WorkbenchError(f"no image to predict in {what}{f' ({bad[0][0]!r}: {bad[0][1]})' if bad else ''}")


def _decoded(paths: Sequence[str], root: Path, size: int, batch: int, faults: dict[int, ImageFault]) -> Iterator[Batch]:
    """The images in batches, each decoded once, on all cores, while the network sees those before.

    What cannot be decoded goes into `faults`, by its place among the paths.
    """

    def decode(row: int) -> np.ndarray | None:
        try:
            return squared(load_image(paths[row], root, size), size)
        except ImageFault as fault:
            faults[row] = fault
            return None

    chunks = [range(start, min(start + batch, len(paths))) for start in range(0, len(paths), batch)]
    with progress_bar(len(paths), "predicting") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = pool.map(decode, chunks[0] if chunks else ())
        for chunk, following in zip_longest(chunks, chunks[1:], fillvalue=range(0)):
            decoded, ahead = ahead, pool.map(decode, following)
            found = [(row, pixels) for row, pixels in zip(chunk, decoded, strict=True) if pixels is not None]
            if found:
                rows, images = zip(*found, strict=True)
                yield torch.from_numpy(np.stack(images)), torch.empty(len(rows), 0), torch.tensor(rows)
            bar.update(len(chunk))


def images_of(source: Any, root: Path | None = None) -> tuple[Path, list[str]]:
    """The root of a source and the image paths that it names, as people gave them or relative to the root."""
    if isinstance(source, LabelTable):
        return root or source.root, list(source.paths)
    if isinstance(source, pd.DataFrame):
        column = next((name for name in source if str(name).lower() in PATH_COLUMNS), None)
        if column is None:
            raise WorkbenchError(f"the DataFrame has the columns {_listed(source)}; expected one called image_path")
        source = list(source[column])
    if not isinstance(source, (str, Path)):
        return _images_named(source, root)
    path = Path(source)
    if path.is_dir():
        return path, [str(file.relative_to(path)) for file in _only_images(source, path.rglob("*"))]
    if path.is_file():
        if path.suffix.lower() in SUFFIXES or is_image(path):
            return path.parent, [path.name]
        if other := kind_of(path):
            raise WorkbenchError(f"{path} is no image, folder, glob or file of image paths: it is {other}")
        return root or path.parent, _paths_in(path)
    files = _only_images(source, map(Path, glob.glob(str(source), recursive=True)))
    if not files:
        raise WorkbenchError(f"{str(source)!r} names no image, folder, glob or file of image paths")
    start = Path(os.path.commonpath([file.parent for file in files]))
    return start, [str(file.relative_to(start)) for file in files]


def _only_images(source: object, files: Iterable[Path]) -> list[Path]:
    """Those that are called images, in order; what is passed over is told in one line."""
    found, others, first = [], Counter[str](), dict[str, Path]()
    for file in sorted(files):
        mac = file.name.startswith("._")  # what a Mac lays beside each file on a foreign disk
        if file.suffix.lower() in SUFFIXES and not mac:
            found.append(file)
        elif file.is_file():
            kind = "._ files" if mac else file.suffix or "without suffix"
            others[kind] += 1
            first.setdefault(kind, file)
    passed = []
    for kind, times in others.most_common():
        what = kind_of(first[kind])
        passed.append(f"{times:,} {kind}{f' ({what})' if what else ''}")
    if passed:
        log.warning("passed over in %s: %s", source, ", ".join(passed))
    return found


def _images_named(paths: Any, root: Path | None) -> tuple[Path, list[str]]:
    """The root and paths of a list of paths; it may be of several folders."""
    named = None if isinstance(paths, (bytes, dict)) or not isinstance(paths, Iterable) else list(paths)
    if not named or not all(isinstance(path, (str, Path)) for path in named):
        raise WorkbenchError(
            f"source is {type(paths).__name__} {short(paths)}; expected the path of an image, a folder, a glob or a "
            "file of image paths, or a list of paths (save an array as PNG first)"
        )
    named = [str(path) for path in named]
    if root is not None:
        return root, named
    folders = {os.path.dirname(os.path.abspath(path)) for path in named}  # noqa: PTH100, PTH120 (links stay)
    start = Path(os.path.commonpath(folders))
    return start, [os.path.relpath(path, start) for path in named]


def _paths_in(file: Path) -> list[str]:
    """Image paths in a table, whatever else stands in it, each once: its column of paths, by name or by what it holds.

    Raises
    ------
    WorkbenchError : no column holds names of images, or a row cannot be read
    """
    table = read_table(file, "file of image paths")
    rows: list[list[str]] = []
    for line, cells in table.rows:
        if isinstance(cells, str):
            raise WorkbenchError(f"{file}:{line}: {cells}")
        texts = [cell if isinstance(cell, str) else "" for cell in cells]
        # Where only spaces part what stands there, they may be those of a path.
        rows.append([" ".join(texts)] if table.delimiter == " " and _called_image(texts[-1]) else texts)
    header = [cell.strip().lower() for cell in table.keys or next(iter(rows), [])]
    at = next((header.index(name) for name in PATH_COLUMNS if name in header), None)
    if at is None:  # no name that we know: the column in which most cells are called images
        named = Counter(c for row in rows[:100] for c, cell in enumerate(row) if _called_image(cell))
        if not named:
            seen = f"its columns are {_listed(header)}" if header else "it is empty"
            raise WorkbenchError(f"{file} names no image: {seen}; expected a column image_path, or one path a line")
        at = named.most_common(1)[0][0]
    if not table.keys and not _called_image(header[at]):
        del rows[0]
    return [*dict.fromkeys(unmark_path(row[at]) for row in rows if len(row) > at and row[at])]


def _called_image(text: str) -> bool:
    return os.path.splitext(text.strip())[1].lower() in SUFFIXES  # noqa: PTH122


def _listed(names: Iterable[Any]) -> str:
    return short(", ".join(map(str, names)))
