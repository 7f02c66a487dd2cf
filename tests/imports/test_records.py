"""JSON and JSON Lines, as tools write them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from brought import command_in, labels_in, picture, pictures, rows_of_page, run, write

from mlworkbench import WorkbenchError
from mlworkbench.imports import records
from mlworkbench.imports.found import Told

BUILDERS = {}


def source(name):
    def keep(build):
        BUILDERS[name] = build
        return build

    return keep


COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}, {"id": 8, "file_name": "c.jpg"}],
    "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 90, "name": "hat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 2, 2, 3, 3]]},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [1, 1, 2, 2], "iscrowd": 1},
        {"id": 3, "image_id": 8, "category_id": 2, "bbox": [1, 1, 2, 2]},
    ],
}


@source("COCO")
def _(top):
    pictures(top / "train2017", "a.jpg", "b.jpg", "c.jpg")
    write(top / "annotations/instances_train2017.json", COCO)
    return {"train2017/a.jpg": {"dog"}, "train2017/b.jpg": set(), "train2017/c.jpg": {"cat"}}


@source("LVIS")
def _(top):
    pictures(top / "train2017", "a.jpg", "b.jpg")
    images = [
        {"id": 1, "coco_url": "http://images.cocodataset.org/train2017/a.jpg", "neg_category_ids": [2]},
        {"id": 2, "coco_url": "http://images.cocodataset.org/train2017/b.jpg", "neg_category_ids": []},
    ]
    write(top / "lvis_train.json", {**COCO, "images": images, "annotations": [{"image_id": 1, "category_id": 5}]})
    return {"train2017/a.jpg": {"dog", "?hat"}, "train2017/b.jpg": {"?cat", "?dog", "?hat"}}


@source("Datumaro")
def _(top):
    pictures(top / "images/default", "a.jpg", "b.jpg")
    items = [
        {"id": "a", "annotations": [{"type": "label", "label_id": 1}], "image": {"path": "a.jpg"}},
        {"id": "b", "annotations": [{"type": "caption", "caption": "a cat"}], "image": {"path": "b.jpg"}},
    ]
    labels = [{"name": name, "parent": ""} for name in ("cat", "dog")]
    write(top / "annotations/default.json", {"info": {}, "categories": {"label": {"labels": labels}}, "items": items})
    return {"images/default/a.jpg": {"dog"}, "images/default/b.jpg": set()}


@source("Ultralytics NDJSON")
def _(top):
    pictures(top / "images/train", "a.jpg", "b.jpg")
    pictures(top / "images/val", "c.jpg")
    head = {"type": "dataset", "task": "classify", "name": "x", "class_names": {"0": "cat", "1": "dog", "2": "hat"}}
    images = [
        {"type": "image", "file": "a.jpg", "split": "train", "annotations": {"classification": [0, 2]}},
        {"type": "image", "file": "b.jpg", "split": "train"},
        {"type": "image", "file": "c.jpg", "split": "val", "annotations": {"classification": [1]}},
    ]
    write(top / "dataset.ndjson", [head, *images])
    labels = {
        "images/train/a.jpg": {"cat", "hat"},
        "images/train/b.jpg": {"?cat", "?dog", "?hat"},
        "images/val/c.jpg": {"dog"},
    }
    return labels, ["train", "train", "val"]


@source("Hugging Face `metadata.jsonl`")
def _(top):
    pictures(top / "train", "a.png", "b.png", "c.png")
    lines = [("a.png", ["cat", "dog"]), ("b.png", []), ("c.png", None)]
    write(top / "train/metadata.jsonl", [{"file_name": name, "labels": labels} for name, labels in lines])
    return {"train/a.png": {"cat", "dog"}, "train/b.png": set(), "train/c.png": {"?cat", "?dog"}}


@source("Hugging Face, objects")
def _(top):
    pictures(top, "a.png", "b.png")
    objects = [{"bbox": [[1, 1, 2, 2], [1, 1, 3, 3]], "categories": [1, 1]}, {"bbox": [], "categories": []}]
    write(top / "metadata.jsonl", [{"file_name": f"{n}.png", "objects": o} for n, o in zip("ab", objects, strict=True)])
    write(top / "names.txt", "cat\ndog\n")
    return {"a.png": {"dog"}, "b.png": set()}


def choice(kind, *names):
    return {"type": kind, "value": {kind: list(names)}, "from_name": f"its {kind}", "to_name": "image"}


@source("Label Studio JSON")
def _(top):
    pictures(top, "a.jpg", "b.jpg", "c.jpg", "d.jpg")

    def task(name, *annotations, **more):
        by = [{"result": list(results), "was_cancelled": False} for results in annotations]
        by.append({"result": [choice("choices", "cancelled")], "was_cancelled": True})
        return {"id": 1, "data": {"image": f"/data/upload/3/0123abcd-{name}"}, "annotations": by, **more}

    tasks = [
        task("a.jpg", [choice("choices", "cat", "hat"), choice("rectanglelabels", "dog")]),
        task("b.jpg", [choice("choices", "cat")], [choice("choices", "cat", "dog")]),
        task("c.jpg", predictions=[{"result": [choice("choices", "dog")]}]),
        task("d.jpg", [{"type": "textarea", "value": {"text": ["blurred"]}}]),
    ]
    (top / "project.json").write_text(json.dumps(tasks))
    return {
        "a.jpg": {"cat", "dog", "hat"},
        "b.jpg": {"cat", "?dog"},
        "c.jpg": {"?cat", "?dog", "?hat"},
        "d.jpg": set(),
    }


@source("Label Studio JSON-MIN")
def _(top):
    pictures(top / "images", "a.jpg", "b.jpg")
    rows = [
        {"id": 1, "annotator": 1, "annotation_id": 1, "image": "/data/local-files/?d=images/a.jpg", "choice": "cat"},
        {"id": 1, "annotator": 2, "annotation_id": 2, "image": "/data/local-files/?d=images/a.jpg",
         "choice": {"choices": ["cat", "dog"]}},
        {"id": 2, "annotator": 1, "annotation_id": 3, "image": "/data/local-files/?d=images/b.jpg", "choice": "dog"},
    ]  # fmt: skip
    (top / "project-min.json").write_text(json.dumps(rows))
    return {"images/a.jpg": {"cat", "?dog"}, "images/b.jpg": {"dog"}}


@source("CreateML")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    place = {"x": 1, "y": 2, "width": 3, "height": 4}
    rows = [
        {"image": "a.jpg", "annotations": [{"label": name, "coordinates": place} for name in ("cat", "cat", "dog")]},
        {"image": "b.jpg", "annotations": []},
    ]
    (top / "annotations.json").write_text(json.dumps(rows))
    return {"a.jpg": {"cat", "dog"}, "b.jpg": set()}


@source("AWS: Ground Truth, several labels")
def _(top):
    pictures(top / "photos", "a.jpg", "b.jpg", "c.jpg")
    about = {"class-map": {"0": "cat", "2": "hat"}, "confidence-map": {"0": 0.9, "2": 0.3}}
    kind = {"type": "groundtruth/image-classification-multilabel"}
    write(
        top / "output.manifest",
        [
            {"source-ref": "s3://bucket/photos/a.jpg", "tags": [0, 2], "tags-metadata": about | kind},
            {"source-ref": "s3://bucket/photos/b.jpg", "tags": [], "tags-metadata": {"class-map": {}} | kind},
            {"source-ref": "s3://bucket/photos/c.jpg", "tags-metadata": {"failure-reason": "no answer"}},
        ],
    )
    return {"photos/a.jpg": {"cat", "hat"}, "photos/b.jpg": set(), "photos/c.jpg": {"?cat", "?hat"}}


@source("AWS: Rekognition")
def _(top):
    pictures(top, "a.jpg", "b.jpg")

    def named(at, name):
        about = {"class-name": name, "confidence": 1, "type": "groundtruth/image-classification"}
        return {f"label{at}": at, f"label{at}-metadata": about}

    boxes = {
        "boxes": {"annotations": [{"class_id": 1, "left": 1}, {"class_id": 1, "left": 2}], "image_size": []},
        "boxes-metadata": {"class-map": {"0": "cat", "1": "hat"}, "objects": [{"confidence": 1}, {"confidence": 1}]},
    }
    write(
        top / "train.manifest",
        [
            {"source-ref": "s3://b/x/a.jpg"} | named(0, "cat") | named(1, "dog"),
            {"source-ref": "s3://b/x/b.jpg"} | boxes,
        ],
    )
    return {"a.jpg": {"cat", "dog"}, "b.jpg": {"hat"}}


@source("AzureML JSON Lines")
def _(top):
    pictures(top / "photos", "a.jpg", "b.jpg")
    start = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/d/paths/photos/"
    details = {"format": "jpg", "width": "8", "height": "8"}
    write(
        top / "train.jsonl",
        [
            {"image_url": f"{start}a.jpg", "image_details": details, "label": ["cat", "dog"]},
            {"image_url": f"{start}b.jpg", "image_details": details, "label": ["hat"]},
        ],
    )
    return {"photos/a.jpg": {"cat", "dog"}, "photos/b.jpg": {"hat"}}


@source("Vertex JSON Lines")
def _(top):
    pictures(top, "a.jpg", "b.jpg", "c.jpg")

    def line(name, use, *labels):
        return {
            "imageGcsUri": f"gs://bucket/{name}",
            "classificationAnnotations": [{"displayName": label} for label in labels],
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": use},
        }

    write(
        top / "import.jsonl",
        [line("a.jpg", "training", "cat", "dog"), line("b.jpg", "validation"), line("c.jpg", "test", "dog")],
    )
    return {"a.jpg": {"cat", "dog"}, "b.jpg": set(), "c.jpg": {"dog"}}, ["train", "val", "test"]


@source("OpenMMLab")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    rows = [{"img_path": "a.jpg", "gt_label": [0, 2]}, {"img_path": "b.jpg", "gt_label": [1]}]
    write(top / "train.json", {"metainfo": {"classes": ["cat", "dog", "hat"]}, "data_list": rows})
    return {"a.jpg": {"cat", "hat"}, "b.jpg": {"dog"}}


@source("records, names")
def _(top):
    pictures(top, "a.jpg", "b.jpg", "c.jpg")
    rows = [
        {"image": "a.jpg", "tags": ["cat", "dog"], "split": "train"},
        {"image": "b.jpg", "tags": [], "split": "val"},
        {"image": "c.jpg", "tags": None, "split": "test"},
    ]
    (top / "labels.json").write_text(json.dumps(rows))
    return {"a.jpg": {"cat", "dog"}, "b.jpg": set(), "c.jpg": {"?cat", "?dog"}}, ["train", "val", "test"]


@source("records, a key for each class")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    rows = [{"file": "a.jpg", "cat": 1, "dog": False}, {"file": "b.jpg", "cat": -1, "dog": None}]
    (top / "labels.json").write_text(json.dumps(rows))
    return {"a.jpg": {"cat"}, "b.jpg": {"?cat", "?dog"}}


@source("Label Studio, several questions")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    tasks = [asked("a.jpg", {"kite": "Yes", "sky": "blue"}), asked("b.jpg", {"kite": "No"})]
    (top / "project.json").write_text(json.dumps(tasks))
    return {"a.jpg": {"kite", "sky: blue"}, "b.jpg": {"?sky: blue"}}


@source("records, a value for each label")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    (top / "labels.json").write_text(
        json.dumps([dict(zip(("image", "label", "present"), row, strict=True)) for row in VALUES[:3]])
    )
    return {"a.jpg": {"cat"}, "b.jpg": {"?dog"}}


@source("records, a confidence for each label")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    rows = {"a.jpg": {"cat": 0.9, "dog": 0.2}, "b.jpg": {"dog": 0.6}}
    marks = {name: [{"name": label, "score": sure} for label, sure in row.items()] for name, row in rows.items()}
    (top / "labels.json").write_text(json.dumps([{"image": name, "labels": each} for name, each in marks.items()]))
    return {"a.jpg": {"cat"}, "b.jpg": {"dog"}}


@source("JSON of pandas")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    write(top / "frame.json", {"file": {"0": "a.jpg", "1": "b.jpg"}, "cat": {"0": 1, "1": 0}, "dog": {"0": 0, "1": 1}})
    return {"a.jpg": {"cat"}, "b.jpg": {"dog"}}


@source("a mapping of classes to images")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    write(top / "tags.json", {"cat": ["a.jpg", "b.jpg"], "dog": ["b.jpg"]})
    return {"a.jpg": {"cat"}, "b.jpg": {"cat", "dog"}}


@source("a mapping of images to names")
def _(top):
    pictures(top, "a.jpg", "b.jpg")
    write(top / "tags.json", {"a.jpg": ["cat"], "b.jpg": {"dog": True, "cat": False}})
    return {"a.jpg": {"cat"}, "b.jpg": {"dog"}}


def test_the_page_has_these_sources():
    assert set(rows_of_page("JSON")) == set(BUILDERS)


@pytest.mark.parametrize("name", BUILDERS)
def test_source(name, tmp_path, monkeypatch):
    expected = BUILDERS[name](tmp_path)
    labels, splits = expected if isinstance(expected, tuple) else (expected, None)
    monkeypatch.chdir(tmp_path)
    assert run(rows_of_page("JSON")[name][0]) == 0
    found, given = labels_in(tmp_path / "labels.csv")[1:]
    assert found == labels
    assert given == (splits and dict(zip(labels, splits, strict=True)))


def read(file, content=None, **told):
    if content is not None:
        write(file, content) if isinstance(content, (dict, str)) else file.write_text(json.dumps(content))
    return records.read(file, Told(**told))


def noted(found):
    return "\n".join(f"{kind}  {message}" for kind, message in found.notes)


def test_coco_keeps_classes_that_never_occur_but_for_the_name_of_the_group(tmp_path):
    found = read(tmp_path / "x.json", COCO)
    assert found.class_names == ["cat", "dog", "hat"] and found.y.dtype == np.int8  # by id
    categories = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 5, "name": "dog", "supercategory": "animals"},
        {"id": 2, "name": "cat", "supercategory": "animals"},
    ]
    found = read(tmp_path / "x.json", {**COCO, "categories": categories})
    assert found.class_names == ["cat", "dog"] and "'animals'" in noted(found)
    boxed = [*COCO["annotations"], {"image_id": 9, "category_id": 0}]
    assert "animals" in read(tmp_path / "x.json", {**COCO, "categories": categories, "annotations": boxed}).class_names


def test_coco_tells_what_it_leaves_out(tmp_path):
    stray = [*COCO["annotations"], {"image_id": 1000, "category_id": 5}, {"image_id": 1001, "category_id": 5}]
    said = noted(read(tmp_path / "x.json", {**COCO, "annotations": stray}))
    assert "2 annotations of images that their file does not list" in said and "1 images without an annotation" in said
    with pytest.raises(WorkbenchError, match="annotations of category 77, which its categories do not list"):
        read(tmp_path / "x.json", {**COCO, "annotations": [{"image_id": 7, "category_id": 77}]})
    with pytest.raises(WorkbenchError, match="holds 3 images and no annotation at all: tags of whole images.*CVAT"):
        read(tmp_path / "x.json", {**COCO, "annotations": []})
    with pytest.raises(WorkbenchError, match="of instances, not of captions"):
        read(tmp_path / "x.json", {"images": COCO["images"], "annotations": [{"image_id": 7, "caption": "a cat"}]})
    with pytest.raises(WorkbenchError, match="COCO results"):
        read(tmp_path / "x.json", [{"image_id": 7, "category_id": 5, "score": 0.5}])


def test_coco_panoptic_and_scores(tmp_path):
    parts = [{"image_id": 7, "segments_info": [{"category_id": 5}, {"category_id": 2}], "file_name": "a.png"}]
    found = read(tmp_path / "x.json", {**COCO, "annotations": parts})
    assert found.y.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    scored = [{"image_id": 7, "category_id": 5, "score": 0.9}, {"image_id": 9, "category_id": 5, "score": 0.1}]
    found = read(tmp_path / "x.json", {**COCO, "annotations": scored}, min_confidence=0.5)
    assert found.y.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_ultralytics_boxes_without_a_box_show_nothing(tmp_path):
    head = {"type": "dataset", "task": "detect", "class_names": {"0": "cat", "1": "dog"}}
    images = [
        {"type": "image", "file": "a.jpg", "split": "train", "annotations": {"boxes": [[1, 0.5, 0.5, 0.1, 0.1]]}},
        {"type": "image", "file": "a.jpg", "split": "val", "annotations": {"segments": [[0, 0.1, 0.2, 0.3]]}},
        {"type": "image", "file": "b.jpg", "split": "val"},
    ]
    write(tmp_path / "x.ndjson", [head, *images])
    found = read(tmp_path / "x.ndjson")
    assert found.images == ["train/a.jpg", "val/a.jpg", "b.jpg"]  # one name in two splits is two images
    assert found.y.tolist() == [[0, 1], [1, 0], [0, 0]] and found.split == ["train", "val", "val"]


def test_label_studio_tells_how_annotators_were_joined_and_keeps_its_own_file_names(tmp_path):
    BUILDERS["Label Studio JSON"](tmp_path)
    found = read(tmp_path / "project.json")
    said = noted(found)
    assert "1 images; a label on which they differ is unknown (1 images)" in said and "textarea" in said
    assert "1 images have no labels" in said and "several questions (its choices, its rectanglelabels)" in said
    with pytest.raises(WorkbenchError, match="no label at all"):
        predicted = [{"result": [choice("choices", "cat")]}]
        read(tmp_path / "x.json", [{"data": {"image": "a.jpg"}, "predictions": predicted}])
    picture(tmp_path / "media/0123abcd-a.jpg")
    assert read(tmp_path / "project.json").images[0] == "a.jpg"
    assert read(tmp_path / "project.json", images=tmp_path / "media").images[0] == "0123abcd-a.jpg"


def test_what_records_do_not_say_is_told(tmp_path):
    file = tmp_path / "x.json"
    numbers = [{"image": "a.jpg", "objects": [{"category": 1}]}, {"image": "b.jpg", "objects": [{"category": 0}]}]
    with pytest.raises(WorkbenchError, match="labels are numbers, such as 1 in record 1.*--classes FILE"):
        read(file, numbers)
    assert read(file, numbers, classes=("cat", "dog")).y.tolist() == [[0, 1], [1, 0]]
    two = [{"image": "a.jpg", "labels": ["cat"], "tags": ["x"]}]
    with pytest.raises(WorkbenchError, match="under labels and under tags; say which: --columns labels"):
        read(file, two)
    assert read(file, two, columns=("tags",)).class_names == ["x"]
    odd = [{"image": "a.jpg", "what": ["cat"], "n": 5}]
    with pytest.raises(WorkbenchError, match="no labels under its keys what, n; say where: --columns KEY"):
        read(file, odd)
    assert read(file, odd, columns=("what",)).class_names == ["cat"]
    with pytest.raises(WorkbenchError, match="'5' in record 1 is no label"):
        read(file, [{"image": "a.jpg", "labels": {"cat": 5}}])
    with pytest.raises(WorkbenchError, match="no key 'x'; its keys are image"):
        read(file, [{"image": "a.jpg", "labels": ["cat"]}], image_column="x")
    absent = [{"image": "a.jpg", "cat": 1, "dog": -1}]
    assert read(file, absent, negative="-1").y.tolist() == [[1, 0]]
    assert read(file, absent, unknown=("-1",)).y.tolist() == [[1, -1]]
    assert read(file, [{"image": "a.jpg", "tags": ["x"]}, {"image": "b.jpg"}], blank="absent").y.tolist() == [[1], [0]]


def test_names_made_of_other_names_are_asked_about(tmp_path, monkeypatch, capsys):
    pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    rows = [("a.jpg", "cat dog"), ("b.jpg", "cat"), ("c.jpg", "dog")]
    (tmp_path / "x.json").write_text(json.dumps([{"image": name, "label": label} for name, label in rows]))
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import x.json --out labels.csv") == 2
    said = capsys.readouterr().err
    assert "joined by ' ', such as 'cat dog'" in said
    assert run(command_in(said)) == 0
    assert labels_in(tmp_path / "labels.csv")[1] == {"a.jpg": {"cat", "dog"}, "b.jpg": {"cat"}, "c.jpg": {"dog"}}


def test_one_image_in_several_records_is_one_row(tmp_path):
    rows = [
        ("a.jpg", ["cat"]),
        ("b.jpg", None),
        ("a.jpg", ["dog"]),
        ("b.jpg", ["dog"]),
        ("c.jpg", None),
        ("a.jpg", None),
    ]
    found = read(tmp_path / "x.json", [{"image": image, "labels": labels} for image, labels in rows])
    assert found.images == ["a.jpg", "b.jpg", "c.jpg"] and found.y.tolist() == [[1, 1], [0, 1], [-1, -1]]


def test_splits_and_groups_as_the_options_say(tmp_path, monkeypatch):
    rows = [{"image": f"{i}.jpg", "tags": ["x"], "fold": i, "patient": f"p{i}"} for i in range(3)]
    found = read(tmp_path / "x.json", rows, split_column="fold", group_column="patient")
    assert found.split == ["0", "1", "2"] and found.group == ["p0", "p1", "p2"]
    pictures(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    monkeypatch.chdir(tmp_path)
    options = "--split-column fold --split-values 1=val 2=test --group-column patient"
    assert run(f"mlworkbench import x.json --out labels.csv {options}") == 0
    assert list(labels_in(tmp_path / "labels.csv")[2].values()) == ["train", "val", "test"]


def test_minus_one_without_a_zero_is_asked_about(tmp_path, monkeypatch, capsys):
    pictures(tmp_path, "a.jpg", "b.jpg")
    rows = [{"image": "a.jpg", "cat": 1, "dog": -1}, {"image": "b.jpg", "cat": -1}]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import x.json --out labels.csv") == 2
    said = capsys.readouterr().err
    assert "no label is 0: is -1 absent here" in said
    assert run(command_in(said)) == 0
    assert labels_in(tmp_path / "labels.csv")[1] == {"a.jpg": {"cat"}, "b.jpg": {"?dog"}}


def test_least_confidence(tmp_path):
    rows = [{"image": "a.jpg", "labels": [{"label": "cat", "confidence": 0.9}, {"label": "dog", "confidence": 0.2}]}]
    assert read(tmp_path / "x.json", rows, min_confidence=0.1).class_names == ["cat", "dog"]
    assert read(tmp_path / "x.json", rows, min_confidence=0.5).class_names == ["cat"]
    BUILDERS["AWS: Ground Truth, several labels"](tmp_path)
    found = read(tmp_path / "output.manifest", min_confidence=0.5)
    assert found.class_names == ["cat"] and found.y.tolist() == [[1], [0], [-1]]


def test_rows_of_a_table_are_left_to_the_table(tmp_path):
    for line in ('["a.jpg", [0, 1]]', '{"image_path": "a.jpg", "labels": [0, 1]}', '{"image": "a.jpg", "tags": "x|y"}'):
        write(tmp_path / "x.jsonl", f"{line}\n{line}\n")
        assert read(tmp_path / "x.jsonl") is None
    write(tmp_path / "x.csv", "image,labels\n")
    assert read(tmp_path / "x.csv") is None and read(tmp_path) is None
    assert read(tmp_path / "x.json", {"name": "settings", "version": 3}) is None


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("[" * 200_000, "nests lists or objects deeper"),
        ('{"a":' * 200_000, "nests lists or objects deeper"),
        ('{"images": [{"id": 1', r"x.json:1: no readable JSON: .*; is the file whole\?"),
        ('{"image": "a.jpg", "labels": ["x"]}\n{"image"', r"x.json:2: no readable JSON"),
        ('{"images": 5, "annotations": [1], "categories": [1]}', "is damaged"),
        ('{"images": [], "annotations": [{"image_id": [], "category_id": []}], "categories": [1]}', "is damaged"),
        ('[{"image": "a.jpg", "labels": %s}]' % ("9" * 5000), "is damaged"),
        ('[{"image": "data:image/png;base64,AAAA", "labels": ["x"]}]', "the images themselves"),
        ('[{"image": "a.jpg", "labels": ["x\\ud800"]}]', "no UTF-8 text"),
        ('{"type": "dataset", "class_names": {"x": "cat"}}\n{"type": "image", "file": "a.jpg"}', "is damaged"),
        ('[{"image": "a.jpg", "labels": []}]', "no label at all"),
    ],
)  # fmt: skip
def test_hostile_and_damaged_files(content, match, tmp_path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(WorkbenchError, match=match) as caught:
        read(tmp_path / "x.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600 and "Error" not in str(caught.value)


def test_encodings(tmp_path):
    text = json.dumps([{"image": "ä.jpg", "labels": ["猫"]}], ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):
        (tmp_path / "x.json").write_bytes(text.encode(encoding))
        assert read(tmp_path / "x.json").class_names == ["猫"]
    (tmp_path / "x.json").write_bytes(text.replace("猫", "é").encode("cp1252"))
    with pytest.raises(WorkbenchError, match="no UTF-8 text at byte"):
        read(tmp_path / "x.json")


def test_names_that_no_path_can_be_are_left_out_and_tricks_stay_names(tmp_path):
    names = ["../../etc/passwd.jpg", "/etc/a.jpg", "https://host/deep/b%20c.jpg?size=2", "\ud800.jpg", ""]
    found = read(tmp_path / "x.json", [{"image": name, "labels": ["x"]} for name in names])
    assert found.images == ["../../etc/passwd.jpg", "/etc/a.jpg", "deep/b c.jpg"]
    assert found.y.tolist() == [[1]] * 3
    assert "2 images have no name or one that is no UTF-8" in noted(found) and "1 images; they are looked" in noted(
        found
    )


def test_urls_become_paths_without_what_only_their_cloud_knows(tmp_path):
    BUILDERS["AzureML JSON Lines"](tmp_path)
    assert read(tmp_path / "train.jsonl").images == ["photos/a.jpg", "photos/b.jpg"]


def test_keys_that_are_left_out_are_named(tmp_path):
    rows = [{"name": "a.jpg", "attributes": {"weather": "clear"}, "labels": [{"category": "car"}], "timestamp": 3}]
    assert "keys that are no labels: attributes, timestamp" in noted(read(tmp_path / "x.json", rows))


def test_records_below_a_key(tmp_path):
    regions = [{"shape_attributes": {"name": "rect"}, "region_attributes": {"class": "cat"}}]
    via = {"a.jpg123": {"filename": "a.jpg", "regions": regions}, "b.jpg5": {"filename": "b.jpg", "regions": []}}
    for data in (via, {"_via_settings": {}, "_via_img_metadata": via}, {"info": {}, "samples": list(via.values())}):
        found = read(tmp_path / "x.json", data)
        assert found.images == ["a.jpg", "b.jpg"] and found.y.tolist() == [[1], [0]]


def test_images_are_looked_for_and_an_option_says_where(tmp_path, monkeypatch, capsys):
    write(tmp_path / "far/annotations/boxes.json", COCO)
    pictures(tmp_path / "elsewhere", "a.jpg", "b.jpg", "c.jpg")
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import far/annotations/boxes.json --out labels.csv") == 2
    said = capsys.readouterr().err
    assert "none of 3 images is found" in said and "--images" in said and not (tmp_path / "labels.csv").exists()
    assert run("mlworkbench import far/annotations/boxes.json --out labels.csv --images elsewhere") == 0
    assert labels_in(tmp_path / "labels.csv")[1]["elsewhere/a.jpg"] == {"dog"}


def settled(text, capsys):
    """The labels that the command in a refusal of `text` brings, and the refusal."""
    assert run(text) == 2
    said = capsys.readouterr().err
    assert run(command_in(said)) == 0, said
    return labels_in(Path(re.search(r"--out (\S+)", command_in(said))[1]))[1], said


VALUES = [("a.jpg", "cat", True), ("a.jpg", "dog", False), ("b.jpg", "cat", False), ("b.jpg", "dog", True)]


@pytest.mark.parametrize("key", ["value", "present", "is_present", "checked", "selected", "answer", "State"])
@pytest.mark.parametrize("words", [(True, False), (1, 0), ("yes", "no"), ("Present", "Absent")])
def test_a_value_beside_a_label_decides(key, words, tmp_path):
    rows = [{"image": image, "label": name, key: words[not value]} for image, name, value in VALUES]
    found = read(tmp_path / "x.json", rows)
    assert found.class_names == ["cat", "dog"] and found.y.tolist() == [[1, 0], [0, 1]]
    assert f"labels under 'label', '{key}'" in noted(found)
    nested = [
        {"image": name, "labels": [{"name": row["label"], key: row[key]} for row in rows if row["image"] == name]}
        for name in ("a.jpg", "b.jpg")
    ]
    assert read(tmp_path / "x.json", nested).y.tolist() == [[1, 0], [0, 1]]


def test_what_is_said_to_be_absent_makes_the_unnamed_unknown(tmp_path):
    rows = [{"image": "a.jpg", "labels": [{"name": "cat", "value": 1}, {"name": "dog", "value": -1}]},
            {"image": "b.jpg", "labels": [{"name": "dog", "value": 0}]},
            {"image": "c.jpg", "labels": [{"name": "dog", "value": None}, {"name": "cat", "value": 0}]}]  # fmt: skip
    found = read(tmp_path / "x.json", rows)
    assert found.y.tolist() == [[1, -1], [-1, 0], [0, -1]] and "is unknown" in noted(found)
    assert read(tmp_path / "x.json", rows, blank="absent").y.tolist() == [[1, -1], [0, 0], [0, 0]]


def test_a_value_that_says_neither_is_told_once(tmp_path):
    rows = [{"image": f"{i}.jpg", "label": "cat", "present": "maybe" if i % 2 else "yes"} for i in range(6)]
    with pytest.raises(WorkbenchError, match=r"'maybe' under 'present' \(record 2, 3 such labels\).*--unknown VALUE"):
        read(tmp_path / "x.json", rows)
    assert read(tmp_path / "x.json", rows, unknown=("maybe",)).y[:, 0].tolist() == [1, -1] * 3
    rows = [{"image": "a.jpg", "labels": [{"name": "cat", "value": 0.7}]}]
    with pytest.raises(WorkbenchError, match="'0.7' under 'value'"):
        read(tmp_path / "x.json", rows)


def test_confidences_are_asked_about(tmp_path, monkeypatch, capsys):
    pictures(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    rows = [("a.jpg", "cat", 0.9), ("a.jpg", "dog", 0), ("b.jpg", "cat", 0.05), ("b.jpg", "dog", 1)]
    for factor, least in ((1, "0.5"), (100, "50")):
        for key in ("confidence", "score", "prob"):
            records_ = [{"image": image, "label": name, key: sure * factor} for image, name, sure in rows]
            (tmp_path / "x.json").write_text(json.dumps(records_))
            labels, said = settled("mlworkbench import x.json --out labels.csv", capsys)
            assert f"--min-confidence {least}" in said
            assert labels == {"a.jpg": {"cat"}, "b.jpg": {"dog", "?cat"}}
            for file in ("labels.csv", "classes.txt"):
                (tmp_path / file).unlink()
    scored = [{"image_id": 7, "category_id": 5, "score": 0.9}, {"image_id": 9, "category_id": 5, "score": 0.1}]
    with pytest.raises(WorkbenchError, match="2 labels have confidences.*--min-confidence 0.5"):
        read(tmp_path / "x.json", {**COCO, "annotations": scored})
    with pytest.raises(WorkbenchError, match="confidence 'high' is no number"):
        read(tmp_path / "x.json", [{"image": "a.jpg", "label": "cat", "confidence": "high"}])


def test_a_value_beside_a_list_of_labels_is_asked_about(tmp_path, monkeypatch, capsys):
    pictures(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    rows = [{"image": "a.jpg", "labels": ["cat", "dog"], "checked": False},
            {"image": "b.jpg", "labels": ["cat"], "checked": True}]  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(rows))
    labels, said = settled("mlworkbench import x.json --out labels.csv", capsys)
    assert "checked stands beside lists" in said and labels == {"a.jpg": {"cat", "dog"}, "b.jpg": {"cat"}}


def test_ids_are_no_labels_unless_told(tmp_path):
    file = tmp_path / "x.json"
    for key in ("scene_id", "sceneId", "ID", "index"):
        rows = [{"file_name": f"{i}.jpg", key: i, "targets": [{"attribute": [1, -1]}]} for i in (0, 1)]
        with pytest.raises(WorkbenchError, match=f"no labels under its keys {key}, targets"):
            read(file, {"images": rows}, classes=("hat", "tie"))
    assert read(file, {"images": rows}, classes=("hat", "tie"), columns=("index",)).y.tolist() == [[1, 0], [0, 1]]
    found = read(file, [{"file": "a.jpg", "cat": 1, "id": 0}, {"file": "b.jpg", "cat": 0, "id": 1}])
    assert found.class_names == ["cat"] and found.y.tolist() == [[1], [0]]  # one class, and not class numbers
    assert "images are under 'file', labels under 'cat'" in noted(found)


QUESTIONS = [("a.jpg", {"kite": "Yes", "oak": "No", "sky": "blue"}), ("b.jpg", {"kite": "No", "sky": "grey"}),
             ("c.jpg", {"oak": "Yes", "kite": "Unsure"})]  # fmt: skip


def asked(name, answers):
    def result(question, answer):
        return {"type": "choices", "from_name": question, "to_name": "image", "value": {"choices": [answer]}}

    return {"data": {"image": name}, "annotations": [{"result": [result(*pair) for pair in answers.items()]}]}


def test_label_studio_questions_of_yes_and_no_are_classes(tmp_path):
    file = tmp_path / "x.json"
    found = read(file, [asked(*task) for task in QUESTIONS])
    assert found.class_names == ["kite", "oak", "sky: blue", "sky: grey"]
    assert found.y.tolist() == [[1, 0, 1, 0], [0, -1, 0, 1], [-1, 1, -1, -1]]
    assert "several questions (kite, oak, sky)" in noted(found) and "answered by yes and no" in noted(found)
    chosen = read(file, [asked(*task) for task in QUESTIONS], columns=("oak",))
    assert chosen.class_names == ["oak"] and chosen.y.tolist() == [[0], [-1], [1]]
    # One question of words: the words are the classes, as ever.
    found = read(file, [asked(name, {"sky": answers["sky"]}) for name, answers in QUESTIONS[:2]])
    assert found.class_names == ["blue", "grey"]


def test_label_studio_short_form_has_a_key_for_each_question(tmp_path, monkeypatch, capsys):
    file = tmp_path / "x.json"
    about = {"id": 0, "annotator": 1, "annotation_id": 1, "lead_time": 1}
    rows = [about | {"image": name} | {key: answers.get(key) for key in ("kite", "oak")} for name, answers in QUESTIONS]
    found = read(file, rows)
    assert found.class_names == ["kite", "oak"] and found.y.tolist() == [[1, 0], [0, -1], [-1, 1]]
    again = [*rows, rows[0] | {"annotator": 2, "kite": "No"}]
    assert read(file, again).y.tolist() == [[-1, 0], [0, -1], [-1, 1]]
    sky = [about | {"image": name, "sky": answers.get("sky")} for name, answers in QUESTIONS]
    pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    monkeypatch.chdir(tmp_path)
    file.write_text(json.dumps(sky))
    labels, said = settled("mlworkbench import x.json --out labels.csv", capsys)
    assert "which of its keys sky are questions" in said and labels["a.jpg"] == {"blue"}
    doubtful = [about | {"image": "a.jpg", "label": "cat", "present": False}]
    with pytest.raises(WorkbenchError, match="present could say whether the label beside it is there"):
        read(file, doubtful)


def test_coco_tells_images_of_one_name(tmp_path, monkeypatch, capsys):
    pictures(tmp_path, "pool/a.jpg", "pool/b.jpg")
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}, {"id": 8, "file_name": "a.jpg"}]
    write(tmp_path / "pool.json", {**COCO, "images": images})
    monkeypatch.chdir(tmp_path)
    assert run("mlworkbench import pool.json --out labels.csv") == 0
    assert "1 images have the file name of another one, such as 'a.jpg'" in capsys.readouterr().out
    pictures(tmp_path, "other/a.jpg")
    for source in ("pool.json", "."):
        assert run(f"mlworkbench import {source} --out again.csv") == 2
        said = capsys.readouterr().err
        assert "pool/a.jpg" in said and "other/a.jpg" in said and "is the name of several images" in said
    for image, folder in zip(images, ("pool", "pool", "other"), strict=True):
        image["file_name"] = f"{folder}/{image['file_name']}"
    write(tmp_path / "pool.json", {**COCO, "images": images})
    assert run("mlworkbench import pool.json --out labels2.csv") == 0
    assert labels_in(tmp_path / "labels2.csv")[1] == {
        "pool/a.jpg": {"dog"},
        "pool/b.jpg": set(),
        "other/a.jpg": {"cat"},
    }


def test_categories_as_a_mapping(tmp_path):
    for names in (
        {"5": "dog", "2": "cat", "90": "hat"},
        {"5": {"name": "dog"}, "2": {"name": "cat"}, "90": {"name": "hat"}},
    ):
        found = read(tmp_path / "x.json", {**COCO, "categories": names})
        assert found.class_names == ["cat", "dog", "hat"] and found.y.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_what_pandas_writes(tmp_path):
    frame = {"file": ["a.jpg", "b.jpg"], "cat": [1, 0], "dog": [0, 1]}
    rows = [list(row) for row in zip(*frame.values(), strict=True)]
    for data in (
        {key: dict(zip("01", column, strict=True)) for key, column in frame.items()},
        {str(i): dict(zip(frame, row, strict=True)) for i, row in enumerate(rows)},
        {"columns": list(frame), "index": [0, 1], "data": rows},
        frame,
    ):
        found = read(tmp_path / "x.json", data)
        assert (found.images, found.class_names, found.y.tolist()) == (
            ["a.jpg", "b.jpg"],
            ["cat", "dog"],
            [[1, 0], [0, 1]],
        )


def test_a_mapping_of_classes_to_images(tmp_path):
    found = read(tmp_path / "x.json", {"cat": ["a.jpg", "b.jpg"], "hat": [], "dog": ["b.jpg"]})
    assert found.images == ["a.jpg", "b.jpg"] and found.class_names == ["cat", "hat", "dog"]
    assert found.y.tolist() == [[1, 0, 0], [1, 0, 1]]
    for lists in ({"train": ["a.jpg"], "val": ["b.jpg"]}, {"image": ["a.jpg"], "mask": ["b.png"]}):
        with pytest.raises(WorkbenchError, match="list images and no labels"):
            read(tmp_path / "x.json", lists)


def test_lists_that_stand_beside_the_list_of_labels_say_more_of_each(tmp_path):
    file = tmp_path / "x.json"
    marks = {"labels": ["cat", "dog"], "scores": [0.9, 0.1]}
    with pytest.raises(WorkbenchError, match="2 labels have confidences.*--min-confidence 0.5"):
        read(file, [{"image": "a.jpg", **marks}])
    assert read(file, [{"image": "a.jpg", **marks}], min_confidence=0.5).class_names == ["cat"]
    assert read(file, [{"image": "a.jpg", "objects": marks}], min_confidence=0.5).class_names == ["cat"]
    values = {"labels": ["cat", "dog"], "values": [False, True]}
    assert read(file, [{"image": "a.jpg", **values}]).y.tolist() == [[0, 1]]
    away = {"labels": [{"name": "cat", "is_absent": True}, {"name": "dog", "is_absent": False}]}
    assert read(file, [{"image": "a.jpg", **away}]).y.tolist() == [[0, 1]]
    with pytest.raises(WorkbenchError, match="'nein' under 'present'"):
        read(file, [{"image": "a.jpg", "label": "cat", "present": "nein"}])
