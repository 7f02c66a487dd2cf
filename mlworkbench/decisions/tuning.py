"""Tuning: each class's threshold by an objective, and with a promise for new images where one is asked for."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

import numpy as np
from scipy.special import betainc, logit
from scipy.stats import false_discovery_control, mannwhitneyu

from ..exceptions import WorkbenchError
from ..progress import counted
from ..scoring.groups import effective, numbered
from ..scoring.metrics import LARGE, ratios
from ..scoring.predictions import Predictions, probabilities, refuse_others
from .thresholds import Thresholds

# What each objective takes as its target, and the most that can be.
OBJECTIVES: dict[str, tuple[str, float] | None] = {
    "f1": None,
    "fbeta": ("beta, how many times recall counts as much as precision", 1000),
    "precision": ("the precision to hold", 1),
    "recall": ("the recall to hold", 1),
    "cost": ("the price of a miss over the price of a false alarm", 1e6),
    "guarantee": ("the miss rate to stay under", 1),
}
DRAWN = ("f1", "fbeta", "cost")  # where positives are few, towards the shared threshold
CONFIDENCE = 0.9  # of a guarantee
FEW = 15  # positives at which a class's own threshold and the shared one count the same (decision 013)
STEP = 1.25  # from one tested number of images called present to the next (decision 038)
LEVEL = 0.05  # of a test of one class against chance
FALSE, GATE = 0.2, 0.01  # false discoveries: among learnt classes; of any where nothing was learnt (decision 038)
PAIRS = 10_000  # of a positive and a negative, up to which a rank test is exact


class Curves:
    """The scores of every class at every threshold, sorted once so that a lookup costs O(log N) a class.

    Parameters
    ----------
    y : int8 [N, C] of 1, 0, -1 (left out)
    p : float32 [N, C]
    groups : int64 [N], equal where images belong together, or None; only `promised` and `doubt` look at them
    """

    def __init__(self, y: np.ndarray, p: np.ndarray, groups: np.ndarray | None = None):
        self.scores: list[np.ndarray] = []  # ascending p of the known labels, one array a class
        self._above: list[np.ndarray] = []  # positives at or above each rank
        self._groups: list[np.ndarray | None] = []  # in the order of the scores
        for c in counted(range(y.shape[1]), "sorting", "classes", y.size < LARGE):
            known = y[:, c] >= 0
            order = np.argsort(p[known, c], kind="stable")
            self.scores.append(p[known, c][order])
            hits = (y[known, c][order] == 1)[::-1].cumsum()[::-1]
            self._above.append(np.append(hits, 0))
            self._groups.append(None if groups is None else groups[known][order])
        self.positives = np.array([above[0] for above in self._above], np.int64)
        self.known = np.array([len(s) for s in self.scores], np.int64)

    def at(self, c: int, threshold: float | np.ndarray) -> dict[str, np.ndarray]:
        """Counts (tp, fp, fn, tn), precision, recall and F1 of class `c` at one threshold or an array of them."""
        n = self.counts(c, threshold)
        return n | ratios(n["tp"], n["fp"], n["fn"])

    def counts(self, c: int, threshold: float | np.ndarray) -> dict[str, np.ndarray]:
        """The counts alone."""
        rank = self._rank(c, threshold)
        tp = self._above[c][rank]
        predicted = self.known[c] - rank
        fp, fn = predicted - tp, self.positives[c] - tp
        return {
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "tn": self.known[c] - tp - fp - fn,
        }

    def found(self, c: int) -> np.ndarray:
        """Probabilities of the positives of class `c`, ascending."""
        return self.scores[c][np.diff(self._above[c]) < 0]

    def cuts(self, c: int) -> np.ndarray:
        """Every threshold that decides differently on class `c`, ascending: each probability, and one above them."""
        scores = self.scores[c]
        distinct = scores[np.diff(scores, prepend=-1) > 0]
        above = np.nextafter(distinct[-1:], np.ones(1, scores.dtype))
        return np.append(distinct, above[above > distinct[-1:]])

    def peaks(self, c: int) -> np.ndarray:
        """Those of the cuts, ascending, that one more false alarm could only make worse: positives', and the last."""
        return np.unique(np.append(self.found(c), self.cuts(c)[-1:]))

    def below(self, c: int, threshold: float) -> float:
        """The highest probability of class `c` under a threshold, -1 where there is none."""
        rank = int(self._rank(c, threshold))
        return float(self.scores[c][rank - 1]) if rank else -1.0

    def _rank(self, c: int, threshold: float | np.ndarray) -> Any:
        """How many probabilities of class `c` lie under a threshold, or under each of an array."""
        # The cast keeps ties: a float64 key would fall beside an equal float32 score.
        return np.searchsorted(self.scores[c], np.asarray(threshold, self.scores[c].dtype), "left")

    def promised(self, c: int, miss_rate: float, confidence: float) -> float | None:
        """The highest threshold whose miss rate on new images is at most this, or None."""
        present = np.diff(self._above[c]) < 0
        positives, trials = int(self.positives[c]), self._independent(c, present)
        # In units of independent positives, rounded up, but for what the division leaves.
        misses = np.ceil(np.arange(positives) * trials / max(positives, 1) - 1e-9)
        allowed = _at_most(misses, trials, miss_rate) <= 1 - confidence
        return float(self.found(c)[allowed.sum() - 1]) if allowed.any() else None

    def doubt(self, c: int, threshold: float, precision: float) -> tuple[float, float]:
        """P-value of a precision below this one at a threshold, and how many independent images it rests on."""
        called = np.arange(self.known[c]) >= self._rank(c, threshold)
        images, trials = int(called.sum()), self._independent(c, called)
        errors = np.ceil(self.counts(c, threshold)["fp"] * trials / max(images, 1) - 1e-9)
        return float(_at_most(errors, trials, 1 - precision)), trials

    def _independent(self, c: int, which: np.ndarray) -> float:
        """How many independent images those of a mask are worth, as if those of a group were all the same."""
        groups = self._groups[c]
        return effective(numbered(None if groups is None else groups[which], int(which.sum())))


