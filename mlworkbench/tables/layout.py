"""Layout of a labels file in a canonical form, and its rows taken apart: each distinct label cell kept once."""

import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import LabelFaults, WorkbenchError
from ..text import is_text, short, unmark_path, unmark_text
from .ask import Asks, Options, doubts, doubts_of_path, label_doubt
from .cells import Meanings, is_blank, is_nameless, label_of, mend_list
from .columns import NOTHING_TOLD, PATH_COLUMNS, SAMPLE, Column, Look, Told, has_header, look, plain, stems_near
from .rows import NOT_UTF8, Row, Table, kind_of, read_table

EXPECTED = 'expected a header with image_path, or rows such as a.jpg,"[0, 1, 1, 0]"'
HEADER = "header image_path,tags and rows such as a.jpg,dog|hat"


@dataclass(frozen=True)
class Layout:
    """Where things stand in a row. `form` is "lists", "columns" or "tags".

    `extra` are the columns that are none of ours: (name, place).
    """

    form: str
    width: int
    path: int
    labels: tuple[int, ...]
    class_names: list[str]
    split: int | None = None
    group: int | None = None
    extra: tuple[tuple[str, int], ...] = ()


def open_look(
    table: Table, source: Path, folders: Iterable[Path], told: Told = NOTHING_TOLD
) -> tuple[Look, Iterator[Row]]:
    """What the columns of a table look like, and its rows without the header.

    Raises
    ------
    LabelFaults : an empty file, a header that no file may have
    """
    rows = iter(table.rows)
    there = stems_near(folders)
    header: list[str] | None
    if table.keys is not None:
        first, header = None, table.keys
    else:
        first = next((row for row in rows if row[1]), None)
        if first is None:
            raise LabelFaults(source, [(1, f"the file is empty; {EXPECTED}")])
        line, cells = first
        if isinstance(cells, str):
            raise LabelFaults(source, [(line, cells)])
        if len(cells) == 1 and str(cells[0]).isdecimal():  # a count of the rows, as CelebA has it
            line, cells = first = next((row for row in rows if row[1]), first)
        header = None if not has_header(cells, there) else [str(cell) for cell in cells]
    head = list(itertools.islice(rows, SAMPLE))
    if header is not None and first is not None and _rows_are_named(header, head):
        header = ["name", *header]
    if header is not None and first is not None and len(header) == 2 and _are_wider(header, head):
        first = header = None  # what stands above is "image_name attribute_labels", as DeepFashion has it
    sample = [
        cells for row in ([first] if header is None and first else []) + head if isinstance(cells := row[1], list)
    ]
    names = None if header is None else _checked(header, source, 1 if first is None else first[0])
    sample = [mend_list(cells, 1) if names is None else _widened(cells, len(names)) for cells in sample if cells]
    rows = itertools.chain([first] if header is None and first else [], head, rows)
    ragged = names is None and _ragged(sample)
    if ragged:
        sample = [_gathered(cells) for cells in sample]
        rows = ((line, cells if isinstance(cells, str) else _gathered(cells)) for line, cells in rows)
    return look(names, sample, there, told, ragged), rows


def _ragged(sample: list[list[Any]]) -> bool:
    """Whether rows without a header are a path and then as many names or numbers as the image has labels."""
    widths = Counter(map(len, sample)).most_common()
    labels = all(label_of(cell) is not None for cells in sample for cell in cells[1:])
    lists = any(isinstance(cell, list) or str(cell).lstrip().startswith("[") for cells in sample for cell in cells[1:2])
    return len(widths) > 1 and not lists and (not labels or widths[0][1] < 0.9 * len(sample))


def _gathered(cells: list[Any]) -> list[Any]:
    return [cells[0], "|".join(str(cell) for cell in cells[1:] if cell not in ("", None))] if cells else []


