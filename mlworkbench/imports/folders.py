"""Reader of folders: Roboflow's, Pascal VOC's, annotation files among images, and a folder for each class."""

import csv
import hashlib
import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from ..data.images import SUFFIXES
from ..data.labels import read_labels
from ..exceptions import WorkbenchError
from ..paths import is_inside
from ..tables.ask import Asks, command, joined_doubt
from ..tables.cells import joined_names, split_of
from ..tables.layout import HEADER
from ..text import short
from . import records, xml
from .exports import places_of
from .found import Found, Gathering, Told

# What folders are called, also with a number behind it, that are no classes.
PLAIN = {"images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "data", "labels", "annotations", "part",
         "batch", "chunk", "shard"}  # fmt: skip
NOTHING = {"none", "nothing", "negative", "background", "empty", "unlabeled", "unlabelled"}
JUNK = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
RECORDS = (".json", ".jsonl", ".ndjson", ".manifest")
TABLES = (".csv", ".tsv", ".parquet", ".xlsx", ".jsonl", ".ndjson")


class Tree:
    """Files below a folder, by their paths from it; hidden files and what systems leave behind are passed over.

    Parameters
    ----------
    elsewhere : the folder of the images, by their paths from that one, where they are not in this one

    Attributes
    ----------
    folder : where it begins; where a folder holds nothing but another one, that other one
    images : file after links of each image
    files : all others
    real : all files of images
    tables : those of the other files that are tables by their names, the likeliest to hold the labels first
    folders : those that hold images, somewhere below, each with a slash at its end; "" is the tree itself
    """

    def __init__(self, folder: Path, elsewhere: Path | None = None):
        self.hidden, self.outside, self.lost, self.again = list[str](), list[str](), list[str](), list[str]()
        entries = self._listed(str(folder))
        while len(entries) == 1 and entries[0].is_dir(follow_symlinks=False) and not _is_structure(entries[0].name):
            folder = Path(entries[0].path)
            entries = self._listed(str(folder))
        self.folder = folder
        self.images: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self._walk(entries)
        self.images, self.files = dict(sorted(self.images.items())), dict(sorted(self.files.items()))
        if elsewhere is not None:
            self.images = Tree(elsewhere).images
        tables = [file for path, file in self.files.items() if path.lower().endswith(TABLES)]
        self.tables = sorted(
            tables, key=lambda file: re.search("sample|submission|test", file.stem.lower()) is not None
        )
        self.real = set(self.images.values())
        self.folders = {""}
        for path in self.images:
            while (path := parent_of(path.rstrip("/"))) not in self.folders:
                self.folders.add(path)
        self.by_name, self.by_stem = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for path in self.images:
            self.by_name[path.rpartition("/")[2]].append(path)
            self.by_stem[stem_of(path)].append(path)

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise WorkbenchError(f"{folder}: {error.strerror}; make it readable") from None
        kept = [entry for entry in entries if entry.name[0] != "." and entry.name.lower() not in JUNK]
        if len(kept) < len(entries):
            self.hidden += sorted({entry.path for entry in entries} - {entry.path for entry in kept})
        return kept

    def _walk(self, entries: list[os.DirEntry[str]]) -> None:
        base = os.path.realpath(self.folder)
        seen = {base}
        todo = [("", base, entries)]
        while todo:
            where, real, entries = todo.pop()
            for entry in entries:
                path = f"{where}{entry.name}"
                file, linked = f"{real}/{entry.name}", entry.is_symlink()
                if linked:
                    file = os.path.realpath(entry.path)
                    if not is_inside(file, base):
                        self.outside.append(f"{path} -> {file}")
                # Of a link that leads to itself only the functions on paths say that it is neither.
                if os.path.isdir(file) if linked else entry.is_dir():  # noqa: PTH112
                    if file in seen:  # a loop of links, or the same folder by another name
                        self.again.append(path)
                    else:
                        seen.add(file)
                        todo.append((f"{path}/", file, self._listed(entry.path)))
                elif not (os.path.isfile(file) if linked else entry.is_file()):  # noqa: PTH113
                    self.lost.append(path)
                elif path.lower().endswith(SUFFIXES):
                    self.images[path] = file
                else:
                    self.files[path] = Path(entry.path)

    def tell(self, gathering: Gathering) -> None:
        for kind, paths, message in (
            ("passed over", self.hidden, "hidden files and folders"),
            ("passed over", self.again, "folders that a link had led to before"),
            ("passed over", self.lost, "links that lead nowhere"),
            ("outside", self.outside, f"links out of {self.folder}; choose an --out above what they lead to"),
        ):
            gathering.note(kind, len(paths), f"{message}, such as {paths[0] if paths else ''}")


