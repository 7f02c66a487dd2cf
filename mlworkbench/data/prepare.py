"""Preparation: from a labels file to images that can be trained on, checked, set aside, split."""

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..exceptions import WorkbenchError
from ..paths import home_of
from ..progress import progress_bar
from ..settings import Settings
from ..tables.ask import command, safe
from ..tables.columns import Told
from ..text import by_reason, short
from .duplicates import joined_groups, linked_rows, rows_together
from .finder import Folders, find_images, why
from .images import OUTSIDE, SUFFIXES, ImageFault, ImageInfo, check_images, images_hash
from .labels import SPLITS, LabelTable
from .splits import completed_split, stratified_split


@dataclass(frozen=True)
class Prepared:
    """Labelled images that can be trained on, and what was found on the way.

    Attributes
    ----------
    table : the usable rows
    split : object array [N] of "train", "val", "test", aligned with `table`
    quarantine : columns `line, image_path, reason`
    warnings : (kind, message) pairs
    sizes : int64 [N, 2], width and height
    digests : list of N str, of the content of each image
    groups : int [N], equal where images belong together (identical, nearly so, or of one given group)
    """

    table: LabelTable
    split: np.ndarray
    quarantine: pd.DataFrame
    warnings: list[tuple[str, str]]
    sizes: np.ndarray
    digests: list[str]
    groups: np.ndarray

    @property
    def images_hash(self) -> str:
        """Of the content of all images, in order."""
        return images_hash(self.digests)

    def rows(self, split: str) -> np.ndarray:
        """Which rows are in a split, int64 [n]."""
        return np.flatnonzero(self.split == split)

    def of(self, split: str) -> LabelTable:
        """The rows of one split."""
        return self.table.take(self.split == split)

    def spread(self, split: str, most: int) -> LabelTable:
        """Some rows of a split, evenly spread, since neighbours in a file are often neighbours in time; of images that
        belong together one."""
        rows = self.rows(split)
        rows = rows[np.sort(np.unique(self.groups[rows], return_index=True)[1])]
        return self.table.take(rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))])

    def in_short(self) -> list[str]:
        """A line for each kind of finding: how many, and the first of them."""
        aside = zip(self.quarantine.image_path, self.quarantine.reason, strict=True)
        told = [*(("set aside", f"{path!r}: {reason}") for path, reason in aside), *self.warnings]
        lines = []
        for kind, messages in by_reason((message, kind) for kind, message in told).items():
            more = f" (and {len(messages) - 1:,} more)" if len(messages) > 1 else ""
            lines.append(f"{kind}: {messages[0]}{more}")
        return lines

    @property
    def classes(self) -> pd.DataFrame:
        """Positives of each class in each split, and how many of its labels are unknown: a row a class."""
        counts = {name: (self.of(name).y == 1).sum(0) for name in SPLITS} | {"unknown": (self.table.y < 0).sum(0)}
        return pd.DataFrame(counts, pd.Index(self.table.class_names, name="class"))

    @property
    def findings(self) -> pd.DataFrame:
        """The warnings as a table of `kind` and `finding`."""
        return pd.DataFrame(self.warnings, columns=["kind", "finding"])

    @property
    def split_sizes(self) -> dict[str, int]:
        """How many images each split has."""
        return {name: int((self.split == name).sum()) for name in SPLITS}


class TooFewImages(WorkbenchError):
    """More images set aside than allowed, or none left of a split; with `quarantine` and `warnings` up to there."""

    def __init__(self, message: str, quarantine: pd.DataFrame, warnings: Iterable[tuple[str, str]]):
        super().__init__(message)
        self.quarantine, self.warnings = quarantine, list(warnings)


