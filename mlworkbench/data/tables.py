"""Tables: rows of CSV, TSV, JSON Lines and Parquet with their lines, which column holds what, and what a cell says."""

import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from ..exceptions import LabelFaults, WorkbenchError
from ..text import is_text, short, unmark_text

UNKNOWN = -1
TAG_DELIMITERS = ("|", ";", ",")
_WORDS = dict.fromkeys(("1", "1.0", "1.", "true"), 1)
_WORDS |= dict.fromkeys(("0", "0.0", "0.", "false"), 0)
_WORDS |= dict.fromkeys(("-1", "-1.0", "-1.", "", "null", "none", "nan"), -1)


def label_of(value: Any) -> int | None:
    """1, 0 or -1 (unknown: empty, null, -1), or None for what is no label."""
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, (bool, int, float)) and value in (0, 1, -1):
        return int(value)
    return None


def labels_of(values: Sequence[Any], place: Callable[[int], str]) -> list[int] | str:
    """Labels of some values, or what is wrong with the first that is none; `place` says where it stands."""
    labels = [label_of(value) for value in values]
    if None in labels:
        wrong = labels.index(None)
        return f"{short(values[wrong])} {place(wrong)} is no label; expected 0, 1 or -1 (unknown)"
    return labels  # type: ignore[return-value]


def parse_list(cell: Any) -> list[int] | str | None:
    """Labels of a list such as `[0, 1, 1, 0]` or `[0 1 1 0]`; None for an empty cell; a text says what is wrong."""
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in ("", "null")):
        return None
    values = cell
    if isinstance(cell, str):
        try:
            values = json.loads(cell)
        except (ValueError, RecursionError):
            text = cell.strip()
            inner = text[1:-1].strip() if text[:1] == "[" and text[-1:] == "]" else ""
            # NumPy prints spaces, Python commas and True; both are only cut into words here.
            values = [word.strip() or None for word in inner.split(",")] if "," in inner else inner.split()
            if None in values:
                values = []
    if not isinstance(values, (list, tuple)) or not values:
        return f"{short(cell)} is no list of labels; expected a list such as [0, 1, 1, 0]"
    return labels_of(values, lambda i: f"in place {i + 1}")


def split_tags(cell: Any, delimiter: str) -> list[str] | str | None:
    """Tags of a cell such as `dog|hat`; `|` alone and `[]` mean that no class is present; None for an empty cell."""
    if cell is None or cell == "":
        return None
    tags = cell.split(delimiter) if isinstance(cell, str) else cell
    if not isinstance(tags, list) or not all(isinstance(tag, str) and is_text(tag) for tag in tags):
        return f"{short(cell)} is no list of tags; expected text such as dog{delimiter}hat"
    return [unmark_text(tag.strip()) for tag in tags if tag.strip()]


Row = tuple[int, list[Any] | str]  # line, and its cells or what is wrong with it
DELIMITERS = ("\t", ",", ";")
MAX_ROWS = 20_000_000
PATH_COLUMNS = ("image_path", "image", "path", "file", "filename", "file_name")
EXPECTED = 'expected a header with image_path, or rows such as a.jpg,"[0, 1, 1, 0]"'


@dataclass(frozen=True)
class Table:
    """Rows as they stand in the file.

    Attributes
    ----------
    keys : names that the format itself gives (Parquet columns, keys of JSON objects), else None
    rows : (line, cells) in the order of the file, or (line, text) for a line that is no row
    """

    keys: list[str] | None
    rows: Iterator[Row]


@dataclass(frozen=True)
class Layout:
    """Where things stand in a row of a labels file. `form` is "list", "columns" or "tags".

    `extra` are the columns that are none of ours: (name, place).
    """

    form: str
    width: int
    path: int
    labels: tuple[int, ...]
    class_names: list[str] | None = None
    split: int | None = None
    group: int | None = None
    extra: tuple[tuple[str, int], ...] = ()


def open_regular(path: Path, what: str) -> Any:
    """Open a regular file for reading bytes; a pipe or a device would block for ever.

    Raises
    ------
    WorkbenchError : missing, not a regular file, or not readable
    """
    try:
        if path.exists() and not path.is_file():
            raise WorkbenchError(f"{what} {path} is no regular file")
        return path.open("rb")
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{what} {path}: {getattr(error, 'strerror', None) or error}") from None


def read_table(path: Path, what: str = "labels file") -> Table:
    """The rows of a file.

    Raises
    ------
    WorkbenchError : the file cannot be read at all
    """
    with open_regular(path, what) as file:
        start = file.read(1 << 16)
    if start.startswith(b"PAR1"):
        return _parquet(path)
    first = next((line for line in start.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()), b"")
    found = _json(first.decode("utf-8", "replace"))
    keys = [str(key) for key in found] if isinstance(found, dict) else None
    return Table(keys, _text_rows(path, what, keys, _delimiter(first.decode("utf-8", "replace"))))


def _delimiter(first: str) -> str:
    """The first of tab, comma and semicolon that the first row has outside quotes and brackets."""
    outside, depth, quoted = set(), 0, False
    for letter in first:
        quoted ^= letter == '"'
        depth += (letter in "[(") - (letter in "])")
        if not quoted and depth <= 0:
            outside.add(letter)
    return next((d for d in DELIMITERS if d in outside), ",")