def tune_class(
    curves: Curves,
    c: int,
    objective: str = "f1",
    target: float | None = None,
    shared: float | None = None,
    confidence: float | None = None,
) -> tuple[float, bool]:
    """The threshold of class `c` that serves an objective best, and whether the objective could be met.

    Parameters
    ----------
    objective, target :
        "f1"; "fbeta" with beta; "cost" with the price of a miss over the price of a false alarm:
            the best of all thresholds, halfway (in log odds) to the next lower probability; of equals the highest.
            Without a positive not met.
        "precision": the lowest threshold with at least this precision, which finds most.
            If there is none, not met and 1: nothing is called present (but where p is 1 to the last bit).
        "recall": the highest threshold with at least this recall (the lowest would be 0), which is least often wrong.
            Without a positive not met and 0: everything is called present.
        "guarantee": "recall" of 1 - target with confidence 0.9, if no other is given
    shared : threshold of all classes (see `shared_threshold`), towards which "f1", "fbeta" and "cost" are drawn where
        positives are few: in log odds the class's own counts P / (P + 15) for its P positives. None: not drawn
    confidence : None: the target is held on these images, on new ones about every second time or less. A number in
        0..1: on new images with this confidence, if they are like these and these were not trained on; images of a
        group count as one. A recall by risk-controlling prediction sets (Bates et al., J. ACM 2021; a miss is 0 or 1,
        so the exact binomial bound of Clopper and Pearson serves; 22 positives are needed for 0.9 of 0.9). A precision
        by tests in a fixed sequence (Wiens 2003; Learn then Test, Angelopoulos et al. 2021): exact binomial ones of
        ever more images called present, from the fewest that could do on, until one fails

    Returns
    -------
    A float32 value in 0..1 as float, and `met`
    """
    target = _checked(objective, target, confidence)
    positives = int(curves.positives[c])
    if objective == "guarantee" or (objective == "recall" and confidence is not None):
        rate = target if objective == "guarantee" else 1 - target
        threshold = curves.promised(c, rate, CONFIDENCE if confidence is None else confidence)
        return (0.0, False) if threshold is None else (threshold, True)
    if objective == "recall":
        enough = (positives - np.arange(positives)) / max(positives, 1) >= target
        return (float(curves.found(c)[enough.sum() - 1]), True) if enough.any() else (0.0, False)
    if objective == "precision":
        cuts = curves.cuts(c)
        held = curves.at(c, cuts)["precision"] >= target
        good = cuts[held] if confidence is None else _certified(curves, c, target, confidence)
        return (float(good[0]), True) if len(good) else (1.0, False)
    own = 0.5 if shared is None else shared
    if positives:
        peaks = curves.peaks(c)
        best = _last_best(served(curves.counts(c, peaks), objective, target))
        own = _halfway(curves.below(c, peaks[best]), float(peaks[best]))
    if shared is not None:
        weight = positives / (positives + FEW)
        own = float(probabilities(weight * _log_odds(own) + (1 - weight) * _log_odds(shared)))
    return own, positives > 0


