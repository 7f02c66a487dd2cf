"""XML: Pascal VOC and CVAT for images."""

import pytest
from brought import labels_in, pictures, rows_of_page, run, write

from mlworkbench import WorkbenchError
from mlworkbench.imports import xml
from mlworkbench.imports.found import Told

BUILDERS = {}


def source(name):
    def keep(build):
        BUILDERS[name] = build
        return build

    return keep


def voc(name, *objects):
    """A VOC file with objects (class, difficult)."""
    inside = "".join(
        f"<object><name>{label}</name><difficult>{hard}</difficult><bndbox><xmin>1</xmin></bndbox>"
        f"<part><name>head</name></part></object>"
        for label, hard in objects
    )
    return (
        f"<annotation><folder>VOC</folder><filename>{name}</filename><size><width>8</width></size>{inside}</annotation>"
    )


@source("Pascal VOC, one file")
def _(top):
    pictures(top / "JPEGImages", "a.jpg")
    write(top / "Annotations/a.xml", voc("a.jpg", ("cat", 0), ("cat", 1), ("dog", 1)))
    return {"JPEGImages/a.jpg": {"cat", "?dog"}}


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cat</name><attributes></attributes></label><label><name>unused</name></label></labels>
</task></meta>
<image id="0" name="photos/a.jpg" subset="train"><tag label="cat"><attribute name="sure">no</attribute></tag>
<box label="dog" xtl="1"></box></image>
<image id="1" name="photos/b.jpg" subset="test"></image>
</annotations>
"""


@source("CVAT for images 1.1")
def _(top):
    pictures(top / "images/photos", "a.jpg", "b.jpg")
    write(top / "annotations.xml", CVAT)
    return {"images/photos/a.jpg": {"cat", "dog"}, "images/photos/b.jpg": set()}


def test_the_page_has_these_sources():
    assert set(rows_of_page("XML")) == set(BUILDERS)


@pytest.mark.parametrize("name", BUILDERS)
def test_source(name, tmp_path, monkeypatch):
    expected = BUILDERS[name](tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(rows_of_page("XML")[name][0]) == 0
    assert labels_in(tmp_path / "labels.csv")[1] == expected


def read(tmp_path, text, encoding="utf-8"):
    (tmp_path / "x.xml").write_bytes(text.encode(encoding))
    return xml.read(tmp_path / "x.xml", Told())


def test_cvat_keeps_its_classes_and_splits(tmp_path):
    found = read(tmp_path, CVAT)
    assert found.class_names == ["cat", "unused", "dog"] and found.y.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert found.split == ["train", "test"]
    assert any("1 attributes of labels" in message for _, message in found.notes)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>', "document type"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation></annotation>', "document type"),
        ("<!DOCTYPE html><html><body>404</body></html>", "web page"),
        ("<annotation>" + "<a>" * 100_000, "nests elements deeper"),
        (f"<annotation><filename>{'a' * 100_000}</filename></annotation>", "letters"),
        ("<annotation><filename>a.jpg</filename>", "x.xml:1: no readable XML: no element found"),
        ("<annotation>\n<filename>&undefined;</filename></annotation>", "x.xml:2: no readable XML: undefined entity"),
        ("<project><module/></project>", "XML of <project>; expected Pascal VOC"),
        ("<annotation><filename>a.jpg</filename><object><pose/></object></annotation>", "without a name"),
        ('<annotations><image id="1"></image></annotations>', "without a name"),
        ('<annotations><track label="cat"><box frame="0"/></track></annotations>', "CVAT for video"),
        (CVAT.replace('label="cat"', "").replace('label="dog"', ""), "no label at all"),
        ("<annotation><filename>a.jpg</filename></annotation>", "no label at all"),
    ],
)  # fmt: skip
def test_hostile_and_damaged_files(text, match, tmp_path):
    with pytest.raises(WorkbenchError, match=match) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_encodings_and_what_is_no_xml(tmp_path):
    text = f'<?xml version="1.0" encoding="ENC"?>{voc("ä.jpg", ("Müll", 0))}'
    for encoding in ("utf-8", "utf-16", "iso-8859-1", "windows-1252"):
        found = read(tmp_path, text.replace("ENC", encoding), encoding)
        assert found.class_names == ["Müll"] and found.images == ["ä.jpg"]
    assert read(tmp_path, '{"a": 1}') is None and xml.read(tmp_path, Told()) is None
