"""Label tables from labels files in every canonical form, read as data and checked before anything else happens."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import LabelFaults, WorkbenchError
from ..files import write_csv
from ..text import is_text, mark_path, short, unmark_path
from .frames import frame_file
from .tables import (
    EXPECTED,
    PATH_COLUMNS,
    TAG_DELIMITERS,
    UNKNOWN,
    Layout,
    Row,
    labels_of,
    mend_list,
    open_layout,
    open_regular,
    parse_list,
    read_table,
    split_tags,
)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class LabelTable:
    """Images and their labels, row by row.

    Attributes
    ----------
    paths : object array [N] of str, relative to `root`
    class_names : list of C str, in the order of the columns of `y`
    y : int8 [N, C]; 1 present, 0 absent, -1 unknown
    lines : int64 [N], the physical line of each row in `source` (in Parquet: the row, from 1)
    root : folder that the paths start from
    source, sha256 : the labels file and the digest of its bytes
    tag_delimiter : what parted the tags, or None in every other form
    given : what `read_labels` was told beyond the file, by the names of its parameters
    split, group : object arrays [N] of str, or None where the file gives none
    notes : (kind, message) pairs about what was read and is worth knowing
    extra : object arrays [N] of str by the name of every other column beside a list of labels
    changed : (image path, class, old, new) of each label that corrections changed, see `corrections.correct`
    """

    paths: np.ndarray
    class_names: list[str]
    y: np.ndarray
    lines: np.ndarray
    root: Path
    source: Path
    sha256: str
    tag_delimiter: str | None = None
    given: dict[str, Any] = field(default_factory=dict)
    split: np.ndarray | None = None
    group: np.ndarray | None = None
    notes: tuple[tuple[str, str], ...] = ()
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    changed: tuple[tuple[str, str, int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray | slice) -> "LabelTable":
        """The table of these rows (a boolean mask, indices or a slice)."""
        return replace(
            self,
            paths=self.paths[rows],
            y=self.y[rows],
            lines=self.lines[rows],
            split=None if self.split is None else self.split[rows],
            group=None if self.group is None else self.group[rows],
            extra={name: values[rows] for name, values in self.extra.items()},
        )


def read_labels(
    path: Any,
    root: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    splits: str | Path | None = None,
    tag_delimiter: str | None = None,
) -> LabelTable:
    """Read a labels file: a list column, one column per class, or tags, as CSV, TSV, JSON Lines or Parquet.

    Parameters
    ----------
    path : the file, its form told from its content; or a DataFrame of the same columns, or a LabelTable, as it is
    root : where image paths start (default: the folder of the labels file; of a DataFrame the working folder)
    classes : file with one class name a line, or the names themselves (default: the header, else `classes.txt` beside
        the labels file, else `class_0` …; tags without one are sorted)
    splits : file `image_path,split` that overrides the labels file's own splits
    tag_delimiter : what parts tags (default: the first of `|`, `;` and `,` that occurs)

    Raises
    ------
    LabelFaults : all faults of the file at once, each with its line
    WorkbenchError : the file cannot be read at all

    >>> table = read_labels("data/digit_scenes/labels.csv")      # doctest: +SKIP
    >>> table.y.shape                                            # doctest: +SKIP
    (3003, 10)
    """
    options = {"root": root, "classes": classes, "splits": splits, "tag_delimiter": tag_delimiter}
    if isinstance(path, LabelTable) and not any(value is not None for value in options.values()):
        return path
    if not isinstance(path, (str, Path)):
        with frame_file(path) as file:
            return read_labels(file, Path() if root is None else root, classes, splits, tag_delimiter)
    source = Path(path)
    layout, rows = open_layout(source)
    read = _Rows(layout)
    read.take(rows)
    if not read.paths and not read.faults:
        read.faults.append((1, f"no rows; {EXPECTED}"))

    beside = source.parent / "classes.txt"
    if classes is None and layout.form != "columns" and beside.is_file():
        classes = beside
    names = _class_names(Path(classes)) if isinstance(classes, (str, Path)) else None if classes is None else [*classes]
    delimiter = tag_delimiter
    if layout.form == "tags":
        delimiter = delimiter or next((d for d in TAG_DELIMITERS if any(d in str(cell) for cell in read.cells)), "|")
        names, patterns = _patterns_of_tags(read, names, delimiter)
    elif layout.form == "columns":
        names, patterns = _patterns_of_columns(read, layout, names)
    else:
        names, patterns = _patterns_of_lists(read, names)
    read.tell_bad_cells()
    kept, notes = read.without_repeats(patterns)
    if read.faults:
        raise LabelFaults(source, read.faults)

    every = np.array(read.which, np.int32)[kept]
    table = LabelTable(
        paths=np.array(read.paths, dtype=object)[kept],
        class_names=names,
        y=patterns[every],
        lines=np.array(read.lines, np.int64)[kept],
        root=Path(root) if root is not None else source.parent,
        source=source,
        sha256=_digest(source),
        tag_delimiter=delimiter if layout.form == "tags" else None,
        given={name: value for name, value in options.items() if value is not None},
        split=np.array(read.split, dtype=object)[kept] if layout.split is not None else None,
        group=np.array(read.group, dtype=object)[kept] if layout.group is not None else None,
        notes=tuple(notes),
        extra={name: np.array(values, dtype=object)[kept] for name, values in read.extra.items()},
    )
    return table if splits is None else replace(table, split=_read_splits(Path(splits), table.paths))


def save_labels(table: LabelTable, file: Path) -> dict[Path, bytes]:
    """The bytes of a labels file with a list column, and of `classes.txt` beside it, for a whole-file writer.

    Raises
    ------
    WorkbenchError : a class name that one line cannot hold
    """
    for name in table.class_names:
        if not name.strip() or "\n" in name or "\r" in name:
            raise WorkbenchError(f"class name {name!r} does not fit on a line of classes.txt")
    extra = {name: values for name in ("split", "group") if (values := getattr(table, name)) is not None}
    columns = [map(mark_path, table.paths), map(str, table.y.tolist()), *extra.values()]
    rows = write_csv(zip(*columns, strict=True), ("image_path", "labels", *extra))
    return {file.parent / "classes.txt": "".join(f"{name}\n" for name in table.class_names).encode(), file: rows}


class _Rows:
    """Rows taken apart: each distinct label cell is kept once, whatever the number of rows."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.paths: list[str] = []
        self.lines, self.which = array("q"), array("i")
        self.split: list[str] = []
        self.group: list[str] = []
        self.extra: dict[str, list[str]] = {name: [] for name, _ in layout.extra}
        self.cells: list[Any] = []  # the distinct label cells
        self.bad: dict[int, str] = {}  # what is wrong with those of them that are at fault
        self.faults: list[tuple[int, str]] = []

    def take(self, rows: Iterable[Row]) -> None:
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
                value = cells[layout.split]
                if value not in SPLITS:
                    self.faults.append((line, f"split {short(value)}; expected one of {', '.join(SPLITS)}"))
                    continue
                self.split.append(value)
            if layout.group is not None:
                self.group.append(_text(cells[layout.group]))
            for name, at in layout.extra:
                self.extra[name].append(_text(cells[at]))
            self.paths.append(unmark_path(path))
            self.lines.append(line)
            self.which.append(place)

    def _fitted(self, cells: list[Any]) -> list[Any]:
        """A row of another length, mended where that is safe."""
        if self.layout.form == "list":
            cells = mend_list(cells, self.layout.labels[0])
        while len(cells) > self.layout.width and cells[-1] in ("", None):  # spreadsheets leave empty cells behind
            cells = cells[:-1]
        return cells

    def tell_bad_cells(self) -> None:
        """A fault for every row whose label cell is at fault: one pass, however many cells are."""
        pairs = zip(self.lines, self.which, strict=True)
        self.faults += [(line, self.bad[place]) for line, place in pairs if place in self.bad]

    def without_repeats(self, patterns: np.ndarray) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Rows [M] to keep, one for each path; a path with other labels on another line is a fault."""
        first = dict(zip(reversed(self.paths), range(len(self.paths) - 1, -1, -1), strict=True))
        if len(first) == len(self.paths):
            return np.arange(len(self.paths)), []
        keep, repeated = np.ones(len(self.paths), bool), []
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
                what = "labels" if not same else "split or group"
                self.faults.append(
                    (self.lines[row], f"{short(path)} stands on line {self.lines[before]} with other {what}; keep one")
                )
        where = f"line {self.lines[repeated[0]]} and {len(repeated) - 1} more" if repeated else ""
        return np.flatnonzero(keep), [("repeated", f"rows that repeat another one are read once: {where}")]


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _patterns_of_lists(read: _Rows, names: list[str] | None) -> tuple[list[str], np.ndarray]:
    parsed = [parse_list(cell) for cell in read.cells]
    rows_of = np.bincount(np.array(read.which, np.int32), minlength=len(parsed))
    lengths: Counter[int] = Counter()
    for labels, rows in zip(parsed, rows_of.tolist(), strict=True):
        if isinstance(labels, list):
            lengths[len(labels)] += rows
    # Without names the length that most rows have is the right one, wherever the wrong ones stand.
    width = len(names) if names is not None else lengths.most_common(1)[0][0] if lengths else 0
    patterns = np.full((len(parsed), width), UNKNOWN, np.int8)
    for place, labels in enumerate(parsed):
        if isinstance(labels, str):
            read.bad[place] = labels
        elif labels is not None and len(labels) != width:
            read.bad[place] = f"{len(labels)} labels; expected {width}, one for each class"
        elif labels is not None:
            patterns[place] = labels
    return names if names is not None else [f"class_{i}" for i in range(width)], patterns


def _patterns_of_columns(read: _Rows, layout: Layout, given: list[str] | None) -> tuple[list[str], np.ndarray]:
    own = layout.class_names or []
    if given is not None and sorted(given) != sorted(own):
        odd = [name for name in (*given, *own) if (name in given) != (name in own)]
        raise WorkbenchError(f"class {odd[0]!r} stands in only one of the header and the classes file")
    patterns = np.full((len(read.cells), len(own)), UNKNOWN, np.int8)
    for place, cells in enumerate(read.cells):
        labels = labels_of(cells, lambda i: f"in column {own[i]!r}")
        if isinstance(labels, str):
            read.bad[place] = labels
        else:
            patterns[place] = labels
    return (own, patterns) if given is None else (given, patterns[:, [own.index(name) for name in given]])


def _patterns_of_tags(read: _Rows, names: list[str] | None, delimiter: str) -> tuple[list[str], np.ndarray]:
    parsed = [split_tags(cell, delimiter) for cell in read.cells]
    if names is None:
        names = sorted({tag for tags in parsed if isinstance(tags, list) for tag in tags})
    column = {name: c for c, name in enumerate(names)}
    patterns = np.zeros((len(parsed), len(names)), np.int8)
    for place, tags in enumerate(parsed):
        if tags is None:
            patterns[place] = UNKNOWN
        elif isinstance(tags, str):
            read.bad[place] = tags
        elif odd := [tag for tag in tags if tag not in column]:
            read.bad[place] = f"tag {short(odd[0])} is no class of the classes file"
        else:
            patterns[place, [column[tag] for tag in tags]] = 1
    return names, patterns


def _class_names(file: Path) -> list[str]:
    with open_regular(file, "classes file") as stream:
        data = stream.read()
    try:
        names = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LabelFaults(file, [(line, "not UTF-8 text; save the file in UTF-8")]) from None
    while names and not names[-1].strip():
        names.pop()
    faults = [(line, "empty class name") for line, name in enumerate(names, 1) if not name.strip()]
    repeated = [name for name, times in Counter(names).items() if times > 1 and name.strip()]
    faults += [(len(names) - names[::-1].index(name), f"class {name!r} stands more than once") for name in repeated]
    if faults or not names:
        raise LabelFaults(file, faults or [(1, "the file is empty; expected one class name a line")])
    return names


def _read_splits(file: Path, paths: np.ndarray) -> np.ndarray:
    """The split of every path, from a file `image_path,split`."""
    found = read_table(file, "splits file")
    known: dict[str, str] = {}
    faults = []
    columns = [key.lower() for key in found.keys] if found.keys else None
    for line, cells in found.rows:
        if isinstance(cells, str):
            faults.append((line, cells))
            continue
        texts = [cell.strip() if isinstance(cell, str) else "" for cell in cells]
        if columns is None:
            columns = ["image_path", "split"]
            if lower := [text.lower() for text in texts if text.lower() in ("split", *PATH_COLUMNS)]:
                columns = [text.lower() for text in texts] if "split" in lower else columns
                continue
        if not texts:
            continue
        row = dict(zip(columns, cells, strict=False))
        path = next((row[name] for name in PATH_COLUMNS if row.get(name)), "")
        if not isinstance(path, str) or not path or row.get("split") not in SPLITS:
            faults.append((line, f"expected image_path,split with a split of {', '.join(SPLITS)}"))
        elif known.setdefault(unmark_path(path), row["split"]) != row["split"]:
            faults.append((line, f"{short(path)} stands above with another split; keep one"))
    missing = [path for path in paths if path not in known]
    if missing and not faults:
        faults.append((1, f"no split for {missing[0]!r} and {len(missing) - 1} more images of the labels file"))
    if faults:
        raise LabelFaults(file, faults)
    return np.array([known[path] for path in paths], dtype=object)


def _digest(path: Path) -> str:
    with open_regular(path, "labels file") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