def shared_threshold(
    curves: Curves, objective: str = "f1", target: float | None = None, classes: Iterable[int] | None = None
) -> float:
    """The one threshold with the best mean of "f1", "fbeta" or "cost" over these classes (None: all), or 0.5.

    A class without a positive has no part in it.
    """
    target = _checked(objective, target)
    asked = range(len(curves.scores)) if classes is None else classes
    classes = [c for c in asked if curves.positives[c]]
    if not classes:
        return 0.5
    peaks = np.unique(np.concatenate([curves.peaks(c) for c in classes]))
    steps = np.zeros(len(peaks) + 1)
    for c in classes:
        cuts = curves.cuts(c)
        gain = served(curves.counts(c, cuts), objective, target)
        # A threshold gains the steps of all cuts, whatever their class, from its own place upwards.
        np.add.at(steps, np.searchsorted(peaks, cuts, "right"), gain - np.append(gain[1:], gain[-1]))
    best = float(peaks[_last_best(steps[::-1].cumsum()[::-1][1:])])
    return _halfway(max(curves.below(c, best) for c in classes), best)


def drawn_thresholds(
    curves: Curves, classes: Sequence[int], objective: str, target: float | None, one_for_all: bool = False
) -> list[tuple[float, bool]]:
    """Threshold and `met` of each of these classes, drawn to the one that they share, or that one for all."""
    shared = shared_threshold(curves, objective, target, classes)
    if one_for_all:
        return [(shared, bool(curves.positives[c])) for c in classes]
    shown = counted(classes, "choosing thresholds", "classes", sum(map(len, curves.scores)) < LARGE)
    return [tune_class(curves, c, objective, target, shared) for c in shown]


def learnt_classes(predictions: Predictions) -> list[bool | None]:
    """Whether each class's logits rank its positives higher than chance would; None without a positive or a negative.

    By the rank-sum test (Mann and Whitney 1947), one-sided: exact up to 10,000 pairs of a positive and a negative, ties
    counting against the class; beyond by the normal approximation with midranks. Of each group one image counts,
    chosen by labels alone: a positive where there is one. A class is learnt at the level 0.05, and over all classes
    (false discovery rate, Benjamini and Hochberg 1995) a fifth of those called learnt may not be. None is where that
    rate cannot be brought to a hundredth for any class: of 100 networks that learnt nothing, 99 are told to be such.
    """
    y, z, groups = predictions.labels, predictions.logits, predictions.groups
    p = np.array([_chance(y[:, c], z[:, c], groups) for c in range(y.shape[1])], float)
    q = np.full(len(p), np.nan)
    asked = ~np.isnan(p)
    if asked.any():
        q[asked] = false_discovery_control(p[asked])
    any_learnt = np.nanmin(q, initial=1) <= GATE
    return [
        None if np.isnan(its) else bool(any_learnt and alone <= LEVEL and its <= FALSE)
        for alone, its in zip(p, q, strict=True)
    ]