def _rows_are_named(header: list[str], head: list[Row]) -> bool:
    """Whether rows begin with a name that the header leaves out, as in CelebA's list and what R writes."""
    longer = sum(isinstance(cells, list) and len(cells) == len(header) + 1 for _, cells in head)
    return 2 * longer > len(head) and not any(plain(name) in PATH_COLUMNS for name in header)


def _are_wider(header: list[str], head: list[Row]) -> bool:
    """Whether most rows have the same number of cells, more by two than a header that is none of ours."""
    widths = Counter(len(cells) for _, cells in head if isinstance(cells, list)).most_common(1)
    ours = any(plain(name) in PATH_COLUMNS for name in header)
    return bool(widths) and not ours and widths[0][0] >= len(header) + 2 and 2 * widths[0][1] > len(head)


def _widened(cells: list[Any], width: int) -> list[Any]:
    """A list that was not quoted, put together again wherever it stands."""
    for at in range(len(cells)):
        if len(cells) > width:
            cells = mend_list(cells, at)
    return cells


def _checked(header: list[str], source: Path, line: int) -> list[str]:
    names = [unmark_text(name.strip()) for name in header]
    if not all(map(is_text, names)):
        raise LabelFaults(source, [(line, "a column name is not UTF-8 text; save the file in UTF-8")])
    if twice := [name for name, times in Counter(names).items() if times > 1 and name]:
        raise LabelFaults(source, [(line, f"column {name!r} stands more than once in the header") for name in twice])
    return names


def open_canonical(source: Path, told: Told) -> tuple[Look, Iterator[Row]]:
    """What the columns of a file in a canonical form look like, and its rows without the header.

    Raises
    ------
    Asks : another form, or columns that could mean two things; names the import command
    LabelFaults, WorkbenchError : no labels file at all
    """
    folder = told.images if told.images is not None else source.parent
    try:
        seen, rows = open_look(read_table(source), source, [folder], Told(classes=told.classes))
    except LabelFaults as refused:
        if any(message == NOT_UTF8 for _, message in refused.faults):
            raise no_utf8(source, refused.faults, told) from None
        raise
    hint = {"json": "; mlworkbench import reads JSON of COCO and others", "xml": "; mlworkbench import reads XML"}
    if seen.path is None and seen.header:
        names = ", ".join(c.name for c in seen.columns)
        what = f"no column of image paths among {short(names)}; {EXPECTED}{hint.get(kind_of(source), '')}"
        raise LabelFaults(source, [(1, what)])
    if seen.path is None or (not seen.form and not seen.words):
        what = "no column of labels; expected labels, tags, or one column a class"
        if not seen.header:
            what = f"neither a header nor a row of labels; {EXPECTED}"
        raise LabelFaults(source, [(1, what + hint.get(kind_of(source), ""))])
    if nameless := [c for c in seen.columns if not c.name and c.at and c.values]:
        raise LabelFaults(source, [(1, f"column {nameless[0].at + 1} has no name")])
    what_else, options = doubts(seen)
    chosen = bool(told.classes) and seen.form == "columns" and seen.header
    if what_else and not (chosen and not doubts_of_path(seen)):
        raise Asks(source, what_else, options, seen.seen, told)
    return seen, rows


def no_utf8(source: Path, faults: Iterable[tuple[int, str]], told: Told) -> WorkbenchError:
    """The refusal of a file that is not UTF-8, if these faults say so."""
    line = next(line for line, message in faults if message == NOT_UTF8)
    what = f"line {line} is {NOT_UTF8}, or have it read as Windows-1252, which Excel's plain CSV is"
    return Asks(source, [what], (), "", told)


def layout_of(seen: Look, split: Column | None) -> Layout:
    """Where things stand in the rows of a table that was looked at; `split` is the column that is read as such."""
    assert seen.path is not None
    ours = [seen.path, *seen.labels, split, seen.group]
    return Layout(
        seen.form,
        len(seen.columns),
        seen.path.at,
        tuple(c.at for c in seen.labels),
        [c.name for c in seen.labels],
        split.at if split else None,
        seen.group.at if seen.group else None,
        tuple((c.name, c.at) for c in seen.columns if c not in ours and c.name),
    )


