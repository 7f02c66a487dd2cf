"""Refusals that ask: what was seen in a file that could mean two things, and the one import command that settles it."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..exceptions import WorkbenchError
from ..paths import free, is_fit, is_inside
from ..text import short
from .cells import FOREIGN_WORDS, is_blank, label_of, list_values
from .columns import LABEL_COLUMNS, NOTHING_TOLD, PATH_COLUMNS, Column, Look, Told
from .meaning import Meaning

Options = tuple[str, ...]


def command(source: Path, *options: str, told: Told = NOTHING_TOLD, images: Path | None = None) -> str:
    """The command, quoted for a shell, that imports `source`: to the file that was told, else to a free one beside it.

    What was `told` is told again, but for what `options` say anew; `images` is the folder of the images, if known.
    """
    folder = source if source.is_dir() else source.parent
    if told.images is not None and not _inside(told.images, folder):
        folder = told.images
    folder = images or folder
    beside = folder if is_fit(folder) else Path()
    out = told.out or free(beside / "labels.csv", beside / f"{source.absolute().stem}-labels.csv")
    # Paths start at the labels file, or else where it is said that they do.
    root = () if told.root or _inside(folder, out.parent) else ("--root", str(folder))
    anew = {option.partition("=")[0] for option in options if option.startswith("--")}
    again = [value for flag, values in _as_options(told) if flag not in anew for value in values]
    return shlex.join(["mlworkbench", "import", str(source), "--out", str(out), *root, *options, *again])


def _as_options(told: Told) -> Iterator[tuple[str, Options]]:
    """(flag, flag and values) of what was told."""
    for known in fields(told):
        value = getattr(told, known.name)
        if value not in (None, ()) and known.name not in ("classes", "out"):
            flag = "--" + known.name.removesuffix("_file").replace("_", "-")
            values = value if isinstance(value, tuple) else (str(value),)
            yield flag, safe(flag, *values)


def _inside(folder: Path, above: Path) -> bool:
    return is_inside(os.path.realpath(folder), os.path.realpath(above))


class Asks(WorkbenchError):
    """A file that could mean several things, or is somebody else's form.

    Parameters
    ----------
    what : what is seen and what it could mean, one for each cause
    options : what the import command is told besides what was `told`
    seen : the columns
    """

    def __init__(self, source: Path, what: Sequence[str], options: Options, seen: str, told: Told = NOTHING_TOLD):
        columns = f"; columns seen: {seen}" if seen else ""
        super().__init__(f"{source}: {'; '.join(what)}{columns}. To read it so: {command(source, *options, told=told)}")


def doubts(look: Look) -> tuple[list[str], Options]:
    """What of a table is not in a canonical form, one text for each cause, and the options that import needs."""
    found = doubts_of_path(look)
    options: Options = ()
    if look.boxes:
        boxes = ", ".join(c.name for c in look.boxes)
        found.append(f"one line for each box ({boxes}): the lines of an image are to be joined")
    if look.confidence:
        found.append(f"{look.confidence.name!r} seems to be the confidence of a label")
    if look.torn:
        what, options = torn_doubt(look, look.torn)
        return [*found, what], options
    splits = [c for c in look.splits if c.plain != "split"]
    sure = [c for c in splits if c.flag or c.kind == "split"]
    found += [f"{c.name!r} seems to be the split, and no class ({_few(c)})" for c in sure]
    if look.form in ("tags", "lists") and look.header and look.labels[0].plain not in LABEL_COLUMNS:
        found.append(f"the labels seem to stand in {look.labels[0].name!r} (names such as {_few(look.labels[0])})")
    if look.form == "lists" and look.header and _bare(look):
        found.append(f"the lists in {look.labels[0].name!r} have no brackets ({_few(look.labels[0])})")
    if look.form == "columns":
        odd = [c for c in look.rest if c.name] + [c for c in splits if c not in sure]
        found += [f"{c.name!r} {_no_class(c)}" for c in odd]
        if odd and len(" ".join(c.name for c in look.labels)) < 300:
            options += safe("--columns", *(c.name for c in look.labels))
    if not look.form:
        found += [f"{c.name!r} holds words ({_few(c)}), no 0 and 1" for c in look.words]
        found.append("each word could be made a class")
        options += safe("--columns", *(c.name for c in look.words))
    if found:
        more, settle = _doubts_of_labels(look)
        found, options = found + more, options + settle
    return found, options


def torn_doubt(look: Look, torn: Column) -> tuple[str, Options]:
    """What a column could be that is a class, or else the split or the group, and the options for the latter."""
    kind = "group" if torn is look.group else "split"
    classes = safe("--columns", *(c.name for c in sorted([*look.labels, torn], key=lambda c: c.at)))
    what = (
        f"{torn.name!r} holds 0 and 1: is it the {kind}, or a class? (the command takes it for the {kind}; as a class: "
    )
    return f"{what}{shlex.join(classes)} instead)", (f"--{kind}-column", torn.name)


def metadata_doubt(look: Look) -> tuple[str, Options] | None:
    """What columns of 0 and 1 could be that are called like metadata, and the options that leave them out."""
    odd = [c for c in look.rest if c.kind == "labels" and c.name]
    odd += [c for c in look.splits if c.kind == "labels" and not c.flag and c.plain != "split"]
    if look.form != "columns" or not odd:
        return None
    names = ", ".join(repr(c.name) for c in odd)
    what = (
        f"{names}: 0 and 1, but by the name no class (the command leaves that out; as classes they go into --columns)"
    )
    return what, safe("--columns", *(c.name for c in look.labels))


def _doubts_of_labels(look: Look) -> tuple[list[str], Options]:
    """What the labels of a sample could mean besides, so that the command named for other causes settles it too."""
    found: list[str] = []
    options: Options = ()
    cells = [cell for c in look.labels if c.kind == "labels" for cell in c.sample]
    if look.form == "lists":
        cells = [value for cell in look.labels[0].said for value in _values(cell)]
    if look.form in ("columns", "lists") and (
        doubt := label_doubt([(cell, 1) for cell in cells], look.form == "lists")
    ):
        found, options = [doubt[0]], doubt[1]
    if look.form == "tags":
        _, joined, count = Meaning(NOTHING_TOLD).parting(look.labels[0].said)
        if joined:
            found, options = [joined_doubt(count, joined)], safe("--delimiter", joined[0])
        if look.confidence and any(
            str(value).strip() not in ("0", "1", "0.0", "1.0") for value in look.confidence.said
        ):
            options += ("--min-confidence", "0.5")
    if look.grouping:
        found.append(f"{look.grouping.name!r} seems to be a group that no split should part")
        options += safe("--group-column", look.grouping.name)
    return found, options


def _values(cell: object) -> list[object]:
    values = list_values(cell)
    return values if isinstance(values, list) else []


def doubts_of_path(look: Look) -> list[str]:
    """What keeps a path column from being canonical."""
    if not look.header and not (look.form == "lists" and len(look.columns) == 2 and not _bare(look)):
        return [f"no header and no list such as [0, 1, 1, 0] in brackets: {_headerless(look)}"]
    if look.header and look.path and look.path.plain not in PATH_COLUMNS:
        bare = "" if look.path.has_suffixes else ", without extension"
        return [f"the image paths seem to stand in {look.path.name!r}{bare}, which is not called {PATH_COLUMNS[0]}"]
    return []


def _bare(look: Look) -> bool:
    """Whether lists of labels are written without brackets."""
    values = look.labels[0].values
    return 2 * sum(isinstance(value, str) and "[" not in value for value in values) > len(values)


def safe(option: str, *values: str) -> Options:
    """An option with values that may begin with a hyphen, as argparse takes them."""
    if any(value.startswith("-") for value in values):
        return tuple(f"{option}={value}" for value in values)
    return (option, *values)


def _few(column: Column) -> str:
    shown = ", ".join(str(value)[:30] for value in column.values[:3])
    return shown + ", …" * (len(column.values) > 3)


def _no_class(column: Column) -> str:
    if column.kind == "labels":
        return f"holds 0 and 1 ({_few(column)}), but by its name it is no class"
    return f"holds {column.kind} ({_few(column)}), no 0 and 1" if column.values else "is empty"


def _headerless(look: Look) -> str:
    what = {"columns": "then 0 or 1 for each class", "lists": "then 0 or 1 for each class", "tags": "then names"}
    first = next(iter(look.path.values), "") if look.path else ""
    return f"a path ({short(first)}) and {what.get(look.form, 'no labels')}; the names of classes go into classes.txt"


def label_doubt(cells: Iterable[tuple[Any, int]], blank_told: bool = False) -> tuple[str, Options] | None:
    """Whether labels could mean two things: no 0 anywhere, or -1 most frequent and 0 rare.

    `cells` are (label, times) pairs as they stand in the file.
    """
    counts: Counter[str] = Counter()
    dash = "-1"
    for cell, times in cells:
        label = label_of(cell)
        if label is None and (label := FOREIGN_WORDS.get(str(cell).strip().lower())) == -1:
            if str(cell).strip() != "-":
                continue  # a word that says that it is unknown
            dash = "-"
        counts["blank" if label == -1 and is_blank(cell) else str(label)] += times
    ones, zeros, minus, blanks = (counts[key] for key in ("1", "0", "-1", "blank"))
    seen = f"{ones:,} times 1, {zeros:,} times 0, {minus:,} times -1, {blanks:,} blank"
    if minus and ones and zeros == 0:
        return (
            f"no label is 0: is {dash} absent here (as in CelebA), or unknown? ({seen}; the command reads {dash} as 0, "
            f"absent; with --unknown {dash} it is unknown)",
            safe("--negative", dash) if dash == "-" else ("--negative", "-1"),
        )
    if minus > ones > zeros and minus > blanks:
        return (
            f"-1 is most frequent and 0 is rare: is -1 absent and 0 undecided here (as in Pascal VOC), or -1 unknown? "
            f"({seen}; the command reads -1 as absent and 0 as unknown; with --unknown -1 it is the other way round)",
            ("--negative", "-1", "--unknown", "0"),
        )
    if blanks and ones and zeros == 0 and not blank_told:
        return (
            f"no label is 0: is a blank cell absent here, or unknown? ({seen}; the command reads blank as 0, absent; "
            "with --blank unknown it is unknown)",
            ("--blank", "absent"),
        )
    return None


def joined_doubt(names: int, joined: tuple[str, list[str]]) -> str:
    """What is asked where names seem to be several names joined by a sign, see `cells.joined_names`."""
    sign, some = joined
    return (
        f"of {names} classes some seem to be several joined by {sign!r}, such as {short(some[0])}; the command "
        "parts them there (each one name? then with --delimiter '|')"
    )
