"""Thresholds, one for each class, chosen on one split (see `tuning`) and honoured everywhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..exceptions import WorkbenchError
from ..scoring.groups import ratio
from ..scoring.metrics import class_scores, mean_defined, score
from ..scoring.predictions import Predictions, decide, refuse_others
from ..scoring.prevalence import KEY as PREVALENCE
from ..scoring.prevalence import at_prevalence
from ..text import short
from .costs import KEY as COSTS
from .costs import decision_costs

HAND = "by hand"  # the objective of what a person has set


@dataclass(frozen=True)
class Gain:
    """What tuning is expected to gain over 0.5 on new images, see `gain.tuning_gain`.

    Attributes
    ----------
    objective, target : what was tuned for
    value, low, high : mean over the classes that are tuned, and its 95 % interval; NaN where none is
    """

    objective: str
    target: float | None
    value: float
    low: float
    high: float

    @property
    def pays(self) -> bool:
        """Whether it can be told from nothing."""
        return self.low > 0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Gain":
        """Undo `dataclasses.asdict`, also where JSON has made NaN null."""
        numbers = (float("nan") if data[key] is None else float(data[key]) for key in ("value", "low", "high"))
        return cls(str(data["objective"]), data["target"], *numbers)


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
    learnt : for each class whether its ranking of the tuning split can be told from chance (see
        `tuning.learnt_classes`), None without a positive or without a negative; None as a whole where nobody looked
    confidence : with which the target holds on new images, or None for what was best on the tuning split
    jointly : whether with that confidence for all classes at once, or for each by itself
    gain : what tuning is expected to gain over 0.5, or None where nobody looked
    calibration : float64 [2, C], scale and shift of each class's logit, or None
    review : float32 [2, C] in 0..1, low and high, the threshold between: an image goes to a person for a class where
        `low <= p < high` (see `zone`); None: no image does
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
    learnt: list[bool | None] | None = None
    confidence: float | None = None
    jointly: bool = False
    gain: Gain | None = None
    calibration: np.ndarray | None = None
    review: np.ndarray | None = None
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

    def zones(self, class_names: Sequence[str]) -> np.ndarray:
        """The cuts of each class's zone, float32 [2, C] in this order; without zones both are the threshold."""
        order = self._order(class_names)
        return self.values[[order, order]] if self.review is None else self.review[:, order]

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

    def asks(self, predictions: Predictions) -> np.ndarray:
        """For which classes an image goes to a person, bool [N, C]: those in whose zone its probability lies."""
        p, (low, high) = self.calibrated(predictions).probabilities, self.zones(predictions.class_names)
        return decide(p, low) & ~decide(p, high)

    def with_values(self, values: np.ndarray, objective: str = HAND) -> "Thresholds":
        """The same thresholds with other values [C], of which nobody says that they meet a target; without zones."""
        bare = replace(self, target=None, met=None, confidence=None, jointly=False, gain=None, review=None)
        return replace(bare, values=np.asarray(values, np.float32), objective=objective)

    @property
    def not_learnt(self) -> list[str]:
        """Names of the classes whose ranking of the tuning split could not be told from chance."""
        return [name for name, its in zip(self.class_names, self.learnt or (), strict=False) if its is False]

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
            "confidence": self.confidence,
            "jointly": self.jointly,
            "gain": None if self.gain is None else asdict(self.gain),
            "run": self.run,
            "classes": {
                name: {
                    "threshold": float(self.values[c]),
                    "scale": float(scale[c]),
                    "shift": float(shift[c]),
                    "positives": None if self.positives is None else int(self.positives[c]),
                    "met": None if self.met is None else bool(self.met[c]),
                    "learnt": None if self.learnt is None else self.learnt[c],
                    **({} if self.review is None else {"review": self.review[:, c].tolist()}),
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

            gain, learnt = data.get("gain"), [row.get("learnt") for row in rows]
            if any(its not in (True, False, None) for its in learnt):
                raise ValueError("learnt is neither true, false nor null")
            review = None
            if any("review" in row for row in rows):
                review = np.array([row["review"] for row in rows], np.float32).T
                low, high = review
                if not ((low >= 0) & (low <= values) & (values <= high) & (high <= 1)).all():
                    raise ValueError("a zone that does not hold its threshold")

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
                learnt=None if all(its is None for its in learnt) else learnt,
                confidence=None if data.get("confidence") is None else float(data["confidence"]),
                jointly=bool(data.get("jointly", False)),
                gain=None if gain is None else Gain.from_dict(gain),
                calibration=None if (calibration == [[1], [0]]).all() else calibration,
                review=review,
                run=str(data.get("run", "")),
                tuned_paths=tuned_paths,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise WorkbenchError(f"thresholds.json is not as the workbench writes it ({error!r}); tune again") from None


def margin(p: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """How far probabilities lie from their thresholds, as a share of the room on that side: -1..1, below 0 absent."""
    room = np.maximum(np.where(p >= threshold, 1 - threshold, threshold), 1e-7)
    return (p - threshold) / room


def tuning_scores(predictions: Predictions, thresholds: Thresholds) -> dict[str, np.ndarray]:
    """Per-class scores on any split, the tuned one included: for looking while tuning, never for reporting."""
    return class_scores(predictions.labels, thresholds.decide(predictions))


def evaluate(
    predictions: Predictions, thresholds: Any, prevalence: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Every score of these predictions at these thresholds, see `scores_at`.

    Parameters
    ----------
    thresholds : Thresholds, or what `Thresholds.of` makes them of: a number, a sequence or a mapping

    Raises
    ------
    WorkbenchError : the thresholds were tuned on (some of) these images
    """
    thresholds = Thresholds.of(thresholds, refuse_others(predictions).class_names)
    thresholds.refuse_tuned_images(predictions)
    return scores_at(predictions, thresholds, prevalence)


def scores_at(
    predictions: Predictions, thresholds: Thresholds, prevalence: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Every score of predictions, as `metrics/SPLIT.json` holds them; whether they were tuned on is not asked.

    `costs` are among them where thresholds were chosen by cost (see `costs.decision_costs`), `not_learnt`, how many
    classes are not, where somebody looked, `review` where images of a zone go to a person (see `reviewed`), and
    `at_prevalence` what scores would be at other prevalences, where such are given (see `prevalence.at_prevalence`).
    """
    found = thresholds.calibrated(predictions)
    scores, decisions = score(found, thresholds.aligned(found.class_names)), thresholds.decide(found)
    if thresholds.objective == "cost" and thresholds.target is not None:
        scores[COSTS] = decision_costs(found, decisions, thresholds.target)
    if thresholds.learnt is not None:
        scores["not_learnt"] = len(thresholds.not_learnt)
    if thresholds.review is not None:
        scores["review"] = reviewed(found.labels, decisions, thresholds.asks(found))
    if prevalence is not None:
        scores[PREVALENCE] = at_prevalence(found, decisions, prevalence)
    return scores


def reviewed(y: np.ndarray, decisions: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """What a person adds who is asked for some labels and is right.

    Parameters
    ----------
    y : int8 [N, C] of 1, 0, -1 (left out of the score)
    decisions, asked : bool [N, C]

    Returns
    -------
    `share` of the images that go to the person, `labels` asked for one of them in the mean, and `f1_macro` afterwards
    """
    opened = asked.any(1)
    after = np.where(asked, y == 1, decisions)
    return {
        "share": float(ratio(opened.sum(), len(y))),
        "labels": float(ratio(asked.sum(), opened.sum())),
        "f1_macro": float(mean_defined(class_scores(y, after)["f1"])),
    }
