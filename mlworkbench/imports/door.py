"""Door for foreign data: what tools and data sets write becomes a canonical labels file, and what was found is told."""

import importlib
import re
import shlex
import shutil
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..data.labels import LabelTable, read_labels, save_columns, save_labels
from ..data.rows import SPLITS
from ..exceptions import WorkbenchError
from ..files import write_whole
from ..paths import free, near
from ..tables.ask import command
from ..tables.cells import split_of
from ..tables.columns import plain
from ..tables.rows import kind_of
from ..text import printable, short, shortened
from .found import Found, Told
from .place import place_images

READERS = {
    "folder": ("yolo", "folders"),
    "xml": ("xml",),
    "json": ("records", "table"),
    "table": ("table",),
}


@dataclass(frozen=True)
class Imported:
    """A labels file that was made of a source.

    Attributes
    ----------
    table : what was written, as `read_labels` reads it
    what : the kind of source
    unlabelled : images beside those of the source that it does not name
    notes : (kind, message) pairs, one for each cause
    """

    table: LabelTable
    what: str
    unlabelled: int
    notes: list[tuple[str, str]]

    def __str__(self) -> str:
        y, names = self.table.y, self.table.class_names
        unknown = int((y < 0).all(1).sum())
        lines = [
            f"{self.what}: {len(y):,} images, {len(names)} classes, {(y == 1).sum():,} labels; "
            f"{(y < 1).all(1).sum() - unknown:,} images show none of them; "
            + f"of {unknown:,} nothing is known; " * (unknown > 0)
            + f"{self.unlabelled:,} images beside them are not named by the source"
        ]
        if self.table.split is not None:
            sizes = {name: int((self.table.split == name).sum()) for name in SPLITS}
            lines.append("splits: " + "  ".join(f"{name} {size:,}" for name, size in sizes.items()))
        lines += [f"{kind}  {message}" for kind, message in self.notes]
        return "\n".join([*lines, class_counts(names, y)])


def class_counts(names: list[str], y: np.ndarray) -> str:
    """A table of how many images have each class present, absent and unknown."""
    counts = [(y == value).sum(0) for value in (1, 0, -1)]
    rows = [f"{'class':<32} {'present':>10} {'absent':>10} {'unknown':>10}"]
    for name, *numbers in zip(names, *counts, strict=True):
        rows.append(f"{shortened(printable(name), 32):<32} " + " ".join(f"{n:>10,}" for n in numbers))
    return "\n".join(rows)


def import_labels(source: str | Path, out: str | Path, told: Told | None = None) -> Imported:
    """Write a labels file, and `classes.txt` beside it, of what another tool wrote; what it is, its content tells.

    Paths in it start at the folder of `out`, or at the `root` that is told. Existing files are not replaced: beside a
    `classes.txt` of other names the header holds those of the classes. What is written is what `read_labels` reads.

    Raises
    ------
    WorkbenchError : nothing that is known, at fault, no label or no image at all, or `out` is there already
    """
    source, out = Path(source), Path(out)
    told = replace(told or Told(), out=out)
    if out.exists():
        raise WorkbenchError(f"{out} is there already; choose another --out, such as {shlex.quote(str(free(out)))}")
    found = _read(source, told)
    if not found.class_names or not (found.y == 1).any():
        raise WorkbenchError(f"{source} ({found.what}) has no label at all; is it the file with the labels?")
    split, notes = _splits(found, told)
    placed = place_images(found, told, out)
    rows, more = _each_once(placed.rows, placed.paths, found)
    table = LabelTable(
        paths=np.array([placed.paths[row] for row in rows], dtype=object),
        class_names=[_one_line(name) for name in found.class_names],
        y=found.y[placed.rows[rows]],
        lines=np.arange(2, len(rows) + 2),
        root=told.root or out.parent,
        source=out,
        sha256="",
        split=None if split is None else split[placed.rows[rows]],
        group=None if found.group is None else np.array(found.group, dtype=object)[placed.rows[rows]],
    )
    if not (table.y == 1).any():
        raise WorkbenchError(
            f"{source} ({found.what}): none of the images that are on disk has a label that is present"
        )
    notes = [*found.notes, *notes, *placed.notes, *more, *_alike(table.class_names)]
    return Imported(_written(table, out), found.what, placed.unlabelled, notes)


