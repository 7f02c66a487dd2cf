"""Zones for people: of each class the probabilities between two cuts, where an image goes to a person to be decided.

Chow's rule (IEEE Transactions on Information Theory 1970): ask where the expected loss of deciding oneself is above the
price of asking. Here one price serves all classes; it is what leaves as many images as a person has time for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logit

from ..exceptions import WorkbenchError
from ..scoring.calibration import calibrate
from ..scoring.groups import ratio
from ..scoring.metrics import class_scores, mean_defined
from ..scoring.predictions import Predictions, refuse_others
from ..text import shown
from .thresholds import Thresholds, reviewed
from .tuning import served

SECONDS = 10  # of a person for one image, where hours are asked for
ROUNDS = 10  # in which prices and zones, each of which follows from the other, settle
FOLDS = 5


@dataclass(frozen=True)
class ReviewGain:
    """What a person brings who is asked for the labels in the zones and is right, cross-validated.

    Attributes
    ----------
    share : of the images that go to the person
    labels : asked for one of these images, in the mean
    score : "macro F1", "macro F-beta", or "cost an image", in false alarms
    before, after : the score without the person and with
    """

    share: float
    labels: float
    score: str
    before: float
    after: float

    def __str__(self) -> str:
        return (
            f"with {self.share:.1%} of the images looked at ({self.labels:.2f} labels each), {self.score} "
            f"{shown(self.before)} → {shown(self.after)} on validation, cross-validated"
        )


def share_of(hours: float) -> float:
    """The share of the images that a person has time for, by hours for each 1,000 images and 10 s for one.

    Raises
    ------
    WorkbenchError : no time, or more than all images take
    """
    most = 1000 * SECONDS / 3600
    if not 0 < hours <= most:
        raise WorkbenchError(
            f"{hours:g} hours a person has for 1,000 images; at {SECONDS} s an image all of them take {most:.2f}: "
            "expected above 0 and at most that"
        )
    return hours / most


def with_zones(predictions: Predictions, thresholds: Thresholds, share: float) -> Thresholds:
    """The thresholds with the zones around them that send a share of the images to a person.

    The person is asked for the classes in whose zone an image lies, and is right. The zones are those after which the
    highest macro F1 is to be expected (F-beta or the least cost, where the thresholds were tuned for that). What an
    answer is worth follows from the label's chance to be wrong, by Platt's scaling of these logits, and from what a
    miss or a false alarm of its class costs the score. Single mistakes on these images have no part in it, so that the
    zones serve others too. A class without a positive, or not learnt, has none.

    Parameters
    ----------
    predictions : labelled, of the split that the thresholds were tuned on
    share : of the images, above 0 and at most 1; not exceeded on these but by rounding

    Raises
    ------
    WorkbenchError : another share
    """
    if not 0 < share <= 1:
        raise WorkbenchError(f"a person looks at {share:g} of the images; expected a share above 0 and at most 1")
    predictions = refuse_others(predictions).reorder(thresholds.class_names)
    fitted = calibrate(predictions)
    assert fitted.calibration is not None
    chance, (scale, shift) = fitted.probabilities.astype(float), fitted.calibration
    learnt = np.array([its is not False for its in thresholds.learnt or [None] * len(thresholds.class_names)])
    present, positive = thresholds.decide(predictions), (predictions.labels == 1).any(0) & learnt
    asked = np.zeros_like(present)
    for _ in range(ROUNDS):
        miss, alarm = np.where(positive, _worth(thresholds, chance, present & ~asked, ~present & ~asked), 0)
        worth = np.where(present, alarm * (1 - chance), miss * chance)
        price = _price(worth.max(1), share)
        asked = worth >= price
    with np.errstate(divide="ignore"):  # what is worth nothing is not asked for at any price
        cuts = np.clip([price / miss, 1 - price / alarm], 1e-30, 1 - 1e-16)
    as_logits = ((logit(cuts) - shift) / scale).astype(np.float32)
    two = Predictions(np.empty(2, object), thresholds.class_names, as_logits)
    low, high = thresholds.calibrated(two).probabilities
    values = thresholds.values
    return replace(thresholds, review=np.stack([np.minimum(low, values), np.maximum(high, values)]))


def _worth(thresholds: Thresholds, chance: np.ndarray, present: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """What a mended miss and a mended false alarm of each class add to what the thresholds serve, float64 [2, C].

    Parameters
    ----------
    chance : float [N, C] that a label is present
    present, absent : bool [N, C], what is decided without the person
    """
    objective, target = _served(thresholds)
    if objective == "cost":
        return np.broadcast_to([[target], [1.0]], (2, chance.shape[1]))
    weight, misses = 1 + target**2, (chance * absent).sum(0)
    hits = weight * (chance.sum(0) - misses)
    total = hits + target**2 * misses + ((1 - chance) * present).sum(0)
    # The derivatives of F-beta = hits / total: a mended miss adds `weight` to hits and 1 to total.
    f = ratio(hits, total)
    return np.stack([ratio(weight - f, total), ratio(f, total)])


def _served(thresholds: Thresholds) -> tuple[str, float]:
    """Objective and target of the score that zones are to raise: F1 where the thresholds hold something instead."""
    asked = thresholds if thresholds.gain is None else thresholds.gain  # also where 0.5 stays
    if asked.objective in ("cost", "fbeta") and asked.target is not None:
        return asked.objective, asked.target
    return "f1", 1.0


def _price(worth: np.ndarray, share: float) -> float:
    """The price at which at most this share of the images is worth it: between two that differ, beyond rounding."""
    dear = np.append(np.sort(worth)[::-1], 0)
    most = round(share * len(worth))
    apart = np.flatnonzero(dear[:most] * (1 - 1e-5) > dear[1 : most + 1])
    return float(dear[apart[-1]] + dear[apart[-1] + 1]) / 2 if len(apart) else np.inf


def review_gain(predictions: Predictions, share: float, tune: Callable[[Predictions], Thresholds]) -> ReviewGain:
    """What zones for this share of the images bring on images that neither they nor the thresholds were chosen by.

    By five folds of groups: thresholds and zones are chosen on four and used on the fifth.

    Parameters
    ----------
    tune : chooses the thresholds, as `tune_thresholds` does

    Raises
    ------
    WorkbenchError : another share than `with_zones` takes, or all images are one group
    """
    y, groups = refuse_others(predictions).labels, predictions.groups
    groups = np.arange(len(y)) if groups is None else groups
    folds = min(FOLDS, len(np.unique(groups)))
    if folds < 2:
        raise WorkbenchError("all images belong together; cross-validation needs at least two groups of them")
    from sklearn.model_selection import GroupKFold  # a second, at first, which few pay for

    present, asked = np.zeros(y.shape, bool), np.zeros(y.shape, bool)
    for rest, held in GroupKFold(folds, shuffle=True, random_state=0).split(y, groups=groups):
        others, new = predictions.take(rest), predictions.take(held)
        thresholds = with_zones(others, tune(others), share)
        present[held], asked[held] = thresholds.decide(new), thresholds.asks(new)
    objective, target = _served(thresholds)
    score = {"f1": "macro F1", "fbeta": f"macro F-beta {target:g}", "cost": "cost an image"}[objective]
    before, after = (_score(y, decided, objective, target) for decided in (present, np.where(asked, y == 1, present)))
    found = reviewed(y, present, asked)
    return ReviewGain(found["share"], found["labels"], score, before, after)


def _score(y: np.ndarray, decisions: np.ndarray, objective: str, target: float) -> float:
    n = class_scores(y, decisions)
    if objective == "cost":
        return float((target * n["fn"] + n["fp"]).sum() / len(y))
    return float(
        mean_defined(served({name: n[name][n["support"] > 0] for name in ("tp", "fp", "fn")}, objective, target))
    )
