"""Files written whole, JSON and CSV: either the old file or the new one, whatever happens meanwhile."""

import csv
import io
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .exceptions import RunFailed, WorkbenchError

TRIES, PAUSE = 21, 0.1  # a file that another program holds is asked for over two seconds
ABANDONED = 3600  # seconds after which nobody writes a temporary file any more


class Unwritable(WorkbenchError):
    """A file or folder that this user cannot write."""

    def __init__(self, path: Path, error: OSError, other: str = "place"):
        allowed = ", or allow it" if isinstance(error, PermissionError) else ""
        super().__init__(f"{path} cannot be written ({error.strerror or error}); choose another {other}{allowed}")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, whatever happens meanwhile."""
    with replacing(path) as file:
        file.write(data)


def refuse_foreign(path: Path, ours: bytes) -> None:
    """Raise WorkbenchError where a file is to be replaced that does not begin as ours do; an empty one may go.

    Parameters
    ----------
    ours : regular expression for the beginning of what the caller writes
    """
    if not path.is_file():  # nor a pipe, on which a reader would wait
        return
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError as error:
        raise Unwritable(path, error, "name") from None
    if start and not re.match(ours, start):
        raise WorkbenchError(f"{path} is there and holds something else, which would be lost; choose another name")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file to be written, which takes the place of `path` in the end; where anything fails the old one stays.

    What is no file (`/dev/stdout`, a pipe) is written as it is.

    Raises
    ------
    Unwritable : there may be no such file; or see `put`
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            yield file
        return
    temporary = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_left(path.parent, path.name)
        opened = temporary.open("xb")  # with the permissions that the user's umask gives
    except OSError as error:
        raise Unwritable(path, error) from None
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def beside(path: Path) -> Path:
    """A temporary name beside a file or folder, for what will take its place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def put(new: Path, place: Path) -> None:
    """Rename a file or folder to the place of another.

    Raises
    ------
    RunFailed : for two seconds another program has held the other, as Excel does on Windows
    """
    for rest in reversed(range(TRIES)):
        try:
            os.replace(new, place)
            return
        except PermissionError as error:
            if not rest:
                what = f"{place} cannot be replaced ({error.strerror or error})"
                raise RunFailed(f"{what}; close the program that has it open, and go on or start again") from None
        time.sleep(PAUSE)


def clear_left(folder: Path, name: str | None = None, age: float = ABANDONED) -> None:
    """Remove what killed processes left unfinished: for `name`, or for every name, and as old as this in seconds."""
    left = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{8}}")
    with suppress(OSError), os.scandir(folder) as entries:  # a folder that is not there, a file that is just going
        for entry in entries:
            if left.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime >= age:
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)  # noqa: PTH108


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole; NaN becomes null, and a byte of a file name that is no UTF-8 an escape, which is read again."""
    text = json.dumps(_nan_to_none(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, text.encode(errors="backslashreplace") + b"\n")


def read_json(path: Path) -> Any:
    """Read JSON, or raise WorkbenchError naming the file."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise WorkbenchError(f"{path} does not exist; is {path.parent} a run folder?") from None
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{path} is no readable JSON: {error}") from None


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_nan_to_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_csv(rows: Iterable[Sequence[object]], header: Sequence[str]) -> bytes:
    """A CSV as bytes (UTF-8, `\\n` line ends, text quoted), for the whole-file writers."""
    text = io.StringIO()
    returns = any("\r" in name for name in header)  # which the module forgets to quote
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerow(header)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return text.getvalue().encode()
