"""Finding of a reader: what a source says of images and labels, before any image is looked for, and its gathering."""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from ..exceptions import WorkbenchError
from ..tables.columns import Told
from ..text import is_text, short

__all__ = ["Found", "Gathering", "Told"]

MOST_LABELS = 4_000_000_000  # images times classes: 4 GB
HEEDED = {
    "images",
    "out",
    "root",
    "image_suffix",
    "strip_prefix",
    "columns",
    "classes",
    "classes_file",
    "negative",
    "split_values",
}  # whatever the source is


@dataclass
class Found:
    """What a source says.

    Attributes
    ----------
    what : the kind of source, for people: "COCO annotations", "table, one column per class"
    class_names : list of C str
    images : [N], each once: the image as the source names it, relative to one of `places` or absolute
    y : int8 [N, C]; 1 present, 0 absent, -1 unknown
    places : folders in which the images may lie, the likeliest first
    split, group : [N] of str as the source writes them ("" where it gives none), or None
    notes : (kind, message) pairs of what was passed over or is worth knowing, one for each cause
    merged : those of `images` that the source lists as several of one name
    copies : how many files beside `images` are one row with an equal one
    """

    what: str
    class_names: list[str]
    images: Sequence[str]
    y: np.ndarray
    places: Sequence[Path]
    split: Sequence[str] | None = None
    group: Sequence[str] | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)
    merged: Collection[str] = ()
    copies: int = 0


class Gathering:
    """Images and their labels, in the order in which they come.

    The same image again is the same row. What is present in one place is present; where nothing is said of an image
    anywhere, all its labels are unknown.

    Parameters
    ----------
    told : its `classes`, if any, are all that there are, in order; its `columns` are those that are wanted, and its
        `negative` the one that means that nothing is there

    Attributes
    ----------
    rows, columns : images and classes, with their places
    only : names of the classes that are wanted; all, where it is empty
    present : how many labels are
    merged : rows that the source lists as several images of one name
    copies : files that are one row with an equal one
    located : what an image's name becomes before it is kept
    """

    def __init__(self, told: Told):
        self.rows: dict[str, int] = {}
        self.columns = {name: column for column, name in enumerate(told.classes)}
        self.only = told.columns
        self.located: Callable[[str], str] = str
        self._listed = dict.fromkeys(told.classes)
        self.notes: list[tuple[str, str]] = []
        self.present = self.copies = 0
        self.merged: set[int] = set()
        self._counts = Counter[tuple[str, str]]()
        self._told = told
        self._split: list[str] = []
        self._group: list[str] = []
        self._known = bytearray()
        self._at, self._column, self._value = array("i"), array("i"), array("b")

    def image(self, name: str, split: str = "", known: bool = True, group: str = "") -> int:
        """Row of an image; `known` tells whether a class that is not named for it is absent, or unknown."""
        name = self.located(name)
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = len(self.rows)
            self._split.append(split)
            self._group.append(group)
            self._known.append(known)
        else:
            self._known[row] |= known
            self._split[row] = self._split[row] or split
        return row

    def listed(self, names: Iterable[str]) -> list[int]:
        """Columns of classes that the source lists, in its order and whether or not they occur."""
        names = list(names)
        columns = [self.column(name) for name in names]
        self._listed |= dict.fromkeys(names)
        return columns

    def column(self, name: str) -> int:
        """Column of a class, a new one where there is none yet; those that nobody lists are sorted in the end.

        Raises
        ------
        WorkbenchError : the classes were given, and this is none of them
        """
        column = self.columns.get(name)
        if column is None:
            if self._told.classes:
                raise WorkbenchError(f"class {short(name)} is not among those of --classes; add it there")
            if not name.strip() or not is_text(name):
                raise WorkbenchError(f"class name {short(name)} is empty or no UTF-8 text; give the class a name")
            column = self.columns[name] = len(self.columns)
        return column

    def add(self, row: int, column: int, value: int = 1) -> None:
        """One label: 1, 0 or -1."""
        self._at.append(row)
        self._column.append(column)
        self._value.append(value)
        self.present += value == 1

    def label(self, row: int, names: Iterable[str], value: int = 1) -> None:
        """The same label of several classes."""
        for name in names:
            self.add(row, self.column(name), value)

    def note(self, kind: str, count: int, message: str) -> None:
        """A note that begins with how many there are, if there are any; the same from many files is one."""
        self._counts[kind, message] += count

    def found(self, what: str, places: Sequence[Path], source: Path, *heeded: str) -> Found:
        """All of it; `heeded` are the options that mean something for this kind of source.

        Raises
        ------
        WorkbenchError : no image, no label that is present, more of them than fit into memory, or an idle option
        """
        for option in fields(self._told):
            if option.name not in HEEDED.union(heeded) and getattr(self._told, option.name) != option.default:
                flag = option.name.replace("_", "-")
                raise WorkbenchError(f"{source} ({what}): --{flag} means nothing here; leave it out")
        names = [*self._listed, *sorted(self.columns.keys() - self._listed.keys())]
        if missing := [name for name in self.only if name not in self.columns]:
            raise WorkbenchError(f"{source}: --columns names {short(missing[0])}; its classes are {', '.join(names)}")
        if not self.rows:
            raise WorkbenchError(f"{source} ({what}) names no image")
        if not self.present:
            raise WorkbenchError(
                f"{source} ({what}) has {len(self.rows):,} images and no label at all; "
                "label some, or export the labels too"
            )
        if len(self.rows) * len(names) > MOST_LABELS:
            raise WorkbenchError(
                f"{source} ({what}) has {len(self.rows):,} images times {len(names):,} classes, more than fit into "
                "memory; are these texts, or ids, and no class names?"
            )
        y = np.zeros((len(self.rows), len(names)), np.int8)
        y[np.frombuffer(self._known, np.uint8) == 0] = -1
        at, column, value = (np.array(each) for each in (self._at, self._column, self._value))
        place = np.empty(len(names), np.int32)
        place[[self.columns[name] for name in names]] = np.arange(len(names))
        for each in (0, -1, 1):  # the last one stays
            y[at[value == each], place[column[value == each]]] = each
        images, split, group = list(self.rows), self._split, self._group
        if odd := [row for row, image in enumerate(images) if not image or not is_text(image)]:
            self.note("left out", len(odd), f"images have no name or one that is no UTF-8 ({short(images[odd[0]])})")
            y = np.delete(y, odd, axis=0)
            rows = sorted(set(range(len(images))) - set(odd))
            images, split, group = ([each[row] for row in rows] for each in (images, split, group))
        kept = [name for name in self.only or names if name != self._told.negative]
        if left := [name for name in names if name not in kept]:
            self.note("left out", len(left), f"classes by --columns or --negative: {', '.join(left[:10])}")
            names, y = kept, y[:, [names.index(name) for name in kept]]
        counted = [(kind, f"{count:,} {message}") for (kind, message), count in self._counts.items() if count]
        return Found(
            what,
            names,
            images,
            y,
            places,
            split if any(split) else None,
            group if any(group) else None,
            [*dict.fromkeys(self.notes), *counted],
            {image for image, row in self.rows.items() if row in self.merged},
            self.copies,
        )
