"""Folders: YOLO's in all layouts, Roboflow's, Pascal VOC's, and a folder for each class."""

import json
import os
import re
import shutil

import pytest
from brought import command_in, labels_in, picture, pictures, rows_of_page, run, write
from test_xml import voc

from mlworkbench import WorkbenchError, read_labels
from mlworkbench.imports import folders, yolo
from mlworkbench.imports.found import Told

BUILDERS = {}
BOX = " 0.5 0.5 0.1 0.2"


def source(name):
    def keep(build):
        BUILDERS[name] = build
        return build

    return keep


@source("YOLO")
def _(top):
    pictures(top, "images/train/a.jpg", "images/train/b.jpg", "images/val/c.JPG", "images/test/d.jpg")
    write(top / "labels/train/a.txt", f"1{BOX}\n1{BOX}\n\n0 .1 .1 .2 .2 .3 .3\n")
    write(top / "labels/val/c.txt", f"2.0{BOX} 0.93\n")
    write(top / "data.yaml", "path: ../x\ntrain: images/train\nval: images/val\nnames: ['cat', '=1', 'hat', 'rare']\n")
    labels = {
        "images/test/d.jpg": {"?cat", "?=1", "?hat", "?rare"},
        "images/train/a.jpg": {"cat", "=1"},
        "images/train/b.jpg": set(),
        "images/val/c.JPG": {"hat"},
    }
    return labels, ["test", "train", "train", "val"]


@source("YOLO by its YAML")
def _(top):
    pictures(top, "pictures/one/a.jpg", "pictures/two/b.jpg", "pictures/two/c.jpg")
    for name, number in (("one/a", 0), ("two/b", 1), ("two/c", 7)):
        write(top / f"pictures/labels/{name.split('/')[1]}.txt", f"{number}{BOX}\n")
    text = "path: C:\\Users\\Jo\\set\ntrain: C:\\Users\\Jo\\set\\pictures\\one\nval: lists/val.txt\n"
    text += "names: {0: Müll, 1: dog, 7: hat}\n"
    (top / "data.yaml").write_bytes(text.encode("cp1252"))
    write(top / "lists/val.txt", "/home/jo/set/pictures/two/b.jpg\n./pictures/two/c.jpg\n")
    write(top / "other.yaml", "names: [x]\n")
    labels = {"pictures/one/a.jpg": {"Müll"}, "pictures/two/b.jpg": {"dog"}, "pictures/two/c.jpg": {"hat"}}
    return labels, ["train", "val", "val"]


@source("YOLO, text beside the image")
def _(top):
    pictures(top / "images", "a.jpg", "b.jpg")
    write(top / "images/a.txt", f"0{BOX}\n")
    write(top / "images/b.txt", "")
    (top / "data.yaml").write_bytes("nc: 2\nnames: [猫, 犬]\n".encode("utf-16"))
    return {"images/a.jpg": {"猫"}, "images/b.jpg": set()}


@source("YOLO, flat")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    write(top / "a.txt", f"1{BOX}\r\n")
    write(top / "b.txt", f"0{BOX}\r\n")
    write(top / "classes.txt", "cat\ndog\n")
    return {"a.jpg": {"dog"}, "b.jpg": {"cat"}}


@source("YOLO, class numbers alone")
def _(top):
    pictures(top / "train/images", "a.jpg", "b.jpg", "c.jpg")
    write(top / "train/labels/a.txt", "0\n2\n")
    write(top / "train/labels/b.txt", "1 2\n")
    write(top / "train/labels/c.txt", "")
    write(top / "data.yaml", "train: ../train/images\nnames:\n  0: cat\n  1: dog\n  2: hat\n")
    labels = {"a.jpg": {"cat", "hat"}, "b.jpg": {"dog", "hat"}, "c.jpg": set()}
    return {f"train/images/{name}": names for name, names in labels.items()}, ["train"] * 3


