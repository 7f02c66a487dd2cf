"""Where model and labels disagree, the most confident disagreement first."""

import numpy as np
import pandas as pd

from .predictions import Predictions
from .thresholds import Thresholds


def disagreements(predictions: Predictions, thresholds: Thresholds) -> pd.DataFrame:
    """Every false positive and false negative, ranked by how far it lies on the wrong side of its threshold.

    Returns
    -------
    Columns `image_path, split, class, kind` ("false positive" or "false negative"), `label, probability, threshold,
    margin, tuned_on`. The margin is |p - threshold| as a share of the room on that side, so that 1 is the most
    confident mistake for every class, whatever its threshold. `tuned_on` says that the thresholds were tuned on these
    images.
    """
    predictions = thresholds.calibrated(predictions)
    y, p = predictions.labels, predictions.probabilities
    limits = thresholds.aligned(predictions.class_names)
    present = thresholds.decide(predictions)
    rows, classes = np.nonzero((y >= 0) & (present != (y == 1)))
    value, limit, over = p[rows, classes], limits[classes], present[rows, classes]
    room = np.maximum(np.where(over, 1 - limit, limit), 1e-7)
    frame = pd.DataFrame(
        {
            "image_path": predictions.paths[rows],
            "split": predictions.split,
            "class": np.array(predictions.class_names, dtype=object)[classes],
            "kind": np.where(over, "false positive", "false negative"),
            "label": y[rows, classes],
            "probability": value,
            "threshold": limit,
            "margin": np.abs(value - limit) / room,
            "tuned_on": thresholds.tuned_on(predictions),
        }
    )
    return frame.sort_values("margin", ascending=False, kind="stable", ignore_index=True)


def suspects(predictions: Predictions) -> pd.DataFrame:
    """Every known label, ranked by how little the model believes it.

    The score is the self-confidence of confident learning (Northcutt, Jiang and Chuang, JAIR 2021): the probability
    that the model gives to the label as it stands, p for a present class and 1 - p for an absent one. Low is suspect.
    It means something only for images that the model was not trained on.

    Returns
    -------
    Columns `rank, image_path, split, class, label, probability, score`
    """
    y, p = predictions.labels, predictions.probabilities
    rows, classes = np.nonzero(y >= 0)
    label, value = y[rows, classes], p[rows, classes]
    frame = pd.DataFrame(
        {
            "image_path": predictions.paths[rows],
            "split": predictions.split,
            "class": np.array(predictions.class_names, dtype=object)[classes],
            "label": label,
            "probability": value,
            "score": np.where(label == 1, value, 1 - value),
        }
    ).sort_values("score", kind="stable", ignore_index=True)
    frame.insert(0, "rank", np.arange(1, len(frame) + 1))
    return frame