def _is_structure(name: str) -> bool:
    """Whether a folder is called after a split or after what it holds, and not after a class."""
    return split_of(name) is not None or _is_plain(name)


def _is_plain(name: str) -> bool:
    return re.sub(r"[-_ ]*\d+$", "", name.lower()) in PLAIN


def stem_of(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def parent_of(path: str) -> str:
    """The folder of a path, with a slash at its end; "" at the top."""
    return path[: path.rfind("/") + 1]


def split_on(path: str) -> str:
    """The split that a folder on the way to a file is called after, or ""."""
    return next((word for part in reversed(path.split("/")[:-1]) if (word := split_of(part))), "")


def read(source: Path, told: Told) -> Found | None:
    """What a folder says that is no YOLO folder; None where the source is no folder.

    Raises
    ------
    WorkbenchError : no images, no labels for them, or labels at fault
    """
    if not source.is_dir():
        return None
    gathering, tree = Gathering(told), Tree(source, told.images)
    if not tree.images:
        raise WorkbenchError(f"{tree.folder} holds no images ({' '.join(SUFFIXES)}); name the folder that does")
    for take, heeded in (
        (_classes_csv, ()),
        (_annotations, ("blank", "min_confidence", "image_column")),
        (_image_sets, ()),
        (_class_folders, ("delimiter",)),
    ):
        if (what := take(tree, told, gathering)) is not None:
            tree.tell(gathering)
            return gathering.found(what, [tree.folder], source, *heeded)
    if tree.tables:
        raise WorkbenchError(f"{tree.folder} holds a table among its images; {_way_of(tree.tables, told)}")
    others = Counter(file.suffix.lower() or "nameless" for file in tree.files.values())
    beside = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(5)) or "no other file"
    raise WorkbenchError(
        f"{tree.folder} holds {len(tree.images):,} images and no known labels for them (beside them: {beside}): "
        "no YOLO text files of their names, no annotation files, no folder for each class; name the file of the "
        f"labels: a table with a {HEADER} (docs/labels.md)"
    )


def _way_of(tables: list[Path], told: Told) -> str:
    """The command for the table of the labels among others: to check one that is read as it is, else to import it."""
    for table in tables[:8]:
        try:
            read_labels(table, told.images)
        except WorkbenchError:
            continue
        root = () if told.images is None else ("--root", str(told.images))
        return f"{table} is read as it is: {shlex.join(['mlworkbench', 'check', str(table), *root])}"
    return f"import that: {command(tables[0], told=told)}"


def _classes_csv(tree: Tree, told: Told, gathering: Gathering) -> str | None:
    """Roboflow's multi-label export: in each split `_classes.csv`, a column for each class."""
    files = {path: file for path, file in tree.files.items() if path.rpartition("/")[2] == "_classes.csv"}
    if not files:
        return None
    for path, file in files.items():
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
        header = rows[0][1:] if rows else []
        columns = gathering.listed(header)
        odd = [row for row in rows[1:] if len(row) != len(header) + 1 or not {*row[1:]} <= {"0", "1"}]
        if odd:
            raise WorkbenchError(
                f"{file}: {len(odd):,} rows are no file name and {len(header)} times 0 or 1, such as "
                f"{short(', '.join(odd[0]))}; export it again"
            )
        for name, *cells in rows[1:]:
            image = tree.images.get(parent_of(path) + name, str(file.parent / name))
            row = gathering.image(image, split_on(path))
            for column, cell in zip(columns, cells, strict=True):
                gathering.add(row, column, int(cell))
    _tell_left(tree, gathering, "a row in _classes.csv")
    return "Roboflow's multi-label folder"


def _tell_left(tree: Tree, gathering: Gathering, what: str) -> None:
    left = set(tree.images.values()) - gathering.rows.keys()
    gathering.note("left out", len(left), f"images without {what}, such as {min(left, default='')}")


