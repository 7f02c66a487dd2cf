"""The door: what it writes, what it leaves alone, and that it never writes what `check` refuses."""

import shlex

import numpy as np
import pytest
from brought import pictures, run
from PIL import Image

from mlworkbench import WorkbenchError, read_labels
from mlworkbench.cli import main
from mlworkbench.imports import door
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
    (folder / "classes.txt").write_text("other\n")
    with pytest.raises(WorkbenchError, match="classes.txt is there already, with other names"):
        import_labels(folder / "set.csv", folder / "labels.csv")
    (folder / "classes.txt").write_bytes(b"cat\r\ndog\r\n")  # the same names are no reason to refuse
    import_labels(folder / "set.csv", folder / "labels.csv")
    assert (folder / "classes.txt").read_bytes() == b"cat\r\ndog\r\n"
    with pytest.raises(WorkbenchError, match="labels.csv is there already; choose another --out"):
        import_labels(folder / "set.csv", folder / "labels.csv")
    assert before.items() <= files(folder).items()


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
    out = shlex.split(capsys.readouterr().err.partition("give --out ")[2])[0]
    assert main(["import", str(folder / "set.csv"), "--out", out]) == 0 and main(["check", out]) == 0


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
