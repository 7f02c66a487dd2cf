"""Rows of a labels file checked: what their label cells say, what is at fault, and what could mean two things."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import WorkbenchError
from ..tables.ask import Asks, command, joined_doubt, safe
from ..tables.cells import (
    UNKNOWN,
    Meanings,
    joined_names,
    label_of,
    list_values,
    names_of,
    parse_list,
    split_of,
    split_tags,
)
from ..tables.columns import Told
from ..tables.layout import Apart, Layout
from ..text import short

SPLITS = ("train", "val", "test")
TOLD_ONCE = 3  # faults of one cause that are told one by one; more of them are told once


class CheckedRows(Apart):
    """Rows of a labels file, what is wrong with them, and what they could mean besides."""

    def __init__(self, layout: Layout, source: Path, told: Told):
        super().__init__(layout)
        self.source, self.told = source, told
        self.notes: list[tuple[str, str]] = []

    def asks(self, what: str, options: tuple[str, ...]) -> Asks:
        """The refusal that asks what the labels mean."""
        return Asks(self.source, [what], options, "", self.told)

    def line_of(self, place: int) -> int:
        """The line of the first row with this distinct cell."""
        return self.lines[self.which.index(place)]

    def lists(self, names: list[str] | None, beside: Path | None) -> tuple[list[str], np.ndarray]:
        """Class names, and labels [K, C] of the distinct cells, each a list of labels."""
        parsed = [parse_list(cell) for cell in self.cells]
        lengths: Counter[int] = Counter()
        for labels, rows in zip(parsed, self.times.tolist(), strict=True):
            if isinstance(labels, list):
                lengths[len(labels)] += rows
        # Without names the length that most rows have is the right one, wherever the wrong ones stand.
        usual = lengths.most_common(1)[0][0] if lengths else 0
        width = len(names) if names is not None else usual
        if beside is not None and lengths and width not in lengths:
            line = self.line_of(next(i for i, labels in enumerate(parsed) if isinstance(labels, list)))
            what = f"lists of {usual} labels, but {beside} has {width} names ({short(', '.join(names or []))})"
            self.faults.append((line, f"{what}; move that file away, or give the right one with --classes FILE"))
            return names or [], np.full((len(parsed), width), UNKNOWN, np.int8)
        patterns = np.full((len(parsed), width), UNKNOWN, np.int8)
        for place, labels in enumerate(parsed):
            if isinstance(labels, str):
                self.bad[place] = labels
            elif labels is not None and len(labels) != width:
                self.bad[place] = f"{len(labels)} labels; expected {width}, one for each class"
            elif labels is not None:
                patterns[place] = labels
        self._refuse_doubt(patterns, lambda place: list_values(self.cells[place]) or ())
        return names if names is not None else [f"class_{i}" for i in range(width)], patterns

    def _refuse_doubt(
        self, patterns: np.ndarray, values: Callable[[int], Iterable[Any]], blank_told: bool = True
    ) -> None:
        """Labels that could mean two things are asked about."""
        if not self.bad and (patterns < 0).any() and (doubt := self.doubt(patterns, values, blank_told)):
            raise self.asks(*doubt)

    def columns(self, given: list[str] | None) -> tuple[list[str], np.ndarray]:
        """Class names, and labels [K, C] of the distinct cells, each a label for every class."""
        own = self.layout.class_names
        if given is not None and sorted(given) != sorted(own):
            odd = [name for name in (*given, *own) if (name in given) != (name in own)]
            raise WorkbenchError(f"class {odd[0]!r} stands in only one of the header and the classes file")
        meant = Meanings(label_of)
        labels = [meant.of(cells) for cells in self.cells]
        wrong: dict[int, list[int]] = {}
        for place, found in enumerate(labels):
            if None in found:
                for c in (c for c, label in enumerate(found) if label is None):
                    wrong.setdefault(c, []).append(place)
                labels[place] = [UNKNOWN] * len(own)
        self._tell_wrong_cells(wrong)
        patterns = np.array(labels, np.int8).reshape(len(labels), len(own))
        self._refuse_doubt(patterns, lambda place: self.cells[place], blank_told=False)
        return (own, patterns) if given is None else (given, patterns[:, [own.index(name) for name in given]])

    def _tell_wrong_cells(self, wrong: dict[int, list[int]]) -> None:
        """A fault for each column that has more than a few wrong cells, then the single ones."""
        times = self.times
        for c, places in wrong.items():
            name, rows = self.layout.class_names[c], int(times[places].sum())
            values = list(dict.fromkeys(short(self.cells[place][c]) for place in places))
            if rows > TOLD_ONCE:
                few = ", ".join(values[:3]) + ", …" * (len(values) > 3)
                what = f"{few} in column {name!r}, in {rows:,} rows, is no label; expected 0, 1 or -1 (unknown)"
                self.faults.append((min(map(self.line_of, places)), what))
                continue
            for place in places:
                what = f"{short(self.cells[place][c])} in column {name!r} is no label; expected 0, 1 or -1 (unknown)"
                self.bad.setdefault(place, what)

    def note_blanks(self) -> None:
        """Say that blank cells are taken as unknown."""
        if not self.faults and (blanks := self.blanks()):
            way = command(self.source, "--blank", "absent", told=self.told)
            self.notes.append(("blank", f"{blanks:,} blank cells are taken as unknown; if blank means absent: {way}"))

    def tags(self, names: list[str] | None, delimiter: str, beside: Path | None) -> tuple[list[str], np.ndarray]:
        """Class names, and labels [K, C] of the distinct cells, each the names of what is present."""
        if loose := [c for c in self.cells if names_of(c) is None and names_of(c, loose=True) is not None]:
            raise self.asks(f"cells such as {short(loose[0])} are lists of names in brackets, without quotes", ())
        parsed = [split_tags(cell, delimiter) for cell in self.cells]
        if names is None:
            names = sorted({tag for tags in parsed if isinstance(tags, list) for tag in tags})
            if self.told.delimiter is None and (joined := joined_names(names, delimiter)):
                raise self.asks(joined_doubt(len(names), joined), safe("--delimiter", joined[0]))
        column = {name: c for c, name in enumerate(names)}
        patterns = np.zeros((len(parsed), len(names)), np.int8)
        odd: dict[str, int] = {}
        for place, tags in enumerate(parsed):
            if tags is None:
                patterns[place] = UNKNOWN
            elif isinstance(tags, str):
                self.bad[place] = tags
            elif strange := [tag for tag in tags if tag not in column]:
                odd.setdefault(strange[0], place)
                self.bad[place] = f"tag {short(strange[0])} is no class of the classes file"
            else:
                patterns[place, [column[tag] for tag in tags]] = 1
        if beside is not None and len(odd) > TOLD_ONCE:
            line = min(map(self.line_of, odd.values()))
            self.bad = {}
            what = f"tags such as {short(next(iter(odd)))} are no class of {beside}, which has {len(names)} names"
            self.faults.append((line, f"{what}; move that file away, or give the right one with --classes FILE"))
        return names, patterns

    def splits(self) -> np.ndarray | None:
        """The split of every row [N], or None where the file gives none; a word that is no split is a fault."""
        if self.layout.split is None:
            return None
        meant = {word: split_of(word) for word in {*map(str, self.split)}}
        for word in (word for word, split in meant.items() if split is None):
            rows = [row for row, own in enumerate(self.split) if str(own) == word]
            what = f"split {short(word)} in {len(rows):,} rows; expected one of {', '.join(SPLITS)}"
            self.faults.append((self.lines[rows[0]], what))
        return np.array([meant[str(word)] for word in self.split], dtype=object)

    def without_repeats(self, patterns: np.ndarray) -> np.ndarray:
        """Rows [M] to keep, one for each path; a path with other labels on another line is a fault."""
        first = dict(zip(reversed(self.paths), range(len(self.paths) - 1, -1, -1), strict=True))
        if len(first) == len(self.paths):
            return np.arange(len(self.paths))
        keep, repeated, other = np.ones(len(self.paths), bool), [], []
        for row, path in enumerate(self.paths):
            before = first[path]
            if before == row:
                continue
            keep[row] = False
            repeated.append(row)
            if self.which[before] in self.bad or self.which[row] in self.bad:
                continue
            same = (patterns[self.which[before]] == patterns[self.which[row]]).all()
            if not same or any(values and values[before] != values[row] for values in (self.split, self.group)):
                other.append((row, before, "labels" if not same else "split or group"))
        if other:
            self._tell_conflicts(other, patterns, len(first))
        where = f"line {self.lines[repeated[0]]} and {len(repeated) - 1} more"
        self.notes.append(("repeated", f"rows that repeat another one are read once: {where}"))
        return np.flatnonzero(keep)

    def _tell_conflicts(self, other: list[tuple[int, int, str]], patterns: np.ndarray, images: int) -> None:
        """Rows of one image with other labels: the long form is asked about, else each is a fault."""
        row, before, what = other[0]
        where = f"{short(self.paths[row])} on lines {self.lines[before]} and {self.lines[row]}"
        singles = all((patterns[self.which[r]] == 1).sum() <= 1 for pair in other for r in pair[:2])
        if singles and what == "labels" and self.layout.form != "lists" and not self.faults:
            raise self.asks(
                f"{len(other):,} rows give an image another label than a row before ({where}; {images:,} images): one "
                "line for each label, so that the lines of an image are to be joined",
                (),
            )
        if len(other) > TOLD_ONCE:
            told = f"{len(other):,} rows give an image other {what} than a line before, such as {where}"
            self.faults.append((self.lines[row], f"{told}; keep one line of each image"))
            return
        for row, before, what in other:
            told = f"{short(self.paths[row])} stands on line {self.lines[before]} with other {what}; keep one"
            self.faults.append((self.lines[row], told))
