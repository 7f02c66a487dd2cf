"""Cells: what one says of labels, of names, or of a split; read as data, never evaluated."""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..text import is_text, short, unmark_text

UNKNOWN = -1
TAG_DELIMITERS = ("|", ";", ",")
_WORDS = dict.fromkeys(("1", "1.0", "1.", "1,0", "true"), 1)
_WORDS |= dict.fromkeys(("0", "0.0", "0.", "0,0", "false"), 0)
_WORDS |= dict.fromkeys(("-1", "-1.0", "-1.", "-1,0", "", "null", "none", "nan"), -1)
# Words that a canonical file does not have, but that mean nothing else in a column of them.
FOREIGN_WORDS = dict.fromkeys(("yes", "y", "t", "x", "✓", "✔", "present", "positive", "pos", "+", "on"), 1)
FOREIGN_WORDS |= dict.fromkeys(("no", "n", "f", "absent", "negative", "neg", "off"), 0)
FOREIGN_WORDS |= dict.fromkeys(("unknown", "uncertain", "unsure", "?", "na", "n/a", "<na>", "u", "-"), -1)
_SPLITS = {"train": ("train", "training", "trn", "tr"), "val": ("val", "valid", "validation", "validate", "dev",
           "development", "eval", "evaluation"), "test": ("test", "testing", "tst", "holdout", "hold-out")}  # fmt: skip
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_PLAIN_LIST = re.compile(r"\[(?:[01], )*[01]\]")
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U00[01][0-9a-f]{5}|.)", re.DOTALL)
_QUOTED_LIST = re.compile(rf"\s*(?:(?:{_QUOTED})\s*,?\s*)*")


def label_of(value: Any) -> int | None:
    """1, 0 or -1 (unknown: empty, null, -1), or None for what is no label."""
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if isinstance(value, (bool, int, float)) and value in (0, 1, -1):
        return int(value)
    return None


class Meanings(dict[Any, Any]):
    """What values mean, each asked for once."""

    def __init__(self, meaning: Callable[[Any], Any]):
        super().__init__()
        self._meaning = meaning

    def __missing__(self, value: Any) -> Any:
        meant = self[value] = self._meaning(value)
        return meant

    def of(self, values: Sequence[Any]) -> list[Any]:
        """Meanings of several values; those that cannot be kept (lists, from JSON) are asked for each time."""
        try:
            return [self[value] for value in values]
        except TypeError:
            return [self._meaning(value) for value in values]


def is_blank(value: Any) -> bool:
    """Whether a cell says nothing: empty, NaN or missing (`-1` says something)."""
    return label_of(value) == UNKNOWN and str(value).strip().lower() in ("", "nan", "none", "null")


def is_nameless(cell: Any) -> bool:
    """Whether a cell of names is blank: the text `none` is a name, as likely as not, and asked about."""
    return is_blank(cell) and not (isinstance(cell, str) and cell.strip().lower() == "none")


def list_values(cell: Any) -> list[Any] | str | None:
    """Values of a list such as `[0, 1, 1, 0]` or `[0 1 1 0]`; None for an empty cell; a text says what is wrong."""
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
    return values if isinstance(values, list) else list(values)


def parse_list(cell: Any) -> list[int] | str | None:
    """Labels of a list, as `list_values` reads it; None for an empty cell; a text says what is wrong."""
    if isinstance(cell, str) and _PLAIN_LIST.fullmatch(cell):  # as nearly all are: a million take seconds otherwise
        return [digit - 48 for digit in cell[1::3].encode()]
    values = list_values(cell)
    if values is None or isinstance(values, str):
        return values
    labels = [label_of(value) for value in values]
    if None in labels:
        wrong = labels.index(None)
        return f"{short(values[wrong])} in place {wrong + 1} is no label; expected 0, 1 or -1 (unknown)"
    return labels  # type: ignore[return-value]


