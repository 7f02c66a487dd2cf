"""Where model and labels disagree: the model's mistakes, most confident first, and the labels' own."""

import numpy as np
import pandas as pd

from .exceptions import WorkbenchError
from .metrics import outcomes
from .predictions import Predictions
from .run import OUT_OF_FOLD
from .thresholds import Thresholds, margin


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


def suspects(predictions: Predictions, in_sample: bool = False) -> pd.DataFrame:
    """Every known label, ranked by how likely it is wrong.

    The score is cleanlab's self-confidence of each label (Northcutt, Jiang and Chuang, "Confident Learning", JAIR
    2021; for several labels Thyagarajan et al., arXiv 2211.13895): low is suspect. It means something only where the
    model has not seen the label: validation and test images, and training images out of fold (`folds.out_of_fold`).

    Parameters
    ----------
    in_sample : rank the training images by the very model that was trained on them; it believes wrong labels too

    Returns
    -------
    Columns `rank, image_path, split, class, label, probability, score` (0..1)

    Raises
    ------
    WorkbenchError : predictions in sample that are not named so
    """
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class  # takes a second

    if predictions.split == "train" and not in_sample:
        raise WorkbenchError("the model has seen the labels of its training images; rank them out of fold or in_sample")
    y, p = predictions.labels, predictions.probabilities
    # cleanlab knows no unknown labels: they pass for absent, which changes no other label's score, and are left out.
    # And it wants some label present, so beside the classes stands one that surely is, everywhere.
    labels = [[*np.flatnonzero(row == 1).tolist(), y.shape[1]] for row in y]
    scores = get_label_quality_scores_per_class(labels, np.column_stack((p, np.ones(len(p)))))
    rows, classes = np.nonzero(y >= 0)
    sure = np.where(y == 1, 1, -1) * predictions.logits  # parts labels whose probabilities are 0 or 1 to the last bit
    order = np.lexsort((sure[rows, classes], scores[rows, classes]))
    rows, classes = rows[order], classes[order]
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "image_path": predictions.paths[rows],
            "split": "train" if predictions.split == OUT_OF_FOLD else predictions.split,
            "class": np.array(predictions.class_names, dtype=object)[classes],
            "label": y[rows, classes],
            "probability": p[rows, classes],
            "score": scores[rows, classes],
        }
    )