def _json(text: str) -> Any:
    """The value of a line that is JSON, else None."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text_rows(path: Path, what: str, keys: list[str] | None, delimiter: str) -> Iterator[Row]:
    with open_regular(path, what) as binary, _decoded(binary) as lines:
        for number, line in _logical(lines):
            if not line.isascii() and not is_text(line):
                yield number, "not UTF-8 text; save the file in UTF-8"
            elif keys is not None:
                yield number, _object_cells(line, keys)
            elif isinstance(found := _json(line), list):
                yield number, found
            elif line.strip(" \t\r\n" + delimiter):
                yield number, _csv_cells(line, delimiter)


def _decoded(binary: Any) -> Any:
    # newline="" keeps every physical line, also inside quotes; a surrogate marks bytes that are no UTF-8.
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _logical(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Rows with the physical line on which each begins: a quote that is open takes the next lines in.

    Where no later line closes it, the quote is taken as a fault of its own line, and reading goes on with the next.
    """
    number = 0
    for line in lines:
        number += 1
        if line.count('"') % 2 == 0:
            yield number, line
            continue
        begun, parts = number, [line]
        for more in lines:
            number += 1
            parts.append(more)
            if more.count('"') % 2:
                yield begun, "".join(parts)
                break
        else:
            yield from enumerate(parts, begun)


def _csv_cells(line: str, delimiter: str) -> list[Any] | str:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error as error:
        return f"{error}; are the quotes balanced?"


def _object_cells(line: str, keys: list[str]) -> list[Any] | str:
    if not line.strip():
        return []
    found = _json(line)
    if not isinstance(found, dict):
        return "no JSON object, as the rows before it are"
    odd = [key for key in found if key not in keys]
    return f"key {odd[0]!r} that the first row does not have" if odd else [found.get(key) for key in keys]


def _parquet(path: Path) -> Table:
    try:
        file = pyarrow.parquet.ParquetFile(path)
        keys = [str(name) for name in file.schema_arrow.names]
        rows = file.metadata.num_rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise WorkbenchError(f"{path} is a damaged Parquet file: {str(error).splitlines()[0]}") from None
    if rows > MAX_ROWS:  # a few kilobytes of Parquet can hold billions of equal rows
        raise WorkbenchError(f"{path} has {rows:,} rows, over the limit of {MAX_ROWS:,}")
    return Table(keys, _parquet_rows(file, path))


def _parquet_rows(file: Any, path: Path) -> Iterator[Row]:
    number = 0
    try:
        for batch in file.iter_batches():
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield number, list(cells)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise WorkbenchError(f"{path} is a damaged Parquet file: {str(error).splitlines()[0]}") from None


def open_layout(source: Path) -> tuple[Layout, Iterator[Row]]:
    """The layout of a file, and its rows without the header."""
    found = read_table(source)
    rows = iter(found.rows)
    if found.keys is not None:
        return _layout(found.keys, source, 1), rows
    first = next((row for row in rows if row[1]), None)
    if first is None:
        raise LabelFaults(source, [(1, f"the file is empty; {EXPECTED}")])
    line, cells = first
    if isinstance(cells, str):
        raise LabelFaults(source, [(line, cells)])
    names = [cell.strip().lower() if isinstance(cell, str) else "" for cell in cells]
    if any(name in PATH_COLUMNS for name in names):
        return _layout([str(cell) for cell in cells], source, line), rows
    mended = mend_list(cells, 1)
    if len(mended) != 2 or not isinstance(mended[0], str) or not str(mended[1]).lstrip().startswith("["):
        hint = "; mlworkbench import reads COCO JSON" if str(cells[0]).lstrip().startswith("{") else ""
        raise LabelFaults(source, [(line, f"neither a header nor a row of labels; {EXPECTED}{hint}")])
    return Layout("list", 2, 0, (1,)), itertools.chain([first], rows)


def _layout(header: list[str], source: Path, line: int) -> Layout:
    names = [unmark_text(name.strip()) for name in header]
    lower = [name.lower() for name in names]
    path = next((lower.index(name) for name in PATH_COLUMNS if name in lower), None)
    if path is None:
        raise LabelFaults(source, [(line, f"no column of image paths among {', '.join(names)!r}; {EXPECTED}")])
    if not all(map(is_text, names)):
        raise LabelFaults(source, [(line, "a column name is not UTF-8 text; save the file in UTF-8")])
    twice = [name for name, times in Counter(names).items() if times > 1 and name]
    if twice:
        raise LabelFaults(source, [(line, f"column {name!r} stands more than once in the header") for name in twice])
    places = {name: lower.index(name) for name in ("split", "group") if name in lower and lower.index(name) != path}
    index = {0} if names[0] in ("", "Unnamed: 0") else set()  # pandas writes its row numbers so
    rest = [i for i in range(len(names)) if i not in {path, *places.values(), *index}]
    layout = Layout("list", len(names), path, (), None, places.get("split"), places.get("group"))
    for form, column in (("list", "labels"), ("tags", "tags")):
        if column in lower and (form == "list" or rest == [lower.index(column)]):
            labels = lower.index(column)
            extra = tuple((names[i], i) for i in rest if i != labels and names[i])
            return replace(layout, form=form, labels=(labels,), extra=extra)
    if not rest:
        raise LabelFaults(source, [(line, "no column of labels; expected labels, tags, or one column a class")])
    if nameless := [i for i in rest if not names[i]]:
        raise LabelFaults(source, [(line, f"column {nameless[0] + 1} has no name")])
    return replace(layout, form="columns", labels=tuple(rest), class_names=[names[i] for i in rest])


def mend_list(cells: list[Any], at: int) -> list[Any]:
    """A list that was not quoted, `a.jpg,[0, 1, 1, 0]`, put together again."""
    text = cells[at] if len(cells) > at else None
    if not isinstance(text, str) or not text.lstrip().startswith("[") or text.rstrip().endswith("]"):
        return cells
    for end in range(at + 1, len(cells)):
        if cells[end].rstrip().endswith("]"):
            return [*cells[:at], ",".join(cells[at : end + 1]), *cells[end + 1 :]]
    return cells