def _annotations(tree: Tree, told: Told, gathering: Gathering) -> str | None:
    """Annotation files among the images: Pascal VOC's, CVAT's, or JSON of any kind that is read."""
    kinds = Counter[str]()
    sets = _lists(tree, "ImageSets/Main/")
    for path, file in tree.files.items():
        if file.suffix.lower() == ".xml" and xml.holds_labels(file):
            image = _image_beside(tree, path, ("JPEGImages", "images"))
            gathering.located = _locator(tree, path)
            split = sets.get(stem_of(path)) or split_on(path) or split_on(image or "")
            kinds[xml.gather(file, told, gathering, tree.images[image] if image else "", split)] += 1
    found = [path for path in tree.files if path.lower().endswith(RECORDS)]
    if instances := [path for path in found if "instances" in stem_of(path)]:  # COCO's captions and joints beside them
        gathering.note("left out", len(found) - len(instances), "JSON files beside those of instances")
        found = instances
    for path in found if not kinds else ():
        gathering.located = _locator(tree, path)
        split = split_on("/".join([parent_of(path), *re.split(r"[_.\s-]", stem_of(path)), ""]))
        if (what := records.gather(tree.files[path], told, gathering, split)) is not None:
            kinds[what] += 1
    gathering.located = str
    if not kinds:
        return None
    _tell_left(tree, gathering, "annotations")
    return " and ".join(f"{what} ({count:,} files)" if count > 1 else what for what, count in kinds.items())


def _locator(tree: Tree, path: str) -> Callable[[str], str]:
    """What finds an image that an annotation file names, in the places usual for it, or else by a unique file name."""
    base = tree.folder.absolute()
    places = [os.path.relpath(place, base) for place in places_of(base / path)]
    starts = ["" if place == "." else f"{place}/" for place in places if not place.startswith("..")]

    def located(name: str) -> str:
        clean = re.sub(r"^(\./|/)+", "", name.replace("\\", "/"))
        same = tree.by_name.get(clean.rpartition("/")[2], [])
        inside = [start + clean for start in starts if start + clean in tree.images] or (same if len(same) == 1 else [])
        return name if name in tree.real else tree.images[inside[0]] if inside else str(base / parent_of(path) / name)

    return located


def _image_beside(tree: Tree, path: str, folders: tuple[str, ...]) -> str | None:
    """The image of the same name as an annotation file: beside it, in a folder beside its own, or the only one."""
    same = tree.by_stem.get(stem_of(path), [])
    near = [image for image in same if parent_of(image) == parent_of(path)]
    above = parent_of(parent_of(path)[:-1])
    near += [image for image in same for folder in folders if parent_of(image) == f"{above}{folder}/"]
    return near[0] if near else same[0] if len(same) == 1 else None


def _lists(tree: Tree, below: str) -> dict[str, str]:
    """Splits by the stem of each image, from lists such as train.txt in a folder."""
    found: dict[str, str] = {}
    for path, file in tree.files.items():
        if parent_of(path).endswith(below) and path.endswith(".txt") and split_of(stem_of(path)):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                found.setdefault(line.strip(), split_of(stem_of(path)) or "")
    return found


def _image_sets(tree: Tree, told: Told, gathering: Gathering) -> str | None:
    """Pascal VOC's lists for each class, `cat_train.txt`, without annotations: 1 present, -1 absent, 0 difficult."""
    sets = _lists(tree, "ImageSets/Main/")
    for path, file in tree.files.items():
        match = re.fullmatch(r"(.+)_(train|val|trainval|test)", stem_of(path))
        if match is None or not parent_of(path).endswith("ImageSets/Main/"):
            continue
        column = gathering.listed([match[1]])[0]
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            words = line.split()
            if not words:
                continue
            if len(words) != 2 or words[1] not in ("1", "0", "-1"):
                raise WorkbenchError(f"{file}:{number}: {short(line)} is no image with 1, 0 or -1; export it again")
            image = tree.by_stem.get(words[0], [])
            name = tree.images[image[0]] if image else str(tree.folder / "JPEGImages" / f"{words[0]}.jpg")
            split = sets.get(words[0]) or (match[2] if match[2] != "trainval" else "")
            row = gathering.image(name, split, known=False)
            gathering.add(row, column, {"1": 1, "-1": 0, "0": -1}[words[1]])
    if not gathering.rows:
        return None
    _tell_left(tree, gathering, "a line in ImageSets/Main")
    return "Pascal VOC's lists"


