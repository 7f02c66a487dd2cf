"""Thresholds, one for each class, chosen on one split and honoured everywhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import binom

from ..exceptions import WorkbenchError
from ..progress import counted
from ..text import short
from .metrics import LARGE, class_scores, ratios, score
from .predictions import Predictions, decide, probabilities, refuse_others

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
HAND = "by hand"  # the objective of what a person has set
CONFIDENCE = 0.9  # of a guarantee, for each class
FEW = 15  # positives at which a class's own threshold and the shared one count the same (decision 013)


@dataclass(frozen=True)
class Thresholds:
    """A class is present when `p >= threshold`, p being calibrated where the thresholds hold a calibration.

    Attributes
    ----------
    class_names : list of C str
    values : float32 [C] in 0..1
    split : what they were tuned on; "" for thresholds that nobody tuned
    objective : how they were chosen
    target : what the objective was to hold, or None
    positives : int64 [C], positives of each class in the tuning split
    met : bool [C], whether the objective could be met
    calibration : float64 [2, C], scale and shift of each class's logit, or None
    run : name of the run folder that they were saved in
    tuned_paths : the images they were tuned on, which `evaluate` refuses
    """

    class_names: list[str]
    values: np.ndarray
    split: str = ""
    objective: str = "default"
    target: float | None = None
    positives: np.ndarray | None = None
    met: np.ndarray | None = None
    calibration: np.ndarray | None = None
    run: str = ""
    tuned_paths: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def default(cls, class_names: Sequence[str]) -> "Thresholds":
        """0.5 for every class."""
        return cls(list(class_names), np.full(len(class_names), 0.5, np.float32))

    @classmethod
    def of(cls, values: Any, class_names: Sequence[str]) -> "Thresholds":
        """Thresholds for these classes from what people hold.

        Parameters
        ----------
        values : Thresholds, as they are; one number for all classes; a sequence of as many as there are classes, in
            their order; or a mapping (a Series too) of class name to number

        Raises
        ------
        WorkbenchError : anything else, other classes, or a number outside 0..1
        """
        if isinstance(values, Thresholds):
            return values
        names = list(class_names)
        expected = f"expected a number in 0..1, {len(names)} of them, or a mapping of every class to one"
        numbers = values.to_dict() if isinstance(values, pd.Series) else values
        if isinstance(numbers, Mapping):
            if odd := [n for n in (*names, *numbers) if (n in numbers) != (n in names)]:
                raise WorkbenchError(f"thresholds: class {odd[0]!r} stands only on one side; {expected}")
            numbers = [numbers[name] for name in names]
        try:
            array = np.asarray(numbers, np.float32)
            whole = np.broadcast_to(array, len(names)).copy() if array.ndim == 0 else array
            if whole.shape == (len(names),) and (whole >= 0).all() and (whole <= 1).all():
                return cls.default(names).with_values(whole)
        except (TypeError, ValueError):
            pass
        raise WorkbenchError(f"thresholds are {type(values).__name__} {short(values)}; {expected}")

    def aligned(self, class_names: Sequence[str]) -> np.ndarray:
        """The values [C] in this order of classes; an error names the first class that has none."""
        return self.values[self._order(class_names)]

    def _order(self, class_names: Sequence[str]) -> list[int]:
        missing = [name for name in class_names if name not in self.class_names]
        if missing:
            raise WorkbenchError(f"no threshold for class {missing[0]!r}; tune again on this run")
        return [self.class_names.index(name) for name in class_names]

    def calibrated(self, predictions: Predictions) -> Predictions:
        """The predictions with the calibration that these thresholds go with, or with none, whatever they had."""
        order = self._order(predictions.class_names)
        if self.calibration is None and predictions.calibration is None:
            return predictions
        return replace(predictions, calibration=None if self.calibration is None else self.calibration[:, order])

    def decide(self, predictions: Predictions) -> np.ndarray:
        """Present classes, bool [N, C]; works on any predictions, also those that were tuned on."""
        return decide(self.calibrated(predictions).probabilities, self.aligned(predictions.class_names))

    def with_values(self, values: np.ndarray, objective: str = HAND) -> "Thresholds":
        """The same thresholds with other values [C], of which nobody says that they meet a target."""
        return replace(self, values=np.asarray(values, np.float32), objective=objective, target=None, met=None)

    def tuned_on(self, predictions: Predictions) -> bool:
        """Whether these are (some of) the images that were tuned on, also under another split's name."""
        return bool(
            (self.split and self.split == predictions.split) or self.tuned_paths.intersection(predictions.paths)
        )

    def note(self, predictions: Predictions) -> str:
        """What a title has to say of scores on these predictions: " (tuned on these)", or nothing."""
        return " (tuned on these)" if self.tuned_on(predictions) else ""

    def refuse_tuned_images(self, predictions: Predictions) -> None:
        """Raise WorkbenchError where a score on these predictions would flatter itself."""
        if self.tuned_on(predictions):
            seen = self.tuned_paths.intersection(predictions.paths)
            where = f"{len(seen):,} of these images" if seen else f"the split {self.split!r}"
            raise WorkbenchError(
                f"the thresholds were tuned on {where}; evaluate on another split "
                "(tuning_scores shows the scores on the tuning split, named as such)"
            )

    def to_dict(self) -> dict[str, Any]:
        """The content of `thresholds.json`."""
        scale, shift = np.repeat([[1.0], [0.0]], len(self.values), 1) if self.calibration is None else self.calibration
        return {
            "split": self.split,
            "objective": self.objective,
            "target": self.target,
            "confidence": CONFIDENCE if self.objective == "guarantee" else None,
            "run": self.run,
            "classes": {
                name: {
                    "threshold": float(self.values[c]),
                    "scale": float(scale[c]),
                    "shift": float(shift[c]),
                    "positives": None if self.positives is None else int(self.positives[c]),
                    "met": None if self.met is None else bool(self.met[c]),
                }
                for c, name in enumerate(self.class_names)
            },
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], tuned_paths: frozenset[str] = frozenset()) -> "Thresholds":
        """Undo `to_dict`; the tuned images come from the run's `splits.csv`."""
        try:
            if not isinstance(data, dict):
                raise TypeError(f"{type(data).__name__} where a mapping should be")
            rows = list(data["classes"].values())
            values = np.array([float(row["threshold"]) for row in rows], np.float32)
            calibration = np.array([[float(row[key]) for row in rows] for key in ("scale", "shift")])
            if not (((values >= 0) & (values <= 1)).all() and (calibration[0] > 0).all()):
                raise ValueError("a threshold outside 0..1 or a scale that is not above 0")

            def column(key: str, dtype: type) -> np.ndarray | None:
                return None if any(row[key] is None for row in rows) else np.array([row[key] for row in rows], dtype)

            return cls(
                class_names=list(data["classes"]),
                values=values,
                split=str(data["split"]),
                objective=str(data["objective"]),
                target=None if data.get("target") is None else float(data["target"]),
                positives=column("positives", np.int64),
                met=column("met", bool),
                calibration=None if (calibration == [[1], [0]]).all() else calibration,
                run=str(data.get("run", "")),
                tuned_paths=tuned_paths,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise WorkbenchError(f"thresholds.json is not as the workbench writes it ({error!r}); tune again") from None


def margin(p: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """How far probabilities lie from their thresholds, as a share of the room on that side: -1..1, below 0 absent."""
    room = np.maximum(np.where(p >= threshold, 1 - threshold, threshold), 1e-7)
    return (p - threshold) / room


class Curves:
    """The scores of every class at every threshold, sorted once so that a lookup costs O(log N) a class.

    Parameters
    ----------
    y : int8 [N, C] of 1, 0, -1 (left out)
    p : float32 [N, C]
    """

    def __init__(self, y: np.ndarray, p: np.ndarray):
        self.scores: list[np.ndarray] = []  # ascending p of the known labels, one array a class
        self._above: list[np.ndarray] = []  # positives at or above each rank
        for c in counted(range(y.shape[1]), "sorting", "classes", y.size < LARGE):
            known = y[:, c] >= 0
            order = np.argsort(p[known, c], kind="stable")
            self.scores.append(p[known, c][order])
            hits = (y[known, c][order] == 1)[::-1].cumsum()[::-1]
            self._above.append(np.append(hits, 0))
        self.positives = np.array([above[0] for above in self._above], np.int64)
        self.known = np.array([len(s) for s in self.scores], np.int64)

    def at(self, c: int, threshold: float | np.ndarray) -> dict[str, np.ndarray]:
        """Counts (tp, fp, fn, tn), precision, recall and F1 of class `c` at one threshold or an array of them."""
        n = self.counts(c, threshold)
        return n | ratios(n["tp"], n["fp"], n["fn"])

    def counts(self, c: int, threshold: float | np.ndarray) -> dict[str, np.ndarray]:
        """The counts alone."""
        scores = self.scores[c]
        # The cast keeps ties: a float64 key would fall beside an equal float32 score.
        rank = np.searchsorted(scores, np.asarray(threshold, scores.dtype), "left")
        tp = self._above[c][rank]
        predicted = len(scores) - rank
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
        scores = self.scores[c]
        rank = int(np.searchsorted(scores, np.asarray(threshold, scores.dtype), "left"))
        return float(scores[rank - 1]) if rank else -1.0


def tune_class(
    curves: Curves, c: int, objective: str = "f1", target: float | None = None, shared: float | None = None
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
        "guarantee": the highest threshold whose miss rate on new images is at most the target with confidence 0.9,
            for each class by itself (risk-controlling prediction sets, Bates et al., J. ACM 2021; a miss is 0 or 1, so
            the exact binomial bound of Clopper and Pearson serves). New images must be like these, and these must not
            have been trained on. With too few positives (22 are needed for a rate of 0.1) not met and 0.
    shared : threshold of all classes (see `shared_threshold`), towards which "f1", "fbeta" and "cost" are drawn where
        positives are few: in log odds the class's own counts P / (P + 15) for its P positives. None: not drawn

    Returns
    -------
    A float32 value in 0..1 as float, and `met`
    """
    target = _checked(objective, target)
    positives = int(curves.positives[c])
    if objective in ("recall", "guarantee"):
        misses = np.arange(positives)
        if objective == "recall":
            allowed = (positives - misses) / max(positives, 1) >= target
        else:
            allowed = binom.cdf(misses, positives, target) <= 1 - CONFIDENCE
        return (float(curves.found(c)[allowed.sum() - 1]), True) if allowed.any() else (0.0, False)
    if objective == "precision":
        cuts = curves.cuts(c)
        good = cuts[curves.at(c, cuts)["precision"] >= target]
        return (float(good[0]), True) if len(good) else (1.0, False)
    own = 0.5 if shared is None else shared
    if positives:
        peaks = curves.peaks(c)
        best = _last_best(_gain(curves.counts(c, peaks), objective, target))
        own = _halfway(curves.below(c, peaks[best]), float(peaks[best]))
    if shared is not None:
        weight = positives / (positives + FEW)
        own = float(probabilities(weight * _log_odds(own) + (1 - weight) * _log_odds(shared)))
    return own, positives > 0


def shared_threshold(curves: Curves, objective: str = "f1", target: float | None = None) -> float:
    """The one threshold with the best mean over the classes of "f1", "fbeta" or "cost"; 0.5 without any positive."""
    target, classes = _checked(objective, target), np.flatnonzero(curves.positives).tolist()
    if not classes:
        return 0.5
    peaks = np.unique(np.concatenate([curves.peaks(c) for c in classes]))
    steps = np.zeros(len(peaks) + 1)
    for c in classes:
        cuts = curves.cuts(c)
        gain = _gain(curves.counts(c, cuts), objective, target)
        # A threshold gains the steps of all cuts, whatever their class, from its own place upwards.
        np.add.at(steps, np.searchsorted(peaks, cuts, "right"), gain - np.append(gain[1:], gain[-1]))
    best = float(peaks[_last_best(steps[::-1].cumsum()[::-1][1:])])
    return _halfway(max(curves.below(c, best) for c in classes), best)


def tune_thresholds(
    predictions: Predictions, objective: str = "f1", target: float | None = None, one_for_all: bool = False
) -> Thresholds:
    """Choose each class's threshold on these predictions, sweeping the probabilities that occur.

    Objectives and targets are those of `tune_class`; classes with few positives are drawn to the shared threshold. A
    calibration of the predictions (see `calibration.calibrate`) goes into the thresholds.

    Parameters
    ----------
    one_for_all : one threshold for all classes; "precision" and "recall" are then those of all labels together, and
        "guarantee" is refused, since the labels of one image are not independent

    Raises
    ------
    WorkbenchError : an objective that does not exist, or a target that does not fit it
    """
    _checked(objective, target)
    y, p = refuse_others(predictions).labels, predictions.probabilities
    curves = Curves(y, p)
    shared = shared_threshold(curves, objective, target) if objective in DRAWN else None
    if not one_for_all:
        classes = counted(range(len(predictions.class_names)), "choosing thresholds", "classes", y.size < LARGE)
        found = [tune_class(curves, c, objective, target, shared) for c in classes]
    elif objective == "guarantee":
        raise WorkbenchError("a guarantee is given for each class by itself, not for one threshold of all")
    elif shared is not None:
        found = [(shared, positives > 0) for positives in curves.positives.tolist()]
    else:
        together = Curves(y.reshape(-1, 1), p.reshape(-1, 1))
        found = [tune_class(together, 0, objective, target)] * len(predictions.class_names)
    values, met = zip(*found, strict=True)
    return Thresholds(
        class_names=list(predictions.class_names),
        values=np.array(values, np.float32),
        split=predictions.split,
        objective=objective,
        target=target,
        positives=curves.positives,
        met=np.array(met),
        calibration=predictions.calibration,
        tuned_paths=frozenset(predictions.paths),
    )


def tuning_scores(predictions: Predictions, thresholds: Thresholds) -> dict[str, np.ndarray]:
    """Per-class scores on any split, the tuned one included: for looking while tuning, never for reporting."""
    return class_scores(predictions.labels, thresholds.decide(predictions))


def _checked(objective: str, target: float | None) -> float:
    """The target as a number; that of "f1" is beta 1."""
    if objective not in OBJECTIVES:
        raise WorkbenchError(f"objective {objective!r}; expected one of {', '.join(OBJECTIVES)}")
    wanted = OBJECTIVES[objective]
    if wanted is None:
        if target is not None:
            raise WorkbenchError(f"objective {objective!r} takes no target; got {target:g}")
        return 1.0
    what, most = wanted
    if target is None or not 0 < target <= most:
        raise WorkbenchError(
            f"objective {objective!r} needs as target {what}, above 0 and at most {most:g}; got {target}"
        )
    return target


def _gain(n: dict[str, np.ndarray], objective: str, target: float) -> np.ndarray:
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


def evaluate(predictions: Predictions, thresholds: Any) -> dict[str, Any]:
    """Every score of these predictions at these thresholds, as `metrics/SPLIT.json` holds them.

    Parameters
    ----------
    thresholds : Thresholds, or what `Thresholds.of` makes them of: a number, a sequence or a mapping

    Raises
    ------
    WorkbenchError : the thresholds were tuned on (some of) these images
    """
    thresholds = Thresholds.of(thresholds, refuse_others(predictions).class_names)
    thresholds.refuse_tuned_images(predictions)
    return score(thresholds.calibrated(predictions), thresholds.aligned(predictions.class_names))
