"""Paths on every system: of other drives and of foreign machines, and where a home and a cache are."""

import difflib
import itertools
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .exceptions import WorkbenchError


def is_inside(path: str, folder: str) -> bool:
    """Whether a real path lies in a real folder, or is it; on another drive it does not."""
    try:
        return os.path.commonpath((folder, path)) == folder
    except ValueError:  # Windows: nothing is common to two drives
        return False


def relative(path: str | Path, start: str | Path) -> str:
    """A path from `start` on; one on another drive stays absolute."""
    try:
        return os.path.relpath(path, start)
    except ValueError:
        return os.path.abspath(path)  # noqa: PTH100 (links stay)


def common_folder(folders: Sequence[str]) -> str:
    """The lowest folder that these absolute ones lie in.

    Raises
    ------
    WorkbenchError : they lie on several drives
    """
    drives = sorted({os.path.splitdrive(folder)[0] for folder in folders})
    if len(drives) > 1:
        raise WorkbenchError(f"paths from one folder lie on the drives {', '.join(drives)}; copy all of them onto one")
    return os.path.commonpath(folders)


def home_of(folders: Sequence[str]) -> Path:
    """The lowest folder that these absolute ones lie in, named from the working folder where it is below that."""
    above = common_folder(folders)
    here = relative(above, os.path.realpath(os.curdir))
    return Path(above if here.startswith("..") else here)


def is_fit(folder: Path) -> bool:
    """Whether a file may be proposed in a folder: it can be written, is no root, and does not hold the user's home."""
    real, home = os.path.realpath(folder), os.path.realpath(os.path.expanduser("~"))  # noqa: PTH111
    return os.access(real, os.W_OK) and os.path.dirname(real) != real and not (real != home and is_inside(home, real))  # noqa: PTH120


def free(*wanted: Path) -> Path:
    """The first of these files that is not there yet, or the last with the first number that makes it so."""
    numbered = (wanted[-1].with_stem(f"{wanted[-1].stem}-{number}") for number in itertools.count(2))
    return next(file for file in itertools.chain(wanted, numbered) if not file.exists())


def near(path: Path) -> str:
    """ "; did you mean …?" with the file that is called most like one that does not exist, or "" where none is."""
    missing = next((place for place in [*reversed(path.parents), path] if not place.exists()), path)
    try:
        beside = [entry.name for entry in missing.parent.iterdir()]
    except OSError:
        return ""
    rest = path.relative_to(missing)
    likely = difflib.get_close_matches(missing.name, beside, 1)
    return "".join(f"; did you mean {file}?" for name in likely if (file := missing.with_name(name) / rest).exists())


def is_foreign(path: str, home: str | Path) -> bool:
    """Whether a path that a file names is a network share or a device of Windows, other than where `home` lies.

    Such a path must not even be opened: Windows would greet any server that a stranger's file names with the user's
    name and a hash of the password.
    """
    if os.path.sep != "\\" or not (path := os.path.normcase(path)).startswith("\\\\"):
        return False
    here = os.path.normcase(os.path.realpath(home))
    return os.path.splitdrive(path)[0] != os.path.splitdrive(here)[0]


def make_home() -> None:
    """Give a process that has no home one in the folder for temporary files: its own, which nobody else can write.

    In a container the user may have no passwd entry and no HOME: Ultralytics could not even be imported there.
    """
    if os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117
        return
    user = getattr(os, "getuid", int)()  # Windows has none
    own = Path(tempfile.gettempdir()) / f"mlworkbench-{user}"
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        found = own.lstat()
        safe = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077
    except OSError:
        safe = False
    place = str(own) if safe else tempfile.mkdtemp(prefix="mlworkbench-")
    os.environ |= {"HOME": place, "USERPROFILE": place}
