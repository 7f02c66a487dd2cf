"""Columns of a table, looked at: which holds images, which labels, a split, a confidence, a box, and which is metadata.

The one look that both need: `read_labels`, to see whether a file is canonical or has to be asked about, and `import`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..exceptions import WorkbenchError
from ..text import short
from .cells import FOREIGN_WORDS, UNKNOWN, is_blank, label_of, names_of, parse_list, split_of

PATH_COLUMNS = ("image_path", "image", "path", "file", "filename", "file_name")
LABEL_COLUMNS = ("labels", "tags", "label", "tag")
_YES_NO = {word for word, label in FOREIGN_WORDS.items() if label != UNKNOWN}
ODD = ("mappings", "bit strings")  # cells that are not read
SAMPLE = 1000  # rows that are looked at
_IMAGE = re.compile(
    r"\.(jpe?g|jpe|jfif|png|bmp|dib|webp|avif|tiff?|gif|jp2|j2k|mpo|hei[cf]|p[bgpn]m|tga|pcx|ico|dcm)$", re.IGNORECASE
)  # as people call images, also those that cannot be read
_PATH = re.compile(r".*(image|img|file|path|photo|picture|uri|url|fname).*|id|name")
_LABELS = re.compile(
    r"(\w+_)?(labels?|tags?|class(es)?|categor(y|ies)|targets?|findings?|annotations?|keywords?|genres?|attributes?|"
    r"diagnos[ie]s|diseases?|species)"
    r"(_?names?)?(_?(id|ids|idx))?"
)
_SPLIT = re.compile(
    r"(is_?)?(train|training|val|valid|validation|dev|test|testing|holdout)|splits?|subset|k?folds?|data_?set|set|"
    r"partition|phase|usage"
)
_METADATA = re.compile(
    r"is_\w+|is(valid|train|test|val|crowd|occluded|truncated|difficult)|(\w+_)?(id|ids|index|idx)|difficult|truncated|occluded|crowd|verified|reviewed|usable|quality|width|height|"
    r"source|weight|age|sex|gender|view|view_position|year|unnamed.*|follow_?up.*"
)
_ID = re.compile(r"(\w+_)?(id|index|idx|name)")
_CONFIDENCE = re.compile(r"(label_)?(confidence|conf|score|prob|probability)")
_VALUE = re.compile(
    r"(is_?)?(present|presence|value|label|answer|agree|agreement|positive|exists|visible|state|vote|target|y)"
)
_BOX = re.compile(
    r"b?box(es)?|[xy](_?(min|max|[0-9]|cent(er|re)))?|(left|top|right|bottom)(_?[xy])?|(min|max)_?[xy]|[wh]"
)
_GROUP = re.compile(
    r"(\w+_)?(patient|subject|person|participant|study|scene|video|series|sequence|slide)(_?(id|no|number))?"
)


@dataclass(frozen=True)
class Told:
    """What the options say where the source does not; None and empty are "not said".

    Attributes
    ----------
    image_column : column (or key) of the image paths
    image_suffix : extension of names that have none, such as ".jpg"
    images : folder in which the images lie
    columns : those that are classes, or the one that holds the labels
    classes : names of the classes, in order
    classes_file : where these were read
    delimiter : what parts several labels in a cell
    negative : value that means absent: of a cell, or a name that means that nothing is present
    unknown : values that mean unknown
    blank : what an empty cell means, "absent" or "unknown"
    min_confidence : least confidence of a label that counts as present
    value_column : column that says whether the label of a row is present
    split_column : column of the splits
    split_values : "VALUE=SPLIT" for values of it that are no words for splits; all others are train
    group_column : column of the groups that no split may part
    strip_prefix : beginning of the paths that is to be left out
    out : labels file to write
    root : folder in which the paths to write start (that of `out`)
    """

    image_column: str | None = None
    image_suffix: str | None = None
    images: Path | None = None
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    classes_file: Path | None = None
    delimiter: str | None = None
    negative: str | None = None
    unknown: tuple[str, ...] = ()
    blank: str | None = None
    min_confidence: float | None = None
    value_column: str | None = None
    split_column: str | None = None
    split_values: tuple[str, ...] = ()
    group_column: str | None = None
    strip_prefix: str | None = None
    out: Path | None = None
    root: Path | None = None


NOTHING_TOLD = Told()


@dataclass(frozen=True, eq=False)
class Column:
    """A column as a sample of its cells looks.

    Attributes
    ----------
    kind : "images", "labels" (0, 1, -1 and words for them), "lists" (of labels), "names" (lists of names), "split",
        "mappings" and "bit strings" (which are not read), "numbers", "words" or "empty"
    sample : the cells of the sample
    said : those of them that say something
    there : how many of them name an image that is there
    """

    name: str
    at: int
    kind: str
    sample: list[Any]
    said: list[Any]
    there: int = 0

    @cached_property
    def values(self) -> list[Any]:
        """The distinct cells that say something."""
        return list({str(cell): cell for cell in self.said}.values())

    @property
    def plain(self) -> str:
        """The name as it is compared: lower case, one underscore for spaces and hyphens."""
        return plain(self.name)

    @property
    def comes_again(self) -> bool:
        """Whether values, or words in them, come more than once, as labels do and ids or captions do not."""
        words = [word for value in self.values for word in re.split(r"\W+", str(value)) if word]
        return len(self.values) < len(self.said) or len(words) > 2 * len(set(words))

    @property
    def flag(self) -> str | None:
        """The split that 1 or True in a column such as `is_valid` means, or None for any other column."""
        return split_of(re.sub(r"^is_?", "", self.plain)) if self.kind == "labels" else None

    @property
    def has_suffixes(self) -> bool:
        """Whether the names in it have an image's extension."""
        return any(_IMAGE.search(str(value)) for value in self.values)

    def __str__(self) -> str:
        few = ", ".join(str(value)[:30] for value in self.values[:3]) + ", …" * (len(self.values) > 3)
        what = {
            "images": f"{self.there:,} of {len(self.said):,} name images that are there"
            if self.there
            else f"files: {few}",
            "labels": f"0 and 1: {few}" if self.kind == "labels" else "",
            "lists": f"lists of 0 and 1: {few}",
            "names": f"lists of names: {few}",
            "mappings": f"mappings: {few}; make a column of each of their keys first",
            "bit strings": f"bit strings: {few}; write them as lists first, such as [1, 0, 1]",
            "empty": "empty",
        }.get(self.kind, f"{self.kind}: {few}")
        return f"{self.name} ({what})"