def prepare(
    table: LabelTable, seed: int = 0, max_quarantine: float = Settings.max_quarantine, silent: bool = False
) -> Prepared:
    """Check every image, set the bad ones aside, and split the rest; `silent` shows no progress.

    Raises
    ------
    TooFewImages : more than `max_quarantine` set aside, or nothing left of a split
    WorkbenchError : a seed below 0
    """
    if seed < 0:
        raise WorkbenchError(f"seed {seed}; expected a whole number of at least 0")
    with progress_bar(len(table), "checking images", silent=silent) as bar:
        found = check_images(table.paths, table.root, progress=bar.update)
    infos = [item for item in found if not isinstance(item, ImageFault)]
    bad = np.array([isinstance(item, ImageFault) for item in found], bool)
    reasons = [str(item) for item in found if isinstance(item, ImageFault)]
    quarantine = pd.DataFrame({"line": table.lines[bad], "image_path": table.paths[bad], "reason": reasons})
    causes = misnamed(table, quarantine.image_path[quarantine.reason == "missing"].tolist())
    causes += _outside(
        table, [path for path, reason in zip(table.paths[bad], reasons, strict=True) if reason.startswith(OUTSIDE)]
    )
    if bad.mean() > max_quarantine or not infos:
        first = quarantine.iloc[0]
        too_many = f"more than {max_quarantine * 100:g}%" if bad.mean() > max_quarantine else "and none is left"
        message = (
            f"{table.source}: {bad.sum():,} of {len(table):,} images cannot be used (line {first.line}, "
            f"{first.image_path!r}: {first.reason}), {'; '.join([too_many, *causes])}"
        )
        raise TooFewImages(message, quarantine, table.notes)
    missing = [] if table.split is None else [name for name in SPLITS if name not in set(table.split)]
    table = table.take(~bad)
    links = linked_rows(infos, table.group)
    warnings = [*table.notes, *([("missing", "; ".join(causes))] if causes else []), *linked_images(table, links)]
    groups = joined_groups(links)
    if table.split is None:
        split = stratified_split(table.y, groups, seed)
    else:
        split = completed_split(table.split, [name for name in missing if name != SPLITS[0]], table.y, groups, seed)
    for name in SPLITS:
        held = int(np.count_nonzero(split == name))
        if held and name in missing:
            train = held + int(np.count_nonzero(split == SPLITS[0]))
            what = f"the file gives no {name}: {held:,} of {train:,} train images are held out for it"
            warnings.append(("split", f"{what}, by class and with groups whole"))
        elif not held:
            what = f"no image is left for the split {name!r}; expected at least one"
            if name in missing:
                what = f"no image has the split {name!r} and train has none to spare; give some in the column split"
            raise TooFewImages(f"{table.source}: {what}", quarantine, warnings)
    warnings += [*group_sizes(groups), *label_balance(table, split)]
    sizes = np.array([(info.width, info.height) for info in infos], np.int64)
    return Prepared(table, split, quarantine, warnings, sizes, [info.digest for info in infos], groups)


def misnamed(table: LabelTable, missing: list[str]) -> list[str]:
    """Why images are missing as named, one text for each cause, with the step that finds them."""
    if not missing:
        return []
    pairs = zip(missing, find_images(missing, [table.root], Folders()), strict=True)
    told = why([(name, match) for name, match in pairs if match])
    if not told and len(missing) < len(table):
        return []
    if not told:
        root, beside = table.root, table.source.parent.absolute()
        nowhere = f"no file of such a name lies in or below {root}" if root.is_dir() else f"{root} is no folder"
        where = shlex.quote(str(beside)) if (beside / missing[0]).is_file() else "DIR"
        return [f"{nowhere}; --root {where} says where the images lie"]
    causes = [message for _, _, message in told]
    (cause, detail, _), *others = told
    if detail and not others and len(missing) == len(table) and (other := _other_root(table.root, cause, detail)):
        return [f"{causes[0]}; the paths start in another root: --root {shlex.quote(str(other))}"]
    strip = next((detail for cause, detail, _ in told if cause == "beginning" and detail), None)
    options = () if strip is None else ("--strip-prefix", strip)
    return [
        *causes,
        f"to have the paths written as the files are: {command(table.source, *options, told=_told(table))}",
    ]


def _outside(table: LabelTable, outside: list[str]) -> list[str]:
    """The command that makes a labels file above images which lie outside the root, which are there."""
    images = [path for path in outside if path.lower().endswith(SUFFIXES)]
    folders = [os.path.dirname(os.path.realpath(table.root / path)) for path in images]  # noqa: PTH120
    if not folders:
        return []
    inside = [os.path.realpath(table.root)] * (len(outside) < len(table))
    way = command(table.source, told=_told(table), images=home_of([*inside, *folders]))
    return [f"{len(folders):,} images lie outside the root; a labels file above them: {way}"]


def _other_root(root: Path, cause: str, detail: str) -> Path | None:
    """Where paths start that all lie below the root, or that all begin with the last folders of it."""
    if cause == "below":
        return root / detail
    start = root.absolute().as_posix().removesuffix(f"/{detail}")
    return Path(start or "/") if cause == "beginning" and start != root.absolute().as_posix() else None


def _told(table: LabelTable) -> Told:
    """What `read_labels` was told, as import is told it."""
    root, classes = table.given.get("root"), table.given.get("classes")
    return Told(
        images=None if root is None else Path(root),
        classes_file=Path(classes) if isinstance(classes, (str, Path)) else None,
        delimiter=table.given.get("tag_delimiter"),
    )


