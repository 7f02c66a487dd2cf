"""The door: what it writes, what it leaves alone, and that it never writes what `check` refuses."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from brought import pictures, run
from PIL import Image

from mlworkbench import WorkbenchError, paths, read_labels
from mlworkbench.cli import main
from mlworkbench.imports import door, place
from mlworkbench.imports.door import import_labels
from mlworkbench.imports.found import Found, Told


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in/pics").mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.full((8, 8, 3), 50 * i, np.uint8)).save(tmp_path / f"in/pics/{i}.png")
    (tmp_path / "in/set.csv").write_text(
        "key,cat,dog\n" + "".join(f"pics/{i}.png,{i % 2},{i // 2}\n" for i in range(4))
    )
    return tmp_path / "in"


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_there_is_never_replaced(folder):
    before = files(folder)
    (folder / "classes.txt").write_bytes(b"cat\r\ndog\r\n")
    import_labels(folder / "set.csv", folder / "labels.csv")
    assert (folder / "classes.txt").read_bytes() == b"cat\r\ndog\r\n"
    for name in ("labels-2.csv", "labels-3.csv"):
        with pytest.raises(
            WorkbenchError, match="labels.csv is there already; choose another --out, such as "
        ) as caught:
            import_labels(folder / "set.csv", folder / "labels.csv")
        told = str(caught.value).rpartition(" ")[2]
        import_labels(folder / "set.csv", told)
        assert told == str(folder / name)
    assert before.items() <= files(folder).items()


def test_beside_other_names_the_header_holds_those_of_the_classes(folder, capsys):
    (folder / "classes.txt").write_text("other\n")
    made = import_labels(folder / "set.csv", folder / "labels.csv").table
    again = read_labels(folder / "labels.csv")
    assert again.class_names == ["cat", "dog"] and (again.y == made.y).all() and set(again.paths) == set(made.paths)
    assert (folder / "classes.txt").read_text() == "other\n"
    # A class that is called like a column of ours can stand in no header; what is then proposed works.
    (folder / "bad.csv").write_text((folder / "set.csv").read_text().replace("cat", "split"))
    order = ["import", str(folder / "bad.csv"), "--columns", "split", "dog", "--out"]
    assert main([*order, str(folder / "bad-labels.csv")]) == 2
    said = capsys.readouterr().err
    assert "classes.txt is there already, with other names" in said and not (folder / "bad-labels.csv").exists()
    (folder.parent / "else").mkdir()
    root = shlex.split(said.partition("--root ")[2])[0]
    assert main([*order, str(folder.parent / "else/labels.csv"), "--root", root]) == 0
    assert main(["check", str(folder.parent / "else/labels.csv"), "--root", root]) == 0


def test_what_would_not_be_read_as_it_was_meant_is_not_written(folder, monkeypatch):
    before = files(folder)
    real = door.save_labels

    def broken(table, out):
        return {file: content.replace(b"[0, 0]", b"[0, 1]") for file, content in real(table, out).items()}

    monkeypatch.setattr(door, "save_labels", broken)
    with pytest.raises(WorkbenchError, match="not read as it was meant"):
        import_labels(folder / "set.csv", folder / "labels.csv")
    assert files(folder) == before


def test_images_outside_the_folder_to_write_name_one_that_works(folder, capsys):
    (folder.parent / "else").mkdir()
    assert main(["import", str(folder / "set.csv"), "--out", str(folder.parent / "else/labels.csv")]) == 2
    said = capsys.readouterr().err
    out, root = (shlex.split(said.partition(word)[2])[0] for word in ("give --out ", "--root "))
    assert out == str(folder / "pics/labels.csv")  # no folder that holds anything else
    assert main(["import", str(folder / "set.csv"), "--out", out]) == 0 and main(["check", out]) == 0
    own = ["--out", str(folder.parent / "else/labels.csv"), "--root", root]
    assert main(["import", str(folder / "set.csv"), *own]) == 0
    assert run(capsys.readouterr().err.rpartition("next: ")[2]) == 0
    assert main(["import", str(folder / "set.csv"), "--out", str(folder.parent / "else/b.csv")]) == 2
    assert f"give --out {folder}/pics/b.csv or" in capsys.readouterr().err


@pytest.mark.parametrize("why", ["read only", "the root", "above the home"])
def test_no_file_is_proposed_where_none_belongs(folder, capsys, monkeypatch, why):
    (folder.parent / "else").mkdir()
    monkeypatch.chdir(folder.parent / "else")
    if why == "read only":
        monkeypatch.setattr(paths.os, "access", lambda path, mode: "/in" not in str(path))
    if why == "the root":
        monkeypatch.setattr(place, "home_of", lambda folders: Path("/"))
    if why == "above the home":
        monkeypatch.setenv("HOME", str(folder / "pics/me"))
    command = f"mlworkbench import {folder}/set.csv --out labels.csv"
    assert run(command) == 2
    said = capsys.readouterr().err
    assert "--out" not in said and said.count("\n") == 1
    assert run(f"{command} --root {shlex.split(said.partition('--root ')[2])[0]}") == 0
    assert run(capsys.readouterr().err.partition("next: ")[2]) == 0
    labels = folder.parent / "else/labels.csv"
    assert main(["check", str(labels)]) == 2  # the paths start elsewhere


def test_linked_folders_and_files_are_named_where_they_really_are(folder):
    (folder / "other").mkdir()
    (folder / "other/linked").symlink_to(folder / "pics")
    (folder / "other/one.png").symlink_to(folder / "pics/3.png")
    (folder / "set.csv").write_text("key,cat\nother/linked/0.png,1\nother/one.png,0\n")
    assert list(import_labels(folder / "set.csv", folder / "labels.csv").table.paths) == ["pics/0.png", "pics/3.png"]


def test_two_names_of_one_file_are_one_row_or_a_conflict(folder):
    (folder / "link.png").symlink_to(folder / "pics/0.png")
    (folder / "set.csv").write_text("key,cat\npics/0.png,1\nlink.png,1\npics/1.png,0\n")
    found = import_labels(folder / "set.csv", folder / "labels.csv")
    assert (
        list(found.table.paths) == ["pics/0.png", "pics/1.png"]
        and ("repeated", "1 images are named twice") in found.notes
    )
    (folder / "set.csv").write_text("key,cat\npics/0.png,1\nlink.png,0\npics/1.png,0\n")
    with pytest.raises(WorkbenchError, match="'pics/0.png' and 'link.png' are the same file with other labels"):
        import_labels(folder / "set.csv", folder / "b.csv")


def test_sources_of_no_known_kind(folder, tmp_path):
    with pytest.raises(WorkbenchError, match="does not exist"):
        import_labels(folder / "absent.csv", folder / "a.csv")
    (folder / "noise.csv").write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(WorkbenchError):
        import_labels(folder / "noise.csv", folder / "a.csv")
    assert not (folder / "a.csv").exists()


@pytest.mark.parametrize(
    ("given", "told", "split"),
    [
        (["TRAIN", "", "dev", "Test"], Told(), ["train", "train", "val", "test"]),
        (["0", "1", "2", "1"], Told(split_values=("1=val", "2=Testing")), ["train", "val", "test", "val"]),
        (["", "", "", ""], Told(), None),
        (["a", "b", "train", "val"], Told(), "--split-values a=val says what they mean"),
        (["0", "1", "2", "1"], Told(split_values=("7=val",)), "expected VALUE=SPLIT with a value of 0, 1, 2"),
        (["0", "1", "2", "1"], Told(split_values=("1=maybe",)), "expected VALUE=SPLIT"),
        (None, Told(split_values=("1=val",)), "--split-column NAME"),
    ],
)
def test_splits_of_any_reader(folder, monkeypatch, given, told, split):
    images = [f"pics/{i}.png" for i in range(4)]
    found = Found("a kind", ["cat"], images, np.array([[1], [0], [1], [-1]], np.int8), [folder], given)
    monkeypatch.setattr(door, "_read", lambda *_: found)
    if isinstance(split, str):
        with pytest.raises(WorkbenchError, match=split):
            import_labels(folder / "set.csv", folder / "a.csv", told)
        return
    import_labels(folder / "set.csv", folder / "a.csv", told)
    table = read_labels(folder / "a.csv")
    assert table.y.tolist() == [[1], [0], [1], [-1]]
    assert (None if table.split is None else list(table.split)) == split


def test_files_of_one_name_in_several_folders_are_told_with_both(tmp_path, monkeypatch, capsys):
    pictures(tmp_path, "images/a.png", "images/more/a.png", "other/a.png", "x/b.png", "y/b.png", "x/c.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set.json").write_text('[{"image": "a.png", "tags": ["cat"]}, {"image": "c.png", "tags": ["dog"]}]')
    assert run("mlworkbench import set.json --out labels.csv") == 0
    said = capsys.readouterr().out
    assert "1 images have a namesake in a folder beside theirs: images/a.png is taken, other/a.png is not" in said
    (tmp_path / "set.json").write_text('[{"image": "b.png", "tags": ["cat"]}]')
    assert run("mlworkbench import set.json --out labels2.csv") == 2
    said = capsys.readouterr().err
    assert "such as 'b.png': x/b.png and y/b.png; --images DIR says which" in said
    assert run("mlworkbench import set.json --out y/labels.csv --images y") == 0
    assert "namesake" not in capsys.readouterr().out
    (tmp_path / "set.json").write_text('[{"image": "b.png", "tags": ["cat"]}, {"image": "c.png", "tags": ["dog"]}]')
    assert run("mlworkbench import set.json --out labels3.csv") == 0
    assert "1 of the names are those of several files, such as 'b.png': x/b.png and y/b.png" in capsys.readouterr().out
    assert run("mlworkbench import set.json --out x/labels.csv --images x") == 0


def test_check_names_the_import_for_images_outside_the_root(tmp_path, monkeypatch, capsys):
    pictures(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/tags.csv").write_text("path,tags\n../photos/a.jpg,cat\n../photos/b.jpg,dog\n../photos/c.jpg,cat\n")
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench check own/tags.csv") == 2
    said = capsys.readouterr().err
    named = said[said.index("mlworkbench import") :]
    assert named.split() == ["mlworkbench", "import", "own/tags.csv", "--out", "photos/labels.csv"]
    assert run(named) == 0 and run("mlworkbench check photos/labels.csv") == 0
    capsys.readouterr()
    assert run("mlworkbench import own/tags.csv --out own/labels.csv") == 2
    out = shlex.split(capsys.readouterr().err.partition("give --out ")[2])[0]
    assert out == "photos/labels-2.csv"  # none that is there
    assert run(f"mlworkbench import own/tags.csv --out {out}") == 0
