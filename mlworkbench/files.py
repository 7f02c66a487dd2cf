"""Files written whole, JSON and CSV: either the old file or the new one, whatever happens meanwhile."""

import csv
import io
import json
import math
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .exceptions import WorkbenchError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:  # with the permissions that the user's umask gives
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole; NaN becomes null."""
    text = json.dumps(_nan_to_none(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read JSON, or raise WorkbenchError naming the file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
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
