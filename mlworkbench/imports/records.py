"""Reader of JSON and JSON Lines: what tools export, and records of images with labels under a key of their own."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..exceptions import WorkbenchError
from ..tables.ask import Asks, joined_doubt, label_doubt, safe
from ..tables.cells import joined_names
from ..tables.meaning import Meaning
from ..tables.rows import open_regular
from ..text import short
from .exports import (
    ABSENT_KEYS,
    CONFIDENCE_KEYS,
    FORMS,
    IMAGE_KEYS,
    NAME_KEYS,
    VALUE_KEYS,
    Answers,
    File,
    about_of,
    are_images_of_classes,
    are_pairs,
    are_records,
    are_said,
    is_binary,
    is_id,
    is_image,
    is_said,
    name_in,
    of_classes,
    places_of,
    turned,
    yes_or_no,
)
from .found import Found, Gathering, Told

MOST_BYTES = 4_000_000_000
LABEL_KEYS = ("labels", "label", "tags", "tag", "objects", "annotations", "annotation", "classes", "class",
              "categories", "category", "choices", "choice", "classificationannotations", "classificationannotation",
              "boundingboxannotations", "gt_label", "ground_truth", "shapes", "flags", "regions")  # fmt: skip
# Label Studio's own keys in its short form, of which no one is a question.
STUDIO_KEYS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "comments"}
SPLIT_KEYS = ("split", "subset", "ml_use", "dataitemresourcelabels")


def read(source: Path, told: Told) -> Found | None:
    """What a JSON or JSON Lines file says; None where it holds no records of images, or only the flat ones of a table.

    Raises
    ------
    WorkbenchError : it is such a file, and damaged, without labels, or unclear
    """
    if not source.is_file():
        return None
    gathering = Gathering(told)
    what = gather(source, told, gathering)
    if what is None:
        return None
    of_records = ("image_column", "delimiter", "unknown", "split_column", "group_column")
    heeded = ("blank", "min_confidence", *(of_records if what == "records" else ("image_column",)))
    return gathering.found(what, places_of(source), source, *heeded)


def gather(source: Path, told: Told, gathering: Gathering, split: str = "") -> str | None:
    """Add what a file says to a gathering; what kind of file it is, or None. `split` is that of the whole file."""
    try:
        values = _values(source)
        if values is None:
            return None
        file = File(source, told, gathering, split)
        document = values[0] if len(values) == 1 else values
        what = next((what for take in (*FORMS, records) if (what := take(file, document)) is not None), None)
    except RecursionError:
        raise WorkbenchError(f"{source} nests lists or objects deeper than labels do; is it what you meant?") from None
    except WorkbenchError:
        raise
    except KeyError as error:
        raise WorkbenchError(f"{source} is damaged: {short(error.args[0])} is missing in it; export it again") from None
    except (LookupError, TypeError, AttributeError, ValueError):
        raise WorkbenchError(
            f"{source} is damaged, or of no form that is known: what it holds is of another kind than its keys say; "
            "docs/labels.md shows the forms: write it in one of them, or export it again"
        ) from None
    file.refuse_unsure()
    gathering.note("named by URL", file.urls, "images; they are looked for on this machine by their paths")
    gathering.note("not labelled", file.unlabelled, "images have no labels: unknown (--blank absent: nothing is there)")
    return what


def _values(source: Path) -> list[Any] | None:
    """The JSON values of a file one after the other; None where it begins as no JSON, or with the row of a table."""
    with open_regular(source, "file") as file:
        start = file.read(4096)
    encoding = json.detect_encoding(start)
    if start.decode(encoding, "ignore").lstrip("\ufeff \t\r\n")[:1] not in ("{", "["):
        return None
    if source.stat().st_size > MOST_BYTES:
        raise WorkbenchError(f"{source} has more than {MOST_BYTES:,} bytes; split it, or leave out its outlines")
    try:
        text = source.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        raise WorkbenchError(f"{source} is no UTF-8 text at byte {error.start:,}; save it in UTF-8") from None
    decoder, between = json.JSONDecoder(object_hook=_lean), re.compile(r"[\ufeff\s]*")
    values: list[Any] = []
    at = between.match(text).end()  # type: ignore[union-attr]
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            at = between.match(text, at).end()  # type: ignore[union-attr]
            values.append(value)
            if at < len(text) and len(values) == 1 and _is_flat(value):
                return None
    except json.JSONDecodeError as error:
        raise WorkbenchError(f"{source}:{error.lineno}: no readable JSON: {error.msg}; is the file whole?") from None
    return values


def _lean(found: dict[str, Any]) -> dict[str, Any]:
    """An object without what takes the memory of a COCO file: outlines and boxes."""
    if "image_id" in found and "category_id" in found:
        return {key: found[key] for key in ("image_id", "category_id", "score") if key in found}
    return found


def _is_flat(value: Any) -> bool:
    """Whether a record is the row of a table: nothing nested but lists of numbers, as the canonical forms have them."""
    if not isinstance(value, dict):
        return True
    nested = (each for each in value.values() if isinstance(each, (dict, list)))
    return all(isinstance(each, list) and _are_numbers(each) for each in nested)


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, (int, float)) or value is None for value in values)


def records(file: File, data: Any) -> str | None:
    """Records of one image each, with its labels under a key: Hugging Face, CreateML, Vertex, AzureML and others."""
    told, gathering = file.told, file.gathering
    found, names = _records_of(data, file)
    if not found:
        return None
    keys = {key: key.lower() for record in found for key in record}  # in order, each once
    image = _image_key(file, found[0])
    split = told.split_column or next((key for key in keys if keys[key] in SPLIT_KEYS), "")
    group = told.group_column or next((key for key in keys if keys[key] == "group" and not is_binary(found, key)), "")
    rest = [key for key in keys if key not in (image, split, group)]
    if "annotator" in keys:
        return _short_form(file, found, image, rest, names)
    wanted, beside = _label_keys(file, found, rest)
    under = f"images are under {image!r}, labels under {', '.join(map(repr, (*wanted, *beside)))}"
    if len(rest) > 1:  # else there was no choice
        gathering.notes.append(("keys", under))
    if left := [key for key in rest if key not in (*wanted, *beside)]:
        gathering.notes.append(("left out", f"keys that are no labels: {', '.join(left[:12])}"))
    cells = [_cell(record, wanted, file.told.classes or names, is_binary(found, wanted[0])) for record in found]
    names = list(told.classes or names)
    gathering.listed(names)
    if _are_patterns(cells):
        names = names or [f"class_{place}" for place in range(max(len(cell) for cell in cells if cell))]
        cells = [cell and dict(zip(names, cell, strict=True)) for cell in cells]
    labels = _Labels(file, names)
    said = []
    for number, (record, cell) in enumerate(zip(found, cells, strict=True), 1):
        about = {key.lower(): record[key] for key in beside if key in record}
        said.append([] if cell in (None, "") else list(labels.of({**about, "labels": cell} if about else cell, number)))
    labels.refuse_unclear()
    if file.explicit:
        gathering.notes.append(("absent", "labels are said to be absent; what is not named for an image is unknown"))
    for record, cell, pairs in zip(found, cells, said, strict=True):
        known = cell not in (None, "")
        row = file.image(name_in(record, image), _split_of(record, split), known, str(record.get(group) or ""))
        for label, value in pairs:
            gathering.label(row, [label], value)
    texts = told.delimiter is None and any(isinstance(cell, str) for cell in cells)
    if texts and (joined := joined_names(gathering.columns, None)):
        doubt = joined_doubt(len(gathering.columns), joined)
        raise Asks(file.source, [doubt], ("--delimiter", joined[0]), "", told)
    return "records"


def _records_of(data: Any, file: File) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of images in a document, and the names of classes that it gives beside them."""

    def names_image(record: dict[str, Any]) -> bool:
        sure = {file.told.image_column, *IMAGE_KEYS[:11]}
        return any(key in sure or key.lower() in sure or is_image(name_in(record, key)) for key in record)

    data = turned(data)
    if are_images_of_classes(data):
        return of_classes(data, file), list(data)
    if not isinstance(data, dict):
        return (data, []) if are_records(data) and names_image(data[0]) else ([], [])
    if names_image(data):
        return [data], []
    if data and all(is_image(key) for key in data):
        return [{"image": key, "labels": value} for key, value in data.items()], []
    about = data["metainfo"] if isinstance(data.get("metainfo"), dict) else data
    names = about.get("classes") or about.get("CLASSES")
    inner = [[*value.values()] if isinstance(value, dict) else value for value in (*data.values(), data)]
    lists = (each for each in inner if are_records(each) and names_image(each[0]))
    return next(lists, []), [str(name) for name in names] if isinstance(names, list) else []