def _class_folders(tree: Tree, told: Told, gathering: Gathering) -> str | None:
    """A folder for each class, below folders of splits or not; equal images in several have several classes."""
    above = {parent_of(folder[:-1]) for folder in tree.folders}
    homes = {path: home for path in tree.images if (home := _home(path, above))}
    names = {name for _, name in homes.values()}
    if len(names) < 2 or all(map(split_of, names)):
        return None
    if told.delimiter is None and (joined := _joined(names)):
        doubt = f"a folder for each class; {joined_doubt(len(names), joined)}"
        raise Asks(tree.folder, [doubt], ("--delimiter", joined[0]), "", told)
    if tree.tables and not (told.columns or told.classes or told.delimiter or told.negative):
        raise WorkbenchError(
            f"{tree.folder} holds folders such as {min(names)!r} and a table; where the labels are in the table, "
            f"{_way_of(tree.tables, told)}; where the folders are the classes: "
            f"{command(tree.folder, '--columns', *sorted(names), told=told)}"
        )
    first: dict[tuple[str, int, str], str] = {}
    sizes = {path: os.stat(tree.images[path]).st_size for path in homes}  # noqa: PTH116 (many times faster)
    common = Counter((homes[path][0], size) for path, size in sizes.items())
    classes = defaultdict[str, set[str]](set)
    for path, (split, name) in homes.items():
        image = tree.images[path]
        if common[split, sizes[path]] > 1:  # only files of one size can be equal
            with open(image, "rb") as file:  # noqa: PTH123
                digest = hashlib.file_digest(file, "blake2b").hexdigest()
            image = first.setdefault((split, sizes[path], digest), image)
        classes[image].add(name)
        parts = name.split(told.delimiter) if told.delimiter else [name]
        gathering.label(gathering.image(image, split), [part.strip() for part in parts if part.strip()])
    several = sum(len(each) > 1 for each in classes.values())
    gathering.copies = len(homes) - len(classes)
    gathering.note(
        "joined", gathering.copies, "files equal another one of their split and are one row with it; "
        f"{several:,} images have several classes"
    )  # fmt: skip
    for name in sorted(names & NOTHING):
        gathering.notes.append(("class", f"{name!r} is taken as a class; where nothing is there: --negative {name}"))
    gathering.note("left out", len(tree.images) - len(homes), "images that lie in no class's folder")
    _tell_deeper(tree, homes, gathering)
    return "a folder for each class"


def _tell_deeper(tree: Tree, homes: dict[str, tuple[str, str]], gathering: Gathering) -> None:
    """Note images in folders within those of classes, whose names could be classes too."""
    deeper: list[str] = []
    for path, (_, name) in homes.items():
        start = f"/{path}".index(f"/{name}/")
        outer, *inner = path[start:].split("/")[:-1]
        if inner := [part for part in inner if not _is_structure(part)]:
            deeper.append(f"{path[:start]}{outer}/{inner[0]}")
    if deeper:
        first, outer = deeper[0], deeper[0].rpartition("/")[0]
        gathering.note(
            "classes", len(deeper), f"images lie in folders within those of the classes, such as {first}, and have the "
            f"class of the outer one; where the inner ones are the classes: {command(tree.folder / outer)}"
        )  # fmt: skip


def _joined(names: set[str]) -> tuple[str, list[str]] | None:
    """As `joined_names`, also by the signs that stand for a space in the names of folders."""
    for sign in (" ", "_", "-"):
        if joined := joined_names([name.replace(sign, " ") for name in names], None):
            found, some = joined
            return sign if found == " " else found, [name for name in sorted(names) if name.replace(sign, " ") in some]
    return None


def _home(path: str, above: set[str]) -> tuple[str, str] | None:
    """The split of an image and the folder of its class; None where it lies in none."""
    folders, split, start = path.split("/")[:-1], "", ""
    while folders and _is_structure(folders[0]):
        start += f"{folders[0]}/"
        if start not in above:  # a class that is called so
            break
        split, folders = split_on(start) or split, folders[1:]
    return (split, folders[0]) if folders and not _is_plain(folders[0]) else None