@source("YOLO 1.1 of CVAT, Darknet")
def _(top):
    pictures(top / "obj_train_data", "a.jpg", "b.jpg")
    write(top / "obj_train_data/a.txt", f"1{BOX}\n")
    write(top / "obj.names", "cat\ndog\n")
    write(top / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(top / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")
    return {"obj_train_data/a.jpg": {"dog"}, "obj_train_data/b.jpg": set()}, ["train", "train"]


@source("Roboflow, multi-label")
def _(top):
    for seed, split in enumerate(("test", "train", "valid")):
        picture(top / split / "a_jpg.rf.1.jpg", seed)
    write(top / "train/_classes.csv", "filename, cat, dog, rare\na_jpg.rf.1.jpg, 1, 0, 0\n")
    write(top / "valid/_classes.csv", "filename, cat, dog, rare\na_jpg.rf.1.jpg, 1, 1, 0\n")
    write(top / "test/_classes.csv", "filename, cat, dog, rare\na_jpg.rf.1.jpg, 0, 0, 0\n")
    write(top / "README.roboflow.txt", "exported\n")
    names = {"test": set(), "train": {"cat"}, "valid": {"cat", "dog"}}
    return {f"{split}/a_jpg.rf.1.jpg": names[split] for split in names}, ["test", "train", "val"]


@source("Roboflow, COCO")
def _(top):
    categories = [{"id": 0, "name": "pets", "supercategory": "none"}]
    categories += [{"id": i, "name": name, "supercategory": "pets"} for i, name in enumerate(("cat", "dog"), 1)]
    for seed, (split, category) in enumerate((("train", 1), ("valid", 2))):
        picture(top / split / "a.jpg", seed)  # one name in two splits: two images
        annotations = [{"id": 1, "image_id": 0, "category_id": category}]
        images = [{"id": 0, "file_name": "a.jpg"}]
        data = {"images": images, "annotations": annotations, "categories": categories}
        write(top / split / "_annotations.coco.json", data)
    return {"train/a.jpg": {"cat"}, "valid/a.jpg": {"dog"}}, ["train", "val"]


@source("COCO, the whole folder")
def _(top):
    categories = [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]
    for seed, (split, category) in enumerate((("train2017", 1), ("val2017", 3))):
        picture(top / split / f"{split}.jpg", seed)
        images = [{"id": 0, "file_name": f"{split}.jpg"}]
        annotations = [{"id": 1, "image_id": 0, "category_id": category}]
        data = {"images": images, "annotations": annotations, "categories": categories}
        write(top / f"annotations/instances_{split}.json", data)
        captions = {"images": images, "annotations": [{"image_id": 0, "caption": "a cat"}]}
        write(top / f"annotations/captions_{split}.json", captions)
    return {"train2017/train2017.jpg": {"cat"}, "val2017/val2017.jpg": {"dog"}}, ["train", "val"]


@source("a folder for each class")
def _(top):
    picture(top / "train/cat/a.jpg", 1)
    picture(top / "train/dog/renamed.jpg", 1)
    picture(top / "train/dog/a.jpg", 2)  # the same name, another image
    picture(top / "val/cat/b.jpg", 3)
    picture(top / "val/hat/b.jpg", 3)
    picture(top / "val/dog/.hidden.jpg", 4)
    write(top / "val/dog/Thumbs.db", "")
    return (
        {"train/cat/a.jpg": {"cat", "dog"}, "train/dog/a.jpg": {"dog"}, "val/cat/b.jpg": {"cat", "hat"}},
        ["train", "train", "val"],
    )


@source("folders of several classes")
def _(top):
    pictures(top, "cat dog/a.jpg", "cat/b.jpg", "dog/c.jpg", "none/d.jpg", "cat dog hat/e.jpg", "hat/f.jpg")
    return {
        "cat dog hat/e.jpg": {"cat", "dog", "hat"},
        "cat dog/a.jpg": {"cat", "dog"},
        "cat/b.jpg": {"cat"},
        "dog/c.jpg": {"dog"},
        "hat/f.jpg": {"hat"},
        "none/d.jpg": set(),
    }


@source("Pascal VOC")
def _(top):
    pictures(top / "JPEGImages", "a.jpg", "b.jpg", "c.jpg", "left.jpg")
    write(top / "Annotations/a.xml", voc("wrong.jpg", ("cat", 0), ("dog", 1)))
    write(top / "Annotations/b.xml", voc("b.jpg", ("dog", 0)))
    write(top / "Annotations/c.xml", voc("c.jpg"))
    write(top / "ImageSets/Main/train.txt", "a\nc\n")
    write(top / "ImageSets/Main/val.txt", "b\n")
    write(top / "ImageSets/Main/trainval.txt", "a\nb\nc\n")
    labels = {"a.jpg": {"cat", "?dog"}, "b.jpg": {"dog"}, "c.jpg": set()}
    return {f"JPEGImages/{name}": names for name, names in labels.items()}, ["train", "val", "train"]


@source("Pascal VOC, lists alone")
def _(top):
    pictures(top / "JPEGImages", "a.jpg", "b.jpg")
    write(top / "ImageSets/Main/cat_train.txt", "a  1\n")
    write(top / "ImageSets/Main/cat_val.txt", "b -1\n")
    write(top / "ImageSets/Main/dog_trainval.txt", "a  0\nb  1\n")
    write(top / "ImageSets/Main/hat_train.txt", "a -1\n")
    return {"JPEGImages/a.jpg": {"cat", "?dog"}, "JPEGImages/b.jpg": {"dog", "?hat"}}, ["train", "val"]


@source("JSON files beside the images")
def _(top):
    pictures(top, "a.jpg", "b.jpg", "left.jpg")
    for name, labels in (("a", ["cat", "dog"]), ("b", [])):
        shapes = [{"label": label, "points": [[1, 1], [2, 2]], "shape_type": "rectangle"} for label in labels]
        write(top / f"{name}.json", {"version": "5", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg"})
    return {"a.jpg": {"cat", "dog"}, "b.jpg": set()}


def test_the_page_has_these_sources():
    assert set(rows_of_page("Folders")) == set(BUILDERS)


@pytest.mark.parametrize("name", BUILDERS)
def test_source(name, tmp_path, monkeypatch):
    expected = BUILDERS[name](tmp_path)
    labels, splits = expected if isinstance(expected, tuple) else (expected, None)
    monkeypatch.chdir(tmp_path)
    assert run(rows_of_page("Folders")[name][0]) == 0
    found, given = labels_in(tmp_path / "labels.csv")[1:]
    assert found == labels
    assert given == (splits and dict(zip(labels, splits, strict=True)))


def read(folder, **told):
    return yolo.read(folder, Told(**told)) or folders.read(folder, Told(**told))


def noted(found):
    return "\n".join(f"{kind}  {message}" for kind, message in found.notes)


def built(name, folder):
    BUILDERS[name](folder)
    return folder


def test_what_is_left_out_is_counted(tmp_path):
    top = built("YOLO", tmp_path)
    picture(top / "images/train/._a.jpg")
    write(top / "labels/train/stray.txt", f"0{BOX}\n")
    found = read(top)
    said = noted(found)
    assert found.class_names == ["cat", "=1", "hat", "rare"] and len(found.images) == 4
    assert "1 hidden files" in said and "1 text files without an image, such as ['labels/train/stray.txt']" in said
    assert "1 images without a label file: every class is absent" in said
    assert "1 images in folders without any label file: unknown" in said
    found = read(top, blank="absent")
    assert (found.y >= 0).all()
    classes = built("a folder for each class", tmp_path / "classes")
    picture(classes / "train/left.jpg", 9)
    found = read(classes)
    said = noted(found)
    assert (
        found.copies == 2
        and "2 files equal another one" in said
        and "2 images have several classes" in said
        and "1 images that lie in no class" in said
    )
    assert "1 images without annotations" in noted(read(built("Pascal VOC", tmp_path / "voc")))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (f"0{BOX}\n9{BOX}\n9{BOX}\n", r"a.txt:2: '9 .*' is of no class; expected one of 0 to 3 \(4 names\) \(2 such"),
        ("cat 1 2 3 4\n", r"a.txt:1: 'cat 1 2 3 4' is no label; expected the number of a class"),
        ("-1 0.5 0.5 0.1 0.1\n", "is of no class"),
        ("0.5 0.5 0.1\n", "is no label"),
        ("nan 0.5 0.5 0.1 0.1\n1e999 1 1 1 1\n", r"is no label.*\(2 such lines\)"),
        ("0 .5 .5 x .1\n\x00\x01\n7\n", r"is no label.*\(2 such lines\); .*is of no class.*\(1 such lines\)"),
    ],
)  # fmt: skip
def test_lines_at_fault_are_told_once_a_cause(content, match, tmp_path):
    top = built("YOLO", tmp_path)
    write(top / "labels/train/a.txt", content)
    with pytest.raises(WorkbenchError, match=match):
        read(top)


def test_names_come_from_one_place(tmp_path):
    top = built("YOLO, flat", tmp_path)
    write(top / "sub/classes.txt", "dog\ncat\n")
    with pytest.raises(WorkbenchError, match="name the classes differently; say which are right with --classes"):
        read(top)
    assert read(top, classes=("x", "y")).class_names == ["x", "y"]
    (top / "sub/classes.txt").unlink()
    (top / "classes.txt").unlink()
    with pytest.raises(WorkbenchError, match="nothing that names their classes"):
        read(top)
    for text, match in (
        ("names: 5", "names is no list of names"),
        ("names: {a: b}", "names is no list of names"),
        ("a: &a [x]\nb: &b [*a, *a]\nnames: [*b, *b]", "names is no list of names"),
        ("names: [", "no readable YAML"),
        ("[" * 5000, "no readable YAML"),
        ("!!python/object/apply:os.system ['true']", "no readable YAML"),
    ):
        write(top / "data.yaml", text)
        with pytest.raises(WorkbenchError, match=match):
            read(top)
    write(top / "data.yaml", "names: [" + "cat, " * 300_000 + "]")
    with pytest.raises(WorkbenchError, match="more than 1,000,000 bytes"):
        read(top)


def test_no_label_file_at_all_is_an_error_and_no_background(tmp_path):
    top = built("YOLO", tmp_path)
    shutil.rmtree(top / "labels")
    with pytest.raises(WorkbenchError, match="names classes, and none of 4 images has a label file"):
        read(top)
    (top / "data.yaml").unlink()
    with pytest.raises(WorkbenchError, match="4 images and no known labels for them .beside them: no other file"):
        read(top)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(WorkbenchError, match="holds no images"):
        read(empty)
    write(empty / "data.yaml", "path: /nowhere/at/all\nnames: [x]\n")
    with pytest.raises(WorkbenchError, match="describes images that are not in"):
        read(empty / "data.yaml")


def test_a_yaml_far_from_its_images_is_followed(tmp_path):
    top = built("YOLO", tmp_path / "set")
    (tmp_path / "configs").mkdir()
    text = (top / "data.yaml").read_text().replace("../x", str(top))
    write(tmp_path / "configs/data.yaml", text)
    assert len(read(tmp_path / "configs/data.yaml").images) == 4


def test_labels_in_another_case_and_a_yaml_below(tmp_path):
    top = built("YOLO, class numbers alone", tmp_path)
    before = read(top)
    (top / "train/labels").rename(top / "train/Labels")
    (top / "train/Labels/a.txt").rename(top / "train/Labels/a.TXT")
    (top / "config").mkdir()
    (top / "data.yaml").rename(top / "config/data.yaml")
    after = read(top)
    assert after.y.tolist() == before.y.tolist() and after.class_names == before.class_names == ["cat", "dog", "hat"]


def test_images_that_lie_elsewhere(tmp_path):
    for name, images in (("YOLO", "images"), ("Pascal VOC", "JPEGImages")):
        top = built(name, tmp_path / name)
        before = read(top)
        shutil.move(top / images, tmp_path / f"{name} far")
        with pytest.raises(WorkbenchError, match="holds no images"):
            read(top)
        after = read(top, images=tmp_path / f"{name} far")
        assert [image.rpartition("/")[2] for image in after.images] == [i.rpartition("/")[2] for i in before.images]
        assert after.images[0].startswith(f"{tmp_path}/{name} far/") and (after.y == before.y).all()
    top = built("YOLO", tmp_path / "named")
    assert (read(top, images=top / "images").y == read(top).y).all()


def test_a_table_among_images_is_named_with_its_command(tmp_path, monkeypatch, capsys):
    pictures(tmp_path / "set", "a.jpg", "b.jpg", "c.jpg")
    write(tmp_path / "set/sample_submission.csv", "image_path,tags\n")
    write(tmp_path / "set/tags.csv", "image_path,tags\na.jpg,cat\nb.jpg,dog|cat\n")
    write(tmp_path / "set/photos.csv", "photo,cat,dog\na.jpg,1,0\nb.jpg,1,1\nc.jpg,0,1\n")
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import set --out x.csv") == 2
    assert capsys.readouterr().err.endswith(
        "among its images; set/tags.csv is read as it is: mlworkbench check set/tags.csv\n"
    )
    assert read_labels("set/tags.csv").class_names == ["cat", "dog"]
    (tmp_path / "set/tags.csv").unlink()
    assert run("mlworkbench import set --out x.csv") == 2
    assert command_in(said := capsys.readouterr().err) == "mlworkbench import set/photos.csv --out x.csv"
    assert run(command_in(said)) == 0
    assert {"dog", "cat"} in labels_in(tmp_path / "x.csv")[1].values()
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")  # from where the images do not lie below the file that is wanted
    assert run(f"mlworkbench import {tmp_path}/set --out y.csv") == 2
    assert run(command_in(capsys.readouterr().err)) == 0
    assert run(capsys.readouterr().err.partition("next: ")[2]) == 0


def test_folders_and_a_table_are_asked_about(tmp_path, monkeypatch, capsys):
    built("a folder for each class", tmp_path / "set")
    write(tmp_path / "set/tags.csv", "image_path,tags\ntrain/cat/a.jpg,fish\nval/cat/b.jpg,bird|fish\n")
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import set --out x.csv") == 2
    said = capsys.readouterr().err
    assert "in the table, set/tags.csv is read as it is: mlworkbench check set/tags.csv; where" in said
    assert read_labels("set/tags.csv").class_names == ["bird", "fish"]
    assert run(said[said.index("mlworkbench import") :]) == 0
    assert labels_in(tmp_path / "x.csv")[0] == ["cat", "dog", "hat"]


def test_numbered_folders_of_images_are_no_classes(tmp_path):
    pictures(tmp_path, "images_001/a.jpg", "images_002/b.jpg", "batch3/c.jpg")
    with pytest.raises(WorkbenchError, match="no known labels for them"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "told", "flag"),
    [
        ("YOLO", {"delimiter": ","}, "delimiter"),
        ("a folder for each class", {"min_confidence": 0.5}, "min-confidence"),
        ("Pascal VOC", {"split_column": "x"}, "split-column"),
    ],
)
def test_options_without_a_meaning_are_refused(name, told, flag, tmp_path):
    with pytest.raises(WorkbenchError, match=f"--{flag} means nothing here"):
        read(built(name, tmp_path), **told)


def test_chosen_and_given_classes(tmp_path):
    top = built("a folder for each class", tmp_path)
    found = read(top, columns=("hat", "cat"))
    assert found.class_names == ["hat", "cat"] and found.y.tolist() == [[0, 1], [0, 0], [1, 1]]
    assert "1 classes by --columns or --negative: dog" in noted(found)
    assert read(top, classes=("hat", "rare", "dog", "cat")).class_names == ["hat", "rare", "dog", "cat"]
    with pytest.raises(WorkbenchError, match="'cat' is not among those of --classes"):
        read(top, classes=("hat", "dog"))
    with pytest.raises(WorkbenchError, match="--columns names 'fish'; its classes are cat, dog, hat"):
        read(top, columns=("fish",))


def test_joined_folders_are_asked_about(tmp_path, monkeypatch, capsys):
    built("folders of several classes", tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import set --out labels.csv") == 2
    said = capsys.readouterr().err
    assert "a folder for each class" in said and "joined by ' ', such as 'cat dog'" in said
    assert run(command_in(said)) == 0
    written = next(tmp_path.rglob("labels.csv"))
    assert labels_in(written)[0] == ["cat", "dog", "hat", "none"]
    assert "where nothing is there: --negative none" in noted(read(tmp_path / "set", delimiter=" "))
    assert read(tmp_path / "set", delimiter="/").class_names == ["cat", "cat dog", "cat dog hat", "dog", "hat", "none"]


@pytest.mark.parametrize("sign", "_-+")
def test_other_signs_that_join_folders(sign, tmp_path):
    pictures(tmp_path, f"cat{sign}dog/a.jpg", "cat/b.jpg", "dog/c.jpg")
    with pytest.raises(WorkbenchError, match="joined by '[_+-]', such as 'cat[_+-]dog'") as caught:
        read(tmp_path)
    assert run(command_in(str(caught.value))) == 0
    assert labels_in(next(tmp_path.rglob("labels.csv")))[0] == ["cat", "dog"]


def test_folders_that_are_called_after_splits_or_hold_everything(tmp_path):
    pictures(tmp_path / "a", "train/x.jpg", "bus/y.jpg", "car/deep/z.jpg")
    found = read(tmp_path / "a")
    assert found.class_names == ["bus", "car", "train"] and found.split is None
    pictures(tmp_path / "b", "wrapped/images/test/cat/x.jpg", "wrapped/images/train/dog/y.jpg")
    found = read(tmp_path / "b")
    assert found.class_names == ["cat", "dog"] and found.split == ["test", "train"]
    pictures(tmp_path / "c", "holiday/x.jpg")
    with pytest.raises(WorkbenchError, match="no known labels for them"):
        read(tmp_path / "c")


def test_one_folder_for_two_splits_is_said(tmp_path):
    top = built("YOLO", tmp_path)
    write(top / "data.yaml", "train: images/train\nval: images/train\ntest: images/nowhere\nnames: [cat, dog, hat]\n")
    found = read(top)
    said = noted(found)
    assert "['images/train/']" in said and "1 places that the YAML names and that are not here" in said
    assert found.split == ["test", "train", "train", "val"]  # the others by their folders


def test_one_cause_in_many_files_is_told_once(tmp_path):
    for seed in range(5):
        picture(tmp_path / f"{seed}.jpg", seed)
        labels = ["cat"] if seed else None
        write(tmp_path / f"{seed}.json", {"imagePath": f"{seed}.jpg", "shapes": labels and [{"label": "cat"}]})
        coco = {"images": [{"id": 1, "file_name": f"{seed}.jpg"}], "categories": [{"id": 1, "name": "cat"}]}
        write(tmp_path / f"coco/{seed}.json", {**coco, "annotations": [{"image_id": 2, "category_id": 1}]})
    assert noted(read(tmp_path)).count("annotations of images that their file does not list") == 1


def test_links_are_followed_once_and_those_that_lead_out_are_told(tmp_path):
    top = built("YOLO", tmp_path / "set")
    shutil.move(top / "images/train", tmp_path / "far")
    (top / "images/train").symlink_to(tmp_path / "far")
    (top / "images/loop").symlink_to(top)
    (top / "images/val/gone.jpg").symlink_to(top / "nothing")
    (top / "images/val/self.jpg").symlink_to(top / "images/val/self.jpg")
    found = read(top)
    said = noted(found)
    assert sorted(found.images)[0] == str(tmp_path / "far/a.jpg") and len(found.images) == 4
    assert dict(zip(found.images, found.y.tolist(), strict=True))[str(tmp_path / "far/a.jpg")] == [1, 1, 0, 0]
    assert "1 links out of" in said and f"images/train -> {tmp_path / 'far'}" in said
    assert "1 folders that a link had led to before" in said and "2 links that lead nowhere" in said


def test_folders_of_links_hold_one_image_in_several_classes(tmp_path):
    picture(tmp_path / "all/a.jpg")
    picture(tmp_path / "all/b.jpg", 1)
    for name, images in (("cat", "ab"), ("dog", "a")):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        for image in images:
            (tmp_path / "sorted" / name / f"{image}.jpg").symlink_to(tmp_path / f"all/{image}.jpg")
    found = read(tmp_path / "sorted")
    assert found.images == [str(tmp_path / f"all/{image}.jpg") for image in "ab"] and found.y.tolist() == [
        [1, 1],
        [1, 0],
    ]


def test_names_that_are_no_utf8_are_left_out(tmp_path):
    top = built("YOLO, flat", tmp_path)
    shutil.copy(top / "a.jpg", os.fsencode(top) + b"/\xff.jpg")
    assert "1 images have no name or one that is no UTF-8" in noted(read(top))


def test_a_damaged_classes_csv(tmp_path):
    top = built("Roboflow, multi-label", tmp_path)
    write(top / "train/_classes.csv", "filename, cat, dog, rare\na_jpg.rf.1.jpg, 1, x, 0\nb.jpg, 1\n")
    with pytest.raises(WorkbenchError, match="2 rows are no file name and 3 times 0 or 1"):
        read(top)


def test_train_tells_what_a_folder_is(tmp_path, monkeypatch):
    from mlworkbench import MultiLabelYOLO

    built("a folder for each class", tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkbenchError, match="a folder for each class: 3 images, 3 classes") as caught:
        MultiLabelYOLO("yolov8n-cls.yaml").train(data="set", epochs=1)
    assert run(command_in(str(caught.value))) == 0
    assert set(labels_in(next(tmp_path.rglob("labels.csv")))[0]) == {"cat", "dog", "hat"}


def test_what_is_imported_is_checked_without_a_fault(tmp_path, monkeypatch, capsys):
    top = built("YOLO", tmp_path)
    picture(top / "images/train/._a.jpg")
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import . --out labels.csv") == 0
    capsys.readouterr()
    assert run("mlworkbench check labels.csv --json found.json") == 0
    assert json.loads((tmp_path / "found.json").read_text())["quarantine"] == []


def test_folders_within_those_of_classes_are_told(tmp_path, monkeypatch, capsys):
    pictures(tmp_path / "set/train", "plant/oak/a.jpg", "plant/elm/b.jpg", "thing/kite/c.jpg", "thing/images/d.jpg")
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import set --out labels.csv") == 0
    said = capsys.readouterr().out
    assert "3 images lie in folders within those of the classes, such as train/plant/elm" in said
    assert run(command_in(said)) == 0
    assert labels_in(tmp_path / "set/train/plant/labels.csv")[1] == {"elm/b.jpg": {"elm"}, "oak/a.jpg": {"oak"}}
    pictures(tmp_path / "flat", "cat/images/a.jpg", "dog/images/b.jpg")
    assert run("mlworkbench import flat --out flat.csv") == 0
    assert run("mlworkbench import flat --out flat/flat.csv") == 0
    assert "folders within" not in capsys.readouterr().out


def test_check_of_a_folder_names_an_import_only_where_there_is_one(tmp_path, monkeypatch, capsys):
    pictures(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench check photos") == 2
    said = capsys.readouterr().err
    assert "mlworkbench import" not in said and "no known labels for them" in said and said.count("\n") == 1
    header, row = re.search(r"header (\S+) and rows such as (\S+) \(docs/labels.md\)", said).groups()
    write(tmp_path / "photos/mine.csv", "".join(f"{line}\n" for line in (header, row, "b.jpg,cat", "c.jpg,dog")))
    assert run("mlworkbench check photos/mine.csv") == 0  # as it was told
    capsys.readouterr()
    assert run("mlworkbench check photos") == 2
    assert capsys.readouterr().err.endswith("is read as it is: mlworkbench check photos/mine.csv\n")
    built("a folder for each class", tmp_path / "set")
    assert run("mlworkbench check set") == 2
    assert run(command_in(capsys.readouterr().err)) == 0
