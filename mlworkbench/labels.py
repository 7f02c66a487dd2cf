"""Labels files: image paths with multi-hot labels, read as data and checked before anything else happens."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .exceptions import LabelFaults, WorkbenchError

PATH_COLUMNS = ("image_path", "image", "path", "file", "filename", "file_name")
SPLITS = ("train", "val", "test")
UNKNOWN = -1


@dataclass(frozen=True)
class LabelTable:
    """Images and their labels, row by row.

    Attributes
    ----------
    paths : object array [N] of str, relative to `root`
    class_names : list of C str, in the order of the columns of `y`
    y : int8 [N, C]; 1 present, 0 absent, -1 unknown
    lines : int64 [N], the physical line of each row in `source`
    root : folder that the paths start from
    source, sha256 : the labels file and the digest of its bytes
    classes_file : where the class names come from, or None where they are made up
    split, group : object arrays [N] of str, or None where the file gives none
    """

    paths: np.ndarray
    class_names: list[str]
    y: np.ndarray
    lines: np.ndarray
    root: Path
    source: Path
    sha256: str
    classes_file: Path | None = None
    split: np.ndarray | None = None
    group: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> "LabelTable":
        """The table of these rows (a boolean mask or indices)."""
        return replace(
            self,
            paths=self.paths[rows],
            y=self.y[rows],
            lines=self.lines[rows],
            split=None if self.split is None else self.split[rows],
            group=None if self.group is None else self.group[rows],
        )


def read_labels(
    path: str | Path,
    root: str | Path | None = None,
    classes: str | Path | None = None,
    splits: str | Path | None = None,
) -> LabelTable:
    """Read a labels file with a list column: `a.jpg,"[0, 1, 1, 0]"`, with or without a header.

    Parameters
    ----------
    path : UTF-8 CSV; the optional columns `split` and `group` are kept
    root : where image paths start (default: the folder of the labels file)
    classes : file with one class name a line (default: `classes.txt` beside the labels file, else `class_0` …)
    splits : CSV `image_path,split` that overrides the file's own splits

    Raises
    ------
    LabelFaults : all faults of the file at once, each with its line
    WorkbenchError : the file cannot be read at all

    >>> table = read_labels("data/digit_scenes/labels.csv")      # doctest: +SKIP
    >>> table.y.shape                                            # doctest: +SKIP
    (3000, 10)
    """
    source = Path(path)
    data = _read_bytes(source, "labels file")
    faults: list[tuple[int, str]] = []
    rows = list(_rows(data, source))
    if not rows:
        raise LabelFaults(source, [(1, 'the file is empty; expected rows such as a.jpg,"[0, 1, 1, 0]"')])

    columns = _header(rows[0][1])
    if columns is None:
        columns = {"image_path": 0, "labels": 1}
    else:
        twice = sorted({name for name in rows[0][1] if rows[0][1].count(name) > 1})
        faults += [(rows[0][0], f"column {name!r} stands more than once") for name in twice]
        if "labels" not in columns:
            faults.append((rows[0][0], f"no column 'labels' in the header {', '.join(rows[0][1])!r}"))
        rows = rows[1:]
        if not rows and not faults:
            faults.append((1, "the file has a header and no rows"))
    if faults:
        raise LabelFaults(source, faults)

    beside = source.parent / "classes.txt"
    names_file = Path(classes) if classes is not None else beside if beside.is_file() else None
    names = None if names_file is None else _class_names(names_file)
    width = None if names is None else len(names)
    parsed: dict[str, list[int] | str] = {}  # distinct cells are parsed once
    kept: dict[str, int] = {}
    paths: list[str] = []
    y: list[list[int]] = []
    lines: list[int] = []
    split: list[str] = []
    group: list[str] = []
    for line, cells in rows:
        if len(cells) <= max(columns.values()):
            expected = max(columns.values()) + 1
            faults.append((line, f"{len(cells)} cells; expected {expected} (is a list of labels without quotes?)"))
            continue
        image, cell = cells[columns["image_path"]].strip(), cells[columns["labels"]]
        labels = parsed.get(cell)
        if labels is None:
            labels = parsed[cell] = _parse_list(cell)
        if isinstance(labels, str):
            faults.append((line, labels))
            continue
        if width is None:
            width = len(labels)
        if not image:
            faults.append((line, "empty image path"))
        elif len(labels) != width:
            faults.append((line, f"{len(labels)} labels; expected {width}, one for each class"))
        elif image in kept:
            first = kept[image]
            if y[first] != labels:
                faults.append((line, f"{image!r} stands on line {lines[first]} with other labels; keep one of the two"))
        else:
            kept[image] = len(paths)
            paths.append(image)
            y.append(labels)
            lines.append(line)
            if "split" in columns:
                value = cells[columns["split"]].strip()
                split.append(value)
                if value not in SPLITS:
                    faults.append((line, f"split {value!r}; expected one of {', '.join(SPLITS)}"))
            if "group" in columns:
                group.append(cells[columns["group"]].strip())
    if faults:
        raise LabelFaults(source, faults)

    assert width is not None  # every row was kept, so one of them set it
    table = LabelTable(
        paths=np.array(paths, dtype=object),
        class_names=names or [f"class_{i}" for i in range(width)],
        y=np.array(y, dtype=np.int8).reshape(len(paths), width),
        lines=np.array(lines, dtype=np.int64),
        root=Path(root) if root is not None else source.parent,
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        classes_file=names_file,
        split=np.array(split, dtype=object) if split else None,
        group=np.array(group, dtype=object) if group else None,
    )
    return table if splits is None else replace(table, split=_read_splits(Path(splits), table.paths))


def write_csv(rows: Iterable[Sequence[object]], header: Sequence[str]) -> bytes:
    """A CSV as bytes (UTF-8, `\\n` line ends), for the whole-file writers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def spreadsheet_path(path: str) -> str:
    """The path with `./` before it where a spreadsheet would take it for a formula."""
    return f"./{path}" if path.startswith(tuple("=+-@")) else path


