"""DataFrames as labels files: their rows go the way of a file's, through the same checks."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from ..exceptions import LabelFaults, WorkbenchError
from ..files import write_whole
from ..text import short

SAVED = "labels.jsonl"  # what a command calls the DataFrame, once it is a file


@contextmanager
def frame_file(frame: Any) -> Iterator[Path]:
    """A DataFrame as JSON Lines, for as long as this Python runs; an error meanwhile names the DataFrame instead.

    Parameters
    ----------
    frame : of pandas, or anything with `to_pandas`, such as a table of pyarrow or polars

    Raises
    ------
    WorkbenchError : no DataFrame, or one that JSON cannot hold
    """
    data = frame.to_pandas() if hasattr(frame, "to_pandas") else frame
    if not (hasattr(data, "to_json") and hasattr(data, "columns")):
        raise WorkbenchError(
            f"labels are {type(frame).__name__} {short(frame)}; expected the path of a labels file, or a DataFrame "
            "(pd.DataFrame(…)) with a column image_path and a column of labels or one for each class"
        )
    data = data.reset_index() if data.index.name is not None else data
    data = data.rename(columns=str)
    try:
        for name, column in data.items() if data.columns.is_unique else ():
            if column.dtype == object:
                data[name] = column.map(_plain)
        content = data.to_json(orient="records", lines=True, force_ascii=False).encode()
    except (TypeError, ValueError, OverflowError) as error:  # columns of one name, objects, halves of letters
        raise WorkbenchError(f"the DataFrame holds what no labels file can: {str(error).splitlines()[0]}") from None
    file = Path(_folder().name) / f"labels-{hashlib.sha256(content).hexdigest()[:8]}.jsonl"
    write_whole(file, content)
    try:
        yield file
    except LabelFaults as faults:
        told = [(line, _retold(message, file)) for line, message in faults.faults]
        raise LabelFaults(Path("DataFrame"), told) from None
    except WorkbenchError as error:
        raise WorkbenchError(_retold(str(error), file)) from None


def kept(file: Path, folder: Path) -> Path:
    """Where a labels file will stay: a DataFrame's is copied into this folder, any other is where it is."""
    if file.parent != Path(_folder().name):
        return file
    write_whole(folder / file.name, file.read_bytes())
    return folder / file.name


@cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="mlworkbench-")


def _plain(cell: Any) -> Any:
    if isinstance(cell, PurePath):
        return str(cell)
    return sorted(cell) if isinstance(cell, (set, frozenset)) else cell


def _retold(message: str, file: Path) -> str:
    """An error about the file as one about the DataFrame, whose commands work once it is saved."""
    if "mlworkbench " not in message:
        return message.replace(str(file), "the DataFrame")
    save = f"save it first: df.to_json({SAVED!r}, orient='records', lines=True)"
    return f"{message.replace(str(file), SAVED)}; {SAVED} is the DataFrame, {save}"
