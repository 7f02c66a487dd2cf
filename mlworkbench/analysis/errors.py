"""Errors of a model: where it and the labels disagree, most confident first, and which classes it confuses."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..decisions.thresholds import Thresholds, margin
from ..scoring.metrics import outcomes
from ..scoring.predictions import Predictions


def disagreements(predictions: Predictions, thresholds: Thresholds) -> pd.DataFrame:
    """Every false positive and false negative, ranked by how far it lies on the wrong side of its threshold.

    Returns
    -------
    Columns `image_path, split, class, kind` ("false positive" or "false negative"), `label, probability, threshold,
    margin, tuned_on`. The margin (see `thresholds.margin`) counts up from 0, so that 1 is the most confident mistake
    for every class, whatever its threshold. `tuned_on` says that the thresholds were tuned on these images.
    """
    predictions = thresholds.calibrated(predictions)
    y, p = predictions.labels, predictions.probabilities
    limits = thresholds.aligned(predictions.class_names)
    present = thresholds.decide(predictions)
    rows, classes = np.nonzero((y >= 0) & (present != (y == 1)))
    value, limit, over = p[rows, classes], limits[classes], present[rows, classes]
    frame = pd.DataFrame(
        {
            "image_path": predictions.paths[rows],
            "split": predictions.split,
            "class": np.array(predictions.class_names, dtype=object)[classes],
            "kind": np.where(over, "false positive", "false negative"),
            "label": y[rows, classes],
            "probability": value,
            "threshold": limit,
            "margin": np.abs(margin(value, limit)),
            "tuned_on": thresholds.tuned_on(predictions),
        }
    )
    return frame.sort_values("margin", ascending=False, kind="stable", ignore_index=True)


def almost_right(predictions: Predictions, thresholds: Thresholds) -> pd.DataFrame:
    """The images of whose labels exactly one is wrong, the least wrong first; columns as of `disagreements`."""
    found = disagreements(predictions, thresholds)
    return found[~found.image_path.duplicated(keep=False)].sort_values("margin", kind="stable", ignore_index=True)


def confusions(predictions: Predictions, thresholds: Thresholds) -> pd.DataFrame:
    """Which class is predicted where which is missed, counted over images that have both mistakes.

    Labels are independent, so two mistakes in one image need not have to do with each other; a pair that is frequent
    among the misses of a class tells.

    Returns
    -------
    Columns `missed, predicted, images, share` (of the images in which the class is missed), most images first
    """
    found = outcomes(predictions.labels, thresholds.decide(predictions))
    missed, added = found["fn"].astype(np.float32), found["fp"].astype(np.float32)  # exact up to 2^24 images, and fast
    images = (missed.T @ added).astype(np.int64)
    a, b = np.nonzero(images)
    names = np.array(predictions.class_names, dtype=object)
    share = images[a, b] / found["fn"].sum(0)[a]
    frame = pd.DataFrame({"missed": names[a], "predicted": names[b], "images": images[a, b], "share": share})
    return frame.sort_values(["images", "share"], ascending=False, kind="stable", ignore_index=True)


def confused_images(predictions: Predictions, thresholds: Thresholds, row: Mapping[Any, Any]) -> np.ndarray:
    """Paths [n] of the images of a row of `confusions`."""
    found = outcomes(predictions.labels, thresholds.decide(predictions))
    missed, added = (predictions.class_names.index(row[column]) for column in ("missed", "predicted"))
    return predictions.paths[found["fn"][:, missed] & found["fp"][:, added]]
