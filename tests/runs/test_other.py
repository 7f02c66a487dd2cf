"""A run scored on a labels file that it was not made with."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from mlworkbench import MultiLabelYOLO, WorkbenchError, read_labels
from mlworkbench.cli import main
from mlworkbench.data.demo import make_demo
from mlworkbench.runs import evaluate_labels, labelled_predictions


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The labels file of other scenes, and its table."""
    file = make_demo(tmp_path_factory.mktemp("other") / "scenes", images=20, seed=9)
    return file, read_labels(file)


def write(file, header, rows):
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def columns(table, names):
    """Rows of a table with these of its classes as columns."""
    at = [table.class_names.index(name) for name in names]
    return [f"{path},{','.join(map(str, row[at]))}" for path, row in zip(table.paths, table.y, strict=True)]


def test_every_image_is_scored_against_its_own_label(tiny_run, other, tmp_path, capsys):
    file, table = other
    assert main(["evaluate", str(tiny_run.folder), "--labels", str(file), "--json", str(tmp_path / "m.json")]) == 0
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "m.json").read_text())
    good = labelled_predictions(tiny_run, file)
    label = dict(zip(table.paths, table.y.tolist(), strict=True))
    assert [label[path] for path in good.paths] == good.y.tolist() and 15 < len(good) <= len(table)
    for c, name in enumerate(tiny_run.class_names):
        assert found["classes"][name]["support"] == sum(label[path][c] == 1 for path in good.paths)
    assert f"{file} mAP" in out and not (tiny_run.folder / "metrics/test.json").exists()


def test_classes_are_matched_by_name(tiny_run, other, caplog):
    file, table = other
    first, second = tiny_run.class_names[4], tiny_run.class_names[1]
    rows = [f"{row},1" for row in columns(table, [first, second])]
    swapped = write(file.parent / "swapped.csv", f"image_path,{first},{second},ghost", rows)
    found, whole = labelled_predictions(tiny_run, swapped), labelled_predictions(tiny_run, file)
    at = [1, 4]
    assert found.class_names == tiny_run.class_names
    assert (found.y[:, at] == whole.y[:, at]).all() and (np.delete(found.y, at, 1) == -1).all()
    assert any("left out: ghost" in line for line in caplog.messages)
    assert any("swapped.csv has no " in line and line.endswith(": not scored") for line in caplog.messages)
    tags = write(file.parent / "tags.csv", "image_path,tags", [f"{path},{first}" for path in table.paths])
    found = labelled_predictions(tiny_run, tags)
    assert (found.y[:, 4] == 1).all() and (np.delete(found.y, 4, 1) == 0).all()


def test_no_class_in_common_is_refused_and_the_way_works(tiny_run, other):
    file, table = other
    folder = file.parent / "unnamed"
    folder.mkdir()
    bare = write(
        folder / "bare.csv",
        "image_path,labels",
        [f'../{p},"{y}"' for p, y in zip(table.paths, table.y.tolist(), strict=True)],
    )
    with pytest.raises(WorkbenchError, match="class_0.* none in common; put .* into classes.txt beside it"):
        evaluate_labels(tiny_run, bare, file.parent / "unnamed")
    (folder / "classes.txt").write_text("\n".join(tiny_run.class_names))
    assert "map" in evaluate_labels(tiny_run, write(folder / "bare.csv", "image_path,labels", [
        f'{p},"{y}"' for p, y in zip(table.paths, table.y.tolist(), strict=True)]), file.parent)  # fmt: skip


def test_images_that_were_learned_from_are_left_out_by_content(tiny_run, other, tmp_path, caplog):
    file, table = other
    shutil.copytree(file.parent, tmp_path / "mixed")
    splits = tiny_run.splits()
    for split in ("train", "val", "test"):
        path = next(path for path, its in splits.items() if its == split)
        shutil.copy(tiny_run.root / path, tmp_path / "mixed" / f"renamed_{split}.jpg")
    zeros = ",".join("0" for _ in table.class_names)
    rows = [*columns(table, table.class_names), *(f"renamed_{s}.jpg,{zeros}" for s in ("train", "val", "test"))]
    mixed = write(tmp_path / "mixed" / "mixed.csv", f"image_path,{','.join(table.class_names)}", rows)
    found = labelled_predictions(tiny_run, mixed)
    assert [path for path in found.paths if "renamed" in path] == ["renamed_test.jpg"]
    assert any(
        "trained or tuned on 2 of " in line and line.endswith("(renamed_train.jpg, …)") for line in caplog.messages
    )
    own = read_labels(tiny_run.state["labels_file"], tiny_run.root)
    learned = own.take(np.array([splits.get(path) == "train" for path in own.paths]))
    with pytest.raises(WorkbenchError, match="was trained or tuned on every image"):
        evaluate_labels(tiny_run, learned)


def test_where_the_images_are(tiny_run, other, tmp_path, capsys):
    shutil.copy(other[0], tmp_path / "labels.csv")
    shutil.copy(other[0].parent / "classes.txt", tmp_path)
    command = ["evaluate", str(tiny_run.folder), "--labels", str(tmp_path / "labels.csv")]
    assert main(command) == 2
    option = re.search(r"(--\w+) DIR", capsys.readouterr().err)[1]
    assert main([*command, option, str(other[0].parent)]) == 0


def test_one_cause_is_one_line_and_the_rest_is_scored(tiny_run, other, caplog):
    file, table = other
    rows = [
        *columns(table, table.class_names),
        *(f"gone{i}.jpg,{','.join('1' * len(table.class_names))}" for i in range(9)),
    ]
    found = labelled_predictions(
        tiny_run, write(file.parent / "gone.csv", f"image_path,{','.join(table.class_names)}", rows)
    )
    assert "set aside  images/missing.jpg and 9 more: missing" in caplog.messages and not any(
        "gone" in p for p in found.paths
    )


def test_val_of_their_model_takes_it_too(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    rows = [f"{i}.png,{i % 2},{i % 3 == 0:d}" for i in range(12)]
    file = write(tmp_path / "a.csv", "image_path,cat,dog", rows)
    other = write(tmp_path / "b.csv", "image_path,dog,cat", [f"{i}.png,1,{i % 2}" for i in range(12, 20)])
    model = MultiLabelYOLO("yolov8n-cls.yaml")
    model.train(
        data=str(file), epochs=1, imgsz=32, batch=4, workers=0, amp=False, plots=False, save_dir=str(tmp_path / "u")
    )
    scores = model.val(data=str(other)).scores
    assert {name: row["support"] for name, row in scores["classes"].items()} == {"cat": 4, "dog": 8}
    with pytest.raises(WorkbenchError, match="val takes data and split; verbose would have no effect"):
        model.val(verbose=False)
