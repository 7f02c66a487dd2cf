"""Reader of tables of every kind: a column for each class, names or lists in one, a row for each label, boxes."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.labels import read_class_names
from ..exceptions import LabelFaults, WorkbenchError
from ..tables.ask import Asks, joined_doubt, label_doubt, metadata_doubt, safe, torn_doubt
from ..tables.cells import UNKNOWN, Meanings, label_of, list_values, split_of
from ..tables.columns import Column, Look
from ..tables.layout import Apart, Layout, layout_of, open_look
from ..tables.meaning import Meaning
from ..tables.rows import Row, Table, read_table
from ..text import short
from .exports import vertex
from .found import Found, Told

SHOWN = 5  # examples in a note
NO_LABEL = 2
_ZERO = re.compile(r"\s*[-+]?0*[.,]?0*\s*")
MANY = 200  # classes; more than that and than every other image are texts or ids


def read(source: Path, told: Told) -> Found | None:
    """What a table says, see `Found`; None where it holds no rows of images and labels.

    Raises
    ------
    Asks : labels that could mean two things and were not told
    LabelFaults : rows that are at fault
    WorkbenchError : the file cannot be read, or an option fits no column
    """
    table = read_table(source, "table", foreign=True)
    places = [Path(told.images)] if told.images is not None else [source.parent]
    names = told.classes
    if not names and (beside := source.parent / "classes.txt").is_file():
        names = tuple(read_class_names(beside))
    if (lines := _vertex(table)) is not None:
        return vertex(source, names, lines, places)
    look, rows = open_look(read_table(source, "table", foreign=True), source, places, told)
    if look.path is None:
        columns = f": {look.seen}" if look.seen else ""
        raise WorkbenchError(
            f"{source}: no column of image paths is seen{columns}; --image-column NAME says which it is"
        )
    if not look.form:
        what = [f"{c.name!r} holds words, and each word could be made a class" for c in look.words]
        if what:
            raise Asks(source, what, safe("--columns", *(c.name for c in look.words)), look.seen, told)
        raise WorkbenchError(f"{source}: no column of labels is seen: {look.seen}; --columns NAME says which it is")
    doubt = torn_doubt(look, look.torn) if look.torn else None
    if doubt is None and not told.columns and not told.classes:
        doubt = metadata_doubt(look)
    if doubt:
        raise Asks(source, [doubt[0]], doubt[1], look.seen, told)
    return _Reading(source, told, names, table).rows(look, rows, places)


def _vertex(table: Table) -> list[Row] | None:
    """All rows of a list as AutoML and Vertex take them, `TRAIN,gs://bucket/a.jpg,cat,dog`, else None."""
    if table.keys is not None:
        return None
    first = next((cells for _, cells in table.rows if cells), None)
    if not isinstance(first, list) or not any(str(cell).startswith("gs://") for cell in first[:2]):
        return None
    return [(0, first), *table.rows]


class _Reading:
    """One reading of a table, as the options say."""

    def __init__(self, source: Path, told: Told, names: tuple[str, ...], table: Table):
        self.source, self.told, self.names, self.meaning = source, told, names, Meaning(told)
        self.keyed = table.keys is not None
        self.notes: list[tuple[str, str]] = []
        if table.encoding == "cp1252":
            self.notes.append(("encoding", f"{source} is no UTF-8 and was read as Windows-1252"))

    def asks(self, what: str, options: tuple[str, ...], look: Look | None = None) -> Asks:
        """The refusal that asks."""
        return Asks(self.source, [what], options, look.seen if look else "", self.told)

    def rows(self, look: Look, rows: Iterator[Row], places: list[Path]) -> Found:
        """What the rows of a table with fixed columns say."""
        layout = self._layout(look)
        apart = Apart(layout)
        apart.take(_with_text_paths(rows, layout.path) if self.keyed else rows)
        if apart.faults:
            raise LabelFaults(self.source, apart.faults)
        if not apart.paths:
            raise WorkbenchError(f"{self.source} has no rows")
        self._tell_columns(look)
        made = self._columns if look.form == "columns" else self._lists if look.form == "lists" else self._tags
        class_names, row_of, y = made(apart, look)
        first = np.unique(row_of, return_index=True)[1]
        split, group = self._splits(apart, look), apart.group or None
        for what, values in (("split", split), ("group", group)):
            if values and (odd := [row for row, own in enumerate(first[row_of]) if values[row] != values[own]]):
                where = f"{short(apart.paths[odd[0]])} on line {apart.lines[odd[0]]}"
                raise WorkbenchError(f"{self.source}: {len(odd):,} rows give an image another {what}, such as {where}")
        self._refuse_unused(look)
        if self.told.blank is None and (blanks := apart.blanks()):
            what = "blank cells read as unknown; if blank means that nothing is there: add --blank absent"
            self.notes.append(("blank", f"{blanks:,} {what}"))
        return Found(
            f"table, {self._what(look, len(first), len(apart.paths))}",
            class_names,
            [apart.paths[row] for row in first],
            y,
            [*places, *(() if self.told.images else (places[0] / "images",))],
            None if split is None else [split[row] for row in first],
            None if group is None else [group[row] for row in first],
            self.notes,
        )

    def _refuse_unused(self, look: Look) -> None:
        """An option that changed nothing is a mistake, and is not passed over."""
        told, unused = self.told, self.meaning.unused
        if told.min_confidence is not None and not look.confidence:
            unused = ["--min-confidence: there is no column of confidences"]
        if told.value_column is not None and look.form != "tags":
            unused = ["--value-column: there is no column of names"]
        if told.delimiter is not None and look.form != "tags":
            unused = ["--delimiter: there is no column of names"]
        if unused:
            raise WorkbenchError(f"{self.source}: {unused[0]}; leave it out, or mend it")

    def _layout(self, look: Look) -> Layout:
        """Where things stand; a confidence is part of the label's cell, all columns of a split are its cell."""
        layout = layout_of(look, look.splits[0] if look.splits else None)
        if look.form == "tags" and (beside := look.value or look.confidence):
            layout = replace(layout, labels=(*layout.labels, beside.at))
        flags = tuple((c.name, c.at) for c in look.splits[1:])
        return replace(layout, extra=flags)

    def _what(self, look: Look, images: int, rows: int) -> str:
        if look.boxes:
            return "one row for each box"
        of = {"columns": "one column for each class", "lists": "lists of labels", "tags": "names of classes"}
        return "one row for each label" if rows > images else of[look.form]

    def _tell_columns(self, look: Look) -> None:
        """Which column was taken for what."""
        assert look.path is not None
        labels = _some((c.name for c in look.labels), 12)
        beside = f", whether they are present in {look.value.name!r}" if look.value else ""
        group = f", groups in {look.group.name!r}" if look.group else ""
        self.notes.append(("columns", f"images are in {look.path.name!r}, labels in {labels}{beside}{group}"))
        if left := [c.name for c in (*look.rest, *look.boxes) if c.name]:
            self.notes.append(("left out", f"columns that are no labels: {_some(left, 12)}"))

    # -- one column for each class, or words of which each is a class

    def _columns(self, apart: Apart, look: Look) -> tuple[list[str], np.ndarray, np.ndarray]:
        columns = look.labels
        hot = [at for at, column in enumerate(columns) if column.kind in ("labels", "empty")]
        meant = Meanings(lambda value: NO_LABEL if (label := self.meaning.label(value)) is None else label)
        whole = len(hot) == len(columns)
        labels = [meant.of(cells if whole else [cells[at] for at in hot]) for cells in apart.cells]
        both = np.array(labels, np.int8).reshape(len(labels), len(hot))
        for c, at in enumerate(hot):
            if len(wrong := np.flatnonzero(both[:, c] == NO_LABEL)):
                self._refuse_cells(columns[at], [apart.cells[place][at] for place in wrong])
        self._ask_values(apart, hot, both, look)
        blocks = [
            ([column.name], both[:, [hot.index(at)]]) if at in hot else self._words(column, at, apart)
            for at, column in enumerate(columns)
        ]
        names = [name for own, _ in blocks for name in own]
        patterns = both if whole else np.concatenate([block for _, block in blocks], axis=1)
        if not look.header:
            fit = self._fit(len(self.names) == len(columns), f"{len(columns)} columns of labels")
            names = list(self.names) if fit else [f"class_{i}" for i in range(len(columns))]
        elif set(self.told.classes) == set(names):
            patterns = patterns[:, [names.index(name) for name in self.told.classes]]
            names = list(self.told.classes)
        return names, *self._joined(apart, patterns)

    def _fit(self, fits: bool, what: str) -> bool:
        """Whether there are names of classes and they fit; a `classes.txt` that does not is left aside and told.

        Raises
        ------
        WorkbenchError : names that were given do not fit
        """
        if not self.names or fits:
            return bool(self.names)
        misfit = f"{len(self.names)} names of classes, but {what}"
        if self.told.classes:
            raise WorkbenchError(f"{self.source}: {misfit}; give the right ones with --classes FILE")
        self.notes.append(("classes", f"{self.source.parent / 'classes.txt'} is left aside: {misfit}"))
        self.names = ()
        return False

    def _ask_values(self, apart: Apart, columns: Sequence[int] | None, labels: np.ndarray, look: Look) -> None:
        """Ask what -1 and blanks mean, where they were not told and are more than a few; `columns` None: lists."""

        def values(place: int) -> Iterable[Any]:
            cells = apart.cells[place]
            return (self._list(cells) or ()) if columns is None else [cells[at] for at in columns]

        blank_told = columns is None or self.told.blank is not None
        if not self.meaning.minus_told and (doubt := apart.doubt(labels, values, blank_told)):
            raise self.asks(*doubt, look)

    def _words(self, column: Column, at: int, apart: Apart) -> tuple[list[str], np.ndarray]:
        """Names and labels [K, c] of a column of words, each a class."""
        cells = [cells[at] for cells in apart.cells]
        words = sorted({str(cell).strip() for cell in cells if self.meaning.word(cell) == 1})
        place = {word: c for c, word in enumerate(words)}
        block = np.zeros((len(cells), len(words)), np.int8)
        for row, cell in enumerate(cells):
            label = self.meaning.word(cell)
            if label == 1:
                block[row, place[str(cell).strip()]] = 1
            else:
                block[row] = label
        return [f"{column.name}: {word}" for word in words], block

    def _refuse_cells(self, column: Column, wrong: list[Any]) -> None:
        way = "say what they mean with --negative VALUE or --unknown VALUE"
        if all(label_of(value) == 0 for value in wrong):
            way = "with -1 as absent, --unknown 0 says that 0 is unknown"
        values = _some(map(short, wrong))
        raise WorkbenchError(f"{self.source}: {values} in column {column.name!r} is no label; {way}")

    def _joined(self, apart: Apart, patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which image each row [R] is of, and labels [N, C]: rows of one image are joined where each has one label."""
        row_of = _images(apart.paths)
        which = np.array(apart.which, np.int32)
        first = np.unique(row_of, return_index=True)[1]
        if len(first) == len(which):
            return row_of, patterns[which]
        y = patterns[which[first]]
        other = np.flatnonzero((patterns[which] != y[row_of]).any(1))
        if len(other):
            doubled = np.isin(row_of, row_of[other])
            if ((patterns[which[doubled]] == 1).sum(1) > 1).any():
                row = int(other[0])
                raise WorkbenchError(
                    f"{self.source}: {len(other):,} rows give an image other labels than a line before, such as "
                    f"{short(apart.paths[row])} on line {apart.lines[row]}; keep one line of each image"
                )
            np.maximum.at(y, row_of, patterns[which])
        self._tell_joined(len(which), len(first))
        return row_of, y

    def _tell_joined(self, rows: int, images: int) -> None:
        if rows > images:
            self.notes.append(("joined", f"{rows:,} rows are joined to {images:,} images"))

    # -- lists of labels

    def _lists(self, apart: Apart, look: Look) -> tuple[list[str], np.ndarray, np.ndarray]:
        parsed = [self._list(cell) for cell in apart.cells]
        widths = {len(values) for values in parsed if values is not None}
        sizes = " and ".join(map(str, sorted(widths)[:SHOWN]))
        if len(widths) != 1:
            raise WorkbenchError(f"{self.source}: lists of {sizes} labels; expected one label for each class")
        self._fit(widths == {len(self.names)}, f"lists of {sizes} labels")
        width = widths.pop()
        labels = [[self.meaning.label(value) for value in values or [None] * width] for values in parsed]
        bad = next((place for place, own in enumerate(labels) if None in own), None)
        if bad is not None:
            raise WorkbenchError(f"{self.source}: {short(apart.cells[bad])} is no list of labels; expected 0, 1 or -1")
        patterns = np.array(labels, np.int8)
        self._ask_values(apart, None, patterns, look)
        names = list(self.names) or [f"class_{i}" for i in range(width)]
        return names, *self._joined(apart, patterns)

    @staticmethod
    def _list(cell: Any) -> list[Any] | None:
        values = list_values(cell)
        return re.split(r"[,\s]+", str(cell).strip()) if isinstance(values, str) else values

    # -- names

    def _tags(self, apart: Apart, look: Look) -> tuple[list[str], np.ndarray, np.ndarray]:
        cells: list[Any] = apart.cells
        says: list[int | None] = [1] * len(
            cells
        )  # whether the names of a cell are present, absent, or nothing is known
        explicit = False
        if beside := look.value or look.confidence:
            cells, values = [cell for cell, _ in apart.cells], [value for _, value in apart.cells]
            says = self._values(values, apart, look) if beside is look.value else self._sure(values, look)
            explicit = 0 in says
        parts, numbered = self._parts(cells, look)
        names = self._class_names(parts, numbered)
        row_of, which = _images(apart.paths), np.array(apart.which, np.int32)
        images = int(row_of.max()) + 1
        if len(names) > max(MANY, images // 2):
            what = f"{look.labels[0].name!r} holds {len(names):,} names for {images:,} images"
            raise WorkbenchError(f"{self.source}: {what}; are these texts or ids? --columns NAME says where labels are")
        place = {name: c for c, name in enumerate(names)}
        if not explicit and len(names) > 1 and len(which) == images * len(names) and not look.boxes:
            self._refuse_all_present(look, images, len(names))
        y = np.full((images, len(names)), UNKNOWN, np.int8)
        said = np.array([tags is not None for tags in parts], bool)
        absent = np.zeros(images, bool)
        absent[row_of[said[which]]] = not explicit or self.told.blank == "absent"
        y[absent] = 0
        for value in (0, 1):  # where both are said, present stays
            tags = [[place[tag] for tag in tags or ()] if says[k] == value else [] for k, tags in enumerate(parts)]
            if not any(tags):
                continue
            sizes = np.array([len(own) for own in tags])
            flat = np.array([c for own in tags for c in own], np.int64)
            starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
            many = sizes[which]
            at = np.repeat(starts[which], many) + np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            y[np.repeat(row_of, many), flat[at]] = value
        self._tell_joined(len(which), images)
        return names, row_of, y

    def _parts(self, cells: list[Any], look: Look) -> tuple[list[list[str] | None], bool]:
        """Names of each cell (None: nobody says), and whether all of them are numbers."""
        part, joined, count = self.meaning.parting(cells)
        if joined and not self.names:
            raise self.asks(joined_doubt(count, joined), safe("--delimiter", joined[0]), look)
        parts = [self.meaning.names(cell, part) for cell in cells]
        return parts, all(tag.isdecimal() for tags in parts for tag in tags or ())

    def _class_names(self, parts: Iterable[list[str] | None], numbered: bool) -> list[str]:
        """Names in order: those given, else the ones that occur, numbers by size or made the names that they count."""
        occur = {tag for tags in parts for tag in tags or ()}
        if numbered and self.names and not occur <= set(self.names):
            most = max(map(int, occur), default=0)
            if self._fit(most < len(self.names), f"the class number {most}"):
                return self._counted(parts)
        odd = sorted(occur - set(self.names))
        if self._fit(not odd, f"{len(odd)} names that are none of them, such as {short(next(iter(odd), ''))}"):
            if (idle := [name for name in self.names if name not in occur]) and not self.told.classes:
                file = self.source.parent / "classes.txt"
                self.notes.append(("classes", f"names are those of {file}, of which these do not occur: {_some(idle)}"))
            return list(self.names)
        return sorted(occur, key=int) if numbered else sorted(occur)

    def _counted(self, parts: Iterable[list[str] | None]) -> list[str]:
        for tags in parts:
            if tags:
                tags[:] = [self.names[int(tag)] for tag in tags]
        return list(self.names)

    def _refuse_all_present(self, look: Look, images: int, names: int) -> None:
        """Rows for every pair of image and class say nothing by being there."""
        others = [c for c in look.rest if c.values and (c.kind in ("labels", "numbers") or len(c.said) < len(c.sample))]
        what = f"each of {images:,} images has a row for each of {names:,} names, and not all of them will be present"
        if not others:
            raise WorkbenchError(f"{self.source}: {what}; a column has to say which (--value-column NAME)")
        raise self.asks(f"{what}: does {others[0].name!r} say which?", ("--value-column", others[0].name), look)

    def _values(self, values: list[Any], apart: Apart, look: Look) -> list[int | None]:
        """What the column beside the names says: labels, or numbers and texts, of which 0 and blank are absent."""
        pairs = list(zip(values, apart.times.tolist(), strict=True))
        if not self.meaning.minus_told and (doubt := label_doubt(pairs, blank_told=True)):
            raise self.asks(*doubt, look)
        assert look.value is not None
        if look.value.kind == "labels":
            return [self.meaning.label(value) for value in values]
        return [int(self.meaning.word(value) == 1 and not _ZERO.fullmatch(str(value))) for value in values]

    def _sure(self, values: list[Any], look: Look) -> list[int | None]:
        """What confidences say: 1, 0 or nothing."""
        assert look.confidence is not None
        sure = [self._number(value) for value in values]
        if self.told.min_confidence is None and any(0 < value < 1 for value in sure):
            what = f"{look.confidence.name!r} holds confidences between 0 and 1: from which on is a label present?"
            raise self.asks(what, ("--min-confidence", "0.5"), look)
        if 0 in sure:
            what = "labels of confidence 0 are absent; what is not named for an image is unknown"
            self.notes.append(("confidence", what))
        return [self._at(value) for value in sure]

    def _number(self, value: Any) -> float:
        try:
            return float(str(value).replace(",", "."))
        except ValueError:
            raise WorkbenchError(f"{self.source}: the confidence {short(value)} is no number") from None

    def _at(self, confidence: float) -> int | None:
        """What a confidence says: 1, 0 or nothing."""
        least = 1.0 if self.told.min_confidence is None else self.told.min_confidence
        return 1 if confidence >= least else 0 if confidence == 0 else None

    # -- splits

    def _splits(self, apart: Apart, look: Look) -> list[str] | None:
        """The split of each row as words, or None."""
        if not look.splits:
            return None
        columns = [(look.splits[0], apart.split), *((c, apart.extra[c.name]) for c in look.splits[1:])]
        flags = [(c, values) for c, values in columns if c.flag and not self.told.split_values]
        if not flags:
            column, values = columns[0]
            return self._split_words([str("" if value is None else value).strip() for value in values], column)
        split = [""] * len(apart.paths)
        for column, values in flags:
            no = "" if len(flags) > 1 else "val" if column.flag == "train" else "train"
            for row, value in enumerate(values):
                split[row] = str(column.flag) if label_of(value) == 1 else split[row] or no
        self.notes.append(("columns", f"the split is in {', '.join(c.name for c, _ in flags)}"))
        return split

    def _split_words(self, words: list[str], column: Column) -> list[str] | None:
        odd = any(word and split_of(word) is None for word in dict.fromkeys(words))
        if not odd or self.told.split_column or column.plain == "split":
            self.notes.append(("columns", f"the split is in {column.name!r}"))
            return words
        way = f"--split-column {column.name} --split-values VALUE=val says what they mean"
        self.notes.append(("split", f"{column.name!r} holds {_some(words)} and is not read as the split; {way}"))
        return None


def _with_text_paths(rows: Iterable[Row], at: int) -> Iterator[Row]:
    """Rows with a number for a path (JSON, Parquet) made text."""
    for line, cells in rows:
        if not isinstance(cells, str) and len(cells) > at and isinstance(cells[at], int):
            cells = [*cells[:at], str(cells[at]), *cells[at + 1 :]]
        yield line, cells


def _images(paths: list[str]) -> np.ndarray:
    """Which image each row is of, int64 [R], numbered as they first come."""
    known: dict[str, int] = {}
    return np.fromiter((known.setdefault(path, len(known)) for path in paths), np.int64, len(paths))


def _some(values: Iterable[str], most: int = SHOWN) -> str:
    few = list(dict.fromkeys(values))
    return ", ".join(few[:most]) + ", …" * (len(few) > most)
