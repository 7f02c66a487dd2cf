"""Tables that could be accepted with another meaning: each is asked about, or read as it is meant."""

import re
import shlex
import unicodedata

import pytest
from brought import pictures
from PIL import Image

from mlworkbench import WorkbenchError, read_labels
from mlworkbench.cli import main


def asked(tmp_path, capsys, text, images="abcd"):
    """What `import` asks of a table, and the table that the command which it names makes."""
    (tmp_path / "given.csv").write_text(text)
    for name in images:
        Image.new("RGB", (8, 8), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    assert main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "first.csv")]) == 2
    told = capsys.readouterr().err
    named = shlex.split(told[told.rindex("mlworkbench import") :])[1:]
    assert main(named) == 0
    return told, read_labels(named[named.index("--out") + 1])


def present(table):
    return {
        path[0]: {n for n, v in zip(table.class_names, row, strict=True) if v == 1}
        for path, row in zip(table.paths, table.y, strict=True)
    }


LONG = [("a", "kite"), ("a", "oak"), ("b", "oak"), ("c", "kite")]


@pytest.mark.parametrize(
    "column, yes, no",
    [
        ("present", "1", "0"),
        ("value", "True", "False"),
        ("agree", "yes", "no"),
        ("label", "1", "0"),
        ("state", "1.0", "0.0"),
    ],
)
def test_a_row_for_each_label_may_say_that_it_is_absent(tmp_path, column, yes, no):
    rows = [(i, c, yes if (i, c) in LONG else no) for i in "abc" for c in ("kite", "oak")][:-1]
    (tmp_path / "given.csv").write_text(f"file,finding,{column}\n" + "".join(f"{i}.png,{c},{v}\n" for i, c, v in rows))
    for i in "abc":
        Image.new("RGB", (8, 8), (ord(i), 0, 0)).save(tmp_path / f"{i}.png")
    assert main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "labels.csv")]) == 0
    table = read_labels(tmp_path / "labels.csv")
    assert present(table) == {"a": {"kite", "oak"}, "b": {"oak"}, "c": {"kite"}}
    unknown = {
        (p[0], n)
        for p, row in zip(table.paths, table.y, strict=True)
        for n, v in zip(table.class_names, row, strict=True)
        if v < 0
    }
    assert unknown == {("c", "oak")}  # which no row names


@pytest.mark.parametrize("column, yes, no", [("area", "12", "0"), ("segmentation", "1 5 9", ""), ("votes", "3", "0")])
def test_rows_for_every_pair_are_asked_which_of_them_are_present(tmp_path, capsys, column, yes, no):
    rows = [(i, c, yes if (i, c) in LONG else no) for i in "abc" for c in ("kite", "oak")]
    told, table = asked(tmp_path, capsys, f"file,class,{column}\n" + "".join(f"{i}.png,{c},{v}\n" for i, c, v in rows))
    assert f"does {column!r} say which?" in told and present(table) == {
        "a": {"kite", "oak"},
        "b": {"oak"},
        "c": {"kite"},
    }


def test_a_value_of_one_and_minus_one_is_asked_about(tmp_path, capsys):
    rows = [(i, c, 1 if (i, c) in LONG else -1) for i in "abc" for c in ("kite", "oak")]
    told, table = asked(tmp_path, capsys, "file,class,value\n" + "".join(f"{i}.png,{c},{v}\n" for i, c, v in rows))
    assert "no label is 0" in told and (table.y >= 0).all() and present(table)["b"] == {"oak"}


@pytest.mark.parametrize("name, kind", [("train", "split"), ("test", "split"), ("Group", "group")])
def test_a_class_that_is_called_like_the_split_or_the_group_is_asked_about(tmp_path, capsys, name, kind):
    text = f"file,bus,{name},car\na.png,1,0,0\nb.png,0,1,0\nc.png,1,1,0\nd.png,0,0,1\n"
    told, table = asked(tmp_path, capsys, text)
    assert table.class_names == ["bus", "car"] and getattr(table, kind) is not None
    wanted = shlex.split(told[told.index("--columns") : told.index(" instead)")])
    (tmp_path / "classes.txt").unlink()
    assert main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "all.csv"), *wanted]) == 0
    table = read_labels(tmp_path / "all.csv")
    assert table.class_names == ["bus", name, "car"] and present(table)["c"] == {"bus", name}
    assert table.split is None and table.group is None
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "own.csv").write_text(text.replace("file", "image_path"))
    with pytest.raises(WorkbenchError, match=f"is it the {kind}, or a class"):
        read_labels(tmp_path / "own.csv")


