"""What one cell of a labels file says; text is parsed as data, never evaluated."""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

UNKNOWN = -1
TAG_DELIMITERS = ("|", ";", ",")
_WORDS = dict.fromkeys(("1", "1.0", "1.", "true"), 1)
_WORDS |= dict.fromkeys(("0", "0.0", "0.", "false"), 0)
_WORDS |= dict.fromkeys(("-1", "-1.0", "-1.", "", "null", "none", "nan"), -1)


def mark_path(path: str) -> str:
    """The path with `./` before it where a spreadsheet would take it for a formula."""
    return f"./{path}" if re.match(r"(\./)*[=+\-@]", path) else path


def unmark_path(path: str) -> str:
    """Undo `mark_path`."""
    return path[2:] if re.match(r"(\./)+[=+\-@]", path) else path


def mark_text(text: str) -> str:
    """The text with `'` before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if re.match(r"'*[=+\-@]", text) else text


def unmark_text(text: str) -> str:
    """Undo `mark_text`."""
    return text[1:] if re.match(r"'+[=+\-@]", text) else text


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


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold it; JSON can escape half of a surrogate pair, which no file name or screen takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """The text as a terminal may show it: quoted where it holds line ends, escape sequences or the like."""
    return text if text.isprintable() else repr(text)


def short(value: Any) -> str:
    """The value as an error shows it: quoted, on one line, not endless."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")
