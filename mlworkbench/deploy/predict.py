"""Predictions of a finished run for an image, a folder, a glob or a labels file."""

import glob
import os
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.images import SUFFIXES, ImageFault, check_images
from ..data.labels import read_labels
from ..exceptions import WorkbenchError
from ..runs.run import Run


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
