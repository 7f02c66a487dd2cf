"""Meaning of cells as the options say it: what is absent, unknown or blank there, and what parts several names."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from ..text import unmark_text
from .cells import FOREIGN_WORDS, TAG_DELIMITERS, UNKNOWN, is_blank, is_nameless, joined_names, label_of, names_of
from .columns import Told


class Meaning:
    """What the cells of a table mean, as `told`."""

    def __init__(self, told: Told):
        self.told = told
        self.blank = 0 if told.blank == "absent" else UNKNOWN
        self._met: set[str] = set()
        self.minus_told = told.negative is not None or any(label_of(value) == UNKNOWN for value in told.unknown)

    def label(self, value: Any) -> int | None:
        """1, 0 or -1 for the cell of a class, or None for what is no label."""
        if (said := self._said(value)) is not None:
            return said
        if is_blank(value):
            return self.blank
        label = label_of(value)
        if label == 0 and self.told.negative is not None and label_of(self.told.negative) == UNKNOWN:
            return None  # -1 is absent: what is 0 then?
        return FOREIGN_WORDS.get(str(value).strip().lower()) if label is None else label

    def word(self, cell: Any) -> int:
        """1 where a cell is a word that names a class, else what a blank, the negative or an unknown value means."""
        if (said := self._said(cell)) is not None:
            return said
        return self.blank if is_blank(cell) else 1

    def _said(self, value: Any) -> int | None:
        """0 or -1 where an option says so of a value."""
        if self.told.negative is not None and _same(value, self.told.negative):
            self._met.add(self.told.negative)
            return 0
        if unknown := [own for own in self.told.unknown if _same(value, own)]:
            self._met.update(unknown)
            return UNKNOWN
        return None

    @property
    def unused(self) -> list[str]:
        """Options whose values were not met in any cell."""
        told = [("--negative", self.told.negative), *(("--unknown", value) for value in self.told.unknown)]
        return [f"{flag} {value}: no label says so" for flag, value in told if value and value not in self._met]

    def names(self, cell: Any, part: Callable[[str], list[str]]) -> list[str] | None:
        """Names of what is present in a cell, [] for nothing, None where nobody says; `part` parts names in a text."""
        if is_nameless(cell):
            return [] if self.told.blank == "absent" else None
        listed = names_of(cell, loose=True)
        words = part(str(cell)) if listed is None else listed
        names = [unmark_text(word.strip()) for word in words if word.strip()]
        said = [self._said(name) for name in names]
        return None if UNKNOWN in said else [name for name, own in zip(names, said, strict=True) if own is None]

    def parting(self, cells: Iterable[Any]) -> tuple[Callable[[str], list[str]], tuple[str, list[str]] | None, int]:
        """What parts the names in these cells; what else could (see `joined_names`), and among how many names."""
        plain = [cell for cell in cells if isinstance(cell, str) and names_of(cell, loose=True) is None]
        plain = [cell for cell in plain if not is_blank(cell)]
        if self.told.delimiter is None and plain and all(re.fullmatch(r"\s*\d+([\s,;|]+\d+)*\s*", c) for c in plain):
            return (lambda cell: re.split(r"[\s,;|]+", cell.strip())), None, 0
        sign = self.told.delimiter or next((d for d in TAG_DELIMITERS if any(d in cell for cell in plain)), "|")
        names = {word.strip() for cell in plain for word in cell.split(sign)} - {""}
        doubt = joined_names(names, sign) if self.told.delimiter is None else None
        return (lambda cell: cell.split(sign)), doubt, len(names)


def _same(value: Any, told: str) -> bool:
    if str(value).strip().lower() == told.lower():
        return True
    label = label_of(value)
    return label is not None and label == label_of(told) and not is_blank(value) and not is_blank(told)