def spreadsheet_text(text: str) -> str:
    """The text with `'` before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(tuple("=+-@")) else text


def _read_bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkbenchError(f"{what} {path}: {error.strerror or error}") from None


def _rows(data: bytes, source: Path) -> Iterable[tuple[int, list[str]]]:
    """Non-empty CSV rows with the physical line on which each begins."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LabelFaults(source, [(line, "not UTF-8 text; save the file as CSV in UTF-8")]) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise LabelFaults(source, [(line, f"{error}; are the quotes balanced?")]) from None
        if any(cell.strip() for cell in cells):
            yield line, cells
        line = reader.line_num + 1


def _header(cells: list[str]) -> dict[str, int] | None:
    """Column positions by their standard name, or None where the first row is data."""
    names = [cell.strip() for cell in cells]
    for name in PATH_COLUMNS:
        if name in names:
            columns = {"image_path": names.index(name)}
            return columns | {n: names.index(n) for n in ("labels", "split", "group") if n in names}
    return None


def _parse_list(cell: str) -> list[int] | str:
    """Labels of a cell such as `[0, 1, 1, 0]`, or what is wrong with it."""
    try:
        values = json.loads(cell)
    except ValueError:
        values = None
    if not isinstance(values, list) or not values:
        return f"{_short(cell)} is no list of labels; expected a list such as [0, 1, 1, 0]"
    labels: list[int] = []
    for value in values:
        if value is None:
            labels.append(UNKNOWN)
        elif isinstance(value, (bool, int, float)) and value in (UNKNOWN, 0, 1):
            labels.append(int(value))
        else:
            return f"{_short(json.dumps(value))} is no label; expected 0, 1 or -1 (unknown)"
    return labels


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _class_names(file: Path) -> list[str]:
    names = _read_bytes(file, "classes file").decode("utf-8-sig").splitlines()
    while names and not names[-1].strip():
        names.pop()
    seen: set[str] = set()
    faults = []
    for line, name in enumerate(names, 1):
        if not name.strip():
            faults.append((line, "empty class name"))
        elif name in seen:
            faults.append((line, f"class {name!r} stands twice"))
        seen.add(name)
    if faults or not names:
        raise LabelFaults(file, faults or [(1, "the file is empty; expected one class name a line")])
    return names


def _read_splits(file: Path, paths: np.ndarray) -> np.ndarray:
    """The split of every path, from a CSV `image_path,split`."""
    known: dict[str, str] = {}
    faults = []
    for line, cells in _rows(_read_bytes(file, "splits file"), file):
        if line == 1 and cells[0].strip() in PATH_COLUMNS:
            continue
        if len(cells) < 2 or cells[1].strip() not in SPLITS:
            faults.append((line, f"expected image_path,split with a split of {', '.join(SPLITS)}"))
        else:
            known[cells[0].strip()] = cells[1].strip()
    missing = [path for path in paths if path not in known]
    if missing and not faults:
        faults.append((1, f"no split for {missing[0]!r} and {len(missing) - 1} more images of the labels file"))
    if faults:
        raise LabelFaults(file, faults)
    return np.array([known[path] for path in paths], dtype=object)
