"""Label tables from labels files in every canonical form, read as data and checked before anything else happens."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..exceptions import LabelFaults, WorkbenchError
from ..files import write_csv
from ..paths import is_foreign
from ..tables.ask import command
from ..tables.cells import TAG_DELIMITERS, split_of
from ..tables.columns import PATH_COLUMNS, Look, Told
from ..tables.frames import frame_file
from ..tables.layout import EXPECTED, HEADER, layout_of, no_utf8, open_canonical
from ..tables.rows import NOT_UTF8, open_regular, read_table
from ..text import mark_path, mark_text, short, unmark_path
from .rows import SPLITS, CheckedRows

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

    >>> table = read_labels("data/signs/labels.csv")      # doctest: +SKIP
    >>> table.y.shape                                            # doctest: +SKIP
    (3411, 14)
    """
    options = {"root": root, "classes": classes, "splits": splits, "tag_delimiter": tag_delimiter}
    if isinstance(path, LabelTable) and not any(value is not None for value in options.values()):
        return path
    if not isinstance(path, (str, Path)):
        with frame_file(path) as file:
            return read_labels(file, Path() if root is None else root, classes, splits, tag_delimiter)
    source = Path(path)
    if source.is_dir():
        own = source / "labels.csv"
        raise WorkbenchError(
            f"{source} is a folder and no labels file; "
            + (
                f"the one in it is {own}; mlworkbench import makes another"
                if own.is_file()
                else f"that is a table with a {HEADER} (docs/labels.md); labels of other kinds in it: {command(source)}"
            )
        )
    start = Path(root) if root is not None else source.parent
    names = (
        read_class_names(Path(classes)) if isinstance(classes, (str, Path)) else None if classes is None else [*classes]
    )
    told = Told(
        images=None if root is None else start,
        classes=tuple(names or ()),
        classes_file=Path(classes) if isinstance(classes, (str, Path)) else None,
        delimiter=tag_delimiter,
    )
    seen, rows = open_canonical(source, told)
    split_column = next((c for c in seen.splits if c.plain == SPLIT_COLUMN), None)
    read = CheckedRows(layout_of(seen, split_column), source, told)
    read.take(rows)
    if not read.paths and not read.faults:
        read.faults.append((1, f"no rows; {EXPECTED}"))
    if any(message == NOT_UTF8 for _, message in read.faults):
        raise no_utf8(source, read.faults, told)

    form, beside = read.layout.form, source.parent / "classes.txt"
    left_over = names is None and form != "columns" and beside.is_file()
    if left_over:
        names = read_class_names(beside)
    delimiter = tag_delimiter
    if form == "tags":
        delimiter = delimiter or next((d for d in TAG_DELIMITERS if any(d in str(cell) for cell in read.cells)), "|")
        names, patterns = read.tags(names, delimiter, beside if left_over else None)
    elif form == "columns":
        names, patterns = read.columns(names)
    else:
        names, patterns = read.lists(names, beside if left_over else None)
    read.tell_bad_cells()
    read.note_blanks()
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
        notes=(*read.notes, *_unread_splits(seen, source, told)),
        extra={name: np.array(values, dtype=object)[kept] for name, values in read.extra.items()},
    )
    return table if splits is None else replace(table, split=read_splits(Path(splits), table.paths))


def _unread_splits(seen: Look, source: Path, told: Told) -> list[tuple[str, str]]:
    """Columns that look like a split beside classes that were chosen by name, and are none of them."""
    return [
        (
            "split",
            f"column {c.name!r} looks like a split and is not read as one; it is by: {command(source, told=told)}",
        )
        for c in seen.splits
        if c.plain != SPLIT_COLUMN
    ]


def _with_slashes(paths: np.ndarray, root: Path, notes: list[tuple[str, str]]) -> np.ndarray:
    """Paths [N] of Windows with `/` for the backslash, where the files lie so and not as they are written."""
    backed = [row for row, path in enumerate(paths) if "\\" in path]
    some = [path for row in backed[:: max(1, len(backed) // 50)] if not is_foreign(path := paths[row], root)]
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
    rows = _rows(table, {"labels": _list_cells(table.y)})
    return {file.parent / "classes.txt": "".join(f"{name}\n" for name in table.class_names).encode(), file: rows}


def save_columns(table: LabelTable) -> bytes:
    """The bytes of a labels file with a column for each class, which needs no `classes.txt`."""
    cells = np.array(["0", "1", ""], dtype=object)[table.y.T]
    return _rows(table, dict(zip(map(mark_text, table.class_names), cells, strict=True)))


def _rows(table: LabelTable, labels: Mapping[str, Iterable[Any]]) -> bytes:
    extra = {name: values for name in ("split", "group") if (values := getattr(table, name)) is not None}
    columns = [map(mark_path, table.paths), *labels.values(), *extra.values()]
    return write_csv(zip(*columns, strict=True), ("image_path", *labels, *extra))


def _list_cells(y: np.ndarray) -> Iterator[str]:
    """A list for each row; unknown is written null, since a -1 could be meant as absent."""
    known: dict[bytes, str] = {}
    for row in np.ascontiguousarray(y):
        text = known.get(key := row.tobytes())
        if text is None:
            text = known[key] = str(row.tolist()).replace("-1", "null")
        yield text


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


def read_splits(file: Path, paths: np.ndarray) -> np.ndarray:
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
