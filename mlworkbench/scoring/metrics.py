"""Metrics for several labels that leave out unknown ones and never call an undefined score zero.

Definitions are scikit-learn's, and the tests hold all of it against scikit-learn; its own functions check their input
anew for every class, which at 5,000 classes takes minutes.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.stats import binom, rankdata

from ..progress import counted, progress_bar
from .groups import FEW, effective, independent_positives, numbered, ratio, resampled
from .intervals import FEW_OF_MEAN, interval_of, precision_among_others
from .predictions import Predictions, decide

BINS = 15
LARGE = 5_000_000  # labels above which one waits for a score: a bar shows how long
PER_CLASS = ("ap", "roc_auc", "precision", "recall", "f1", "brier", "calibration_error", "calibration_chance")


def average_precision(y: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average precision of each class (scikit-learn's definition, no interpolation), over its known labels.

    Parameters
    ----------
    y : int8 [N, C] of 1, 0, -1 (left out)
    scores : float [N, C], any numbers that rank
    weights : float32 [N, B], how often each image counts, in B ways

    Returns
    -------
    float64 [C], with weights [C, B]; NaN for a class with no positive, where scikit-learn says 0
    """
    counts = np.ones((len(y), 1), np.float32) if weights is None else weights
    found = [_Curve(y[:, c], scores[:, c]).average_precision(counts) for c in range(y.shape[1])]
    return np.reshape(found, (-1, counts.shape[1])) if weights is not None else np.array(found, float).reshape(-1)


