"""Rows of a file with their lines: what a file is by its first bytes; CSV, TSV, JSON Lines, Parquet."""

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from ..exceptions import WorkbenchError
from ..paths import near
from ..text import is_text, short

Row = tuple[int, list[Any] | str]  # line, and its cells or what is wrong with it
DELIMITERS = ("\t", ",", ";", "|", " ")
MAX_ROWS = 20_000_000
MAX_UNPACKED = 1 << 30  # bytes: a small archive can hold endless ones
NOT_UTF8 = "not UTF-8 text; save the file in UTF-8 (in Excel: file type CSV UTF-8)"
_ARCHIVES = (b"Rar!", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True)
class Table:
    """Rows as they stand in the file.

    Attributes
    ----------
    keys : names that the format itself gives (Parquet columns, keys of JSON objects), else None
    rows : (line, cells) in the order of the file, or (line, text) for a line that is no row
    delimiter : what parts the cells of a text file
    encoding : of a text file
    """

    keys: list[str] | None
    rows: Iterator[Row]
    delimiter: str = ","
    encoding: str = "utf-8"


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
    except FileNotFoundError as error:
        raise WorkbenchError(f"{what} {path}: {error.strerror}{near(path)}") from None
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{what} {path}: {getattr(error, 'strerror', None) or error}") from None


def read_table(path: Path, what: str = "labels file", foreign: bool = False) -> Table:
    """The rows of a file; gz and a zip of one file are unpacked. `foreign`: what is no UTF-8 is read as Windows-1252.

    Raises
    ------
    WorkbenchError : the file cannot be read at all, or is a workbook or an archive
    """
    opened = _opener(path, what)
    with opened() as file:
        start = file.read(1 << 16)
    if start.startswith(b"PAR1"):
        return _parquet(path)
    encoding = _encoding(start, path, what)
    if foreign and encoding == "utf-8-sig" and not _is_utf8(opened):
        encoding = "cp1252"
    lines = (line for line in start.decode(encoding, "replace").splitlines() if line.strip())
    first = next(lines, "")
    if separator := _separator(first):
        first = next(lines, "")
    found = _json(first)
    if not found and first and not any(sign in first.strip() for sign in DELIMITERS):
        first = next(lines, first)  # a lone count stands above some tables, such as CelebA's
    keys = [str(key) for key in found] if isinstance(found, dict) else None
    delimiter = separator or _delimiter(first)
    return Table(keys, _text_rows(opened, encoding, keys, delimiter), delimiter, encoding.removesuffix("-sig"))


def kind_of(path: Path, what: str = "source") -> str:
    """What a file is by its first bytes: "table", "xml" or "json" (a document, or JSON Lines).

    Raises
    ------
    WorkbenchError : as `read_table`
    """
    with _opener(path, what)() as file:
        start = file.read(1 << 16)
    if start.startswith(b"PAR1"):
        return "table"
    first = start.decode(_encoding(start, path, what), "replace").lstrip("\ufeff \t\r\n")[:1]
    return {"<": "xml", "{": "json", "[": "json"}.get(first, "table")


def _opener(path: Path, what: str) -> Callable[[], Any]:
    """Opens what a file holds, unpacked."""
    with open_regular(path, what) as file:
        start = file.read(8)
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise WorkbenchError(f"{what} {path} is an old Excel workbook; save it as CSV UTF-8 (in Excel: Save As)")
    if start.startswith(_ARCHIVES):
        raise WorkbenchError(f"{what} {path} is a packed archive; unpack it and name the file in it")
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b")):
        return lambda: open_regular(path, what)
    try:
        if start.startswith(b"\x1f\x8b"):
            with gzip.open(path) as packed:
                data = packed.read(MAX_UNPACKED + 1)
        else:
            with zipfile.ZipFile(path) as archive:
                data = _only_member(archive, path, what)
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        if isinstance(error, WorkbenchError):
            raise
        raise WorkbenchError(f"{what} {path} is a damaged archive: {error}") from None
    if len(data) > MAX_UNPACKED:
        raise WorkbenchError(f"{what} {path} holds more than {MAX_UNPACKED >> 20:,} MB; unpack it yourself")
    return lambda: io.BytesIO(data)


def _only_member(archive: zipfile.ZipFile, path: Path, what: str) -> bytes:
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if "[Content_Types].xml" in names:
        raise WorkbenchError(
            f"{what} {path} is an Excel workbook; save it as CSV UTF-8 (in Excel: Save As, file type CSV UTF-8)"
        )
    names = [name for name in names if not name.startswith("__MACOSX/") and not name.rpartition("/")[2].startswith(".")]
    if len(names) != 1:
        raise WorkbenchError(f"{what} {path} is a zip archive of {len(names):,} files; unpack it and name the one")
    with archive.open(names[0]) as packed:
        return packed.read(MAX_UNPACKED + 1)


def _encoding(start: bytes, path: Path, what: str) -> str:
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if start.count(b"\0") * 10 > len(start) > 0:
        raise WorkbenchError(f"{what} {path} is no text: it holds null bytes; save it as CSV UTF-8")
    return "utf-8-sig"


def _is_utf8(opened: Callable[[], Any]) -> bool:
    try:
        with opened() as binary, io.TextIOWrapper(binary, encoding="utf-8") as text:
            while text.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return False
    return True


def _separator(first: str) -> str | None:
    """What a first line such as `sep=;`, which Excel writes, names."""
    found = re.fullmatch(r"\ufeff?\"?sep=(.)\"?[,;]*", first.strip("\r\n"), re.IGNORECASE)
    return found[1] if found else None


def _delimiter(first: str) -> str:
    """The first of the delimiters that the first row has outside quotes and brackets."""
    outside, depth, quoted = set(), 0, False
    for letter in first.strip():
        quoted ^= letter == '"'
        depth += (letter in "[(") - (letter in "])")
        if not quoted and depth <= 0:
            outside.add(letter)
    return next((d for d in DELIMITERS if d in outside), ",")


def _json(text: str) -> Any:
    """The value of a line that is JSON, else None."""
    if text[:1] not in ("[", "{", " ", "\t") or text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text_rows(opened: Callable[[], Any], encoding: str, keys: list[str] | None, delimiter: str) -> Iterator[Row]:
    # newline="" keeps every physical line, also inside quotes; a surrogate marks bytes that are not of the encoding.
    with opened() as binary, io.TextIOWrapper(binary, encoding, "surrogateescape", newline="") as lines:
        try:
            for number, line in _logical(lines):
                if not line.isascii() and not is_text(line):
                    yield number, NOT_UTF8
                elif keys is not None:
                    yield number, _object_cells(line, keys)
                elif isinstance(found := _json(line), list):
                    yield number, found
                elif line.strip(" \t\r\n" + delimiter) and not (number == 1 and _separator(line)):
                    yield number, _csv_cells(line, delimiter)
        except UnicodeError as error:  # UTF-16 cut short
            yield 1, f"no readable text: {error}"


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
        text = line.strip() if delimiter == " " else line
        return next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error as error:
        return f"{error}; are the quotes balanced?"


def _object_cells(line: str, keys: list[str]) -> list[Any] | str:
    if not line.strip():
        return []
    found = _json(line)
    if not isinstance(found, dict):
        return "no JSON object, as the rows before it are"
    odd = [key for key in found if key not in keys]
    return f"key {short(odd[0])} that the first row does not have" if odd else [found.get(key) for key in keys]


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
