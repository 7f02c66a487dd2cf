"""The threshold tuner: each class's threshold by hand or by rule, with everything that follows from it in sight."""

import asyncio
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np

from ..exceptions import WorkbenchError
from ..scoring.metrics import mean_defined
from ..scoring.predictions import Predictions
from ..scoring.thresholds import DRAWN, FEW, OBJECTIVES, Curves, Thresholds, shared_threshold, tune_class
from ..text import number, shortened, shown
from . import tuner_picture as picture
from .galleries import thumbnail

REST = 0.3  # seconds without a move after which images are loaded: never while a slider moves
ROWS = 18  # classes in sight at once
BESIDE = 4  # images on either side of the threshold
STEP = 0.01  # of the slider; the number field takes any number
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


class ThresholdTuner(w.VBox):
    """A list of classes, the chosen one's threshold with all that follows from it, rules, undo and save.

    Every class is sorted once. A move of the slider costs one binary search and replaces one small layer over a picture
    that stands; images, the list and the status line follow when it rests. Everything is done by keyboard too.

    Parameters
    ----------
    predictions : labelled predictions of the split to tune on
    thresholds : where to begin
    root : where the image paths start; None shows no images
    save : called with the Thresholds when Save is pressed; what it returns is told as the place. None: no such button
    """

    def __init__(
        self,
        predictions: Predictions,
        thresholds: Thresholds,
        root: Path | None = None,
        save: Callable[[Thresholds], object] | None = None,
    ):
        self._predictions = thresholds.calibrated(predictions)
        self._root, self._save = root, save
        self.names = predictions.class_names
        self.curves = Curves(self._predictions.labels, self._predictions.probabilities)
        self.values = thresholds.aligned(self.names).copy()
        met = dict(zip(thresholds.class_names, [] if thresholds.met is None else thresholds.met.tolist(), strict=False))
        # Of each class: objective, target, and whether that is met (None: nobody asked).
        self._how = [(thresholds.objective, thresholds.target, met.get(name)) for name in self.names]
        self._f1 = np.array([self._score(c) for c in range(len(self.names))])
        self._macro = float(mean_defined(self._f1))
        self._kept = self.values.copy(), list(self._how)
        self._past: list[tuple[np.ndarray, list, int]] = []
        self._shared: dict[tuple[str, float | None], float] = {}
        self._seen: dict[str, np.ndarray | None] = {}
        self._under_way = False  # moves without a rest between them are one step
        self._quiet = False  # while the kernel, not a person, sets a control
        self._task: asyncio.Task | None = None
        self._build()
        self._list(sort=True)
        self._choose(self.classes.value)
        self._images.value = self._nearest()
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
            met=np.array(met) if alike and None not in met else None,
            calibration=self._predictions.calibration,
            tuned_paths=frozenset(self._predictions.paths),
        )

    def __repr__(self) -> str:
        return "Threshold tuner: runs in a live Jupyter; the picture below stands in its place."

    # What a person does

    def move(self, threshold: float) -> None:
        """Set the chosen class's threshold by hand."""
        if not self._under_way:
            self._remember()
        self._under_way = True
        self._set(self.classes.value, threshold, ("by hand", None, None))
        self._show()
        self._later()

    def apply(self, objective: str, target: float | None = None, to_all: bool = False) -> None:
        """Set the chosen class, or all, by an objective of `thresholds`, or to "default", which is 0.5."""
        chosen = range(len(self.names)) if to_all else [self.classes.value]
        self._say("working …")
        try:
            found = {c: self._tuned(c, objective, target) for c in chosen}
        except WorkbenchError as error:
            self._say(str(error))
            return
        self._remember()
        for c, (value, met) in found.items():
            self._set(c, value, (objective, target, met))
        self._refresh(sort=to_all)
        unmet = [c for c in found if found[c][1] is False]
        self._tell(f"{_named(objective, target)} cannot be met for {self._called(unmet)}." if unmet else "")

    def undo(self) -> None:
        """Take back the last step, whether it was a move, a rule for one class or a rule for all."""
        if not self._past:
            self._say("Nothing to undo.")
            return
        self.values, self._how, c = self._past.pop()
        self._under_way = False
        self._f1 = np.array([self._score(i) for i in range(len(self.names))])
        self._refresh(sort=False, choose=c)
        self._tell("Taken back.")

    def save(self) -> None:
        """Hand the thresholds to the `save` callable and say where they went, or why they did not."""
        if self._save is None:
            return
        self._rested()  # so that the next move is a step of its own
        try:
            place = self._save(self.thresholds)
        except (WorkbenchError, OSError) as error:
            self._say(f"Not saved: {error}")
            return
        self._kept = self.values.copy(), list(self._how)
        self._tell(f"Saved to {place}.")

    # What follows

    def _tuned(self, c: int, objective: str, target: float | None) -> tuple[float, bool | None]:
        if objective == "default":
            return 0.5, None
        key = (objective, target)
        if objective in DRAWN and key not in self._shared:
            self._shared[key] = shared_threshold(self.curves, objective, target)
        return tune_class(self.curves, c, objective, target, self._shared.get(key))

    def _remember(self) -> None:
        self._past.append((self.values.copy(), list(self._how), self.classes.value))
        self._under_way = False

    def _set(self, c: int, threshold: float, how: tuple[str, float | None, bool | None]) -> None:
        self.values[c], self._how[c] = threshold, how
        self._f1[c] = self._score(c)

    def _score(self, c: int) -> float:
        return float(self.curves.at(c, self.values[c])["f1"])

    def _choose(self, c: int) -> None:
        self._by_p = np.argsort(self._predictions.probabilities[:, c], kind="stable")
        self._background.value = picture.background(self.curves, c, self.names[c])
        self._show()

    def _show(self) -> None:
        """Everything that has to follow a move at once."""
        c, macro = self.classes.value, float(mean_defined(self._f1))
        value = float(self.values[c])
        self._layer.value = picture.moving(self.curves.at(c, value), value, macro, self._macro)
        self._quiet = True
        # The page rounds its slider to a step and would send that back as a person's move: only steps are sent.
        self.slider.value = round(round(value / STEP) * STEP, 2)
        self.field.value = float(f"{value:.5g}")
        self._quiet = False

    def _refresh(self, sort: bool, choose: int | None = None) -> None:
        """Everything, after a step that may have changed any class."""
        self._list(sort, choose)
        self._choose(self.classes.value)
        self._later()

    def _later(self) -> None:
        """Do what may wait once nothing has moved for a while; at once where no event loop runs."""
        if self._task is not None:
            self._task.cancel()
        try:
            self._task = asyncio.get_running_loop().create_task(self._when_it_rests())
        except RuntimeError:
            self._rested()
            self._images.value = self._nearest()

    async def _when_it_rests(self) -> None:
        await asyncio.sleep(REST)
        self._rested()
        self._images.value = await asyncio.to_thread(self._nearest)  # decoding holds no lock: keys go on meanwhile

    def _rested(self) -> None:
        if self._under_way:
            self._under_way = False
            self._list(sort=False)
            self._tell()

    def _nearest(self) -> str:
        """The images on either side of the chosen class's threshold, in the order of p."""
        if self._root is None:
            return ""
        c, order = self.classes.value, self._by_p
        p, y, paths = self._predictions.probabilities[:, c], self._predictions.labels[:, c], self._predictions.paths
        rank = int(np.searchsorted(p[order], self.values[c], "left"))
        below, above = (
            "".join(
                picture.figure(self._pixels(paths[i]), paths[i], float(p[i]), int(y[i]), present)
                for i in order[part].tolist()
            )
            for part, present in ((slice(max(0, rank - BESIDE), rank), False), (slice(rank, rank + BESIDE), True))
        )
        return picture.strip(below, above)

    def _pixels(self, path: str) -> np.ndarray | None:
        if path not in self._seen and self._root is not None:
            try:
                self._seen[path] = thumbnail(path, self._root)
            except WorkbenchError:
                self._seen[path] = None
        return self._seen[path]

    def _called(self, classes: list[int]) -> str:
        names = [shortened(self.names[c], 30) for c in classes[:3]]
        return ", ".join(names) + (f" and {len(classes) - 3} more" if len(classes) > 3 else "")

    def _list(self, sort: bool, choose: int | None = None) -> None:
        """Write the classes anew; sorted only after a rule for all, since a list that jumps cannot be walked."""
        if sort:
            # What misses its target comes first, then the lowest F1; nothing can be done for a class without positives.
            self._sorted = sorted(
                range(len(self.names)),
                key=lambda c: (self.curves.positives[c] == 0, self._how[c][2] is not False, np.nan_to_num(self._f1[c])),
            )
        chosen = self.classes.value if choose is None else choose
        self._quiet = True
        with self.classes.hold_sync():
            self.classes.options = [(self._row(c), c) for c in self._sorted]
            self.classes.value = self._sorted[0] if chosen is None else chosen
        self._quiet = False

    def _row(self, c: int) -> str:
        positives = int(self.curves.positives[c])
        mark = "!" if self._how[c][2] is False else ("·" if positives < FEW else "")
        columns = f"{mark:1} {shown(self._f1[c], 3):>5} {number(self.values[c]):>9} {positives:>7,}  "
        return columns.replace(" ", "\u00a0") + shortened(self.names[c], 60)

    def _tell(self, message: str = "") -> None:
        """Say what was done, and what of it is not saved."""
        changed = int((self.values != self._kept[0]).sum())
        if changed or self._how != self._kept[1]:
            message += f" Not saved: {changed} threshold{'' if changed == 1 else 's'} changed."
        self._say(message or "No changes.")

    def _say(self, text: str) -> None:
        self._status.value = f"<p role='status' aria-live='polite' class='tex2jax_ignore'>{escape(text)}</p>"

    # Controls

    def _build(self) -> None:
        rows = min(ROWS, len(self.names))
        self.classes = w.Select(
            rows=rows, description="Class", layout=w.Layout(width="300px", height=f"{20 * rows + 6}px")
        ).add_class("mlw-quiet")
        self.classes.observe(self._chosen, "value")
        self._background, self._layer, self._images, self._status = (w.HTML() for _ in range(4))
        self.slider = w.FloatSlider(
            min=0, max=1, step=STEP, readout=False, description="Threshold",
            style={"description_width": f"{picture.START - 16}px"}, layout=w.Layout(width=f"{picture.SLIDER}px"),
        )  # fmt: skip
        self.field = w.BoundedFloatText(
            min=0, max=1, step=0.001, description="Threshold value", layout=w.Layout(width="76px")
        ).add_class("mlw-quiet")
        for control in (self.slider, self.field):
            control.observe(self._moved, "value")
        self.scope = w.RadioButtons(options=[("this class", False), ("all classes", True)], orientation="horizontal")
        self.buttons = {
            objective: self._button(RULES[objective][0], partial(self._by_rule, objective)) for objective in RULES
        }
        self.buttons |= {"undo": self._button("Undo", self.undo), "save": self._button("Save", self.save)}
        self.buttons["save"].button_style = "primary"
        self.targets = {
            objective: w.BoundedFloatText(
                first, min=0, max=wanted[1], step=step, description=label, tooltip=wanted[0],
                style={"description_width": "80px"}, layout=w.Layout(width="158px"),
            )
            for objective, (_, label, first, step) in RULES.items() if (wanted := OBJECTIVES.get(objective))
        }  # fmt: skip
        rules = [w.HBox([self.buttons[rule], *filter(None, [self.targets.get(rule)])]) for rule in RULES]
        last = w.HBox([self.buttons["undo"], *([self.buttons["save"]] if self._save else [])]).add_class("mlw-last")
        heads = f"  {'F1':>5} {'threshold':>9} {'present':>7}  class".replace(" ", "&nbsp;")
        note = f"<small>! target not met &nbsp; · fewer than {FEW} present</small>"
        head = w.HTML(f"{picture.STYLE}<h4>Classes, what needs attention first</h4><code>{heads}</code>")
        point = [w.Box([self._background, self._layer]).add_class("mlw-stack"), w.HBox([self.slider, self.field])]
        panes = (
            ("mlw-classes", [head, self.classes, w.HTML(note)]),
            ("mlw-point", [*point, self._images]),
            ("mlw-rules", [w.HTML("<h4>Set by a rule</h4>"), self.scope, *rules, last, self._status]),
        )
        super().__init__([w.Box([w.VBox(parts).add_class(name) for name, parts in panes]).add_class("mlw-panes")])
        self.add_class("mlw-tuner")

    def _button(self, text: str, action: Callable[[], None]) -> w.Button:
        button = w.Button(description=text, layout=w.Layout(width="130px"))
        button.on_click(lambda _: action())
        return button

    def _by_rule(self, objective: str) -> None:
        target = self.targets.get(objective)
        self.apply(objective, target and target.value, self.scope.value)

    def _chosen(self, change: dict[str, Any]) -> None:
        if not self._quiet and change["new"] is not None:
            self._rested()
            self._choose(change["new"])
            self._later()

    def _moved(self, change: dict[str, Any]) -> None:
        if not self._quiet:
            self.move(change["new"])


def _named(objective: str, target: float | None) -> str:
    return RULES[objective][0] + ("" if target is None else f", {target:g},")
