"""Comparison of two models on the same images: what got better, what got worse, and how much of it is chance."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest, false_discovery_control

from ..exceptions import WorkbenchError
from ..runs.run import Run
from ..scoring.metrics import average_precision, bootstrap, interval, mean_defined
from ..scoring.predictions import Predictions
from ..scoring.thresholds import Thresholds


@dataclass(frozen=True)
class Paired:
    """What `compare` found; "before" is the first model, "better" is what only the second has right.

    Attributes
    ----------
    map : `before, after, difference` of the mean average precision, and of the difference `se, low, high` (95 %), from
        a paired bootstrap over the images
    sets : `better, worse` images whose whole set of labels became right or wrong, and `p`
    classes : a row a class: `class, better, worse` labels, `p, q, ap_before, ap_after, difference, low, high` (the
        difference of average precision), worst first
    images : a row an image of which some label changed: `image_path, better, worse` labels, the worst first
    flips : a row a label that only one model has right: `image_path, split, class, label, change` ("better", "worse"),
        `probability_before, probability_after, threshold_before, threshold_after`, the worse first, and each kind by
        how far the probability moved
    relabelled : labels that the two hold otherwise; those of the second count, for both
    tuned_on : whether thresholds of either were tuned on these images
    """

    map: dict[str, float]
    sets: dict[str, float]
    classes: pd.DataFrame
    images: pd.DataFrame
    flips: pd.DataFrame
    relabelled: int
    tuned_on: bool


def compare(
    before: Predictions, after: Predictions, thresholds_before: Thresholds, thresholds_after: Thresholds, seed: int = 0
) -> Paired:
    """Compare two models' predictions of the same images, each at its own thresholds.

    Every p is McNemar's exact test, two-sided: of the decisions that only one model has right, as many should be either
    one's (McNemar 1947). It is taken over images, for each class by itself (q adjusts for their number, Benjamini and
    Hochberg 1995) and for whole sets: the labels of one image are not independent of each other.

    Raises
    ------
    WorkbenchError : the images or the classes are not the same
    """
    before, after = _aligned(thresholds_before.calibrated(before), thresholds_after.calibrated(after))
    y, names = after.labels, after.class_names
    relabelled = int((before.labels != y).sum())
    both = (replace(before, y=y), after)
    limits = [thresholds.aligned(names) for thresholds in (thresholds_before, thresholds_after)]
    present = [t.decide(p) for t, p in zip((thresholds_before, thresholds_after), both, strict=True)]
    wrong = [(y >= 0) & (decided != (y == 1)) for decided in present]
    better, worse = wrong[0] & ~wrong[1], wrong[1] & ~wrong[0]

    samples = [bootstrap(p, decided, seed=seed) for p, decided in zip(both, present, strict=True)]
    ap = np.array([average_precision(y, p.logits) for p in both])
    spread = [interval(samples[1]["ap"][:, c] - samples[0]["ap"][:, c]) for c in range(len(names))]
    p_values = np.array([_mcnemar(*counts) for counts in zip(better.sum(0), worse.sum(0), strict=True)])
    classes = pd.DataFrame(
        {
            "class": np.array(names, dtype=object),
            "better": better.sum(0),
            "worse": worse.sum(0),
            "p": p_values,
            "q": false_discovery_control(p_values),
            "ap_before": ap[0],
            "ap_after": ap[1],
            "difference": ap[1] - ap[0],
            "low": [found["low"] for found in spread],
            "high": [found["high"] for found in spread],
        }
    )
    means = mean_defined(ap, 1)
    now, then = (~part.any(1) for part in (wrong[1], wrong[0]))
    gained, lost = int((now & ~then).sum()), int((then & ~now).sum())
    rows, columns = np.nonzero(better | worse)
    p, q = (part.probabilities[rows, columns] for part in both)
    flips = pd.DataFrame(
        {
            "image_path": after.paths[rows],
            "split": after.split,
            "class": classes["class"].to_numpy()[columns],
            "label": y[rows, columns],
            "change": np.where(better[rows, columns], "better", "worse"),
            "probability_before": p,
            "probability_after": q,
            "threshold_before": limits[0][columns],
            "threshold_after": limits[1][columns],
        }
    ).iloc[np.lexsort((-np.abs(q - p), better[rows, columns]))]
    images = pd.DataFrame({"image_path": after.paths, "better": better.sum(1), "worse": worse.sum(1)})
    images = images[(images.better > 0) | (images.worse > 0)]
    return Paired(
        map={"before": float(means[0]), "after": float(means[1]), "difference": float(means[1] - means[0])}
        | interval(samples[1]["map"] - samples[0]["map"]),
        sets={"better": gained, "worse": lost, "p": _mcnemar(gained, lost)},
        classes=classes.sort_values("difference", kind="stable", ignore_index=True),
        images=images.iloc[(images.better - images.worse).argsort(kind="stable")].reset_index(drop=True),
        flips=flips.reset_index(drop=True),
        relabelled=relabelled,
        tuned_on=thresholds_before.tuned_on(after) or thresholds_after.tuned_on(after),
    )


def _aligned(before: Predictions, after: Predictions) -> tuple[Predictions, Predictions]:
    """The first with the classes and images in the order of the second."""
    before = before.reorder(after.class_names)
    place = {path: row for row, path in enumerate(before.paths)}
    odd = set(place) ^ set(after.paths)
    if odd:
        raise WorkbenchError(f"image {min(odd)!r} and {len(odd) - 1} more stand in only one of the two; same split?")
    order = np.array([place[path] for path in after.paths], int)
    return replace(before, paths=after.paths, logits=before.logits[order], y=before.labels[order]), after


def _mcnemar(better: int, worse: int) -> float:
    return float(binomtest(int(better), int(better + worse)).pvalue) if better + worse else 1.0


def compare_runs(a: Run, b: Run, split: str = "test") -> Paired:
    """What run `b` does better and worse than `a` on the same images of a split, see `compare`.

    >>> compare_runs(Run("runs/first"), Run("runs/mended")).classes      # doctest: +SKIP
    """
    return compare(a.predictions(split), b.predictions(split), a.thresholds(), b.thresholds())