def _image_key(file: File, record: dict[str, Any]) -> str:
    """Key of the images: the one that is given, or holds the name of an image file, or is called so."""
    key = file.told.image_column
    if key is None:
        known = sorted((IMAGE_KEYS.index(key.lower()), key) for key in record if key.lower() in IMAGE_KEYS)
        likely = [*(key for _, key in known), *record]
        key = next((key for key in likely if is_image(name_in(record, key))), likely[0])
    if key not in record:
        raise WorkbenchError(f"{file.source} has no key {short(key)}; its keys are {', '.join(record)}")
    return key


def _label_keys(file: File, found: list[dict[str, Any]], keys: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keys of the labels: given, or one that is called so, or all that hold nothing but 0, 1, -1 and null.

    With them those that say more of the one label of a record, see `_beside`.
    """
    wanted = file.told.columns
    if wanted and set(wanted) <= set(keys):
        file.gathering.only = ()
        return wanted, _beside(file, found, wanted[0], keys) if len(wanted) == 1 else ()
    called = [key for key in keys if key.lower() in LABEL_KEYS]
    filled = [key for key in called if any(record.get(key) for record in found)] or called[:1]
    if len(filled) > 1:
        raise WorkbenchError(
            f"{file.source} has labels under {' and under '.join(filled)}; say which: --columns {filled[0]}"
        )
    no_class = (*CONFIDENCE_KEYS, *STUDIO_KEYS)
    numbers = [key for key in keys if not (is_id(key) or key.lower() in no_class) and is_binary(found, key)]
    if not filled and not numbers:
        raise WorkbenchError(f"{file.source} has no labels under its keys {', '.join(keys)}; say where: --columns KEY")
    return (tuple(filled), _beside(file, found, filled[0], keys)) if filled else (tuple(numbers), ())


def _beside(file: File, found: list[dict[str, Any]], label: str, keys: list[str]) -> tuple[str, ...]:
    """Keys beside that of the labels which say of the one label of a record whether it is there, and how sure that is.

    Raises
    ------
    WorkbenchError : they stand beside several labels of which they may say something, or nothing
    """
    filled = [record for record in found if record.get(label)]
    parallel = [
        key
        for key in keys
        if key != label and about_of(key) and all(are_pairs(each[label], each.get(key)) for each in filled)
    ]
    if parallel and filled:
        return tuple(parallel)
    sure = [key for key in keys if key.lower() in CONFIDENCE_KEYS]
    # Words that say neither are those of something else, unless the key can mean nothing else.
    said = [
        key
        for key in keys
        if key.lower() in VALUE_KEYS
        and (
            key.lower() not in ("value", "answer", "state", *ABSENT_KEYS)
            or any(is_said(each.get(key)) for each in found)
        )
    ]
    beside = (*said, *sure)
    lists = any(isinstance(record.get(label), list) and len(record[label]) > 1 for record in found)
    if not lists:
        return beside
    heard = [(key, {str(record[key]) for record in found if record.get(key) is not None}) for key in beside]
    doubted = ", ".join(key for key, words in heard if set(map(yes_or_no, words)) - {1})
    if doubted and not file.told.columns:
        what = f"{doubted} stands beside lists of labels: does it say whether they are there? The command leaves it out"
        raise Asks(file.source, [what], safe("--columns", label), "", file.told)
    return ()


def _cell(record: dict[str, Any], keys: tuple[str, ...], names: Sequence[str], binary: bool) -> Any:
    """What stands under one key, or under several: a label for each of them where these are numbers."""
    # One key with 0 and 1 is a class of its own, unless by its name it counts the classes.
    counts = keys[0].lower() in LABEL_KEYS or is_id(keys[0]) or (len(names) > 0 and keys[0] not in names)
    numbers = binary and not counts
    if len(keys) == 1 and not isinstance(record.get(keys[0]), bool) and not numbers:
        return record.get(keys[0])
    cells = {key: record.get(key) for key in keys}
    return cells if _are_numbers(cells.values()) else [cell for cell in cells.values() if cell is not None]


def _short_form(file: File, found: list[dict[str, Any]], image: str, keys: list[str], names: list[str]) -> str:
    """Label Studio's short form: a record for each annotation, and a key for each question."""
    labels, told = _Labels(file, list(file.told.classes or names)), file.told
    keys = [key for key in keys if key not in STUDIO_KEYS]
    asked = [
        key
        for key in keys
        if key.lower() in LABEL_KEYS
        or any(isinstance(record.get(key), dict) and "choices" in record[key] for record in found)
        or are_said(record.get(key) for record in found)
    ]
    if told.columns and set(told.columns) <= set(keys):
        asked = [key for key in keys if key in {*asked, *told.columns}]
    elif not asked and keys:
        what = f"Label Studio's short form: which of its keys {', '.join(keys)} are questions is not said"
        raise Asks(file.source, [what], safe("--columns", *keys), "", told)
    elif about := [key for key in asked if key.lower() in (*VALUE_KEYS, *CONFIDENCE_KEYS) and len(asked) > 1]:
        what = f"{', '.join(about)} could say whether the label beside it is there, or be a question of its own"
        raise Asks(
            file.source, [what + "; the command takes each key for a question"], safe("--columns", *asked), "", told
        )
    if left := [key for key in keys if key not in asked]:
        file.gathering.notes.append(("left out", f"keys that are no labels: {', '.join(left[:12])}"))
    judged: dict[str, list[Answers]] = {}
    for number, record in enumerate(found, 1):
        answers: Answers = {}
        for key in asked:
            if record.get(key) is not None:
                answers[key] = [name for name, value in labels.of(record[key], number) if value == 1]
        judged.setdefault(name_in(record, image), []).append(answers)
    labels.refuse_unclear()
    file.answers(judged, set())
    return "records"


def _split_of(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if isinstance(value, dict):  # Vertex: {"aiplatform.googleapis.com/ml_use": "training"}
        value = next((word for name, word in value.items() if name.endswith("ml_use")), None)
    return "" if value is None else str(value)


def _are_patterns(cells: list[Any]) -> bool:
    """Whether the cells are lists of 0, 1 and -1 in the order of the classes, and not of the classes' numbers."""
    lists = [cell for cell in cells if cell is not None]
    if not all(isinstance(cell, list) and all(value in (0, 1, -1, None) for value in cell) for cell in lists):
        return False
    return len({len(cell) for cell in lists}) == 1 and any(len(set(cell)) < len(cell) for cell in lists)


class _Labels:
    """Labels in a cell, by the names of their classes."""

    def __init__(self, file: File, names: list[str]):
        self.file, self.told, self.names = file, file.told, names
        self.meaning = Meaning(file.told)
        self.times = Counter[Any]()  # how often each label stands under a class's own key, or beside its name
        self.odd: dict[str, list[tuple[Any, int]]] = {}  # what stands there and is no label, and its record

    def of(self, cell: Any, number: int) -> Iterator[tuple[str, int]]:
        """Each class that a cell names, however deep, and its label; `number` is that of the record."""
        if isinstance(cell, str):
            parts = cell.split(self.told.delimiter) if self.told.delimiter else [cell]
            yield from ((part.strip(), 1) for part in parts if part.strip())
        elif isinstance(cell, list):
            for each in cell:
                yield from self.of(each, number)
        elif isinstance(cell, int) and not isinstance(cell, bool):
            yield self._name(cell, number), 1
        elif isinstance(cell, dict):
            lower = {key.lower(): value for key, value in cell.items()}
            named = next((lower[key] for key in NAME_KEYS if lower.get(key) is not None), None)
            if named is not None:
                about = {own: value for key, value in lower.items() if (own := about_of(key))}
                if about and all(are_pairs(named, values) for values in about.values()):
                    for at, each in enumerate(named):
                        yield from self.of(
                            {"label": each, **{key: values[at] for key, values in about.items()}}, number
                        )
                elif (said := self._said(about, number)) is not None:
                    yield from ((name, said if label == 1 else label) for name, label in self.of(named, number))
            elif _are_numbers(cell.values()):
                yield from ((name, self._value(value, number)) for name, value in cell.items())
            else:
                raise self._fault(cell, number)
        else:
            raise self._fault(cell, number)

    def _said(self, about: dict[str, Any], number: int) -> int | None:
        """What stands beside a label's name: 1, 0 or -1 where it says so, None where the label is too unsure."""
        label = self.file.sure(next((about[key] for key in CONFIDENCE_KEYS if key in about), None))
        key = next((key for key in VALUE_KEYS if key in about), None)
        if key is not None and label != 0:
            meant = self.meaning.label(about[key])
            if meant is None:
                self.odd.setdefault(key, []).append((about[key], number))
            if key in ABSENT_KEYS and meant in (0, 1):
                meant = 1 - meant
            label = meant if label == 1 or not meant else None
            self.times[str(about[key])] += 1
        self.file.explicit |= label == 0
        return label

    def _name(self, number: int, record: int) -> str:
        if 0 <= number < len(self.names):
            return self.names[number]
        known = f"only {len(self.names)} names are known" if self.names else "nothing names them"
        raise WorkbenchError(
            f"{self.file.source}: labels are numbers, such as {number} in record {record}, and {known}; give the names "
            "with --classes FILE, one a line, the first for 0"
        )

    def _value(self, value: Any, number: int) -> int:
        """The label that 1, 0, -1, true, false or null under a class's own key is."""
        self.times[value] += 1
        label = self.meaning.label(value)
        if label is None:
            raise self._fault(value, number)
        return label

    def _fault(self, cell: Any, number: int) -> WorkbenchError:
        return WorkbenchError(
            f"{self.file.source}: {short(cell)} in record {number} is no label; expected names of classes, or 0 and 1"
        )

    def refuse_unclear(self) -> None:
        """Refuse what says neither that a label is there nor that it is not; ask where it could mean two things."""
        if self.odd:
            each = (f"{short(values[0][0])} under {short(key)} (record {values[0][1]}, {len(values):,} such labels)"
                    for key, values in self.odd.items())  # fmt: skip
            raise WorkbenchError(
                f"{self.file.source}: {' and '.join(each)} says neither that a label is present nor that it is absent; "
                "expected 1 or 0, true or false, yes or no; --unknown VALUE and --negative VALUE say what others mean"
            )
        if not self.meaning.minus_told and (doubt := label_doubt(self.times.items(), self.told.blank is not None)):
            raise Asks(self.file.source, [doubt[0]], doubt[1], "", self.told)
