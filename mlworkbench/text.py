"""Text as people may see it: names and paths in errors, tables, CSV cells and on a terminal."""

import math
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNS = ("=", "+", "-", "@", ".")  # looked at first: a million paths are marked and unmarked


def mark_path(path: str) -> str:
    """The path with `./` before it where a spreadsheet would take it for a formula."""
    return f"./{path}" if path[:1] in _SIGNS and re.match(r"(\./)*[=+\-@]", path) else path


def unmark_path(path: str) -> str:
    """Undo `mark_path`."""
    return path[2:] if path[:1] == "." and re.match(r"(\./)+[=+\-@]", path) else path


def mark_text(text: str) -> str:
    """The text with `'` before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if re.match(r"'*[=+\-@]", text) else text


def unmark_text(text: str) -> str:
    """Undo `mark_text`."""
    return text[1:] if re.match(r"'+[=+\-@]", text) else text


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


def number(p: float) -> str:
    """A probability or threshold in three decimals, or in as many as tell it from 0 and 1."""
    text = f"{p:.3f}"
    if text in ("0.000", "1.000") and 0 < p < 1:
        if (digits := math.ceil(-math.log10(min(p, 1 - p)))) <= 6:
            return f"{p:.{digits}f}"
        return f"{p:.0e}" if p < 0.5 else f"1−{1 - p:.0e}"
    return text


def shown(value: float, digits: int = 4) -> str:
    """A score as people see it: `–` where it is undefined, `<0.001` where it would seem to be 0 and is not."""
    text = "–" if math.isnan(value) else f"{value:.{digits}f}"
    if value and text.strip("-0.") == "":
        least = f"{10**-digits:.{digits}f}"
        return f"<{least}" if value > 0 else f">-{least}"
    return text


def by_reason(told: Iterable[tuple[T, str]]) -> dict[str, list[T]]:
    """What each reason is told of, from (what, reason) pairs; the first reason first."""
    found: dict[str, list[T]] = {}
    for what, reason in told:
        found.setdefault(reason, []).append(what)
    return found


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" with the known name that is most like a word, or "" where none is."""
    return "".join(f"; did you mean {name}?" for name in get_close_matches(word, list(known), 1))


def shortened(text: object, most: int = 40) -> str:
    """Text of at most this many letters."""
    text = str(text)
    return text if len(text) <= most else text[: most - 1] + "…"
