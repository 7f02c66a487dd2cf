"""Finder of images: where the files lie that a table names, and in what their names differ from those on disk."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..paths import is_foreign
from ..tables.columns import stem_of
from ..text import short
from .images import SUFFIXES

MOST_FILES = 5_000_000  # that are looked through for names which are not where they should be


class Match(NamedTuple):
    """Where an image lies: the file `folder/name`.

    `cause` is "" where it lies as named, else in what its name differs: "beginning", "below", "slash", "case" or
    "extension"; `detail` is the beginning that is not here, the folder below, or the extension.
    """

    folder: str
    name: str
    cause: str = ""
    detail: str = ""


class Folders:
    """Listings of folders, each read once."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, bool]] = {}

    def names(self, folder: str) -> dict[str, bool]:
        """Names of the files in a folder, and whether each is a link; none, where there is no such folder."""
        found = self._names.get(folder)
        if found is None:
            found = self._names[folder] = {}
            try:
                with os.scandir(folder or ".") as entries:
                    for entry in entries:
                        if entry.is_file(follow_symlinks=False):
                            found[entry.name] = False
                        elif not entry.is_dir():
                            found[entry.name] = entry.is_symlink()
            except (OSError, ValueError):  # no folder, no right to list it, a null byte: no file is known there
                pass
        return found

    def images(self, folder: str) -> int:
        """How many images lie in a folder."""
        return sum(map(_is_image, self.names(folder)))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def find_images(names: Sequence[str], places: Iterable[Path], listed: Folders) -> list[Match | None]:
    """The file of each name: as named in one of these places, else below them by the end of its path.

    Of a name that is not there as it stands, the folder parts that agree decide, then the file's name, extension and
    case apart; one that could be several files, or a file that another name is, is not found.

    Parameters
    ----------
    names : [N], relative to one of `places`, or absolute, also of another machine
    listed : takes in the listings, so that whoever counts images need not list again
    """
    folders = list(dict.fromkeys(str(place) for place in places))
    found: list[Match | None] = [None] * len(names)
    todo: Iterable[int] = range(len(names))
    for folder in folders:
        rest, known = [], {"": (folder, listed.names(folder))}
        for row in todo:
            head, _, tail = names[row].rpartition("/")
            here = known.get(head)
            if here is None:
                where = os.path.join(folder, head)  # noqa: PTH118
                here = known[head] = where, {} if is_foreign(head, folder) else listed.names(where)
            if tail in here[1]:
                found[row] = Match(here[0], tail)
            else:
                rest.append(row)
        todo = rest
    if todo and folders:
        _find_elsewhere(names, list(todo), found, folders)
    return found


def _find_elsewhere(names: Sequence[str], todo: list[int], found: list[Match | None], folders: list[str]) -> None:
    index = _index(folders)
    taken = {(match.folder, match.name) for match in found if match}
    stems = Counter(_folded(stem_of(names[row])) for row in todo)
    claimed: dict[tuple[str, str], int] = {}
    for row in todo:
        parts = [part for part in re.split(r"[\\/]+", names[row]) if part not in ("", ".")]
        stem = _folded(stem_of(names[row]))
        best = _best(parts, index.get(stem, ()), alone=stems[stem] == 1)
        if best is None or best[:2] in taken:
            continue
        folder, name, below = best
        if (folder, name) in claimed:  # two names that differ in case or extension only: which one is it?
            found[claimed[folder, name]] = None
            continue
        claimed[folder, name] = row
        found[row] = Match(folder, name, *_cause(names[row], parts, [*below, name]))


def _folded(name: str) -> str:
    """A name as it is compared: in lower case, an accent as one letter (which a Mac writes as two)."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _index(folders: list[str]) -> dict[str, list[tuple[str, str, tuple[str, ...]]]]:
    """(folder, name, parts below the place) of all images below these places, by stem in lower case."""
    index: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {}
    seen: set[str] = set()
    count = 0
    for place in folders:
        for folder, inner, files in os.walk(place, followlinks=True):
            real = os.path.realpath(folder)
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            if real in seen or count > MOST_FILES:
                inner.clear()
                continue
            seen.add(real)
            relative = os.path.relpath(folder, place)
            below = () if relative == "." else tuple(Path(relative).parts)
            for name in filter(_is_image, files):
                index.setdefault(_folded(stem_of(name)), []).append((folder, name, below))
                count += 1
    return index


def _best(
    parts: list[str], candidates: Iterable[tuple[str, str, tuple[str, ...]]], alone: bool
) -> tuple[str, str, tuple[str, ...]] | None:
    """The one candidate that agrees most with a name, or None where none or several do."""
    rated = []
    for candidate in candidates:
        _, name, below = candidate
        common = _common(parts[:-1], below)
        if common or len(parts) == 1 or alone:
            rated.append(((common, name == parts[-1], _folded(name) == _folded(parts[-1])), candidate))
    rated.sort(key=lambda pair: pair[0], reverse=True)
    if not rated or (len(rated) > 1 and rated[0][0] == rated[1][0]):
        return None
    return rated[0][1]


def _common(parts: Sequence[str], others: Sequence[str]) -> int:
    """How many parts agree at the end, case apart."""
    count = 0
    for one, other in zip(reversed(parts), reversed(others), strict=False):
        if _folded(one) != _folded(other):
            break
        count += 1
    return count


def _cause(written: str, parts: list[str], real: list[str]) -> tuple[str, str]:
    """In what a written path differs from the parts of the real one below its place."""
    agree = 1 + _common(parts[:-1], real[:-1])
    if len(parts) > agree:
        end = re.search(r"[\\/]+".join(map(re.escape, parts[-agree:])) + r"$", written)
        return "beginning", written[: end.start()].rstrip("/\\") if end else written
    if len(real) > agree:
        return "below", "/".join(real[:-agree])
    if parts == real:
        return "slash", ""
    same = _folded("/".join(parts)) == _folded("/".join(real))
    return ("case", "") if same else ("extension", os.path.splitext(real[-1])[1])  # noqa: PTH122


def why(matches: Iterable[tuple[str, Match]]) -> list[tuple[str, str, str]]:
    """(cause, detail, message) for each way in which (written name, match) pairs differ, the most frequent first.

    `detail` is empty where it is not the same for all.
    """
    by_cause: dict[str, list[tuple[str, Match]]] = {}
    for written, match in matches:
        if match.cause:
            by_cause.setdefault(match.cause, []).append((written, match))
    told = []
    for cause, pairs in sorted(by_cause.items(), key=lambda item: -len(item[1])):
        written, match = pairs[0]
        details = {match.detail for _, match in pairs}
        detail = match.detail if len(details) == 1 else ""
        where = f"{short(written)} is {short(os.path.normpath(f'{match.folder}/{match.name}'))}"
        what = {
            "beginning": f"begin with {detail or match.detail}, which is not here",
            "below": f"lie in {detail or 'folders'} below",
            "slash": "are written with \\ for /",
            "case": "are written in another case, or their accents in another way",
            "extension": "have another extension, or none, in the table",
        }[cause]
        told.append((cause, detail, f"{len(pairs):,} images {what}: {where}"))
    return told
