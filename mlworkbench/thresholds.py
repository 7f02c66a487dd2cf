"""One threshold for each class, chosen on one split and honoured everywhere else."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .exceptions import WorkbenchError
from .metrics import class_scores, ratios
from .predictions import Predictions, decide

OBJECTIVES = ("f1",)


@dataclass(frozen=True)
class Thresholds:
    """A class is present when `p >= threshold`.

    Attributes
    ----------
    class_names : list of C str
    values : float32 [C] in 0..1
    split : what they were tuned on; "" for thresholds that nobody tuned
    objective : how they were chosen
    positives : int64 [C], positives of each class in the tuning split
    met : bool [C], whether the objective could be met
    tuned_paths : the images they were tuned on, which `evaluate` refuses
    """

    class_names: list[str]
    values: np.ndarray
    split: str = ""
    objective: str = "default"
    positives: np.ndarray | None = None
    met: np.ndarray | None = None
    tuned_paths: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def default(cls, class_names: Sequence[str]) -> "Thresholds":
        """0.5 for every class."""
        return cls(list(class_names), np.full(len(class_names), 0.5, np.float32))

    def aligned(self, class_names: Sequence[str]) -> np.ndarray:
        """The values [C] in this order of classes; an error names the first class that has none."""
        missing = [name for name in class_names if name not in self.class_names]
        if missing:
            raise WorkbenchError(f"no threshold for class {missing[0]!r}; tune again on this run")
        return self.values[[self.class_names.index(name) for name in class_names]]

    def decide(self, predictions: Predictions) -> np.ndarray:
        """Present classes, bool [N, C]; works on any predictions, also those that were tuned on."""
        return decide(predictions.probabilities, self.aligned(predictions.class_names))

    def with_values(self, values: np.ndarray, objective: str = "by hand") -> "Thresholds":
        """The same thresholds with other values [C]."""
        return replace(self, values=np.asarray(values, np.float32), objective=objective)

    def refuse_tuned_images(self, predictions: Predictions) -> None:
        """Raise WorkbenchError where a score on these predictions would flatter itself."""
        seen = self.tuned_paths.intersection(predictions.paths)
        if seen or (self.split and self.split == predictions.split):
            where = f"{len(seen):,} of these images" if seen else f"the split {self.split!r}"
            raise WorkbenchError(
                f"the thresholds were tuned on {where}; evaluate on another split "
                "(tuning_scores shows the scores on the tuning split, named as such)"
            )

    def to_dict(self) -> dict[str, Any]:
        """The content of `thresholds.json`."""
        return {
            "split": self.split,
            "objective": self.objective,
            "target": None,
            "classes": {
                name: {
                    "threshold": float(self.values[c]),
                    "scale": 1.0,
                    "shift": 0.0,
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
            rows = list(data["classes"].values())
            values = np.array([float(row["threshold"]) for row in rows], np.float32)
            tuned = all(row["positives"] is not None and row["met"] is not None for row in rows)
            positives = np.array([row["positives"] for row in rows], np.int64) if tuned else None
            met = np.array([row["met"] for row in rows], bool) if tuned else None
            names, split, objective = list(data["classes"]), str(data["split"]), str(data["objective"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise WorkbenchError(f"thresholds.json is not as the workbench writes it ({error!r}); tune again") from None
        return cls(names, values, split, objective, positives, met, tuned_paths)


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
        for c in range(y.shape[1]):
            known = y[:, c] >= 0
            order = np.argsort(p[known, c], kind="stable")
            self.scores.append(p[known, c][order])
            hits = (y[known, c][order] == 1)[::-1].cumsum()[::-1]
            self._above.append(np.append(hits, 0))
        self.positives = np.array([above[0] for above in self._above], np.int64)
        self.known = np.array([len(s) for s in self.scores], np.int64)

    def at(self, c: int, threshold: float | np.ndarray) -> dict[str, np.ndarray]:
        """Counts (tp, fp, fn, tn), precision, recall and F1 of class `c` at one threshold or an array of them."""
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
            **ratios(tp, fp, fn),
        }


def tune_thresholds(predictions: Predictions, objective: str = "f1") -> Thresholds:
    """Choose each class's threshold on these predictions, sweeping the probabilities that occur.

    Parameters
    ----------
    objective : "f1", the best F1 of each class (the highest such threshold where several are equal)

    Returns
    -------
    Thresholds; a class without a positive keeps 0.5 and its `met` is False
    """
    if objective not in OBJECTIVES:
        raise WorkbenchError(f"objective {objective!r}; expected one of {', '.join(OBJECTIVES)}")
    curves = Curves(predictions.labels, predictions.probabilities)
    values = np.full(len(predictions.class_names), 0.5, np.float32)
    met = curves.positives > 0
    for c in np.flatnonzero(met).tolist():
        candidates = curves.scores[c][::-1]
        values[c] = candidates[np.argmax(curves.at(c, candidates)["f1"])]
    return Thresholds(
        class_names=list(predictions.class_names),
        values=values,
        split=predictions.split,
        objective=objective,
        positives=curves.positives,
        met=met,
        tuned_paths=frozenset(predictions.paths),
    )


def tuning_scores(predictions: Predictions, thresholds: Thresholds) -> dict[str, np.ndarray]:
    """Per-class scores on any split, the tuned one included: for looking while tuning, never for reporting."""
    return class_scores(predictions.labels, thresholds.decide(predictions))