@dataclass(frozen=True)
class Look:
    """What the columns of a table probably are.

    Attributes
    ----------
    header : whether the table names its columns
    form : "columns" (one or more, each a class or a word), "lists", "tags" (names or numbers), or "" for no labels
    path, labels, splits, group, confidence, value, boxes : the columns that are so
    torn : a column that could be a class, or else the split or the group
    rest : those that are none of these: metadata
    """

    columns: list[Column]
    header: bool
    form: str
    path: Column | None
    labels: list[Column]
    splits: list[Column]
    group: Column | None
    confidence: Column | None
    value: Column | None
    boxes: list[Column]
    rest: list[Column]
    torn: Column | None = None

    @property
    def seen(self) -> str:
        """The columns and what each holds, in a line."""
        more = f" and {len(self.columns) - 16} more columns" if len(self.columns) > 16 else ""
        return ", ".join(map(str, self.columns[:16])) + more

    @property
    def grouping(self) -> Column | None:
        """The column of what no split may part, by its name: the patient, the scene."""
        found = [c for c in self.rest if _GROUP.fullmatch(c.plain) and len(c.values) < len(c.said)]
        return found[0] if found and self.group is None else None

    @property
    def words(self) -> list[Column]:
        """Columns of words that could be made into classes, one for each word."""
        return [c for c in self.rest if c.kind == "words" and c.comes_again and not _ID.fullmatch(c.plain)]