def roc_auc(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class, float64 [C]; NaN for a class without a positive or without a negative.

    As the share of pairs that are ranked rightly, a tie counting half (Mann and Whitney 1947).
    """

    def of_class(truth: np.ndarray, its: np.ndarray) -> float:
        positives = np.count_nonzero(truth)
        won = rankdata(its)[truth == 1].sum() - positives * (positives + 1) / 2
        return float(ratio(won, positives * (len(truth) - positives)))

    return _by_class(of_class, y, scores)


def brier(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Mean squared difference of probability and label of each class, float64 [C]; NaN where no label is known."""
    return _by_class(lambda truth, its: np.mean((its - truth) ** 2), y, p)


def calibration_error(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Expected calibration error of each class, float64 [C]; NaN where no label is known.

    The mean distance of predicted probability and observed share, over the bins of `reliability`, each weighted by how
    many images it holds (Naeini, Cooper and Hauskrecht, AAAI 2015).
    """

    def of_class(truth: np.ndarray, its: np.ndarray) -> float:
        predicted, present, images = reliability(truth, its)
        return float(np.average(np.abs(predicted - present), weights=images))

    return _by_class(of_class, y, p)


def calibration_chance(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Calibration error of each class that true probabilities like these would have by chance, float64 [C] or NaN.

    Of a bin of independent images the mean distance of the number present from its expectation, by De Moivre's formula
    for the binomial distribution that has the same mean and variance.
    """

    def of_class(_: np.ndarray, its: np.ndarray) -> float:
        bins = _bins(its)
        mean, square = np.bincount(bins, its), np.bincount(bins, its**2)
        images = np.ceil(ratio(mean**2, square))
        share = np.minimum(ratio(mean, images), 1)
        distances = 2 * mean * (1 - share) * binom.pmf(np.floor(mean), images - 1, share)
        return float(np.nansum(distances) / len(its))

    return _by_class(of_class, y, p)


def reliability(truth: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share of present labels and number of images in bins of rising probability.

    15 bins of equal mass, since these estimate with less bias than bins of equal width (Roelofs et al., AISTATS 2022),
    and since most probabilities of a rare class lie near 0. Equal probabilities share a bin; empty bins are left out.

    Parameters
    ----------
    truth : [N] of 1 and 0
    p : float [N] in 0..1
    """
    p = np.asarray(p, float)
    bins = _bins(p)
    images = np.bincount(bins, minlength=1)
    sums = np.stack([np.bincount(bins, p, 1), np.bincount(bins, truth, 1)])[:, images > 0]
    predicted, present = sums / images[images > 0]
    return predicted, present, images[images > 0]


def _bins(p: np.ndarray) -> np.ndarray:
    """The bin of each probability, int64 [N] from 0 on; see `reliability`."""
    edges = np.quantile(p, np.arange(1, BINS) / BINS, method="higher") if len(p) else p
    return np.searchsorted(edges, p, "right")


def _by_class(function: Callable[[np.ndarray, np.ndarray], float], y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """A score of each class over its known labels; NaN where none is known."""
    found = np.full(y.shape[1], np.nan)
    for c in range(y.shape[1]):
        known = y[:, c] >= 0
        if known.any():
            found[c] = function(y[known, c], scores[known, c].astype(float))
    return found


def mean_defined(values: np.ndarray, axis: int | None = None) -> Any:
    """Mean over what is defined; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "mean of empty slice" is the NaN we want
        return np.nanmean(values, axis=axis)


def outcomes(y: np.ndarray, decisions: np.ndarray) -> dict[str, np.ndarray]:
    """Where a known label is found (tp), falsely found (fp), missed (fn) or rightly absent (tn), bool [N, C]."""
    return {
        "tp": (y == 1) & decisions,
        "fp": (y == 0) & decisions,
        "fn": (y == 1) & ~decisions,
        "tn": (y == 0) & ~decisions,
    }


def ratios(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of counts.

    Precision is undefined (NaN) where nothing is predicted, recall and F1 where nothing is present.
    """
    f1 = np.where(tp + fn > 0, ratio(2 * tp, 2 * tp + fp + fn), np.nan)
    return {"precision": ratio(tp, tp + fp), "recall": ratio(tp, tp + fn), "f1": f1}


def class_scores(y: np.ndarray, decisions: np.ndarray) -> dict[str, np.ndarray]:
    """Counts (tp, fp, fn, tn), support, precision, recall and F1 of each class, [C]; see `ratios`."""
    n = {name: where.sum(0) for name, where in outcomes(y, decisions).items()}
    return n | {"support": n["tp"] + n["fn"]} | ratios(n["tp"], n["fp"], n["fn"])


def score(predictions: Predictions, thresholds: np.ndarray, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Every score of `metrics/SPLIT.json` at these thresholds [C].

    Average precision and ROC AUC rank by the logits, so no calibration changes them; the two ranking scores of an
    image's labels (LRAP and coverage error) rank by the calibrated logits, Brier score and calibration error take the
    probabilities. Undefined scores are NaN. A mean is taken over the classes (`macro`, `weighted` by support, and those
    without a suffix) or over the images (`samples`, exact match, LRAP, coverage error) for which it is defined;
    `left_out` counts the others. `images` and `groups` count what is scored, and for each class `independent_positives`
    the groups that hold one, by their effective number. `intervals` holds standard errors and 95 % intervals
    (`intervals.interval_of`), NaN where there are `too_few` independent positives, that many classes; with no
    `resamples` it is empty.
    """
    y, p, z = predictions.labels, predictions.probabilities, predictions.logits
    groups = numbered(predictions.groups, len(predictions))
    decisions, known = decide(p, thresholds), (predictions.labels >= 0).any(1)
    table = class_scores(y, decisions)
    table |= {"ap": average_precision(y, z), "roc_auc": roc_auc(y, z)}
    table |= {"brier": brier(y, p), "calibration_error": calibration_error(y, p)}
    table["calibration_chance"] = calibration_chance(y, p)
    where = outcomes(y, decisions)
    tp, fp, fn = (where[name].sum(1) for name in ("tp", "fp", "fn"))
    del where
    images = ratios(tp, fp, fn) | _image_scores(y, tp, fp + fn)
    means = {
        "map": table["ap"],
        **{name: table[name] for name in ("roc_auc", "brier", "calibration_error", "calibration_chance")},
        **{f"{name}_macro": table[name] for name in ("precision", "recall", "f1")},
        **{f"{name}_samples": images[name] for name in ("precision", "recall", "f1")},
        "exact_match": images["exact_match"],
    }
    positives = independent_positives(y, groups)
    samples = bootstrap(predictions, decisions, resamples, seed) if resamples else {}
    scores: dict[str, Any] = {
        **{name: float(mean_defined(values)) for name, values in means.items()},
        **{f"{name}_micro": float(v) for name, v in ratios(tp.sum(), fp.sum(), fn.sum()).items()},
        **{f"{name}_weighted": _weighted(table[name], table["support"]) for name in ("precision", "recall", "f1")},
        "hamming_loss": float(ratio((fp + fn).sum(), (y >= 0).sum())),
        **ranking_scores(y, predictions.calibrated_logits),
        "classes": {
            name: {
                **{key: float(table[key][c]) for key in PER_CLASS},
                "support": int(table["support"][c]),
                "independent_positives": float(positives[c]),
                "false_alarms": int(table["fp"][c]),
                "threshold": float(thresholds[c]),
            }
            for c, name in enumerate(predictions.class_names)
        },
        "undefined": int(np.isnan(table["ap"]).sum()),
        "left_out": {name: int(np.isnan(values).sum()) for name, values in means.items()}
        | dict.fromkeys(("lrap", "coverage_error"), int((y != 1).all(1).sum())),
        "images": int(known.sum()),
        "groups": len(np.unique(groups[known])),
        "too_few": int(((positives > 0) & (positives < FEW)).sum()),
        "intervals": {"classes": {}},
    }
    if samples:
        others = precision_among_others(y, z, groups)
        bias = {"ap": table["ap"] - others, "f1": samples["f1"].mean(0) - table["f1"]}
        of_class = {key: interval_of(table[key], samples[key], positives, bias[key]) for key in bias}
        units = {
            "map": (_units(positives, samples["ap"]), mean_defined(bias["ap"]), FEW_OF_MEAN),
            "f1_macro": (_units(positives, samples["f1"]), mean_defined(bias["f1"]), FEW_OF_MEAN),
            "f1_micro": (effective(np.repeat(groups, (y == 1).sum(1))), 0.0, FEW),
            "f1_samples": (effective(groups[known]), 0.0, FEW),
            "exact_match": (effective(groups[known]), 0.0, FEW),
        }
        for name, (number, its_bias, least) in units.items():
            found = interval_of(scores[name], samples[name], number, its_bias, least)
            scores["intervals"][name] = {end: float(value) for end, value in found.items()}
        scores["intervals"]["classes"] = {
            name: {key: {end: float(ends[c]) for end, ends in found.items()} for key, found in of_class.items()}
            for c, name in enumerate(predictions.class_names)
        }
    return scores


def _units(positives: np.ndarray, samples: np.ndarray) -> float:
    """Independent positives behind a mean of classes: those of an average class, or of one weighed by its variance.

    The fewer of both, and no sum, as if all erred together: classes are scored on the same images.
    """
    defined = positives > 0
    if not defined.any():
        return 0.0
    its, variance = positives[defined], samples[:, defined].var(0)
    return float(min(its.mean(), np.average(its, weights=variance) if variance.any() else np.inf))


def _image_scores(y: np.ndarray, tp: np.ndarray, wrong: np.ndarray) -> dict[str, np.ndarray]:
    """F1 and exact match of each image, float64 [N]; NaN where no label is known.

    An image without labels for which none is predicted is right: F1 1.
    """
    known = (y >= 0).any(1)
    f1 = np.where(tp + wrong > 0, ratio(2 * tp, 2 * tp + wrong), 1.0)
    return {"f1": np.where(known, f1, np.nan), "exact_match": np.where(known, wrong == 0, np.nan)}


def ranking_scores(y: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Label-ranking average precision (`lrap`) and `coverage_error` (how far down its list an image's last label is).

    scikit-learn's, over the images with a present label: without one there is no rank (scikit-learn: perfect). By
    float64 [N, C] logits: as float32 probabilities all above 17 would tie.
    """
    ranked = (y == 1).any(1)
    if not ranked.any():
        return {"lrap": float("nan"), "coverage_error": float("nan")}
    from sklearn.metrics import coverage_error, label_ranking_average_precision_score  # a second, at first

    rows, sums, last = np.flatnonzero(ranked), np.zeros(2), logits.min() - 1
    for part in np.array_split(rows, 1 + y.size // LARGE):  # parts bound the memory
        # Unknown labels come last, and so does one more column, since scikit-learn takes no single one.
        truth = np.pad(y[part] == 1, ((0, 0), (0, 1)))
        # In float64: from scipy 1.18 on, ranks (and so scikit-learn's quotients of them) keep the precision they get.
        order = np.pad(np.where(y[part] >= 0, logits[part], last), ((0, 0), (0, 1)), constant_values=last)
        means = (f(truth, order) for f in (label_ranking_average_precision_score, coverage_error))
        sums += [len(part) * mean for mean in means] if len(part) else 0
    lrap, coverage = sums / len(rows)
    return {"lrap": float(lrap), "coverage_error": float(coverage)}


def _weighted(values: np.ndarray, support: np.ndarray) -> float:
    """Mean of the defined values, each weighted by its support."""
    weights = np.where(np.isnan(values), 0, support)
    return float(ratio((weights * np.nan_to_num(values)).sum(), weights.sum()))


def bootstrap(
    predictions: Predictions, decisions: np.ndarray, resamples: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Scores of bootstrap resamples over the images' groups (Efron 1979), or without groups over the images.

    Each class is sorted once; a resample only changes how often each image counts. Equal seeds draw equal resamples,
    so the difference of two models' or two thresholds' samples on the same images is a paired comparison. All resamples
    score the same classes: one that holds no positive of a class leaves its scores as they are.

    Returns
    -------
    `map`, `f1_macro`, `f1_micro`, `f1_samples`, `exact_match`: float64 [resamples]; `ap`, `f1`: [resamples, C]; NaN
    where all images leave it undefined
    """
    y, classes = predictions.labels, len(predictions.class_names)
    quick = y.size < LARGE
    curves = [_Curve(y[:, c], predictions.logits[:, c]) for c in counted(range(classes), "sorting", "classes", quick)]
    # Most labels of many are absent and rightly so: what is found, falsely found or missed is sparse.
    where = outcomes(y, decisions)
    per_image = _image_scores(y, where["tp"].sum(1), (where["fp"] | where["fn"]).sum(1))
    n = {name: csr_matrix(where[name].T, dtype=np.float32) for name in ("tp", "fp", "fn")}
    known = (~np.isnan(per_image["f1"])).astype(np.float32)
    once = np.ones((len(y), 1), np.float32)
    whole_ap = np.array([curve.average_precision(once) for curve in curves]).reshape(-1, 1)
    whole_f1 = class_scores(y, decisions)["f1"][:, None]
    blocks = []
    with progress_bar(resamples, "bootstrap", unit="resamples", silent=quick) as bar:
        for weights in resampled(predictions, resamples, seed):
            tp, fp, fn = (n[name] @ weights for name in ("tp", "fp", "fn"))
            ap, f1 = np.stack([curve.average_precision(weights) for curve in curves]), ratios(tp, fp, fn)["f1"]
            ap, f1 = np.where(np.isnan(ap), whole_ap, ap), np.where(np.isnan(f1), whole_f1, f1)
            block = {"map": mean_defined(ap, 0), "f1_macro": mean_defined(f1, 0), "ap": ap.T, "f1": f1.T}
            block["f1_micro"] = ratios(tp.sum(0), fp.sum(0), fn.sum(0))["f1"]
            block["f1_samples"] = ratio(np.nan_to_num(per_image["f1"]) @ weights, known @ weights)
            block["exact_match"] = ratio(np.nan_to_num(per_image["exact_match"]) @ weights, known @ weights)
            blocks.append(block)
            bar.update(weights.shape[1])
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


class _Curve:
    """One class's ranking, from which its average precision under any weights of the images is two sparse products.

    Only ranks that hold a positive count, so the rows between two of them (equal scores together) are one sum.
    """

    def __init__(self, y: np.ndarray, scores: np.ndarray):
        order = np.argsort(-scores, kind="stable")
        order = order[y[order] >= 0]
        ends = np.flatnonzero(np.diff(scores[order], append=np.nan)) + 1  # ties enter the curve together
        hits = np.append(0, np.cumsum(y[order]))[ends]
        ends = ends[np.diff(hits, prepend=0) > 0]
        rows, starts = order[: ends[-1] if len(ends) else 0].astype(np.int32), np.append(0, ends)
        shape = (len(ends), len(y))
        self.rows = csr_matrix((_ones(len(y))[: len(rows)], rows, starts), shape)
        present = y[rows] == 1
        hits = np.append(0, present.cumsum())[starts]
        self.positives = csr_matrix((np.ones(hits[-1], np.float32), rows[present], hits), shape)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Average precision float64 [B] for each column of `weights`, float32 [N, B] of whole numbers."""
        gained = self.positives @ weights
        tp, total = np.cumsum(gained, 0, dtype=float), np.cumsum(self.rows @ weights, 0, dtype=float)
        return ratio((gained * tp / np.maximum(total, 1)).sum(0), gained.sum(0))


@lru_cache(1)
def _ones(size: int) -> np.ndarray:
    """The same ones for the curves of all classes."""
    return np.ones(size, np.float32)


def interval(samples: np.ndarray, level: float = 0.95) -> dict[str, float]:
    """Standard error and percentile interval of bootstrap samples, of a difference for instance."""
    samples = samples[~np.isnan(samples)]
    if len(samples) < 2:
        return {"se": float("nan"), "low": float("nan"), "high": float("nan")}
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return {"se": float(samples.std(ddof=1)), "low": float(low), "high": float(high)}


def wilson(hits: Any, of: Any) -> tuple[Any, Any]:
    """95 % interval of a share or of many (Wilson 1927): its low and high end; NaN where nothing was counted."""
    z2 = 3.841458820694124
    share, of = ratio(hits, of), np.asarray(of, float)
    middle, spread = of * share + z2 / 2, np.sqrt(z2 * (of * share * (1 - share) + z2 / 4))
    return np.maximum((middle - spread) / (of + z2), 0), np.minimum((middle + spread) / (of + z2), 1)


def class_table(scores: dict[str, Any]) -> pd.DataFrame:
    """The scores of each class as a table, one row a class, weakest average precision first."""
    return pd.DataFrame.from_dict(scores["classes"], orient="index").rename_axis("class").sort_values("ap")
