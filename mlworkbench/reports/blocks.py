"""Blocks that a section of the report is made of, and the run that it tells of."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..decisions.thresholds import Thresholds, scores_at
from ..exceptions import WorkbenchError
from ..runs import folder as folder_of
from ..runs.run import Run
from ..scoring.intervals import notes
from ..scoring.metrics import interval
from ..scoring.predictions import Predictions
from ..views.galleries import captioned, small
from ..views.galleries import picture as large
from ..views.style import environment, png_uri

CARDS = 12  # errors and suspects
ROWS = 300  # of a table: thousands of classes would make a page that no browser shows
HEADLINES = {"map": "mAP", "f1_macro": "F1 macro", "f1_micro": "F1 micro", "exact_match": "whole set right"}
Block = dict[str, Any]
NO_INTERVAL = interval(np.array([]))


class Subject:
    """A run, and what several sections ask of it."""

    def __init__(self, run: Run, name: str):
        self.run, self.name = run, name
        self.predictions, self.scores = cache(self._predictions), cache(self._scores)

    @cached_property
    def thresholds(self) -> Thresholds:
        return self.run.thresholds()

    @property
    def evaluated(self) -> bool:
        """Whether somebody has scored the test split; a page that is made again and again must not."""
        return (self.run.folder / folder_of.metrics_file("test")).exists()

    @property
    def split(self) -> str:
        """The split that tells most of new images."""
        return "test" if self.evaluated else "val"

    def keeps(self, split: str) -> bool:
        return (self.run.folder / folder_of.predictions_file(split)).exists()

    def _predictions(self, split: str) -> Predictions:
        if not self.keeps(split):
            raise WorkbenchError(f"{self.name} keeps no predictions of {split}, which a training leaves at its end.")
        return self.run.predictions(split)

    def _scores(self, split: str) -> dict[str, Any]:
        return scores_at(self.predictions(split), self.thresholds)

    def spread(self, split: str, name: str) -> dict[str, float]:
        """A score with its interval, where there is one, and what stands beside it."""
        scores = self.scores(split)
        its = scores["intervals"].get(name, NO_INTERVAL)
        return {"value": scores[name], **its, "notes": "; ".join(notes(scores, name))}

    def note(self, split: str) -> str:
        return self.thresholds.note(self.predictions(split))


def subjects_of(runs: Sequence[Run]) -> list[Subject]:
    """The runs by the names of their folders, or where two have the same, by their paths."""
    names = [run.folder.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in runs]
    return [Subject(run, name) for run, name in zip(runs, names, strict=True)]


def told(part: Iterator[Block]) -> Iterator[Block]:
    """The blocks of a part, and in place of what it does not find, why."""
    try:
        yield from part
    except WorkbenchError as error:
        yield missing(error)


def missing(error: object) -> Block:
    return {"kind": "missing", "text": str(error)}


def text(name: str, /, **values: Any) -> Block:
    """A paragraph of `report_texts.html`."""
    return {"kind": "text", "text": getattr(environment().get_template("report_texts.html").module, name)(**values)}


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], fold: bool = False) -> Block:
    """A table whose first cell of a row heads it; cells are texts, numbers, or scores `{value, low, high}`.

    Parameters
    ----------
    fold : whether only the caption is open from the start
    """
    rows = list(rows)
    caption += f", the first {ROWS} of {len(rows):,} (the run folder has all)" if len(rows) > ROWS else ""
    return {"kind": "table", "caption": caption, "columns": columns, "rows": rows[:ROWS], "fold": fold}


def picture(figure: Figure, alt: str) -> Block:
    width, height = (round(96 * side) for side in figure.get_size_inches())
    return {"kind": "picture", "uri": png_uri(figure), "alt": alt, "width": width, "height": height}


def cards(run: Run, rows: pd.DataFrame, said: str) -> Iterator[Block]:
    """The first rows of errors or suspects, with their images, which open large, where these are here."""
    try:
        root: Path | None = run.root
    except WorkbenchError as error:
        root = None
        yield missing(error)
    first = rows.head(CARDS).assign(label=rows.label.map({0: "absent", 1: "present"})).to_dict("records")
    cards = [
        {"image": root and small(row["image_path"], root, large), "row": row, "text": captioned(row, said)}
        for row in first
    ]
    yield {"kind": "cards", "cards": cards}


def plain(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
