"""95 % intervals of scores that hold what they promise: for images in groups, few positives and many classes.

Decision 035 has the methods that were compared, and docs/numbers.md the coverage of these.
"""

import math
from typing import Any

import numpy as np
from scipy.stats import t

from ..text import shown
from .groups import FEW

SAME = 1e-9  # standard error below which resamples differ by rounding alone
FEW_OF_MEAN = 4  # the same for the classes of a mean, on average
OF_CLASSES = ("map", "roc_auc", "brier", "calibration_error", "precision_macro", "recall_macro", "f1_macro")


def precision_among_others(y: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Average precision of each class, each positive ranked among the images of other groups alone, float64 [C].

    An image counts in the precision at its own rank, so the average precision of few positives is too high: a ranking
    by chance among 40 images with one positive has .11 on average, not .025. The difference to this is how much. NaN
    for a class with no positive.
    """
    found = np.full(y.shape[1], np.nan)
    for c in range(y.shape[1]):
        known = y[:, c] >= 0
        truth, group = y[known, c], groups[known]
        rank = np.unique(-scores[known, c], return_inverse=True)[1].astype(np.int64)
        within = group * (len(rank) + 1) + rank  # of the images of a group, the best first
        asked = truth == 1
        above = [
            _up_to(rank[counted], rank[asked])
            - _up_to(within[counted], within[asked])
            + _up_to(within[counted], within[asked] - rank[asked] - 1)
            for counted in (asked, slice(None))
        ]
        if asked.any():  # where no other group ranks higher, nothing there is wrong
            found[c] = np.mean(np.where(above[1] > 0, above[0] / np.maximum(above[1], 1), 1))
    return found


def _up_to(keys: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """How many of the keys are at most each limit."""
    return np.searchsorted(np.sort(keys), limits, "right")


def interval_of(estimate: Any, samples: np.ndarray, units: Any, bias: Any, least: float = FEW) -> dict[str, np.ndarray]:
    """Standard error and 95 % interval of a score in 0..1, or of many, which always holds its estimate.

    Student's t on the log odds of the score, its error from the bootstrap; from the lower end around the estimate or
    around the estimate without its bias to the higher end of either. Where no resample differs, nothing tells the
    error, and the interval is Wilson's (1927) of a share among so many.

    Parameters
    ----------
    estimate : float [...]
    samples : float [resamples, ...], as `bootstrap` gives them
    units : float [...], independent images or positives behind the score
    bias : float [...], how much too high the estimate is
    least : units below which there is no interval: NaN

    Returns
    -------
    `se, low, high`: float64 [...]
    """
    s, units = np.asarray(estimate, float), np.where(np.asarray(units) >= least, units, np.nan)
    se, quantile = samples.std(0), t.ppf(0.975, units - 1)
    share = quantile**2 / units
    middle, half = (s + share / 2) / (1 + share), np.sqrt(s * (1 - s) * share + share**2 / 4) / (1 + share)
    low = high = s
    with np.errstate(all="ignore"):  # log odds of 0 and 1, which only the other branch has
        for centre in (s, np.clip(s - bias, 1e-4, 1 - 1e-4)):
            odds = np.exp(quantile * se / (centre * (1 - centre)))
            low = np.fmin(low, centre / (centre + (1 - centre) * odds))
            high = np.fmax(high, centre / (centre + (1 - centre) / odds))
    low = np.where(se <= SAME, np.clip(middle - half, 0, s), low)
    high = np.where(se <= SAME, np.clip(middle + half, s, 1), high)
    return {
        name: np.where(np.isnan(units + s), np.nan, end) for name, end in (("se", se), ("low", low), ("high", high))
    }


def notes(scores: dict[str, Any], name: str) -> list[str]:
    """What stands beside a mean: too few positives, 3 of 80 classes undefined; beside mAP, 7 not learnt."""
    its, number = scores["intervals"].get(name), scores["left_out"].get(name, 0) if name in OF_CLASSES else 0
    few = its is not None and math.isnan(its["low"]) and not math.isnan(scores[name])
    told = ["too few positives for an interval"] if few else []
    told += [f"{number} of {len(scores['classes'])} classes undefined"] if number else []
    unlearnt = scores.get("not_learnt", 0) if name == "map" else 0
    return told + ([f"{unlearnt} not learnt"] if unlearnt else [])


def told(scores: dict[str, Any], name: str, lead: str = "") -> str:
    """A mean as people read it: the score, and in brackets its interval, if it has one, and its `notes`."""
    its, beside = scores["intervals"].get(name), notes(scores, name)
    if its is not None and not math.isnan(its["low"]):
        beside = [f"{lead}{shown(its['low'])} to {shown(its['high'])}", *beside]
    return shown(scores[name]) + (f" ({'; '.join(beside)})" if beside else "")


def called_though_absent(scores: dict[str, Any]) -> list[str]:
    """Classes that no known label has and that are called present: "hat in 450 images", the most often called first.

    No score of theirs is defined, so no mean shows it.
    """
    its = {name: row["false_alarms"] for name, row in scores["classes"].items() if not row["support"]}
    return [f"{name} in {its[name]:,} images" for name in sorted(its, key=its.__getitem__, reverse=True) if its[name]]