def test_beside_a_column_split_train_is_a_class(tmp_path):
    (tmp_path / "given.csv").write_text("file,bus,train,split\na.png,1,0,train\nb.png,0,1,val\nc.png,1,1,test\n")
    for i in "abc":
        Image.new("RGB", (8, 8), (ord(i), 0, 0)).save(tmp_path / f"{i}.png")
    assert main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "labels.csv")]) == 0
    table = read_labels(tmp_path / "labels.csv")
    assert table.class_names == ["bus", "train"] and list(table.split) == ["train", "val", "test"]


@pytest.mark.parametrize("name", ["verified", "crowd", "fold", "set"])
def test_zeros_and_ones_called_like_metadata_are_not_left_out_unasked(tmp_path, capsys, name):
    told, table = asked(tmp_path, capsys, f"file,bus,{name},car\na.png,1,0,0\nb.png,0,1,1\nc.png,1,1,0\n", "abc")
    assert name in told and table.class_names == ["bus", "car"]


@pytest.mark.parametrize("name", ["island", "issue", "isopod"])
def test_a_class_that_begins_with_is_stays_one(tmp_path, name):
    (tmp_path / "labels.csv").write_text(f"image_path,bus,{name}\na.png,1,0\nb.png,0,1\n")
    assert read_labels(tmp_path / "labels.csv").class_names == ["bus", name]


@pytest.mark.parametrize(
    "cells, what", [(["{'a': 1, 'b': 0}", "{'a': 0, 'b': 1}"], "mappings"), (["101", "010", "001"], "bit strings")]
)
def test_mappings_and_bit_strings_are_no_names(tmp_path, capsys, cells, what):
    (tmp_path / "given.csv").write_text(
        "file,labels\n" + "".join(f'{i}.png,"{cell}"\n' for i, cell in zip("abc", cells, strict=False))
    )
    assert main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "labels.csv")]) == 2
    assert what in capsys.readouterr().err


@pytest.mark.parametrize("yes, no, option", [("x", "", "--blank"), ("+", "-", "--negative")])
def test_marks_without_a_no_are_asked_about(tmp_path, capsys, yes, no, option):
    text = f"file,bus,car\na.png,{yes},{no}\nb.png,{no},{yes}\nc.png,{yes},{no}\n"
    told, table = asked(tmp_path, capsys, text, "abc")
    assert option in told and (table.y >= 0).all() and present(table)["b"] == {"car"}


def test_the_tag_none_is_a_name_and_asked_about_by_check(tmp_path, capsys):
    (tmp_path / "given.csv").write_text("file,tags\na.png,bus|car\nb.png,none\nc.png,car\n")
    for i in "abc":
        Image.new("RGB", (8, 8), (ord(i), 0, 0)).save(tmp_path / f"{i}.png")
    assert main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "labels.csv")]) == 0
    assert read_labels(tmp_path / "labels.csv").class_names == ["bus", "car", "none"]


def test_names_of_a_left_over_file_that_do_not_occur_are_told(tmp_path, capsys):
    (tmp_path / "given.csv").write_text("file,tags\na.png,bus|car\nb.png,car\n")
    (tmp_path / "classes.txt").write_text("bus\ncar\nghost\n")
    (tmp_path / "out").mkdir()
    for i in "ab":
        Image.new("RGB", (8, 8), (ord(i), 0, 0)).save(tmp_path / f"{i}.png")
    main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "labels.csv")])
    said = capsys.readouterr()
    assert "ghost" in said.out + said.err


