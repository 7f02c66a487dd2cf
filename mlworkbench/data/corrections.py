"""Corrections of labels, as people mark them: an overlay that the labels file itself never feels."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import filelock

from ..exceptions import LabelFaults
from ..files import write_csv, write_whole
from ..tables.cells import label_of
from ..tables.rows import read_table
from ..text import mark_path, mark_text, short, unmark_path, unmark_text
from .labels import LabelTable

COLUMNS = ("image_path", "class", "old", "new", "mark")
MARKS = ("wrong", "right", "unsure")


@dataclass(frozen=True)
class Correction:
    """What somebody said of one label.

    Attributes
    ----------
    old, new : the label as it was shown and as it should be: 1, 0 or -1 (unknown); only "wrong" tells them apart
    mark : "wrong", "right" or "unsure"
    """

    image_path: str
    class_name: str
    old: int
    new: int
    mark: str


def read_corrections(file: str | Path) -> list[Correction]:
    """The marks of a file `image_path,class,old,new,mark`, oldest first.

    Raises
    ------
    LabelFaults : all faults of the file at once, each with its line
    WorkbenchError : the file cannot be read at all
    """
    source = Path(file)
    found = read_table(source, "corrections file")
    rows = iter(found.rows)
    if found.keys is None:
        first = next(rows, (1, []))
        header = first[1] if isinstance(first[1], list) else []
    else:
        header = found.keys
    if tuple(header) != COLUMNS:
        raise LabelFaults(source, [(1, f"expected the header {','.join(COLUMNS)}")])
    lines: dict[tuple[str, str], int] = {}
    corrections, faults = [], []
    for line, cells in rows:
        if not cells:
            continue
        correction = _correction(cells)
        if isinstance(correction, str):
            faults.append((line, correction))
            continue
        before = lines.setdefault((correction.image_path, correction.class_name), line)
        if before != line:
            what = f"{short(correction.image_path)}, class {short(correction.class_name)}"
            faults.append((line, f"{what} stands on line {before} too; keep one"))
        corrections.append(correction)
    if faults:
        raise LabelFaults(source, faults)
    return corrections


def _correction(cells: list | str) -> Correction | str:
    """One row, or what is wrong with it."""
    if isinstance(cells, str):
        return cells
    if len(cells) != len(COLUMNS):
        return f"{len(cells)} cells; expected {len(COLUMNS)}"
    path, name, *labels, mark = cells
    if not isinstance(path, str) or not path or not isinstance(name, str) or not name:
        return "no image path or no class; expected both"
    if mark not in MARKS:
        return f"mark {short(mark)}; expected one of {', '.join(MARKS)}"
    old, new = map(label_of, labels)
    if old is None or new is None:
        return f"{short(labels[old is not None])} is no label; expected 0, 1 or -1 (unknown)"
    if (old != new) != (mark == "wrong"):
        return f"mark {mark!r} with the labels {old} and {new}; a wrong label changes, any other stays"
    return Correction(unmark_path(path), unmark_text(name), old, new, mark)


def record(file: str | Path, correction: Correction) -> Correction | None:
    """Keep a mark at once, in place of an earlier one of the same label, which is returned (for undoing).

    The file is written whole each time: whatever happens meanwhile, it holds every mark up to the last one or this one.
    """
    return _change(Path(file), (correction.image_path, correction.class_name), correction)


def withdraw(file: str | Path, image_path: str, class_name: str) -> Correction | None:
    """Take back the mark of a label, which is returned; None where there was none."""
    return _change(Path(file), (image_path, class_name), None)


def _change(file: Path, label: tuple[str, str], correction: Correction | None) -> Correction | None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file.with_name(f".{file.name}.lock")):  # of two galleries neither loses the other's marks
        marks = read_corrections(file) if file.exists() else []
        before = next((m for m in marks if (m.image_path, m.class_name) == label), None)
        kept = [m for m in marks if m is not before]
        write_corrections(file, kept if correction is None else [*kept, correction])
    return before


def write_corrections(file: Path, marks: Iterable[Correction]) -> None:
    """The file of these marks, in place of what it was."""
    rows = ((mark_path(m.image_path), mark_text(m.class_name), m.old, m.new, m.mark) for m in marks)
    write_whole(file, write_csv(rows, COLUMNS))


def correct(table: LabelTable, corrections: Iterable[Correction]) -> LabelTable:
    """The table with the labels that are marked wrong changed, and a note of how many were and of each that was not.

    A correction is applied only where its image and class are there and its old label is still the table's: where
    somebody has changed the labels file since, nobody knows whom to believe.
    """
    rows = {path: row for row, path in enumerate(table.paths)}
    columns = {name: c for c, name in enumerate(table.class_names)}
    y, changed, notes = table.y.copy(), list(table.changed), []
    for correction in corrections:
        path, name, old, new, mark = astuple(correction)
        if mark != "wrong":
            continue
        row, c = rows.get(path), columns.get(name)
        if row is None or c is None:
            reason = f"no such {'image' if row is None else 'class'} in {table.source}"
        elif y[row, c] != old:
            reason = f"the label is {y[row, c]} by now"
        else:
            y[row, c] = new
            changed.append((path, name, old, new))
            continue
        notes.append(("correction", f"not applied: {short(path)}, class {short(name)}, {old} to {new}: {reason}"))
    if applied := len(changed) - len(table.changed):
        notes.append(("corrected", f"{applied:,} labels are as the corrections have them"))
    return replace(table, y=y, changed=tuple(changed), notes=(*table.notes, *notes))
