"""Label tables from labels files in every canonical form, read as data and checked before anything else happens."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import LabelFaults, WorkbenchError
from ..files import write_csv
from ..tables.ask import Asks, command, joined_doubt, label_doubt, safe
from ..tables.cells import (
    TAG_DELIMITERS,
    UNKNOWN,
    Meanings,
    is_blank,
    joined_names,
    label_of,
    list_values,
    names_of,
    parse_list,
    split_of,
    split_tags,
)
from ..tables.columns import PATH_COLUMNS, Look
from ..tables.layout import EXPECTED, Apart, Layout, layout_of, no_utf8, open_canonical
from ..tables.rows import NOT_UTF8, open_regular, read_table
from ..text import mark_path, short, unmark_path

SPLITS = ("train", "val", "test")
SPLIT_COLUMN = "split"


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
    path: str | Path,
    root: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    splits: str | Path | None = None,
    tag_delimiter: str | None = None,
) -> LabelTable:
    """Read a labels file: a list column, one column per class, or tags, as CSV, TSV, JSON Lines or Parquet.

    Parameters
    ----------
    path : the file; its form is told from its content
    root : where image paths start (default: the folder of the labels file)
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
    source = Path(path)
    if source.is_dir():
        raise WorkbenchError(f"{source} is a folder and no labels file; to make one of it: {command(source)}")
    start = Path(root) if root is not None else source.parent
    names = (
        read_class_names(Path(classes)) if isinstance(classes, (str, Path)) else None if classes is None else [*classes]
    )
    seen, rows = open_canonical(source, None if root is None else start, names)
    split_column = next((c for c in seen.splits if c.plain == SPLIT_COLUMN), None)
    read = _Rows(layout_of(seen, split_column), source, None if root is None else start)
    read.take(rows)
    if not read.paths and not read.faults:
        read.faults.append((1, f"no rows; {EXPECTED}"))
    if any(message == NOT_UTF8 for _, message in read.faults):
        raise no_utf8(source, read.faults, read.root)

    form, beside = read.layout.form, source.parent / "classes.txt"
    left_over = names is None and form != "columns" and beside.is_file()
    if left_over:
        names = read_class_names(beside)
    delimiter = tag_delimiter
    if form == "tags":
        delimiter = delimiter or next((d for d in TAG_DELIMITERS if any(d in str(cell) for cell in read.cells)), "|")
        names, patterns = read.tags(names, delimiter, tag_delimiter is not None, beside if left_over else None)
    elif form == "columns":
        names, patterns = read.columns(names)
    else:
        names, patterns = read.lists(names, beside if left_over else None)
    read.tell_bad_cells()
    kept = read.without_repeats(patterns)
    split = read.splits()
    if read.faults:
        raise LabelFaults(source, read.faults)

    every = np.array(read.which, np.int32)[kept]
    paths = _with_slashes(np.array(read.paths, dtype=object)[kept], start, read.notes)
    table = LabelTable(
        paths=paths,
        class_names=names,
        y=patterns[every],
        lines=np.array(read.lines, np.int64)[kept],
        root=start,
        source=source,
        sha256=_digest(source),
        tag_delimiter=delimiter if form == "tags" else None,
        given={name: value for name, value in options.items() if value is not None},
        split=None if split is None else split[kept],
        group=np.array(read.group, dtype=object)[kept] if read.layout.group is not None else None,
        notes=(*read.notes, *_unread_splits(seen, source)),
        extra={name: np.array(values, dtype=object)[kept] for name, values in read.extra.items()},
    )
    return table if splits is None else replace(table, split=_read_splits(Path(splits), table.paths))


def _unread_splits(seen: Look, source: Path) -> list[tuple[str, str]]:
    """Columns that look like a split beside classes that were chosen by name, and are none of them."""
    return [
        ("split", f"column {c.name!r} looks like a split and is not read as one; it is by: {command(source)}")
        for c in seen.splits
        if c.plain != SPLIT_COLUMN
    ]