def _chance(y: np.ndarray, z: np.ndarray, groups: np.ndarray | None) -> float:
    """P-value of a ranking by chance; NaN without a positive or a negative."""
    if groups is not None:
        order = np.lexsort((-y, groups))
        rows = order[np.unique(groups[order], return_index=True)[1]]
        y, z = y[rows], z[rows]
    present, absent = z[y == 1], z[y == 0]
    if not len(present) or not len(absent):
        return float("nan")
    if len(present) * len(absent) > PAIRS:
        return float(mannwhitneyu(present, absent, alternative="greater", method="asymptotic").pvalue)
    ranks = np.argsort(np.lexsort((np.arange(len(present) + len(absent)) >= len(present), np.append(present, absent))))
    above, below = ranks[: len(present)], ranks[len(present) :]
    return float(mannwhitneyu(above, below, alternative="greater", method="exact").pvalue)


def tunable(curves: Curves, learnt: Sequence[bool | None]) -> list[int]:
    """Places of the classes that "f1", "fbeta" and "cost" can be tuned for: those learnt, or all of whose labels are
    present."""
    return [c for c, its in enumerate(learnt) if its or (its is None and curves.positives[c])]


def kept_threshold(curves: Curves, c: int, learnt: Sequence[bool | None]) -> float:
    """The threshold of a class that is not tuned: 0.5, or 1 where what 0.5 calls present is not worth hearing.

    That is, where it cannot be told to be right more often than not, by a network that did not learn this class, or
    any.
    """
    n = curves.counts(c, 0.5)
    doubted = learnt[c] is False or True not in learnt
    return 1.0 if doubted and n["tp"] + n["fp"] and curves.doubt(c, 0.5, 0.5)[0] > 0.05 else 0.5


def tune_thresholds(
    predictions: Predictions,
    objective: str = "f1",
    target: float | None = None,
    one_for_all: bool = False,
    confidence: float | None = None,
    jointly: bool = False,
    anyway: bool = False,
) -> Thresholds:
    """Choose each class's threshold on these predictions, sweeping the probabilities that occur.

    Objectives, targets and confidence are those of `tune_class`; classes with few positives are drawn to the shared
    threshold. A class that is not learnt (see `learnt_classes`), or has no positive, is not tuned for "f1", "fbeta" and
    "cost": the best of these at a ranking by chance is to call everything present (Lipton, Elkan and Naryanaswamy
    2014). It keeps 0.5, or 1 where 0.5 would call it present without being right more often than not. A calibration of
    the predictions (see `calibration.calibrate`) goes into the thresholds. For whether tuning pays see `gain`.

    Parameters
    ----------
    one_for_all : one threshold for all classes, chosen on those that are learnt; "precision" and "recall" are then
        those of all labels together, and a confidence is refused, since the labels of one image are not independent
    jointly : all classes at once with this confidence (Bonferroni), instead of each by itself
    anyway : tune classes that are not learnt, too

    Raises
    ------
    WorkbenchError : an objective that does not exist, a target that does not fit it, a confidence outside 0..1 or for
        an objective that promises nothing
    """
    refuse_others(predictions)
    _checked(objective, target, confidence)
    promise = CONFIDENCE if objective == "guarantee" and confidence is None else confidence
    if jointly and promise is None:
        raise WorkbenchError("jointly is for a confidence: give one, with precision, recall or guarantee")
    if one_for_all and promise is not None:
        raise WorkbenchError("a guarantee is given for each class by itself, not for one threshold of all")
    names, labels = predictions.class_names, predictions.labels
    curves = Curves(labels, predictions.probabilities, predictions.groups)
    learnt = learnt_classes(predictions)
    if objective in DRAWN:
        tuned = list(range(len(names))) if anyway else tunable(curves, learnt)
        drawn = dict(zip(tuned, drawn_thresholds(curves, tuned, objective, target, one_for_all), strict=True))
        found = [drawn[c] if c in drawn else (kept_threshold(curves, c, learnt), False) for c in range(len(names))]
    elif one_for_all:
        together = Curves(labels.reshape(-1, 1), predictions.probabilities.reshape(-1, 1))
        found = [tune_class(together, 0, objective, target)] * len(names)
    else:
        each = promise if promise is None or not jointly else 1 - (1 - promise) / len(names)
        classes = counted(range(len(names)), "choosing thresholds", "classes", labels.size < LARGE)
        found = [tune_class(curves, c, objective, target, None, each) for c in classes]
    values, met = zip(*found, strict=True)
    return Thresholds(
        class_names=list(names),
        values=np.array(values, np.float32),
        split=predictions.split,
        objective=objective,
        target=target,
        positives=curves.positives,
        met=np.array(met),
        learnt=learnt,
        confidence=promise,
        jointly=jointly,
        calibration=predictions.calibration,
        tuned_paths=frozenset(predictions.paths),
    )