class Apart:
    """Rows taken apart: each distinct label cell is kept once, whatever the number of rows."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.paths: list[str] = []
        self.lines, self.which = array("q"), array("i")
        self.split: list[Any] = []
        self.group: list[str] = []
        self.extra: dict[str, list[str]] = {name: [] for name, _ in layout.extra}
        self.cells: list[Any] = []  # the distinct label cells
        self.bad: dict[int, str] = {}  # what is wrong with those of them that are at fault
        self.faults: list[tuple[int, str]] = []

    def take(self, rows: Iterable[Row]) -> None:
        """Take rows in, in one pass."""
        layout = self.layout
        known: dict[Any, int] = {}
        labels_at = itemgetter(*layout.labels)
        single = layout.form == "columns" and len(layout.labels) == 1
        for line, cells in rows:
            if isinstance(cells, str):
                self.faults.append((line, cells))
                continue
            if not cells:
                continue
            if len(cells) != layout.width:
                cells = self._fitted(cells)
                if len(cells) != layout.width:
                    self.faults.append((line, f"{len(cells)} cells; expected {layout.width}"))
                    continue
            path, cell = cells[layout.path], labels_at(cells)
            try:
                key, place = cell, known.get(cell)
            except TypeError:  # a list, from JSON or Parquet
                key = repr(cell)
                place = known.get(key)
            if place is None:
                place = known[key] = len(self.cells)
                self.cells.append((cell,) if single else cell)
            if type(path) is not str or not path or not is_text(path):
                self.faults.append((line, "empty image path" if path in ("", None) else f"{short(path)} is no path"))
                continue
            if layout.split is not None:
                self.split.append(cells[layout.split])
            if layout.group is not None:
                self.group.append(_text(cells[layout.group]))
            for name, at in layout.extra:
                self.extra[name].append(_text(cells[at]))
            self.paths.append(unmark_path(path))
            self.lines.append(line)
            self.which.append(place)

    @property
    def times(self) -> np.ndarray:
        """How many rows have each distinct label cell, int64 [K]."""
        return np.bincount(np.array(self.which, np.int32), minlength=len(self.cells))

    def blanks(self) -> int:
        """How many cells of labels are blank, of all rows."""
        # A name may be `none`; beside names stand what a value or a confidence says of them.
        names = self.layout.form == "tags"
        blank = Meanings(is_nameless if names else is_blank)
        cells = [cell if isinstance(cell, tuple) else (str(cell),) for cell in self.cells]
        return int(self.times @ np.array([sum(blank.of(own[:1] if names else own)) for own in cells], np.int64))

    def doubt(
        self, patterns: np.ndarray, values: Callable[[int], Iterable[Any]], blank_told: bool
    ) -> tuple[str, Options] | None:
        """What labels [K, C] of the distinct cells could mean besides, see `ask.label_doubt`; `values` as written."""
        times = self.times
        if times @ (patterns == 0).sum(1) > times @ (patterns < 0).sum(1):  # 0 is there, and no rarity
            return None
        return label_doubt(
            ((v, count) for place, count in enumerate(times.tolist()) for v in values(place)), blank_told
        )

    def _fitted(self, cells: list[Any]) -> list[Any]:
        """A row of another length, mended where that is safe."""
        if self.layout.form == "lists":
            cells = mend_list(cells, self.layout.labels[0])
        while len(cells) > self.layout.width and cells[-1] in ("", None):  # spreadsheets leave empty cells behind
            cells = cells[:-1]
        return cells

    def tell_bad_cells(self) -> None:
        """A fault for every row whose label cell is at fault: one pass, however many cells are."""
        pairs = zip(self.lines, self.which, strict=True)
        self.faults += [(line, self.bad[place]) for line, place in pairs if place in self.bad]


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
