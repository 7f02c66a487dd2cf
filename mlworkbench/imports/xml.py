"""Reader of XML: Pascal VOC, one file an image, and CVAT for images 1.1. No document type, so no entity, is let in."""

import re
from pathlib import Path
from typing import Any
from xml.parsers import expat

from ..exceptions import WorkbenchError
from ..tables.rows import open_regular
from .exports import places_of
from .found import Found, Gathering, Told

DEEPEST = 40
LONGEST = 10_000  # letters of a name
BEGINNINGS = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<\x00", b"\xfe\xff\x00<")


def read(source: Path, told: Told) -> Found | None:
    """What an XML file says; None where it is none.

    Raises
    ------
    WorkbenchError : XML that is neither Pascal VOC nor CVAT for images, is damaged or declares a document type
    """
    if not source.is_file():
        return None
    if not _start_of(source).startswith(BEGINNINGS):
        return None
    gathering = Gathering(told)
    what = gather(source, told, gathering)
    return gathering.found(what, [source.parent.parent / "JPEGImages", *places_of(source)], source)


def holds_labels(source: Path) -> bool:
    """Whether a file is XML with labels, as far as its beginning tells."""
    return re.search(rb"<\s*annotations?[\s>]", _start_of(source).replace(b"\x00", b"")) is not None


def _start_of(source: Path) -> bytes:
    with open_regular(source, "file") as file:
        return file.read(4096).lstrip(b" \t\r\n")


def gather(source: Path, told: Told, gathering: Gathering, image: str = "", split: str = "") -> str:
    """Add what a file says to a gathering; what kind it is. `image` is the one that lies beside a VOC file, if any."""
    reading = _Reading(source, gathering, image, split)
    reading.parse()
    return reading.what


class _Reading:
    """One pass over a file, element by element; nothing of it is kept but labels."""

    def __init__(self, source: Path, gathering: Gathering, image: str, split: str):
        self.source, self.gathering, self.image, self.split = source, gathering, image, split
        self.what, self.path, self.text = "", [], ""  # type: tuple[str, list[str], str]
        self.row = -1
        self.names: list[tuple[str, bool]] = []  # objects of a VOC file, and whether they are difficult
        self.about: dict[str, str] = {}
        self.attributes = 0

    def parse(self) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._more
        try:
            with open_regular(self.source, "file") as file:
                parser.ParseFile(file)
        except expat.ExpatError as error:
            said = expat.ErrorString(error.code)
            raise WorkbenchError(f"{self.source}:{error.lineno}: no readable XML: {said}; is the file whole?") from None
        self.gathering.note("left out", self.attributes, "attributes of labels; import reads the labels' names alone")

    def _refuse(self, name: str, *_: Any) -> None:
        if name.lower() == "html":
            raise WorkbenchError(f"{self.source} is a web page (HTML) and no labels; download the file itself")
        raise WorkbenchError(f"{self.source} declares a document type (<!DOCTYPE {name}>); remove it, nothing needs it")

    def _start(self, tag: str, values: dict[str, str]) -> None:
        self.path.append(tag)
        self.text = ""
        if len(self.path) == 1:
            self.what = {"annotation": "Pascal VOC", "annotations": "CVAT for images"}.get(tag, "")
            if not self.what:
                raise WorkbenchError(
                    f"{self.source} is XML of <{tag}>; expected Pascal VOC's <annotation> or CVAT's <annotations>: "
                    "export as 'CVAT for images 1.1' or as Pascal VOC"
                )
        elif len(self.path) > DEEPEST:
            raise WorkbenchError(f"{self.source} nests elements deeper than labels do; is it what you meant?")
        elif self.what == "Pascal VOC":
            if self.path[1:] == ["object"]:
                self.about = {}
        elif self.path[1:] == ["image"]:
            if "name" not in values:
                raise WorkbenchError(f"{self.source} has an image without a name; export it again")
            self.row = self.gathering.image(values["name"], values.get("subset", "") or self.split)
        elif self.path[1:] == ["track"]:
            raise WorkbenchError(
                f"{self.source} is CVAT for video, whose frames have no names; export 'CVAT for images'"
            )
        elif len(self.path) == 3 and self.path[1] == "image" and "label" in values:
            self.gathering.label(self.row, [values["label"]])
        self.attributes += self.path[1:2] == ["image"] and tag == "attribute"

    def _more(self, text: str) -> None:
        if self.path[-1] not in ("name", "filename", "difficult"):
            return
        if len(self.text) + len(text) > LONGEST:
            raise WorkbenchError(f"{self.source} has a text of more than {LONGEST:,} letters; is it what you meant?")
        self.text += text

    def _end(self, tag: str) -> None:
        path, text = "/".join(self.path[1:]), self.text.strip()
        self.path.pop()
        self.text = ""
        if self.what == "CVAT for images":
            if path.startswith("meta/") and path.endswith("/labels/label/name"):
                self.gathering.listed([text])
        elif path == "filename":
            self.image = self.image or text
        elif path in ("object/name", "object/difficult"):
            self.about[tag] = text
        elif path == "object":
            if "name" not in self.about:
                raise WorkbenchError(f"{self.source} has an object without a name; give it one")
            self.names.append((self.about["name"], self.about.get("difficult", "0") not in ("0", "")))
        elif path == "":
            self._voc()

    def _voc(self) -> None:
        row = self.gathering.image(self.image, self.split)
        self.gathering.label(row, [name for name, difficult in self.names if not difficult])
        # VOC neither trains nor scores objects that people can hardly make out.
        self.gathering.label(row, [name for name, difficult in self.names if difficult], -1)
