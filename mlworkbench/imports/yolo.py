"""Reader of YOLO folders: a text file for each image, wherever it lies, and the names of the classes."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from ..exceptions import WorkbenchError
from ..paths import is_foreign
from ..tables.cells import split_of
from ..text import short
from .folders import Tree, parent_of, split_on, stem_of
from .found import Found, Gathering, Told

MOST_YAML = 1_000_000
NAME_FILES = ("classes.txt", "obj.names", "classes.names", "labels.txt", "predefined_classes.txt")


def read(source: Path, told: Told) -> Found | None:
    """What a YOLO folder says, or the YAML file that describes one; None where no image has a label file.

    Raises
    ------
    WorkbenchError : label files at fault, or nothing that names their classes
    """
    gathering = Gathering(told)
    if source.is_file() and source.suffix.lower() in (".yaml", ".yml"):
        described: Path | None = source
        tree = Tree(_described(source, gathering), told.images)
    elif source.is_dir():
        tree, described = Tree(source, told.images), None
    else:
        return None
    if described and not tree.images:
        raise WorkbenchError(f"{source} describes images that are not in {tree.folder}; put it into their folder")
    documents, texts = _documents(tree, described, gathering), _texts(tree)
    if not any(texts.values()):
        _refuse_lone(tree, documents)
        return None
    names, splits = _names(tree, told, documents), _Splits(tree, documents, gathering)
    columns = dict(zip(names, gathering.listed(names.values()), strict=True))
    looked = {parent_of(path) for path, text in texts.items() if text}
    times, first = Counter[str](), dict[str, str]()  # lines at fault: how many for each cause, and the first of them
    bare = unknown = 0
    for path, text in texts.items():
        known = parent_of(path) in looked
        row = gathering.image(tree.images[path], splits.of(path), known or told.blank == "absent")
        bare, unknown = bare + (known and text is None), unknown + (not known)
        for number, line in enumerate(tree.files[text].read_bytes().split(b"\n") if text else (), 1):
            if not (words := line.split()):
                continue
            numbers = _classes_of(words)
            if numbers and columns.keys() >= set(numbers):
                for each in numbers:
                    gathering.add(row, columns[each])
            else:
                cause = "class" if numbers else "line"
                times[cause] += 1
                said = short(line.decode("utf-8", "replace").strip())
                first.setdefault(cause, f"{tree.files[text or '']}:{number}: {said}")
    if not names and not times["class"]:
        return None  # texts of another kind
    if times["class"] and not names:
        raise WorkbenchError(
            f"{tree.folder} has YOLO label files, such as {first['class']}, and nothing that names their classes: no "
            "YAML with names, no classes.txt; write the names one a line into a file and add --classes FILE"
        )
    if times:
        causes = {
            "line": "is no label; expected the number of a class, alone or with a box of 4 numbers",
            "class": f"is of no class; expected one of {min(names)} to {max(names)} ({len(names)} names)",
        }
        raise WorkbenchError("; ".join(f"{first[each]} {causes[each]} ({times[each]:,} such lines)" for each in times))
    _tell_strays(tree, {text for text in texts.values() if text}, splits.lists, gathering)
    gathering.note("nothing there", bare, "images without a label file: every class is absent")
    gathering.note(
        "not labelled", unknown, "images in folders without any label file: unknown (--blank absent: nothing is there)"
    )
    tree.tell(gathering)
    return gathering.found("YOLO", [tree.folder], source, "blank")


def _tell_strays(tree: Tree, used: set[str], lists: set[str], gathering: Gathering) -> None:
    """Note label files without an image: texts among those that have one."""
    homes = {parent_of(text) for text in used}
    texts = [path for path in tree.files if path.endswith(".txt") and parent_of(path) in homes and path not in used]
    strays = [path for path in texts if path not in lists and path.rpartition("/")[2] not in NAME_FILES]
    gathering.note("left out", len(strays), f"text files without an image, such as {strays[:1]}")


def _refuse_lone(tree: Tree, documents: dict[Path, dict[str, Any]]) -> None:
    """Refuse images without one label file, where a YAML names classes that are not those of folders."""
    folders = {part for path in tree.images for part in path.split("/")[:-1]}
    others = any(path.lower().endswith((".json", ".xml")) for path in tree.files)
    for file, document in documents.items():
        if not others and tree.images and not folders & set(_named_by(file, document).values()):
            raise WorkbenchError(
                f"{tree.folder}: {file.name} names classes, and none of {len(tree.images):,} images has a label file "
                "(a text file of its name beside it or in labels/ beside images/); put the label files there"
            )


def _texts(tree: Tree) -> dict[str, str | None]:
    """The label file of each image: in labels/ for images/, beside it, in a folder labels, or by a unique name."""
    by_stem = defaultdict[str, list[str]](list)
    for path in tree.files:
        if path.lower().endswith(".txt") and "label" in parent_of(path).lower():
            by_stem[stem_of(path)].append(path)
    found: dict[str, str | None] = {}
    for image in tree.images:
        home, stem = parent_of(image), stem_of(image)
        before, images, after = f"/{home}".rpartition("/images/")
        swapped = [f"{before}/labels/{after}"[1:]] if images else []
        likely = [*swapped, home, f"{home}labels/", f"{parent_of(home[:-1])}labels/", f"labels/{home}"]
        texts = [
            path for place in likely if (path := f"{place}{stem}.txt") in tree.files and f"{stem}.txt" not in NAME_FILES
        ]
        alone = by_stem[stem] if len(by_stem.get(stem, ())) == len(tree.by_stem[stem]) == 1 else []
        found[image] = next(iter((*texts, *alone)), None)
    return found


def _classes_of(words: list[bytes]) -> list[int] | None:
    """Numbers of the classes in a line: of one box or outline, or up to four on their own; None for another line."""
    try:
        first = float(words[0])
        if len(words) < 5:
            return [int(word) for word in words]
        for word in words[1:]:
            float(word)
        return [int(first)] if first == int(first) else None
    except (ValueError, OverflowError):
        return None


def _documents(tree: Tree, described: Path | None, gathering: Gathering) -> dict[Path, dict[str, Any]]:
    """YAML files that name classes: the one that was given, or those at the top of the folder, or any."""
    every = {path: file for path, file in tree.files.items() if path.lower().endswith((".yaml", ".yml"))}
    top = [file for path, file in every.items() if "/" not in path]
    documents = {file: _yaml(file, gathering) for file in ([described] if described else top or every.values())}
    return {file: document for file, document in documents.items() if document.get("names")}


def _yaml(file: Path, gathering: Gathering) -> dict[str, Any]:
    if file.stat().st_size > MOST_YAML:
        raise WorkbenchError(f"{file} has more than {MOST_YAML:,} bytes; is it a description of a data set?")
    try:
        document = yaml.safe_load(_text(file, gathering))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise WorkbenchError(f"{file} is no readable YAML: {str(error).splitlines()[0]}; mend it") from None
    return document if isinstance(document, dict) else {}


def _text(file: Path, gathering: Gathering) -> str:
    """The text of a small file, in UTF-8, UTF-16 or, which is said, Windows-1252."""
    data = file.read_bytes()
    try:
        return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        gathering.notes.append(("encoding", f"{file} is no UTF-8 and read as Windows-1252; look at the names"))
        return data.decode("cp1252", "replace")


def _names(tree: Tree, told: Told, documents: dict[Path, dict[str, Any]]) -> dict[int, str]:
    """Names by the numbers of the classes: those given, those of the YAML, or those of classes.txt."""
    if told.classes:
        return dict(enumerate(told.classes))
    found = {file: _named_by(file, document) for file, document in documents.items()}
    for path, file in tree.files.items() if not found else ():
        if path.rpartition("/")[2] in NAME_FILES:
            lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            found[file] = {number: line.strip() for number, line in enumerate(lines) if line.strip()}
    files = list(found)
    for file in files[1:]:
        if found[file] != found[files[0]]:
            raise WorkbenchError(
                f"{files[0]} and {file} name the classes differently; say which are right with --classes FILE"
            )
    return dict(sorted(found[files[0]].items())) if files else {}


def _named_by(file: Path, document: dict[str, Any]) -> dict[int, str]:
    """Names of the classes in a YAML, which has them as a list or as a mapping."""
    names = document["names"]
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else [("", "")]
    try:
        if not any(isinstance(name, (dict, list)) for _, name in pairs):  # nested ones can grow without end as text
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        pass
    raise WorkbenchError(f"{file}: names is no list of names, nor one by number; write names: [cat, dog]")


class _Splits:
    """Splits of YOLO images: by folders and lists that the YAML names, by lists at the top, else by their folders."""

    def __init__(self, tree: Tree, documents: dict[Path, dict[str, Any]], gathering: Gathering):
        self.tree, self.lists = tree, set[str]()
        self.by_image, self.by_folder = dict[str, str](), defaultdict[str, list[str]](list)
        entries = [
            (split_of(key) or "", str(entry))
            for document in documents.values()
            for key, value in document.items()
            if split_of(key) and value
            for entry in (value if isinstance(value, list) else [value])
        ]
        lists = [path for path in tree.files if "/" not in path and path.endswith(".txt")]
        entries += [(word, path) for path in lists if (word := split_of(stem_of(path)))]
        lost = [entry for key, entry in entries if not self._take(key, entry)]
        gathering.note("left out", len(lost), f"places that the YAML names and that are not here, such as {lost[:1]}")
        shared = [folder or "." for folder, keys in self.by_folder.items() if len(keys) > 1]
        gathering.note("split", len(shared), f"folders that the YAML names for two splits are of the first: {shared}")

    def _take(self, key: str, entry: str) -> bool:
        """Whether a folder or a list is here, as it is named or by the end of its path on another machine."""
        folder, text = _end_of(entry, self.tree.folders, "/"), _end_of(entry, self.tree.files)
        if text is not None and text.endswith(".txt"):
            self.lists.add(text)
            for line in self.tree.files[text].read_text(encoding="utf-8-sig", errors="replace").splitlines():
                image = _end_of(line.strip(), self.tree.images)
                if image is not None:
                    self.by_image.setdefault(image, key)
        elif folder is not None and key not in self.by_folder[folder]:
            self.by_folder[folder].append(key)
        return text is not None or folder is not None

    def of(self, image: str) -> str:
        folder = parent_of(image)
        while folder and folder not in self.by_folder:
            folder = parent_of(folder[:-1])
        return self.by_image.get(image) or next(iter(self.by_folder.get(folder, ())), "") or split_on(image)


def _end_of(path: str, known: Collection[str], tail: str = "") -> str | None:
    """The longest end of a path, of whatever machine, that is known here with this `tail`, if there is a path."""
    parts = [part for part in re.split(r"[\\/]+", path) if part not in ("", ".", "..")]
    ends = ["/".join(parts[start:]) + tail for start in range(len(parts))] or [""]
    return next((end for end in ends if end in known), None)


def _described(file: Path, gathering: Gathering) -> Path:
    """The folder that a YAML file describes: its own, or where there are no images, the one that its `path` names."""
    path = _yaml(file, gathering).get("path")
    named = file.parent / path if isinstance(path, str) and not is_foreign(path, file.parent) else file.parent
    return named if named.is_dir() and not Tree(file.parent).images else file.parent
