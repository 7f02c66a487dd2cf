"""Threshold tuner widget: each class's threshold by hand or by rule, with everything that follows from it in sight."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from ..decisions.thresholds import Thresholds
from ..decisions.tuning import (
    CONFIDENCE,
    DRAWN,
    FEW,
    OBJECTIVES,
    Curves,
    kept_threshold,
    learnt_classes,
    shared_threshold,
    tunable,
    tune_class,
)
from ..exceptions import WorkbenchError
from ..scoring.metrics import mean_defined
from ..scoring.predictions import Predictions
from ..text import shortened
from .galleries import small
from .parts import page

BESIDE = 4  # images on either side of the threshold
# Text of an objective's button; label, first value and step of its target's field.
RULES: dict[str, tuple[str, str, float, float]] = {
    "f1": ("Best F1", "", 0, 0),
    "fbeta": ("Best F-beta", "beta", 2, 0.5),
    "precision": ("Hold precision", "precision ≥", 0.8, 0.01),
    "recall": ("Hold recall", "recall ≥", 0.9, 0.01),
    "cost": ("Least cost", "a miss costs", 5, 1),
    "guarantee": ("Bound misses", "miss rate ≤", 0.1, 0.01),
    "default": ("Plain 0.5", "", 0, 0),
}


class ThresholdTuner(anywidget.AnyWidget):
    """A list of classes, the chosen one's threshold with all that follows from it, rules, undo and save.

    The page holds the chosen class's sorted probabilities and counts by itself, so that nothing waits for the kernel
    while a threshold moves. The kernel hears where it came to rest, and has the rules, the steps and the saving.
    Everything is done by keyboard too.

    Parameters
    ----------
    predictions : labelled predictions of the split to tune on
    thresholds : where to begin
    root : where the image paths start; None shows no images
    save : called with the Thresholds when Save is pressed; what it returns is told as the place. None: no such button
    """

    _esm = page("tuner", "js")
    _css = page("tuner", "css")
    fixed = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    curve = traitlets.Dict().tag(sync=True)
    images = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        predictions: Predictions,
        thresholds: Thresholds,
        root: Path | None = None,
        save: Callable[[Thresholds], object] | None = None,
    ):
        self._predictions = thresholds.calibrated(predictions)
        self._save = save
        self.names = predictions.class_names
        self.curves = Curves(self._predictions.labels, self._predictions.probabilities, predictions.groups)
        self.learnt = learnt_classes(predictions)
        self.values = thresholds.aligned(self.names).copy()
        met = dict(zip(thresholds.class_names, [] if thresholds.met is None else thresholds.met.tolist(), strict=False))
        # Of each class: objective, target, and whether that is met (None: nobody asked).
        self._how = [(thresholds.objective, thresholds.target, met.get(name)) for name in self.names]
        self._kept = self.values.copy(), list(self._how)
        self._past: list[tuple[np.ndarray, list, int]] = []
        self._shared: Callable[..., float] = cache(
            partial(shared_threshold, self.curves, classes=tunable(self.curves, self.learnt))
        )
        self._small = cache(lambda path: small(path, root) if root else "")
        self._heard = ""
        self._sort()
        self._chosen = self._order[0]
        super().__init__(
            fixed={
                "names": [shortened(name, 200) for name in self.names],
                "positives": self.curves.positives.tolist(),
                "few": FEW,
                "learnt": self.learnt,
                "macro": _defined(mean_defined(self._f1())),
                "rules": [(rule, *RULES[rule], *(OBJECTIVES.get(rule) or ("", 0))) for rule in RULES],
                "saves": save is not None,
                "shows": root is not None,
            }
        )
        self.on_msg(lambda _, message, __: self._take(message))
        self._tell()

    @property
    def thresholds(self) -> Thresholds:
        """What stands now: under the name of an objective if all classes have the same, else "by hand"."""
        alike = len({how[:2] for how in self._how}) == 1
        met = [how[2] for how in self._how]
        return Thresholds(
            class_names=list(self.names),
            values=self.values.copy(),
            split=self._predictions.split,
            objective=self._how[0][0] if alike else "by hand",
            target=self._how[0][1] if alike else None,
            positives=self.curves.positives,
            learnt=list(self.learnt),
            confidence=CONFIDENCE if alike and self._how[0][0] == "guarantee" else None,
            met=np.array(met) if alike and None not in met else None,
            calibration=self._predictions.calibration,
            tuned_paths=frozenset(self._predictions.paths),
        )

    def __repr__(self) -> str:
        return "Threshold tuner: runs in a live Jupyter; the picture below stands in its place."

    # What a person does

    def choose(self, c: int) -> None:
        """Show the class of this place in `names`, which is the one that `move` and `apply` change."""
        self._chosen = c
        self._tell()

    def move(self, threshold: float) -> None:
        """Set the chosen class's threshold by hand."""
        self._remember()
        self._set(self._chosen, threshold, ("by hand", None, None))
        self._tell()

    def apply(self, objective: str, target: float | None = None, to_all: bool = False) -> None:
        """Set the chosen class, or all, by an objective of `thresholds`, or to "default", which is 0.5."""
        chosen = range(len(self.names)) if to_all else [self._chosen]
        try:
            found = {c: self._tuned(c, objective, target, to_all) for c in chosen}
        except WorkbenchError as error:
            self._show(str(error))
            return
        self._remember()
        for c, (value, met) in found.items():
            self._set(c, value, (objective, target, met))
        if to_all:  # only then, since a list that jumps cannot be walked
            self._sort()
        unmet = [c for c in found if found[c][1] is False]
        self._tell(f"{_named(objective, target)} cannot be met for {self._called(unmet)}." if unmet else "")

    def undo(self) -> None:
        """Take back the last step, whether it was a move, a rule for one class or a rule for all."""
        if not self._past:
            self._show("Nothing to undo.")
            return
        self.values, self._how, self._chosen = self._past.pop()
        self._tell("Taken back.")

    def save(self) -> None:
        """Hand the thresholds to the `save` callable and say where they went, or why they did not."""
        if self._save is None:
            return
        try:
            place = self._save(self.thresholds)
        except (WorkbenchError, OSError) as error:
            self._show(f"Not saved: {error}")
            return
        self._kept = self.values.copy(), list(self._how)
        self._tell(f"Saved to {place}.")

    def _take(self, message: dict[str, Any]) -> None:
        """What the page sends: what to `do`, `with` what, for which `class`, and the `token` of the answer.

        Every message names its class, so that none applies to another, whatever was chosen in the meantime.
        """
        if message["do"] == "look":
            self._look(message["class"])
            return
        steps: dict[str, Callable[..., None]] = {
            "choose": self._tell, "move": self.move, "apply": self.apply, "undo": self.undo, "save": self.save,
        }  # fmt: skip
        self._heard, self._chosen = message["token"], message["class"]
        try:
            steps[message["do"]](*message["with"])
        except Exception as error:
            self._tell(f"Not done: {error}.")
            raise  # to the log, while the page can go on

    # What follows

    def _tuned(self, c: int, objective: str, target: float | None, to_all: bool) -> tuple[float, bool | None]:
        if objective == "default":
            return 0.5, None
        if to_all and objective in DRAWN and c not in tunable(self.curves, self.learnt):
            return kept_threshold(self.curves, c, self.learnt), False  # whoever asks for it alone shall have it
        shared = self._shared(objective, target) if objective in DRAWN else None
        return tune_class(self.curves, c, objective, target, shared)

    def _remember(self) -> None:
        self._past.append((self.values.copy(), list(self._how), self._chosen))

    def _set(self, c: int, threshold: float, how: tuple[str, float | None, bool | None]) -> None:
        self.values[c], self._how[c] = threshold, how

    def _f1(self) -> np.ndarray:
        return np.array([self.curves.at(c, value)["f1"] for c, value in enumerate(self.values)])

    def _sort(self) -> None:
        """What misses its target comes first, then the lowest F1; nothing can be done for a class without positives."""
        f1 = np.nan_to_num(self._f1())
        self._order = sorted(
            range(len(self.names)), key=lambda c: (self.curves.positives[c] == 0, self._how[c][2] is not False, f1[c])
        )

    def _called(self, classes: list[int]) -> str:
        names = [shortened(self.names[c], 30) for c in classes[:3]]
        return ", ".join(names) + (f" and {len(classes) - 3} more" if len(classes) > 3 else "")

    # What is shown

    def _tell(self, message: str = "") -> None:
        """Show what stands, what was done, and what of it is not saved."""
        changed = int((self.values != self._kept[0]).sum())
        if changed or self._how != self._kept[1]:
            message += f" Not saved: {changed} threshold{'' if changed == 1 else 's'} changed."
        self._show(message.strip() or "No changes.")

    def _show(self, message: str) -> None:
        c = self._chosen
        with self.hold_sync():  # a class comes with its curve
            if self.curve.get("class") != c:
                known, present = (p.astype("<f4").tobytes() for p in (self.curves.scores[c], self.curves.found(c)))
                self.curve = {"class": c, "known": known, "present": present}
            self.state = {
                "heard": self._heard,
                "chosen": c,
                "order": self._order,
                "values": self.values.tolist(),
                "f1": [_defined(f1) for f1 in self._f1()],
                "unmet": [met is False for _, _, met in self._how],
                "undoes": bool(self._past),
                "message": message,
            }

    def _look(self, c: int) -> None:
        """Show the images on either side of a class's threshold, in the order of p."""
        p, y, paths = self._predictions.probabilities[:, c], self._predictions.labels[:, c], self._predictions.paths
        order = np.argsort(p, kind="stable")
        rank = int(np.searchsorted(p[order], self.values[c], "left"))
        below, above = (
            [(paths[i], float(p[i]), int(y[i]), self._small(paths[i])) for i in order[part].tolist()]
            for part in (slice(max(0, rank - BESIDE), rank), slice(rank, rank + BESIDE))
        )
        self.images = {"class": c, "below": below, "above": above}


def _defined(score: float) -> float | None:
    """A score as JSON knows it, which has no NaN."""
    return None if np.isnan(score) else float(score)


def _named(objective: str, target: float | None) -> str:
    return RULES[objective][0] + ("" if target is None else f", {target:g},")
