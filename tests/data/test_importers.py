import json

import pytest

from mlworkbench import WorkbenchError, read_labels
from mlworkbench.cli import main
from mlworkbench.data.importers import import_labels


@pytest.fixture
def yolo(picture, tmp_path):
    for name in ("train/images/a", "train/images/b", "valid/images/c", "test/images/d"):
        picture(f"set/{name}.jpg")
    labels = {"train/labels/a": "1 .5 .5 .1 .1\n1 .2 .2 .1 .1\n0 .5 .5 1 1\n", "valid/labels/c": "2 0.1 0.1 0.2 0.2\n"}
    for name, text in labels.items():
        file = tmp_path / "set" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "set/data.yaml").write_text("train: train/images\nnc: 3\nnames: ['fish', '=1', 'shark']\n")
    return tmp_path / "set"


def test_yolo_folder(yolo, capsys):
    assert main(["import", str(yolo), "--out", str(yolo / "labels.csv")]) == 0
    table = read_labels(yolo / "labels.csv")
    assert list(table.paths) == ["test/images/d.jpg", "train/images/a.jpg", "train/images/b.jpg", "valid/images/c.jpg"]
    assert table.class_names == ["fish", "=1", "shark"]
    assert table.y.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert list(table.split) == ["test", "train", "train", "val"]
    assert "4 images, 3 classes (fish 1, =1 1, shark 1)" in capsys.readouterr().out
    assert main(["import", str(yolo), "--out", str(yolo / "labels.csv")]) == 2  # never replaced


def test_yolo_faults(yolo, tmp_path):
    (yolo / "train/labels/b.txt").write_text("0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n")
    with pytest.raises(WorkbenchError, match=r"b.txt:2: '7 .5 .5 .1 .1' is no box; expected a class of 0..2"):
        import_labels(yolo, yolo / "labels.csv")
    assert not (yolo / "labels.csv").exists()
    (yolo / "data.yaml").unlink()
    with pytest.raises(WorkbenchError, match="no data.yaml"):
        import_labels(yolo, yolo / "labels.csv")
    with pytest.raises(WorkbenchError, match="does not exist"):
        import_labels(tmp_path / "absent", tmp_path / "labels.csv")


def coco(tmp_path, **changes):
    data = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": 5}, {"image_id": 7, "category_id": 5}],
    }
    file = tmp_path / "annotations" / "instances.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**data, **changes}))
    return file


def test_coco(picture, tmp_path):
    for name in "ab":
        picture(f"images/{name}.jpg")
    table = import_labels(coco(tmp_path), tmp_path / "labels.csv")
    again = read_labels(tmp_path / "labels.csv")
    for found in (table, again):
        assert list(found.paths) == ["images/a.jpg", "images/b.jpg"] and found.class_names == ["cat", "dog"]
        assert found.y.tolist() == [[0, 1], [0, 0]]


def test_coco_faults(picture, tmp_path):
    picture("images/a.jpg")
    with pytest.raises(WorkbenchError, match="no COCO file: KeyError"):
        import_labels(coco(tmp_path, annotations=[{"image_id": 99, "category_id": 5}]), tmp_path / "labels.csv")
    with pytest.raises(WorkbenchError, match="no COCO file"):
        import_labels(coco(tmp_path, images=5), tmp_path / "labels.csv")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(WorkbenchError, match="no readable JSON"):
        import_labels(tmp_path / "text.json", tmp_path / "labels.csv")
    with pytest.raises(WorkbenchError, match="choose an --out in a folder above"):
        import_labels(coco(tmp_path), tmp_path / "elsewhere" / "labels.csv")