def _checked(objective: str, target: float | None, confidence: float | None = None) -> float:
    """The target as a number; that of "f1" is beta 1."""
    if objective not in OBJECTIVES:
        raise WorkbenchError(f"objective {objective!r}; expected one of {', '.join(OBJECTIVES)}")
    if confidence is not None:
        if objective in DRAWN:
            raise WorkbenchError(f"objective {objective!r} takes no confidence; precision, recall and guarantee do")
        if not 0 < confidence < 1:
            raise WorkbenchError(f"confidence {confidence:g}; expected a number between 0 and 1, such as 0.9")
    wanted = OBJECTIVES[objective]
    if wanted is None:
        if target is not None:
            raise WorkbenchError(f"objective {objective!r} takes no target; got {target:g}")
        return 1.0
    what, most = wanted
    if target is None or not 0 < target <= most:
        raise WorkbenchError(
            f"objective {objective!r} needs as target {what}, above 0 and at most {most:g} (--target); got {target}"
        )
    return target


def _certified(curves: Curves, c: int, target: float, confidence: float) -> np.ndarray:
    """Thresholds, ascending, above which a precision on new images is at least the target with this confidence."""
    scores, found, called = curves.scores[c], list[float](), 1.0
    while called <= len(scores):
        threshold = float(scores[-ceil(called)])
        doubt, trials = curves.doubt(c, threshold, target)
        could = target**trials <= 1 - confidence  # so many are enough, if all are right
        if could and doubt > 1 - confidence:
            break
        found += [threshold] if could else []
        called = max(called * STEP, called + 1) if could else called + 1
    return np.array(found[::-1], scores.dtype)


def _at_most(errors: Any, trials: float, rate: float) -> Any:
    """P(Bin(trials, rate) <= errors), also for a number of trials that is not whole."""
    errors = np.asarray(errors, float)
    left = np.maximum(trials - errors, np.finfo(float).tiny)
    return np.where(errors >= trials, 1.0, betainc(left, errors + 1, 1 - rate))


def served(n: dict[str, np.ndarray], objective: str, target: float) -> np.ndarray:
    """What is to be made large, from counts of a class that has a positive."""
    if objective == "cost":
        return -(target * n["fn"] + n["fp"])
    weight = 1 + target**2
    return weight * n["tp"] / (weight * n["tp"] + target**2 * n["fn"] + n["fp"])


def _last_best(gain: np.ndarray) -> int:
    """The place of the largest, of equals the last."""
    return len(gain) - 1 - int(np.argmax(gain[::-1]))


def _halfway(below: float, here: float) -> float:
    """A cut moved halfway to the next lower probability, over which nothing changes; as it is where there is none."""
    halfway = probabilities((_log_odds(below) + _log_odds(here)) / 2) if below >= 0 else here
    return float(halfway if below < halfway < here else here)


def _log_odds(p: float | np.ndarray) -> Any:
    return logit(np.clip(np.asarray(p, float), 1e-30, 1 - 2**-24))