def _with_slashes(paths: np.ndarray, root: Path, notes: list[tuple[str, str]]) -> np.ndarray:
    """Paths [N] of Windows with `/` for the backslash, where the files lie so and not as they are written."""
    backed = [row for row, path in enumerate(paths) if "\\" in path]
    some = [paths[row] for row in backed[:: max(1, len(backed) // 50)]]
    if not some or any((root / p).is_file() for p in some) or not any((root / _slashed(p)).is_file() for p in some):
        return paths
    paths = paths.copy()
    paths[backed] = [_slashed(path) for path in paths[backed]]
    notes.append(
        ("paths", f"{len(backed):,} paths are written with \\ and read with /, such as {short(paths[backed[0]])}")
    )
    return paths


def _slashed(path: str) -> str:
    return path.replace("\\", "/")


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
    columns = [map(mark_path, table.paths), _list_cells(table.y), *extra.values()]
    rows = write_csv(zip(*columns, strict=True), ("image_path", "labels", *extra))
    return {file.parent / "classes.txt": "".join(f"{name}\n" for name in table.class_names).encode(), file: rows}


def _list_cells(y: np.ndarray) -> Iterator[str]:
    """A list for each row; unknown is written null, since a -1 could be meant as absent."""
    known: dict[bytes, str] = {}
    for row in np.ascontiguousarray(y):
        text = known.get(key := row.tobytes())
        if text is None:
            text = known[key] = str(row.tolist()).replace("-1", "null")
        yield text


TOLD_ONCE = 3  # faults of one cause that are told one by one; more of them are told once


class _Rows(Apart):
    """Rows of a labels file, what is wrong with them, and what they could mean besides."""

    def __init__(self, layout: Layout, source: Path, root: Path | None):
        super().__init__(layout)
        self.source, self.root = source, root
        self.notes: list[tuple[str, str]] = []

    def asks(self, what: str, options: tuple[str, ...]) -> Asks:
        """The refusal that asks what the labels mean."""
        return Asks(self.source, [what], options, "", self.root)

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
        """Labels that could mean two things are asked about, see `label_doubt`."""
        times = self.times
        zeros, unknown = times @ (patterns == 0).sum(1), times @ (patterns < 0).sum(1)
        if self.bad or not unknown or zeros > unknown:
            return
        pairs = ((value, count) for place, count in enumerate(times.tolist()) for value in values(place))
        if doubt := label_doubt(pairs, blank_told):
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
        self._note_blanks(patterns)
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

    def _note_blanks(self, patterns: np.ndarray) -> None:
        """Say that blank cells are taken as unknown."""
        if (patterns < 0).any() and not self.bad and not self.faults:
            unknown = np.flatnonzero((patterns < 0).any(1)).tolist()
            times = self.times
            blanks = sum(int(times[place]) * sum(map(is_blank, self.cells[place])) for place in unknown)
            if blanks:
                way = command(self.source, "--blank", "absent", images=self.root)
                self.notes.append(
                    ("blank", f"{blanks:,} blank cells are taken as unknown; if blank means absent: {way}")
                )

    def tags(
        self, names: list[str] | None, delimiter: str, told: bool, beside: Path | None
    ) -> tuple[list[str], np.ndarray]:
        """Class names, and labels [K, C] of the distinct cells, each the names of what is present."""
        if loose := [c for c in self.cells if names_of(c) is None and names_of(c, loose=True) is not None]:
            raise self.asks(f"cells such as {short(loose[0])} are lists of names in brackets, without quotes", ())
        parsed = [split_tags(cell, delimiter) for cell in self.cells]
        if names is None:
            names = sorted({tag for tags in parsed if isinstance(tags, list) for tag in tags})
            if not told and (joined := joined_names(names, delimiter)):
                raise self.asks(joined_doubt(names, joined), safe(("--delimiter", joined[0])))
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


def read_class_names(file: Path) -> list[str]:
    """Class names of a file, one a line.

    Raises
    ------
    LabelFaults : an empty or repeated name, no UTF-8, an empty file
    """
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
        split = split_of(row.get("split"))
        if not isinstance(path, str) or not path or split is None:
            faults.append((line, f"expected image_path,split with a split of {', '.join(SPLITS)}"))
        elif known.setdefault(unmark_path(path), split) != split:
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