def image_traits(table: LabelTable) -> pd.DataFrame:
    """What can be told of each image without a model: a row an image, named by its path.

    `width`, `height` (pixels as shown), `aspect` (width by height), `brightness` (mean grey value, 0..255), and every
    further column of the labels file, `group` among them. A column whose values are all numbers is one of numbers.
    """
    infos = check_images(table.paths, table.root)  # remembered by content since they were first checked
    rows = [
        (info.width, info.height, info.width / info.height, np.frombuffer(info.tiny, np.uint8).mean())
        if isinstance(info, ImageInfo)
        else (np.nan,) * 4
        for info in infos
    ]
    frame = pd.DataFrame(rows, table.paths, ["width", "height", "aspect", "brightness"])
    columns = table.extra if table.group is None else table.extra | {"group": table.group}
    for name, values in columns.items():
        numbers = pd.to_numeric(pd.Series(values, table.paths).replace("", np.nan), errors="coerce")
        frame[name] = values if numbers.isna().sum() > (values == "").sum() else numbers
    return frame


FEW = 5  # positives in a split under which a score says next to nothing
ALWAYS = 0.95  # share of the images from which a class tells little
CLUSTERED = 0.95  # share of independent images, above which groups change no number that is shown
IMPLIES = 0.98  # share of one class's images that show the other too
Finding = tuple[str, str]  # kind, message


def linked_images(table: LabelTable, links: dict[str, np.ndarray]) -> list[Finding]:
    """Images that belong together (see `duplicates.linked_rows`): conflicting labels, and what given splits part."""
    found = []
    for kind, what in (("identical", "the same image"), ("near", "nearly the same image"), ("group", "one group")):
        for rows in rows_together(links[kind]):
            names = ", ".join(short(path) for path in table.paths[rows[:4]])
            more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
            where = f"{names}{more} (lines {', '.join(str(line) for line in table.lines[rows[:4]])})"
            conflict = kind == "identical" and (table.y[rows] != table.y[rows[0]]).any()
            if conflict:
                found.append(("conflict", f"the same image with different labels: {where}; one of them is wrong"))
            if table.split is not None and len(set(table.split[rows])) > 1:
                found.append(("leak", f"{what} in several splits: {where}; keep it in one, or scores flatter"))
            elif kind != "group" and not conflict:
                found.append(("duplicate", f"{what} more than once: {where}; kept in one split"))
    if len(rows := links["unsearched"][:, 0]):
        names = f"{len(rows):,} images, the first {short(table.paths[rows[0]])} (line {table.lines[rows[0]]}),"
        found.append(
            (
                "not searched",
                f"{names} were not compared with all like them by hash; a column `group` keeps series whole",
            )
        )
    return found


def group_sizes(groups: np.ndarray) -> list[Finding]:
    """What the groups (numbers [N], equal where images belong together) do to the number of independent images."""
    sizes = np.bincount(np.unique(groups, return_inverse=True)[1])
    alike = len(groups) ** 2 / (sizes**2).sum()  # were the images of a group all alike (Kish 1965)
    if alike > CLUSTERED * len(groups):
        return []
    what = f"{len(groups):,} images make {len(sizes):,} groups that belong together, of up to {sizes.max():,} images"
    means = f"they tell as much as some {alike:,.0f} images on their own, if those of a group are alike"
    return [("groups", f"{what}: {means}; every interval and test counts groups")]


def label_balance(table: LabelTable, split: np.ndarray) -> list[Finding]:
    """Classes that are absent or rare in a split, that are nearly always on, or that imply each other.

    Parameters
    ----------
    split : object array [N] of "train", "val", "test"
    """
    names, y, found = [short(name) for name in table.class_names], table.y, []
    for part in SPLITS:
        positives = (y[split == part] == 1).sum(0)
        means = "nothing to learn it from" if part == "train" else "it has no score there"
        if few := np.flatnonzero(positives == 0).tolist():
            has = f"class {names[few[0]]} has" if len(few) == 1 else f"{len(few)} classes have"
            which = "" if len(few) == 1 else f" ({_listed([names[c] for c in few])})"
            found.append(("no positive", f"{has} no positive in {part}{which}: {means}; add images"))
        if few := np.flatnonzero((positives > 0) & (positives < FEW)).tolist():
            counts = [f"{positives[c]} positive{'s' * bool(positives[c] > 1)}" for c in few]
            has = f"class {names[few[0]]} has {counts[0]} in {part}" if len(few) == 1 else (
                f"{len(few)} classes have fewer than {FEW} positives in {part} "
                f"({_listed([f'{names[c]} {positives[c]}' for c in few])})"
            )  # fmt: skip
            found.append(("rare", f"{has}: one image more or less changes everything; add images"))
    known = (y >= 0).sum(0)
    for c in np.flatnonzero((y == 1).sum(0) > ALWAYS * np.maximum(known, 1)).tolist():
        share = f"class {names[c]} is present in {(y[:, c] == 1).sum() / known[c]:.0%} of the images: "
        found.append(("always on", f"{share}who always guesses yes scores well; add images without it"))
    if unknown := int((y < 0).all(1).sum()):
        found.append(("unknown", f"{unknown:,} images have no known label: they teach nothing; label or remove them"))
    return found + _implications(names, y) + _nothing(table)