def _alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """A note on names that differ in nothing but case, spaces, hyphens or how an accent is written."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(plain(unicodedata.normalize("NFKC", name)).casefold(), []).append(name)
    same = ["/".join(map(repr, own)) for own in kinds.values() if len(own) > 1]
    more = f" and {len(same) - 5} more" * (len(same) > 5)
    what = f"are these one? {', '.join(same[:5])}{more}: each is a class of its own; mend the source if they are"
    return [("classes", what)] if same else []


def is_folder(source: Path) -> bool:
    """Whether a source is a folder, or the YAML file that describes one."""
    return source.is_dir() or source.suffix.lower() in (".yaml", ".yml")


def what_folder(source: Path) -> str:
    """What a folder holds, and the command that makes a labels file of it, for those who take it for one."""
    found = _read(source, Told())
    return (
        f"{source} is no labels file but a folder ({found.what}: {len(found.images):,} images, "
        f"{len(found.class_names)} classes); make one of it with {command(source)} and go on with that"
    )


def _read(source: Path, told: Told) -> Found:
    if not source.exists():
        what = "a table, a JSON or XML file, or a folder"
        raise WorkbenchError(f"{source} does not exist; expected {what}{near(source)}")
    kind = "folder" if is_folder(source) else kind_of(source)
    for name in READERS[kind]:
        found = importlib.import_module(f"{__package__}.{name}").read(source, told)
        if found is not None:
            return found
    what = {"folder": "folder", "xml": "XML", "json": "JSON", "table": "table"}[kind]
    raise WorkbenchError(f"{source} is a {what} of no kind that is known; docs/labels.md lists those that are")


def _splits(found: Found, told: Told) -> tuple[np.ndarray | None, list[tuple[str, str]]]:
    """The split of each image [N] in our words; where some images have none, they are of train."""
    if found.split is None or not any(found.split):
        if told.split_values:
            raise WorkbenchError(f"{found.what}: no splits; --split-column NAME says which column holds them")
        return None, []
    words = {word.strip() for word in found.split}
    meant: dict[str, str | None] = {word: split_of(word) for word in words}
    if told.split_values:
        meant = {word: split or "train" for word, split in meant.items()}
        meant |= _split_values(told, words)
    if odd := sorted(word for word, split in meant.items() if split is None and word):
        raise WorkbenchError(
            f"{found.what}: the splits {', '.join(map(short, odd[:5]))} are no train, val or test; "
            f"--split-values {shlex.quote(odd[0])}=val says what they mean"
        )
    without = sum(not word.strip() for word in found.split)
    notes = [("split", f"{without:,} images without a split are taken as train")] if without else []
    return np.array([meant[word.strip()] or "train" for word in found.split], dtype=object), notes


def _split_values(told: Told, words: set[str]) -> dict[str, str | None]:
    pairs = [text.rpartition("=") for text in told.split_values]
    for value, _, word in pairs:
        if value not in words or split_of(word) is None:
            known = ", ".join(sorted(words)[:8])
            raise WorkbenchError(
                f"--split-values {value}={word}: expected VALUE=SPLIT with a value of {known} and train, val or test"
            )
    return {value: split_of(word) for value, _, word in pairs}


def _each_once(rows: np.ndarray, paths: list[str], found: Found) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Which of the placed images [M] to write: a file that several names mean is written once."""
    first = dict(zip(reversed(paths), range(len(paths) - 1, -1, -1), strict=True))
    if len(first) == len(paths):
        return np.arange(len(paths)), []
    again = [row for row, path in enumerate(paths) if first[path] != row]
    for row in again:
        before = first[paths[row]]
        if (found.y[rows[row]] != found.y[rows[before]]).any():
            one, other = found.images[rows[before]], found.images[rows[row]]
            raise WorkbenchError(
                f"{found.what}: {short(one)} and {short(other)} are the same file with other labels; keep one of them"
            )
    return np.setdiff1d(np.arange(len(paths)), again), [("repeated", f"{len(again):,} images are named twice")]


def _one_line(name: str) -> str:
    return re.sub(r"\s*[\r\n]+\s*", " ", name.strip("\ufeff")).strip() or "class"


def _written(table: LabelTable, out: Path) -> LabelTable:
    """The table as it is read again: both files are written elsewhere, read, compared, and only then put in place."""
    files = save_labels(table, out)
    classes = out.parent / "classes.txt"
    if classes.exists() and classes.read_bytes().replace(b"\r\n", b"\n").strip() != files[classes].strip():
        files = {out: save_columns(table)}
    folder = Path(tempfile.mkdtemp(prefix="mlworkbench-"))
    try:
        for file, content in files.items():
            (folder / file.name).write_bytes(content)
        again = read_labels(folder / out.name)
    except WorkbenchError:
        if classes in files:
            raise
        raise WorkbenchError(
            f"{classes} is there already, with other names, and these cannot stand in a header; move it away, or give "
            f"--out in another folder, with --root {shlex.quote(str(table.root))}"
        ) from None
    finally:
        shutil.rmtree(folder)
    if list(again.paths) != list(table.paths) or again.class_names != table.class_names or (again.y != table.y).any():
        raise WorkbenchError(f"{out}: what would be written is not read as it was meant; please report the source")
    for file, content in files.items():
        if not file.exists():
            write_whole(file, content)
    return replace(again, root=table.root, source=out)
