"""Predictions of a finished run for an image, a folder, a glob or a labels file."""

import glob
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..data.images import SUFFIXES, ImageFault, load_image
from ..data.labels import read_labels
from ..exceptions import WorkbenchError
from ..network.batches import Batch, squared
from ..progress import progress_bar
from ..runs.run import Run
from ..scoring.predictions import Predictions


def predict(run: Run, source: str | Path, root: str | Path | None = None) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Probabilities and decisions for an image, a folder, a glob or a labels file, whose paths start at `root`.

    Returns
    -------
    A frame of `image_path`, `p_CLASS` for every class, then `present_CLASS` at the run's thresholds; and the
    (path, reason) pairs of the images that were set aside
    """
    root, paths = _images_of(str(source), root)
    settings, thresholds, faults = run.state["settings"], run.thresholds(), dict[int, ImageFault]()
    logits = run.logits(_decoded(paths, root, settings["image_size"], settings["batch_size"], faults))
    bad = [(paths[row], str(fault)) for row, fault in sorted(faults.items())]
    if not len(logits):
        first = f" ({bad[0][0]!r}: {bad[0][1]})" if bad else ""
        raise WorkbenchError(f"no image to predict in {str(source)!r}{first}")
    good = np.array([path for row, path in enumerate(paths) if row not in faults], object)
    predictions = thresholds.calibrated(Predictions(good, run.class_names, logits))
    present = thresholds.decide(predictions)
    columns: dict[str, np.ndarray] = {"image_path": predictions.paths}
    columns |= {f"p_{name}": predictions.probabilities[:, c] for c, name in enumerate(run.class_names)}
    columns |= {f"present_{name}": present[:, c].astype(np.int8) for c, name in enumerate(run.class_names)}
    return pd.DataFrame(columns), bad


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


def _images_of(source: str, given: str | Path | None = None) -> tuple[Path, list[str]]:
    """The root and the relative image paths that a source names."""
    path = Path(source)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES)
        return path, [str(f.relative_to(path)) for f in files]
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return path.parent, [path.name]
    if path.is_file():
        table = read_labels(path, given)
        return table.root, list(table.paths)
    files = sorted(Path(f) for f in glob.glob(source, recursive=True) if Path(f).suffix.lower() in SUFFIXES)
    if not files:
        raise WorkbenchError(f"{source!r} names no image, folder, glob or labels file")
    root = Path(os.path.commonpath([f.parent for f in files]))
    return root, [str(f.relative_to(root)) for f in files]