def _listed(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


NOTHING = re.compile(r"(no|none|nothing|normal|negative|background|empty|healthy)([ _-].*)?", re.IGNORECASE)


def _nothing(table: LabelTable) -> list[Finding]:
    """Classes such as `No Finding` that never stand beside another."""
    found = []
    for c in (c for c, name in enumerate(table.class_names) if NOTHING.fullmatch(name.strip())):
        here = table.y[:, c] == 1
        if (
            here.any()
            and not (np.delete(table.y, c, axis=1)[here] == 1).any()
            and (np.delete(table.y, c, 1) == 1).any()
        ):
            name = table.class_names[c]
            what = f"class {short(name)} never stands beside another: does it say that nothing is present?"
            if table.tag_delimiter is not None:
                what += f" Without it: {command(table.source, *safe('--negative', name), told=_told(table))}"
            found.append(("alone", what))
    return found


def _implications(names: list[str], y: np.ndarray) -> list[Finding]:
    present, absent = (y == 1).astype(np.int64), (y == 0).astype(np.int64)
    both, without = present.T @ present, present.T @ absent
    often = present.sum(0) > ALWAYS * np.maximum((y >= 0).sum(0), 1)
    found = []
    for a, b in zip(*np.nonzero((both >= 2 * FEW) & (both >= IMPLIES * (both + without))), strict=True):
        # A class that is nearly always on is implied by all: that is said once, above.
        if a != b and not often[b]:
            share = (
                f"{both[a, b] / (both[a, b] + without[a, b]):.0%} of the images with {names[a]} show {names[b]} too: "
            )
            found.append(("implies", f"{share}the network may learn the company; add images of one without the other"))
    return found


SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)  # area and sides of the random crop that is Ultralytics' default in training


def crop_costs(sizes: np.ndarray, thing: float = 0.2, draws: int = 20_000, seed: int = 0) -> dict[str, float]:
    """Shares measured on these image sizes, by drawing crops and places.

    Parameters
    ----------
    sizes : int64 [N, 2], width and height
    thing : side of a square thing at a random place, as a share of the shorter side

    Returns
    -------
    `centre_area` cut away by a centre crop to a square (mean); `centre_lost` and `random_lost`, how often more than
    half of the thing is gone after a centre crop and after a random resized crop
    """
    rng = np.random.default_rng(seed)
    width, height = size = sizes[rng.integers(len(sizes), size=draws)].T.astype(float)
    short = np.minimum(width, height)
    side = thing * short
    x, y = rng.random(draws) * (width - side), rng.random(draws) * (height - side)

    def lost(left: np.ndarray, top: np.ndarray, w: np.ndarray, h: np.ndarray) -> float:
        seen_x = np.clip(np.minimum(x + side, left + w) - np.maximum(x, left), 0, None)
        seen_y = np.clip(np.minimum(y + side, top + h) - np.maximum(y, top), 0, None)
        return float((seen_x * seen_y < 0.5 * side**2).mean())

    # As torchvision draws it: the first of ten tries that fits into the image, else the largest in its middle.
    area = rng.uniform(*SCALE, (10, draws)) * width * height
    ratio = np.exp(rng.uniform(np.log(RATIO[0]), np.log(RATIO[1]), (10, draws)))
    tries = np.sqrt([area * ratio, area / ratio])
    fits, largest = (tries <= size[:, None]).all(0), np.clip(width / height, *RATIO)
    whole = np.minimum(size, size[::-1] * [largest, 1 / largest])
    w, h = np.where(fits.any(0), tries[:, fits.argmax(0), np.arange(draws)], whole)
    at_x, at_y = np.where(fits.any(0), rng.random((2, draws)), 0.5)
    return {
        "centre_area": float((1 - short**2 / (width * height)).mean()),
        "centre_lost": lost((width - short) / 2, (height - short) / 2, short, short),
        "random_lost": lost(at_x * (width - w), at_y * (height - h), w, h),
    }
