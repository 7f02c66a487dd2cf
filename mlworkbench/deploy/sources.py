"""Sources of images to predict: an image, a folder, a glob, a list of paths or a labels file."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from ..data.images import SUFFIXES, is_image, kind_of
from ..data.labels import LabelTable
from ..exceptions import WorkbenchError
from ..paths import common_folder, near
from ..tables.columns import PATH_COLUMNS
from ..tables.rows import read_table
from ..text import is_text, short, unmark_path

log = logging.getLogger("mlworkbench")


def images_of(source: Any, root: Path | None = None) -> tuple[Path, list[str]]:
    """The root of a source and the image paths that it names, as people gave them or relative to the root."""
    if isinstance(source, LabelTable):
        return root or source.root, list(source.paths)
    if isinstance(source, pd.DataFrame):
        column = next((name for name in source if str(name).lower() in PATH_COLUMNS), None)
        if column is None:
            raise WorkbenchError(f"the DataFrame has the columns {_listed(source)}; expected one called image_path")
        source = list(source[column])
    if not isinstance(source, (str, Path)):
        return _images_named(source, root)
    path = Path(source)
    if path.is_dir():
        return path, [file.relative_to(path).as_posix() for file in _only_images(source, path.rglob("*"))]
    if path.is_file():
        if _one_image(path):
            return path.parent, [path.name]
        if other := kind_of(path):
            raise WorkbenchError(f"{path} is no image, folder, glob or file of image paths: it is {other}")
        return root or path.parent, _paths_in(path)
    files = _only_images(source, map(Path, glob.glob(str(source), recursive=True)))
    if not files:
        why = "" if path.exists() else f": there is nothing of this name{near(path)}"
        raise WorkbenchError(f"{str(source)!r} names no image, folder, glob or file of image paths{why}")
    start = Path(os.path.commonpath([file.parent for file in files]))
    return start, [file.relative_to(start).as_posix() for file in files]


def _only_images(source: object, files: Iterable[Path]) -> list[Path]:
    """Those that are called images, in order; what is passed over is told in one line."""
    found, others, first = [], Counter[str](), dict[str, Path]()
    for file in sorted(files):
        mac = file.name.startswith("._")  # what a Mac lays beside each file on a foreign disk
        text = is_text(str(file))  # else no file that is written could hold its name
        if file.suffix.lower() in SUFFIXES and not mac and text:
            found.append(file)
        elif file.is_file():
            kind = "._ files" if mac else (file.suffix or "without suffix") if text else "whose name is no UTF-8"
            others[kind] += 1
            first.setdefault(kind, file)
    passed = []
    for kind, times in others.most_common():
        what = kind_of(first[kind])
        passed.append(f"{times:,} {kind}{f' ({what})' if what else ''}")
    if passed:
        log.warning("passed over in %s: %s", source, ", ".join(passed))
    return found


def _images_named(paths: Any, root: Path | None) -> tuple[Path, list[str]]:
    """The root and paths of a list of paths; it may be of several folders."""
    named = None if isinstance(paths, (bytes, dict)) or not isinstance(paths, Iterable) else list(paths)
    if not named or not all(isinstance(path, (str, Path)) for path in named):
        raise WorkbenchError(
            f"source is {type(paths).__name__} {short(paths)}; expected the path of an image, a folder, a glob or a "
            "file of image paths, or a list of paths (save an array as PNG first)"
        )
    named = [str(path) for path in named]
    if root is not None:
        return root, named
    folders = [os.path.dirname(os.path.abspath(path)) for path in named]  # noqa: PTH100, PTH120 (links stay)
    start = Path(common_folder(folders))
    return start, [Path(os.path.relpath(path, start)).as_posix() for path in named]


def groups_of(source: Any) -> dict[str, str]:
    """What a file of image paths says of which images belong together: a group for each path; empty if nothing."""
    if not isinstance(source, (str, Path)) or not Path(source).is_file() or _one_image(Path(source)):
        return {}
    header, rows, at = _rows_in(Path(source))
    if "group" not in header:
        return {}
    place = header.index("group")
    return {unmark_path(row[at]): row[place] for row in rows if len(row) > max(at, place) and row[at]}


def _paths_in(file: Path) -> list[str]:
    """Image paths in a table, each once."""
    _, rows, at = _rows_in(file)
    return [*dict.fromkeys(unmark_path(row[at]) for row in rows if len(row) > at and row[at])]


def _rows_in(file: Path) -> tuple[list[str], list[list[str]], int]:
    """Header and rows of a table, whatever stands in it, and its column of paths, by name or by what it holds.

    Raises
    ------
    WorkbenchError : no column holds names of images, or a row cannot be read
    """
    table = read_table(file, "file of image paths")
    rows: list[list[str]] = []
    for line, cells in table.rows:
        if isinstance(cells, str):
            raise WorkbenchError(f"{file}:{line}: {cells}")
        texts = [cell if isinstance(cell, str) else "" for cell in cells]
        # Where only spaces part what stands there, they may be those of a path.
        rows.append([" ".join(texts)] if table.delimiter == " " and _called_image(texts[-1]) else texts)
    header = [cell.strip().lower() for cell in table.keys or next(iter(rows), [])]
    at = next((header.index(name) for name in PATH_COLUMNS if name in header), None)
    if at is None:  # no name that we know: the column in which most cells are called images
        named = Counter(c for row in rows[:100] for c, cell in enumerate(row) if _called_image(cell))
        if not named:
            seen = f"its columns are {_listed(header)}" if header else "it is empty"
            raise WorkbenchError(f"{file} names no image: {seen}; expected a column image_path, or one path a line")
        at = named.most_common(1)[0][0]
    if not table.keys and not _called_image(header[at]):
        del rows[0]
    return header, rows, at


def _one_image(file: Path) -> bool:
    """Whether a file is one image, or is called so, rather than a list of them."""
    return file.suffix.lower() in SUFFIXES or is_image(file)


def _called_image(text: str) -> bool:
    return os.path.splitext(text.strip())[1].lower() in SUFFIXES  # noqa: PTH122


def _listed(names: Iterable[Any]) -> str:
    return short(", ".join(map(str, names)))