def mend_list(cells: list[Any], at: int) -> list[Any]:
    """A list that was not quoted, `a.jpg,[0, 1, 1, 0]`, put together again."""
    text = cells[at] if len(cells) > at else None
    if not isinstance(text, str) or not text.lstrip().startswith("[") or text.rstrip().endswith("]"):
        return cells
    for end in range(at + 1, len(cells)):
        if cells[end].rstrip().endswith("]"):
            return [*cells[:at], ",".join(cells[at : end + 1]), *cells[end + 1 :]]
    return cells


def names_of(cell: Any, loose: bool = False) -> list[str] | None:
    """Names of a list as JSON, pandas, Python's tuples and sets or NumPy write it: `['cat', 'dog']`, `{'cat'}`.

    None for what is no such list. `loose` takes names without quotes, and numbers: `[cat, dog]`, `[0 3]`.
    """
    if isinstance(cell, (list, tuple)):
        kinds = (str, int) if loose else str
        return [str(value) for value in cell] if all(isinstance(value, kinds) for value in cell) else None
    text = cell.strip() if isinstance(cell, str) else ""
    if called := re.fullmatch(r"(?:array|set|frozenset|list|tuple)\((.*?)(?:,\s*dtype=[^()]*)?\)", text, re.DOTALL):
        text = called[1].strip() or "[]"
    if not (text[:1] and text[:1] in "[({" and text[-1:] == {"[": "]", "(": ")", "{": "}"}[text[0]]):
        return None
    inner = text[1:-1]
    if _QUOTED_LIST.fullmatch(inner):
        return [_ESCAPE.sub(_unescaped, word[1:-1]) for word in re.findall(_QUOTED, inner)]
    if not loose:
        return None
    return [word for part in (inner.split(",") if "," in inner else inner.split()) if (word := part.strip(" '\"\r\n"))]


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else {"n": "\n", "r": "\r", "t": "\t"}.get(code, code)


def split_tags(cell: Any, delimiter: str) -> list[str] | str | None:
    """Tags of a cell such as `dog|hat` or `['dog', 'hat']`; `|` alone and `[]` mean that no class is present; None for
    an empty cell."""
    if cell is None or cell == "":
        return None
    tags = cell.split(delimiter) if isinstance(cell, str) else cell
    if isinstance(cell, str) and cell[-1] in "])}":
        tags = tags if (names := names_of(cell)) is None else names
    if not isinstance(tags, list) or not all(isinstance(tag, str) and is_text(tag) for tag in tags):
        return f"{short(cell)} is no list of tags; expected text such as dog{delimiter}hat"
    return [unmark_text(tag.strip()) for tag in tags if tag.strip()]


def split_of(word: Any) -> str | None:
    """The split "train", "val" or "test" that a word means in any case, such as valid, Dev, TRAINING or val2017."""
    if not isinstance(word, str):
        return None
    plain = re.sub(r"([-_ ]?(set|split|data))?([-_ ]?(19|20)\d\d)?$", "", word.strip().casefold())
    return _SPLIT_OF.get(plain)


def joined_names(names: Iterable[str], delimiter: str | None) -> tuple[str, list[str]] | None:
    """(sign, examples) where names seem to be several names joined by a sign that was not taken for the delimiter.

    That is so where a name is made of other names, or where nearly every word of the joined ones comes again.
    """
    found = {name.strip() for name in names}
    if delimiter != "\n" and (lines := sorted(name for name in found if "\n" in name)):
        return "\n", lines
    for sign in (" ", ",", ";", "|", "/", "+", "&"):
        joined = {name: words for name in found if len(words := [w.strip() for w in name.split(sign) if w.strip()]) > 1}
        if sign == delimiter or not joined:
            continue
        made = [name for name, words in joined.items() if found.issuperset(words)]
        times: dict[str, int] = {}
        for words in [*joined.values(), *([name] for name in found - set(joined))]:
            for word in set(words):
                times[word] = times.get(word, 0) + 1
        again = [name for name, words in joined.items() if all(times[word] > 1 for word in words)]
        if made or (len(again) > 2 and len(again) >= 0.8 * len(joined) and len(times) < len(found)):
            return sign, sorted(made or again)
    return None