def plain(name: str) -> str:
    """A column's name as it is compared: lower case, one underscore for spaces and hyphens."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def stems_near(folders: Iterable[Path], most: int = 200_000) -> set[str]:
    """Stems of the images in these folders and in the folders in them."""
    found: set[str] = set()
    todo = [(folder, True) for folder in folders]
    for folder, deeper in todo:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if deeper and entry.is_dir():
                        todo.append((Path(entry.path), False))
                    elif _IMAGE.search(entry.name):
                        found.add(entry.name.rpartition(".")[0])
        except OSError:  # no folder, or one that may not be listed: nothing is known to be there
            continue
        if len(found) > most:
            break
    return found


def stem_of(path: Any) -> str:
    """The name of a file without folders (of any machine) and extension."""
    name = re.split(r"[\\/]", str(path))[-1]
    return name.rpartition(".")[0] if _IMAGE.search(name) else name


def has_header(cells: Sequence[Any], there: set[str]) -> bool:
    """Whether a first row names columns: none of its cells is a file or a list, and not all others are labels."""
    if any(isinstance(cell, str) and plain(cell) in PATH_COLUMNS for cell in cells):
        return True
    if any(isinstance(cell, list) or str(cell).lstrip().startswith("[") for cell in cells):
        return False
    if any(isinstance(cell, str) and (_IMAGE.search(cell) or (cell and stem_of(cell) in there)) for cell in cells):
        return False
    return not (len(cells) > 1 and all(label_of(cell) is not None for cell in cells[1:]))


def look(
    header: list[str] | None, sample: list[list[Any]], there: set[str], told: Told = NOTHING_TOLD, tags: bool = False
) -> Look:
    """Look at a sample of rows. Without a header columns are called 1, 2, …; `tags` says that the last holds names.

    Raises
    ------
    WorkbenchError : a column that is told is not there
    """
    widths = Counter(map(len, sample)).most_common(1)
    width = len(header) if header is not None else widths[0][0] if widths else 0
    names = header if header is not None else [str(i + 1) for i in range(width)]
    columns = [_column(name, at, [row[at] for row in sample if at < len(row)], there) for at, name in enumerate(names)]
    path = _named(columns, told.image_column, "--image-column") or _path(columns)
    if path is None and header is None and any(c.kind == "lists" for c in columns[1:]):
        path = columns[0]
    # pandas writes its row numbers into a first column without a name
    rest = [c for c in columns if c is not path and not (c.at == 0 and c.name in ("", "Unnamed: 0"))]
    splits, group = _named(rest, told.split_column, "--split-column"), _named(rest, told.group_column, "--group-column")
    found = [splits] if splits else _splits([c for c in rest if c.name not in told.columns])
    free = [c for c in rest if c.name not in (*told.columns, *told.classes)]
    group = group or next((c for c in free if c.plain == "group"), None)
    rest = [c for c in rest if c not in found and c is not group]
    boxes = [c for c in rest if _BOX.fullmatch(c.plain) and c.kind in ("numbers", "labels")]
    boxes = boxes if len(boxes) > 1 and not told.columns else []
    rest = [c for c in rest if c not in boxes]
    value = _named(rest, told.value_column, "--value-column") or _value(rest, path, told)
    rest = [c for c in rest if c is not value]
    form, labels = ("tags", columns[-1:]) if tags else _labels(rest, told)
    rest = [c for c in rest if c not in labels]
    sure = next((c for c in rest if _CONFIDENCE.fullmatch(c.plain) and c.kind in ("numbers", "labels")), None)
    sure = sure if form == "tags" and value is None else None
    rest = [c for c in rest if c is not sure]
    torn = next((c for c in found if c.flag and not c.plain.startswith("is") and len(found) == 1), None)
    torn = None if splits else torn
    if torn is None and group is not None and group.kind == "labels" and told.group_column is None:
        torn = group
    torn = torn if form == "columns" else None
    return Look(columns, header is not None, form, path, labels, found, group, sure, value, boxes, rest, torn)


def _value(columns: list[Column], path: Column | None, told: Told) -> Column | None:
    """The column of 0 and 1 that says, in a table with a row for each label, whether it is present."""
    names = [c for c in columns if c.kind == "words" and _LABELS.fullmatch(c.plain)]
    long = path is not None and len(path.values) < len(path.said)
    binary = [c for c in columns if c.kind == "labels" and _VALUE.fullmatch(c.plain) and c.name not in told.columns]
    return binary[0] if long and len(names) == 1 and len(binary) == 1 else None


def _named(columns: list[Column], name: str | None, option: str) -> Column | None:
    if name is None:
        return None
    for same in (lambda c: c.name == name, lambda c: c.plain == plain(name)):
        if found := next(filter(same, columns), None):
            return found
    names = ", ".join(c.name for c in columns)
    raise WorkbenchError(f"{option} {short(name)}: no such column; expected one of {names}")


def _column(name: str, at: int, cells: list[Any], there: set[str]) -> Column:
    said = [cell for cell in cells if not is_blank(cell)]
    if not said:
        return Column(name, at, "empty", cells, said)
    on_disk = sum(stem_of(cell) in there for cell in said if isinstance(cell, (str, int)))

    def most(is_so: Any) -> bool:
        return sum(map(bool, map(is_so, said))) * 2 > len(said)

    numbers = sum(label_of(cell) is None and _is_number(cell) for cell in said)
    known = any(label_of(cell) is not None or str(cell).strip().lower() in _YES_NO for cell in said)
    if (
        known
        and numbers * 20 <= len(said)
        and most(lambda c: label_of(c) is not None or str(c).strip().lower() in FOREIGN_WORDS)
    ):
        kind = "labels"
    elif most(lambda cell: isinstance(cell, str) and _IMAGE.search(cell.strip())) or on_disk * 2 > len(said):
        kind = "images"
    elif (most(lambda cell: isinstance(parse_list(cell), list)) and not _class_numbers(said)) or _bare_lists(said):
        kind = "lists"
    elif all(isinstance(cell, dict) or re.fullmatch(r"\s*\{.*:.*\}\s*", str(cell), re.DOTALL) for cell in said):
        kind = "mappings"
    elif most(lambda cell: names_of(cell, loose=True) is not None):
        kind = "names"
    elif _bit_strings(said):
        kind = "bit strings"
    elif all(split_of(cell) for cell in said):
        kind = "split"
    else:
        kind = "numbers" if most(_is_number) else "words"
    return Column(name, at, kind, cells, said, on_disk if kind == "images" else 0)


def _has_names(column: Column) -> bool:
    """Whether the cells of a column of labels are names, and no lists of 0 and 1 or what should be ones."""
    bracketed = sum(str(value).lstrip().startswith("[") for value in column.values)
    return column.kind == "names" or (column.kind not in ("lists", "labels", "empty") and not bracketed)


def _class_numbers(cells: list[Any]) -> bool:
    """Whether lists hold numbers of classes, such as `[0, 3]`: a third has one above 1."""
    lists = [names_of(cell, loose=True) or [] for cell in cells]
    high = sum(all(w.isdecimal() for w in words) and any(int(w) > 1 for w in words) for words in lists)
    return high * 3 > len(cells)


def _bit_strings(cells: list[Any]) -> bool:
    """Whether cells are zeros and ones with nothing between, such as `101`: of one length, some beginning with 0."""
    texts = {cell.strip() for cell in cells if isinstance(cell, str)}
    same = len({len(text) for text in texts}) == 1 and all(re.fullmatch("[01]{2,}", text) for text in texts)
    return same and len(texts) > 2 and any(text[0] == "0" for text in texts)


def _is_number(cell: Any) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d*[.,]?\d+(e[-+]?\d+)?\s*", str(cell), re.IGNORECASE))


def _bare_lists(cells: list[Any]) -> bool:
    """Whether cells are lists such as `0,1,0` without brackets: of one length, a value more than once in some."""
    parts = [re.split(r"[,\s]+", cell.strip()) for cell in cells if isinstance(cell, str)]
    same = len(parts) == len(cells) and len({len(words) for words in parts}) == 1 and len(parts[0]) > 1
    return (
        same and all(label_of(w) is not None for ws in parts for w in ws) and any(len({*ws}) < len(ws) for ws in parts)
    )


def _path(columns: list[Column]) -> Column | None:
    """The column of image paths: by its name, else by what it holds."""
    by_name = [c for name in PATH_COLUMNS for c in columns if c.plain == name]
    if by_name:
        return max(by_name, key=lambda c: c.there)
    rated = [
        (2 * c.there / max(len(c.said), 1) + (c.kind == "images") + 0.5 * bool(_PATH.fullmatch(c.plain)), -c.at, c)
        for c in columns
        if c.kind == "images" or (_PATH.fullmatch(c.plain) and c.kind in ("words", "numbers") and len(c.values) > 1)
    ]
    return max(rated)[2] if rated else None


def _splits(columns: list[Column]) -> list[Column]:
    """The columns of the split: the one that is called so, else those that seem to be."""
    called = [c for c in columns if c.plain == "split"]
    return called or [c for c in columns if _is_split(c)]


def _is_split(column: Column) -> bool:
    if _LABELS.fullmatch(column.plain) or column.plain in LABEL_COLUMNS:
        return False
    named = _SPLIT.fullmatch(column.plain) is not None
    if column.kind == "split":
        return named or len(column.values) > 1
    return named and column.kind in ("labels", "numbers", "words")


def _labels(columns: list[Column], told: Told) -> tuple[str, list[Column]]:
    """The form, and the columns of the labels."""
    if told.columns:
        chosen = [_named(columns, name, "--columns") for name in told.columns]
        labels = [c for c in chosen if c]
        if len(labels) == 1 and labels[0].kind in ("lists", "names", "words", "numbers", "images", "split"):
            return ("lists" if labels[0].kind == "lists" else "tags"), labels
        return "columns", labels
    if told.classes and (chosen := [c for name in told.classes for c in columns if c.name == name]):
        return "columns", chosen
    holding = [c for c in columns if c.kind in ("lists", "names", "words", "numbers", "images", "split") and c.values]
    for name in LABEL_COLUMNS:
        if label := next(
            (
                c
                for c in columns
                if c.plain == name and (c in holding or (name in ("labels", "tags") and c.kind not in ODD))
            ),
            None,
        ):
            return ("tags" if name == "tags" or _has_names(label) else "lists"), [label]
    binary = [c for c in columns if c.kind == "labels"]
    classes = [c for c in binary if not (_METADATA.fullmatch(c.plain) or _CONFIDENCE.fullmatch(c.plain))]
    if lists := [c for c in columns if c.kind in ("lists", "names")]:
        return ("lists" if lists[0].kind == "lists" else "tags"), lists[:1]
    named = [c for c in holding if _LABELS.fullmatch(c.plain)]
    named.sort(key=lambda c: (c.kind == "numbers", c.plain.endswith(("id", "ids", "idx"))))
    if named and len(classes) < 2 and not any(_LABELS.fullmatch(c.plain) for c in classes):
        return "tags", named[:1]
    if classes or binary:
        empty = [c for c in columns if c.kind == "empty" and c.name and not _METADATA.fullmatch(c.plain)]
        return "columns", sorted([*(classes or binary), *empty], key=lambda c: c.at)
    words = [c for c in columns if c.kind == "words" and c.comes_again and not _ID.fullmatch(c.plain)]
    return ("tags", words) if len(words) == 1 else ("", [])
