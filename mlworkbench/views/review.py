"""Label review widget: labels one after the other, each answered with one key, and every answer kept at once."""

from collections import Counter
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import PIL.Image
import traitlets

from ..analysis.suspects import Suspects
from ..data.corrections import MARKS, Correction, read_corrections, record, withdraw, write_corrections
from ..data.images import ImageFault, load_image
from ..decisions.thresholds import margin
from ..exceptions import WorkbenchError
from ..runs.run import Run
from ..text import number, shortened
from .galleries import data_uri, outlined, small
from .parts import page

PICTURE = 420  # pixels of the longer side
TILES = 12  # on a page
LATELY = 20  # of the last so many answers it is told how many were "wrong": when to stop
CLASSES = 12  # named beside the picture at most
LABELS = {1: "present", 0: "absent", -1: "unknown"}
SHOWN = ("all labels", "not answered yet", *(f"answered {mark}" for mark in MARKS))


class LabelReview(anywidget.AnyWidget):
    """Labels of a run for a person to answer: wrong (W), right (R) or unsure (U); back, next, undo and a map by key.

    An answer is in the corrections file before the next image comes, and one that was meant for an image no longer
    shown is ignored. It is kept about the labels *file*: where the run was trained with a correction of the label, to
    call it right upholds the correction. Undo takes back answers one by one, the latest first, also those of earlier
    sessions. Beside the picture stands what the run says of the image; W, R and U are about the label in question only.
    Where images have no labels, the answers are about what the run has decided.

    Parameters
    ----------
    suspects : of `find_suspects`, or of `zone_labels`
    file : the corrections file; None: `corrections.csv` in the run folder, of images without labels `answers.csv`

    Raises
    ------
    LabelFaults : the corrections file has faults
    """

    _esm = page("review", "js")
    _css = page("review", "css")
    choices = traitlets.Dict().tag(sync=True)
    page = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Run, suspects: Suspects, file: Path | None = None):
        ranking, predictions = suspects.ranking, suspects.predictions
        self.names, self._p, self._paths = predictions.class_names, predictions.probabilities, predictions.paths
        self._limits, self._present = run.thresholds().aligned(self.names), run.thresholds().decide(predictions)
        self._labelled = predictions.y is not None
        self._y = predictions.labels if self._labelled else self._present.astype(np.int8)
        self._word = "label" if self._labelled else "called"
        self._run = run
        self._file = file or run.folder / ("corrections.csv" if self._labelled else "answers.csv")
        self._rows = pd.Index(self._paths, dtype=object).get_indexer(pd.Index(ranking["image_path"]))
        self._columns = pd.Index(self.names, dtype=object).get_indexer(pd.Index(ranking["class"]))
        self._scores = ranking.score.to_numpy()
        self._read()
        self._seen: set[int] = set()
        self._mapped, self._on_page = False, [-1]
        classes = ["all classes", *(shortened(name, 60) for name in self.names)]
        super().__init__(choices={"class": classes, "show": SHOWN})
        self.on_msg(lambda _, message, __: self._take(message))
        self.choose(0, 0)

    def __repr__(self) -> str:
        return "Label review: runs in a live Jupyter; the picture below stands in its place."

    # What a person does

    def choose(self, which: int, show: int) -> None:
        """Begin anew with the suspects of all classes (0) or of one (from 1 on), all or those with such answers."""
        chosen = self._columns == which - 1 if which else np.ones(len(self._rows), bool)
        if show:
            wanted = ["", *MARKS][show - 1]
            answers = pd.Series("", range(len(chosen)), dtype=object)
            answers.update(pd.Series(self._answers, dtype=object))
            chosen = chosen & (answers == wanted).to_numpy()
        self._chosen, self._list, self._now = (which, show), np.flatnonzero(chosen), -1
        self._now = self._next_open()
        self._show()

    def answer(self, mark: str) -> None:
        """Keep "wrong", "right" or "unsure" of the label shown, and go on to the next that has no answer."""
        suspect = int(self._list[self._now])
        row, c, label = self._label(suspect)
        on_file, shown = self._on_file(row, c), int(self._y[row, c])
        truth = {"wrong": 1 - shown, "right": shown, "unsure": on_file}[mark]
        kind = mark if mark == "unsure" else "right" if truth == on_file else "wrong"
        before = record(self._file, Correction(*label, on_file, truth, kind))
        self._past.append((suspect, before))
        self._answers[suspect] = mark
        self._now = self._next_open()
        self._show(f"Kept: {mark}. {label[1]} in {label[0]}")

    def undo(self) -> None:
        """Take back the last answer, and show its image again."""
        if not self._past:
            self._show("Nothing to undo.")
            return
        suspect, before = self._past[-1]
        _, _, label = self._label(suspect)
        if before is None:
            withdraw(self._file, *label)
        else:
            record(self._file, before)
        self._past.pop()
        self._answers[suspect] = self._as_answer(suspect, before)
        if suspect not in self._list:  # but in another view
            self.choose(0, 0)
        self._now = int(np.flatnonzero(self._list == suspect)[0])
        self._show(f"Taken back. {label[1]} in {label[0]}")

    def go(self, place: int) -> None:
        """Show the suspect at this place of the list."""
        self._now = min(max(place, 0), len(self._list) - 1)
        self._show()

    def _take(self, message: dict[str, Any]) -> None:
        """What the page sends: `do`, and as `at` the view in which it was done."""
        if message.get("at") != self.view["at"]:
            return
        do = message["do"]
        try:
            if do == "choose":
                self.choose(message["class"], message["show"])
            elif do == "undo":
                self.undo()
            elif do == "go" and len(self._list):
                self.go(message["place"])
            elif do == "map":
                self._mapped = not self._mapped
                self._show()
            elif do in MARKS and self.view["picture"]:
                self.answer(do)
            else:
                self._show("There is no image to answer for.")
        except Exception as error:
            self._mapped = False
            self._show(f"Not done: {error}")
            if not isinstance(error, (WorkbenchError, OSError)):
                raise  # to the log, while the page can go on

    # What is known

    def _read(self) -> None:
        """The answers on file; where there is no file yet it begins with the run's own, for trainings to come."""
        own = self._run.corrections if self._labelled else []
        if own and not self._file.exists():
            write_corrections(self._file, own)
        self._own = {(mark.image_path, mark.class_name): mark for mark in own}
        self._answers: dict[int, str] = {}
        self._past: list[tuple[int, Correction | None]] = []
        place = np.full(self._y.shape, -1)  # of each label among the suspects
        place[self._rows, self._columns] = np.arange(len(self._rows))
        rows, columns = ({name: i for i, name in enumerate(names)} for names in (self._paths, self.names))
        for mark in read_corrections(self._file) if self._file.exists() else []:
            row, c = rows.get(mark.image_path), columns.get(mark.class_name)
            suspect = -1 if row is None or c is None else int(place[row, c])
            if suspect >= 0 and (answer := self._as_answer(suspect, mark)):
                self._answers[suspect] = answer
                self._past.append((suspect, None))

    def _label(self, suspect: int) -> tuple[int, int, tuple[str, str]]:
        row, c = int(self._rows[suspect]), int(self._columns[suspect])
        return row, c, (self._paths[row], self.names[c])

    def _on_file(self, row: int, c: int) -> int:
        """A label as the labels file has it."""
        own = self._own.get((self._paths[row], self.names[c]))
        return int(self._y[row, c]) if own is None else own.old

    def _as_answer(self, suspect: int, mark: Correction | None) -> str:
        """What a mark says of the label shown; "" for none, and for one about a label that has changed since."""
        row, c, _ = self._label(suspect)
        if mark is None or mark.old != self._on_file(row, c):
            return ""
        return mark.mark if mark.mark == "unsure" else "right" if mark.new == self._y[row, c] else "wrong"

    def _next_open(self) -> int:
        """The next place without an answer; the next at all if there is none."""
        after = range(self._now + 1, len(self._list))
        behind = min(self._now + 1, max(len(self._list) - 1, 0))
        return next((place for place in after if not self._answers.get(int(self._list[place]))), behind)

    # What is shown

    def _show(self, message: str = "") -> None:
        first = self._now - self._now % TILES
        on_page = [int(suspect) for suspect in self._list[first : first + TILES]]
        if on_page != self._on_page:
            self._on_page = on_page
            self.page = {"first": first, "tiles": [self._tile(suspect) for suspect in on_page]}
        view: dict[str, Any] = {
            "at": self.view.get("at", 0) + 1, "chosen": self._chosen, "place": self._now, "of": len(self._list),
            "message": message, "progress": self._progress(), "map": self._mapped, "picture": "",
            "undoes": bool(self._past),
        }  # fmt: skip
        if on_page:
            view |= self._said(on_page[self._now - first])
        view["answers"] = [self._answers.get(s) or ("seen" if s in self._seen else "not seen") for s in on_page]
        self.view = view

    def _tile(self, suspect: int) -> dict[str, str]:
        row, c, (path, name) = self._label(suspect)
        said = f"{self._word} {LABELS[int(self._y[row, c])]}\np {number(self._p[row, c])}"
        try:
            picture = small(path, self._run.root)
        except ImageFault:  # the images are not where they were; the picture's place says so
            picture = ""
        return {"picture": picture, "name": shortened(name, 30), "said": said}

    def _said(self, suspect: int) -> dict[str, Any]:
        """The picture of a suspect's image and all that is known of the label, in words."""
        row, c, (path, name) = self._label(suspect)
        y, p, label = self._y[row], self._p[row], LABELS[int(self._y[row, c])]
        answer = self._answers.get(suspect, "")
        truth = {"right": label, "wrong": LABELS[1 - int(y[c])], "unsure": "you are unsure"}
        far = float(margin(p[c], self._limits[c]))
        told = np.flatnonzero((y == 1) | self._present[row] | (np.arange(len(y)) == c))
        told = told[np.argsort(-p[told], kind="stable")][:CLASSES]
        return {
            "name": name,
            "word": self._word,
            "label": label,
            "path": path,
            "answer": answer,
            "facts": [
                (self._word.capitalize(), label + (", by a correction" if self._on_file(row, c) != y[c] else "")),
                ("Truth", truth.get(answer, "not answered yet")),
                ("Prediction", f"{'present' if self._present[row, c] else 'absent'}, p {number(p[c])}"),
                ("Threshold", number(self._limits[c])),
                ("Margin", f"{abs(far):.2f} of 1, {'above' if far >= 0 else 'below'} the threshold"),
                ("Place", f"number {suspect + 1:,} of {len(self._rows):,}, score {number(self._scores[suspect])}"),
            ],
            "classes": [
                (shortened(self.names[i], 40), LABELS[int(y[i])], number(p[i]), number(self._limits[i]), bool(i == c))
                for i in told
            ],
            **self._picture(suspect, path, c),
        }

    def _picture(self, suspect: int, path: str, c: int) -> dict[str, str]:
        try:
            pixels = load_image(path, self._run.root, PICTURE)
        except ImageFault as fault:
            return {"picture": "", "fault": f"This image cannot be shown: {fault}."}
        self._seen.add(suspect)
        height, width = pixels.shape[:2]
        size = max(1, PICTURE * width // max(height, width)), max(1, PICTURE * height // max(height, width))
        image = np.asarray(PIL.Image.fromarray(pixels).resize(size))
        return {"picture": data_uri(outlined(image, self._run.look(path, self.names[c])[0]) if self._mapped else image)}

    def _progress(self) -> str:
        counts = Counter(filter(None, self._answers.values()))
        told = f"{counts.total():,} of {len(self._rows):,} labels answered"
        if counts:
            told += ": " + ", ".join(f"{counts[mark]:,} {mark}" for mark in MARKS)
        last = [answer for suspect, _ in self._past[-LATELY:] if (answer := self._answers.get(suspect))]
        return told + (f". Of the last {LATELY}, {last.count('wrong')} were wrong." if len(last) == LATELY else ".")
