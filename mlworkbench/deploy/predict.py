"""Predictions of a finished run for any images."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.images import OUTSIDE
from ..decisions.thresholds import Thresholds
from ..exceptions import WorkbenchError
from ..network.infer import Predictor
from ..paths import home_of
from ..progress import progress_bar
from ..runs.run import Run
from ..scoring.predictions import Predictions
from ..text import number, printable
from .sources import images_of

ELSEWHERE = ("missing", OUTSIDE)  # what is wrong with a path that starts in another folder
Aside = list[tuple[str, str]]  # path and reason


def predict(
    run: Run | str | Path, source: Any, root: str | Path | None = None, precision: str = "fp32", steady: bool = False
) -> tuple[pd.DataFrame, Aside]:
    """Probabilities and decisions for any images, as a table; of more than memory holds see `predict_to`.

    Parameters
    ----------
    run : a finished run, or its folder
    source : an image, a folder, a glob, a file of image paths (a labels file too; labels are not looked at), paths, a
        LabelTable, or a DataFrame with a column of paths
    root : where relative paths start (default: the folder of the file of paths, else the working folder)
    precision : "fp32", so that no machine matters, or "bf16", faster on some
    steady : the mean over five views of each image, each shifted by a twelfth of its side: five times the work

    Returns
    -------
    A frame of `image_path`, `p_CLASS` for every class, then `present_CLASS` at the run's thresholds, and where these
    have zones for people `review_CLASS`; and the (path, reason) pairs of the images that were set aside

    Raises
    ------
    WorkbenchError : no image that can be read
    """
    asked = asked_for(run, source, root, precision, steady)
    with progress_bar(len(asked.paths), "predicting") as bar:
        frame, aside = next(asked.answers(asked.paths, len(asked.paths), bar.update), (pd.DataFrame(), []))
    if frame.empty:
        asked.refuse(aside)
    return frame, aside


@dataclass(frozen=True)
class Asked:
    """What predictions are asked for: images of a source, and who answers.

    Attributes
    ----------
    source : as it was given
    root, paths : where the images are
    """

    run: Run
    source: Any
    root: Path
    paths: list[str]
    thresholds: Thresholds
    predictor: Predictor

    def answers(
        self, paths: Sequence[str], every: int, tick: Callable[[int], object]
    ) -> Iterator[tuple[pd.DataFrame, Aside]]:
        """For `every` so many of these images the table of those that can be read, and the others.

        `tick` hears how many are done, as they are done.
        """
        good, logits, aside = list[str](), [np.empty((0, len(self.run.class_names)), np.float32)], Aside()
        for rows, part, faults in self.predictor.stream(paths, self.root):
            good += [paths[row] for row in rows if row not in faults]
            logits.append(part)
            aside += [(paths[row], str(fault)) for row, fault in sorted(faults.items())]
            tick(len(rows))
            if rows.stop % every == 0 or rows.stop == len(paths):
                found = Predictions(np.array(good, object), self.run.class_names, np.concatenate(logits))
                yield table_of(found, self.thresholds), aside
                good, logits, aside = [], logits[:1], []

    def refuse(self, aside: Aside) -> None:
        """Raise the error of a source of which no image could be read."""
        what = repr(str(self.source)) if isinstance(self.source, (str, Path)) else "what was given"
        if aside and all(reason.startswith(ELSEWHERE) for _, reason in aside):
            way = "say where their paths start: --root DIR, in Python predict(…, root=DIR)"
            if all(reason.startswith(OUTSIDE) for _, reason in aside):  # from where they are, no root would do
                above = home_of([os.path.dirname(os.path.realpath(self.root / path)) for path, _ in aside])  # noqa: PTH120
                root = f"--root {shlex.quote(str(above))}"
                way = f"they lie below {above}: predict that folder, or write the paths as from there and give {root}"
            raise WorkbenchError(
                f"none of the {len(self.paths):,} images of {what} is in {self.root} ({aside[0][0]!r}: {aside[0][1]}); "
                f"{way}"
            )
        raise WorkbenchError(f"no image to predict in {what}{f' ({aside[0][0]!r}: {aside[0][1]})' if aside else ''}")


def asked_for(
    run: Run | str | Path, source: Any, root: str | Path | None, precision: str = "fp32", steady: bool = False
) -> Asked:
    """The images that a source names, and the network that answers; for the parameters see `predict`."""
    run = run if isinstance(run, Run) else Run(run)
    start, paths = images_of(source, None if root is None else Path(root))
    return Asked(run, source, start, paths, run.thresholds(), run.predictor(precision=precision, steady=steady))


def table_of(predictions: Predictions, thresholds: Thresholds) -> pd.DataFrame:
    """`image_path`, `p_CLASS` (float32, calibrated where the thresholds are) and `present_CLASS` (int8).

    Where the thresholds have zones also `review_CLASS` (bool): for this class the image goes to a person.
    """
    known = thresholds.calibrated(predictions)
    present, names = thresholds.decide(known), predictions.class_names
    columns: dict[str, np.ndarray] = {"image_path": known.paths}
    columns |= {f"p_{name}": known.probabilities[:, c] for c, name in enumerate(names)}
    columns |= {f"present_{name}": present[:, c].astype(np.int8) for c, name in enumerate(names)}
    if thresholds.review is not None:
        asked = thresholds.asks(known)
        columns |= {f"review_{name}": asked[:, c] for c, name in enumerate(names)}
    return pd.DataFrame(columns)


def told(frame: pd.DataFrame) -> Iterator[str]:
    """What `predict` found, line by line for a screen: of one image every class, of several what is present in each."""
    classes = [name.removeprefix("p_") for name in frame.columns if name.startswith("p_")]
    for path, *cells in frame.itertuples(index=False):
        p, present, asked = (cells[i * len(classes) : (i + 1) * len(classes)] for i in range(3))
        rows = zip(p, map(printable, classes), present, asked or [False] * len(classes), strict=True)
        ranked = sorted(rows, key=lambda row: -row[0])
        if len(frame) > 1:
            there = ", ".join(f"{name} {number(p)}" for p, name, present, _ in ranked if present)
            person = ", ".join(f"{name} {number(p)}" for p, name, _, asked in ranked if asked)
            ask = f"; ask a person: {person}" if person else ""
            yield f"{printable(path)}: {there or '(no class present)'}{ask}"
            continue
        yield f"{'class':<24} {'p':>8}  present"
        for p, name, present, asked in ranked:
            yield f"{name:<24} {number(p):>8}  {'yes' if present else 'no'}{', ask a person' if asked else ''}"