def test_names_that_differ_in_case_alone_are_told(tmp_path, capsys):
    (tmp_path / "given.csv").write_text("file,tags\na.png,Kite|oak\nb.png,kite\nc.png,KITE|rail\n")
    for i in "abc":
        Image.new("RGB", (8, 8), (ord(i), 0, 0)).save(tmp_path / f"{i}.png")
    assert main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "labels.csv")]) == 0
    assert "are these one? 'KITE'/'Kite'/'kite'" in capsys.readouterr().out


@pytest.mark.parametrize("form, other", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_the_same_however_they_are_written(tmp_path, form, other):
    name = "grün é.png"
    Image.new("RGB", (8, 8)).save(tmp_path / unicodedata.normalize(other, name))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "b.png")
    text = f"file,bus,car\n{unicodedata.normalize(form, name)},1,0\nb.png,0,1\n"
    (tmp_path / "given.csv").write_text(text, encoding="utf-8")
    assert main(["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "labels.csv")]) == 0
    table = read_labels(tmp_path / "labels.csv")
    assert unicodedata.normalize(other, name) in table.paths and len(table) == 2


def test_names_on_lines_of_their_own_are_asked_about(tmp_path, capsys):
    told, table = asked(tmp_path, capsys, 'file,tags\na.png,"bus\ncar"\nb.png,car\nc.png,car\n', "abc")
    assert "delimiter" in told and present(table) == {"a": {"bus", "car"}, "b": {"car"}, "c": {"car"}}


def test_two_names_above_rows_of_many_labels_are_no_header_of_theirs(tmp_path, capsys):
    """As DeepFashion's list_attr_img.txt: a count, then "image_name attribute_labels", then 1 and -1."""
    (tmp_path / "names.txt").write_text("bus\ncar\nship\n")
    text = "3\nimage_name  attribute_labels\na.png  1 -1 -1\nb.png -1  1  1\nc.png -1 -1  1\n"
    (tmp_path / "given.csv").write_text(text)
    for i in "abc":
        Image.new("RGB", (8, 8), (ord(i), 0, 0)).save(tmp_path / f"{i}.png")
    command = ["import", str(tmp_path / "given.csv"), "--out", str(tmp_path / "labels.csv")]
    assert main([*command, "--classes", str(tmp_path / "names.txt")]) == 2
    named = capsys.readouterr().err.rpartition("To read it so: ")[2]
    assert main(shlex.split(named)[1:]) == 0
    table = read_labels(tmp_path / "labels.csv")
    assert present(table) == {"a": {"bus"}, "b": {"car", "ship"}, "c": {"ship"}} and (table.y >= 0).all()


@pytest.mark.parametrize("head, rows", [("path,tags", ["cat", "cat|dog", ""]), ("path,cat,dog", ["1,0", "0,1", ","])])
def test_blank_cells_are_told_with_the_option_that_makes_them_absent(tmp_path, capsys, monkeypatch, head, rows):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, "a.png", "b.png", "c.png")
    lines = [f"{name}.png,{row}\n" for name, row in zip("abc", rows, strict=True)]
    (tmp_path / "given.csv").write_text("".join([f"{head}\n", *lines]))
    blanks = sum(cell == "" for row in rows for cell in row.split(","))
    order = ["import", "given.csv", "--out"]
    assert main([*order, "unknown.csv"]) == 0
    said = capsys.readouterr().out
    assert "0 images show none of them; of 1 nothing is known" in said
    assert f"{blanks} blank cells read as unknown; if blank means that nothing is there: add --blank absent" in said
    assert (read_labels("unknown.csv").y == -1).sum() == 2
    for told, unknown in (("absent", 0), ("unknown", 2)):
        assert main([*order, f"{told}-2.csv", "--blank", told]) == 0
        assert "read as unknown" not in capsys.readouterr().out
        assert (read_labels(f"{told}-2.csv").y == -1).sum() == unknown
    assert main(["check", "given.csv"]) == 0  # and so says check
    note = re.search(
        r"blank cells are taken as unknown; if blank means absent: mlworkbench (.*)", capsys.readouterr().out
    )
    named = shlex.split(note[1])
    assert main(named) == 0 and (read_labels(named[named.index("--out") + 1]).y >= 0).all()
