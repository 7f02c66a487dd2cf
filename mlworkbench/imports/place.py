"""Places of images: the file on disk of every image that a source names, as a path below the new labels file."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.finder import Folders, Match, find_images, why
from ..exceptions import WorkbenchError
from ..paths import free, home_of, is_fit, relative
from ..tables.columns import stem_of
from ..text import short
from .found import Found, Told


@dataclass(frozen=True)
class Placed:
    """Images of a source that are on disk.

    Attributes
    ----------
    rows : int64 [M], which images of the source
    paths : list of M str, relative to the folder of the labels file
    unlabelled : how many images lie beside them that the source does not name
    notes : (kind, message) pairs
    """

    rows: np.ndarray
    paths: list[str]
    unlabelled: int
    notes: list[tuple[str, str]]


def place_images(found: Found, told: Told, out: Path) -> Placed:
    """The files of the images that a source names.

    Raises
    ------
    WorkbenchError : no image is on disk, or some lie outside the folder of `out`
    """
    names = [_mended(name, told) for name in found.images]
    places = [Path(told.images)] if told.images is not None else [Path(place) for place in found.places]
    listed = Folders()
    matches = find_images(names, places, listed)
    rows = [row for row, match in enumerate(matches) if match]
    if not rows:
        if several := _several(names, places):
            raise WorkbenchError(f"{found.what}: {several}; --images DIR says which folder is meant")
        looked = ", ".join(dict.fromkeys(str(place) for place in places))
        raise WorkbenchError(
            f"{found.what}: none of {len(names):,} images is found, the first {short(found.images[0])}; looked in and "
            f"below {looked}; --images DIR says where they lie"
        )
    pairs = ((name, match) for name, match in zip(found.images, matches, strict=True) if match and match.cause)
    notes = [("paths", message) for _, _, message in why(pairs)]
    if missing := [row for row, match in enumerate(matches) if match is None]:
        first = short(found.images[missing[0]])
        several = _several([names[row] for row in missing], places)
        notes.append(
            ("left out", f"{len(missing):,} of {len(names):,} images are not on disk and left out, the first {first}"
             + f"; {several}" * (several != ""))
        )  # fmt: skip
    notes += _namesakes(found, names, matches, places, listed)
    paths = _below([match for match in matches if match], out, told.root, listed)
    beside = sum(map(listed.images, {match.folder for match in matches if match}))
    unlabelled = beside - len(set(paths)) - found.copies
    return Placed(np.array(rows, np.int64), paths, max(0, unlabelled), notes)


def _several(names: list[str], places: list[Path]) -> str:
    """What to say where images are not found because several files have their name; "" where it is not so."""
    wanted = {name.replace("\\", "/").rpartition("/")[2] for name in names}
    files: dict[str, set[str]] = {}
    seen: set[str] = set()
    for place in places if wanted else ():
        for folder, inner, own in os.walk(place):
            if (real := os.path.realpath(folder)) in seen:  # places lie within each other
                inner.clear()
                continue
            seen.add(real)
            inner[:] = [name for name in inner if not name.startswith(".")]
            for name in wanted.intersection(own):
                files.setdefault(name, set()).add(f"{real}/{name}")
    several = sorted(name for name in files if len(files[name]) > 1)
    if not several:
        return ""
    both = " and ".join(relative(file, os.curdir) for file in sorted(files[several[0]])[:2])
    return f"{len(several):,} of the names are those of several files, such as {short(several[0])}: {both}"


def _namesakes(
    found: Found, names: list[str], matches: list[Match | None], places: list[Path], listed: Folders
) -> list[tuple[str, str]]:
    """What to tell where folders beside the one of an image hold a file of its name too.

    Raises
    ------
    WorkbenchError : the source lists several images of that name, and so means both files
    """
    own = str(places[0])
    beside: dict[str, list[str]] = {}
    twice: list[tuple[str, str]] = []
    merged = set(found.merged)
    for image, name, match in zip(found.images, names, matches, strict=True):
        # One that was found by its name alone has no namesake; whoever says --images means that folder.
        if match is None or match.cause or ("/" in name and image not in merged) or match.folder == own:
            continue
        if match.folder not in beside:
            above = os.path.dirname(os.path.normpath(match.folder)) or "."  # noqa: PTH120
            with os.scandir(above) as entries:
                folders = sorted(entry.path for entry in entries if entry.is_dir() and entry.name[0] != ".")
            real = os.path.realpath(match.folder)
            beside[match.folder] = [each for each in folders if os.path.realpath(each) != real]
        others = [folder for folder in beside[match.folder] if match.name in listed.names(folder)]
        if others:
            one, other = (os.path.normpath(f"{folder}/{match.name}") for folder in (match.folder, others[0]))
            if image in merged:
                raise WorkbenchError(
                    f"{found.what}: {short(match.name)} is the name of several images, and of {one} and {other}: which "
                    "is meant? Write the folder before the name of each image in the source "
                    f"({Path(one).parent.name}/{match.name}) and import it again"
                )
            twice.append((one, other))
    if not twice:
        return []
    one, other = twice[0]
    what = f"images have a namesake in a folder beside theirs: {one} is taken, {other} is not"
    return [("paths", f"{len(twice):,} {what}; --images DIR takes those of another folder")]


def _mended(name: str, told: Told) -> str:
    """A name as the options change it."""
    if told.strip_prefix:
        start = told.strip_prefix.rstrip("/\\")
        if name.startswith(start):
            name = name[len(start) :].lstrip("/\\")
    if told.image_suffix and stem_of(name) == name.replace("\\", "/").rpartition("/")[2]:
        name += told.image_suffix if told.image_suffix.startswith(".") else f".{told.image_suffix}"
    return name


def _below(matches: list[Match], out: Path, root: Path | None, listed: Folders) -> list[str]:
    """Paths relative to `root`, else to the folder of `out`, links resolved.

    Raises
    ------
    WorkbenchError : some are not below it
    """
    start = os.path.realpath(out.parent if root is None else root)
    folders: dict[str, tuple[str, dict[str, bool]]] = {}
    paths = []
    for match in matches:
        known = folders.get(match.folder)
        if known is None:
            inside = relative(os.path.realpath(match.folder), start).replace(os.sep, "/")
            known = folders[match.folder] = "" if inside == "." else f"{inside}/", listed.names(match.folder)
        path = known[0] + match.name
        if known[1].get(match.name):  # a link, which may lead out of the folder
            path = relative(os.path.realpath(f"{match.folder}/{match.name}"), start).replace(os.sep, "/")
        paths.append(path)
    outside = [path for path in paths if path.startswith("../") or os.path.isabs(path)]  # noqa: PTH117
    if outside:
        above = home_of([os.path.dirname(os.path.normpath(os.path.join(start, path))) for path in paths])  # noqa: PTH118, PTH120
        way = f"--root {shlex.quote(str(above))}"
        if root is None and is_fit(above):
            way = f"--out {shlex.quote(str(free(above / out.name)))} or keep yours with {way}"
        raise WorkbenchError(
            f"{len(outside):,} images lie outside {start}, the first {short(outside[0])}; paths start at the labels "
            f"file, if nothing else is said: give {way}"
        )
    return paths
