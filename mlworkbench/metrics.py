"""Multi-label scores that leave out unknown labels and never call an undefined score zero.

scikit-learn computes what it defines; our own code stands only where labels can be unknown and where 1,000 bootstrap
resamples have to be fast.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from .predictions import Predictions, decide


def average_precision(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Average precision of each class (scikit-learn's definition, no interpolation), over its known labels.

    Parameters
    ----------
    y : int8 [N, C] of 1, 0, -1 (left out)
    p : float [N, C], any scores that rank

    Returns
    -------
    float64 [C]; NaN for a class with no positive, where scikit-learn says 0
    """
    ap = np.full(y.shape[1], np.nan)
    for c in range(y.shape[1]):
        known = y[:, c] >= 0
        if (y[:, c] == 1).any():
            ap[c] = average_precision_score(y[known, c], p[known, c])
    return ap


def mean_defined(values: np.ndarray, axis: int | None = None) -> Any:
    """Mean over what is defined; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "mean of empty slice" is the NaN we want
        return np.nanmean(values, axis=axis)


def counts(y: np.ndarray, decisions: np.ndarray) -> dict[str, np.ndarray]:
    """True and false positives and negatives of each class, int64 [C]; unknown labels count nowhere."""
    return {
        "tp": ((y == 1) & decisions).sum(0),
        "fp": ((y == 0) & decisions).sum(0),
        "fn": ((y == 1) & ~decisions).sum(0),
        "tn": ((y == 0) & ~decisions).sum(0),
    }


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise division; NaN where the denominator is zero."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def ratios(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of counts.

    Precision is undefined (NaN) where nothing is predicted, recall and F1 where nothing is present.
    """
    f1 = np.where(tp + fn > 0, ratio(2 * tp, 2 * tp + fp + fn), np.nan)
    return {"precision": ratio(tp, tp + fp), "recall": ratio(tp, tp + fn), "f1": f1}


def class_scores(y: np.ndarray, decisions: np.ndarray) -> dict[str, np.ndarray]:
    """Counts, support, precision, recall and F1 of each class, [C]; see `ratios`."""
    n = counts(y, decisions)
    return n | {"support": n["tp"] + n["fn"]} | ratios(n["tp"], n["fp"], n["fn"])


def shown(value: float, digits: int = 4) -> str:
    """A score as people see it: `–` where it is undefined."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def score(predictions: Predictions, thresholds: np.ndarray, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Every score of `metrics/SPLIT.json` at these thresholds [C].

    `intervals` holds the standard error and the 95 % percentile interval of mAP over bootstrap resamples of the
    images. Undefined scores are NaN; `undefined` counts the classes without an average precision.
    """
    y, p = predictions.labels, predictions.probabilities
    decisions = decide(p, thresholds)
    ap, table = average_precision(y, p), class_scores(y, decisions)
    known = y >= 0
    right = ((decisions == (y == 1)) | ~known).all(1)
    tp = ((y == 1) & decisions).sum(1)
    wrong = ((decisions != (y == 1)) & known).sum(1)
    some, samples = known.any(1), ratio(2 * tp, 2 * tp + wrong)
    per_class = {
        name: {
            "ap": float(ap[c]),
            **{key: float(table[key][c]) for key in ("precision", "recall", "f1")},
            "support": int(table["support"][c]),
            "threshold": float(thresholds[c]),
        }
        for c, name in enumerate(predictions.class_names)
    }
    return {
        "map": float(mean_defined(ap)),
        "classes": per_class,
        "f1_micro": float(ratio(2 * tp.sum(), 2 * tp.sum() + wrong.sum())),
        "f1_macro": float(mean_defined(table["f1"])),
        # An image without labels for which none is predicted is right: F1 1.
        "f1_samples": float(mean_defined(np.where(some, np.where(tp + wrong > 0, samples, 1.0), np.nan))),
        "exact_match": float(mean_defined(np.where(some, right, np.nan))),
        "undefined": int(np.isnan(ap).sum()),
        "intervals": {"map": interval(bootstrap_map(y, p, resamples, seed))},
    }


def bootstrap_map(y: np.ndarray, p: np.ndarray, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """mAP of bootstrap resamples over images, float64 [resamples].

    Each class is sorted once; a resample only changes how often each image counts. A class that loses all its
    positives in a resample is left out of that resample's mean.
    """
    rng = np.random.default_rng(seed)
    n = len(y)
    ap_sum, ap_defined = np.zeros(resamples), np.zeros(resamples)
    order = np.argsort(-p, axis=0, kind="stable")
    for start in range(0, resamples, 100):
        block = slice(start, min(start + 100, resamples))
        weights = rng.multinomial(n, np.full(n, 1 / n), size=block.stop - block.start).astype(np.float32)
        for c in range(y.shape[1]):
            rows = order[:, c][y[order[:, c], c] >= 0]
            if not len(rows):
                continue
            ap = _weighted_ap(y[rows, c] == 1, p[rows, c], weights[:, rows])
            ap_sum[block] += np.nan_to_num(ap)
            ap_defined[block] += ~np.isnan(ap)
    return ratio(ap_sum, ap_defined)


def _weighted_ap(positive: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision [B] of rows sorted by falling `p` [n], for each row of `weights` [B, n]."""
    ends = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)  # ties enter the curve together
    tp = np.cumsum(weights * positive, axis=1, dtype=np.float64)[:, ends]
    total = np.cumsum(weights, axis=1, dtype=np.float64)[:, ends]
    gained = np.diff(tp, axis=1, prepend=0)
    return ratio((gained * tp / np.maximum(total, 1)).sum(1), tp[:, -1])


def interval(samples: np.ndarray, level: float = 0.95) -> dict[str, float]:
    """Standard error and percentile interval of bootstrap samples."""
    samples = samples[~np.isnan(samples)]
    if len(samples) < 2:
        return {"se": float("nan"), "low": float("nan"), "high": float("nan")}
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return {"se": float(samples.std(ddof=1)), "low": float(low), "high": float(high)}


def class_table(scores: dict[str, Any]) -> pd.DataFrame:
    """The scores of each class as a table, one row a class, weakest average precision first."""
    return pd.DataFrame.from_dict(scores["classes"], orient="index").rename_axis("class").sort_values("ap")
