"""Predictions: what a model said of some images, as logits, probabilities and decisions, beside the labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from ..exceptions import WorkbenchError
from ..text import short


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The one sigmoid of the package: float32 logits to independent probabilities in 0..1."""
    return expit(np.asarray(logits, np.float32))


def decide(p: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which classes are present: `p >= threshold`, ties included.

    Thresholds are cast to the dtype of `p`, or a tie in float32 would be lost against a float64 threshold.

    Parameters
    ----------
    p : float [N, C]
    thresholds : [C]

    Returns
    -------
    bool [N, C]
    """
    return p >= np.asarray(thresholds, p.dtype)


@dataclass(frozen=True)
class Predictions:
    """Logits of N images for C classes.

    Attributes
    ----------
    paths : object array [N] of str
    class_names : list of C str
    logits : float32 [N, C]
    y : int8 [N, C] of 1, 0, -1, or None where no labels are known
    split : "train", "val", "test", or "" for images of no split
    calibration : float64 [2, C], scale (above 0) and shift of each class's logit (see `calibration`), or None. The
        logits stay as the network gave them, and only `probabilities` applies it: it cannot be applied twice.
    groups : int64 [N], equal where images belong together (frames of a video, photographs of one patient, near
        duplicates), so that every interval and test counts groups; None: each image stands for itself

    Raises
    ------
    WorkbenchError : arrays of other shapes, or a logit that is not finite
    """

    paths: np.ndarray
    class_names: list[str]
    logits: np.ndarray
    y: np.ndarray | None = None
    split: str = ""
    calibration: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.paths), len(self.class_names))
        for name, array in (("logits", self.logits), ("y", self.y)):
            if array is not None and array.shape != shape:
                raise WorkbenchError(f"{name} has the shape {array.shape}; expected {shape} (images, classes)")
        if self.groups is not None and np.shape(self.groups) != shape[:1]:
            raise WorkbenchError(f"groups has the shape {np.shape(self.groups)}; expected {shape[:1]}, one an image")
        if not np.isfinite(self.logits).all():
            row, c = np.argwhere(~np.isfinite(self.logits))[0]
            raise WorkbenchError(
                f"the logit of image {short(str(self.paths[row]))} for class {short(self.class_names[c])} is "
                f"{self.logits[row, c]}; expected finite numbers: a network that gives others is broken"
            )

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float32 [N, C] in 0..1, calibrated where there is a calibration."""
        return probabilities(self.calibrated_logits)

    @property
    def calibrated_logits(self) -> np.ndarray:
        """float64 [N, C], which rank an image's classes where float32 probabilities near 1 tie."""
        scale, shift = (1.0, 0.0) if self.calibration is None else self.calibration
        return scale * self.logits.astype(float) + shift

    @property
    def labels(self) -> np.ndarray:
        """`y`, or an error where the labels are not known."""
        if self.y is None:
            raise WorkbenchError("these predictions have no labels to be scored against")
        return self.y

    def reorder(self, class_names: Sequence[str]) -> "Predictions":
        """The same predictions with the classes in this order.

        Raises
        ------
        WorkbenchError : naming the first class that only one side has
        """
        if list(class_names) == self.class_names:
            return self
        odd = [n for n in class_names if n not in self.class_names] + [
            n for n in self.class_names if n not in class_names
        ]
        if odd:
            raise WorkbenchError(f"class {odd[0]!r} stands only on one side; expected the same classes on both")
        order = [self.class_names.index(name) for name in class_names]
        y = None if self.y is None else self.y[:, order]
        calibration = None if self.calibration is None else self.calibration[:, order]
        return replace(self, class_names=list(class_names), logits=self.logits[:, order], y=y, calibration=calibration)

    def take(self, rows: np.ndarray) -> "Predictions":
        """Those of some images: row numbers or a mask [N]."""
        y = None if self.y is None else self.y[rows]
        groups = None if self.groups is None else self.groups[rows]
        return replace(self, paths=self.paths[rows], logits=self.logits[rows], y=y, groups=groups)

    def to_frame(self) -> pd.DataFrame:
        """`image_path`, `logit_CLASS` (uncalibrated) for every class; `label_CLASS` and `group` where known."""
        columns: dict[str, np.ndarray] = {"image_path": self.paths}
        if self.groups is not None:
            columns["group"] = self.groups
        columns |= {f"logit_{name}": self.logits[:, i] for i, name in enumerate(self.class_names)}
        if self.y is not None:
            columns |= {f"label_{name}": self.y[:, i] for i, name in enumerate(self.class_names)}
        return pd.DataFrame(columns)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, split: str = "") -> "Predictions":
        """Undo `to_frame`; the order of the logit columns is the order of the classes."""
        names = [name.removeprefix("logit_") for name in frame.columns if name.startswith("logit_")]
        labelled = f"label_{names[0]}" in frame.columns
        return cls(
            paths=frame["image_path"].to_numpy(dtype=object),
            class_names=names,
            logits=frame[[f"logit_{n}" for n in names]].to_numpy(np.float32),
            y=frame[[f"label_{n}" for n in names]].to_numpy(np.int8) if labelled else None,
            split=split,
            groups=frame["group"].to_numpy(np.int64) if "group" in frame else None,
        )


def refuse_others(predictions: Any) -> Predictions:
    """The predictions, or WorkbenchError for anything else, with what would give them."""
    if not isinstance(predictions, Predictions):
        raise WorkbenchError(
            f"predictions are {type(predictions).__name__} {short(predictions)}; expected Predictions: "
            'run.predictions("test"), or Predictions(paths, class_names, logits, y) of arrays'
        )
    return predictions
