"""A run folder that was moved, and one that somebody edited by hand."""

import json
import shutil

import numpy as np
import pytest

from mlworkbench import Run, WorkbenchError, find_suspects
from mlworkbench.cli import main
from mlworkbench.files import write_json, write_whole


@pytest.fixture
def moved(tiny_run, demo_labels, tmp_path):
    """A colleague's copy: the run here, its images there, and nothing where it was trained."""
    run, images = tmp_path / "run", tmp_path / "images of it"
    shutil.copytree(tiny_run.folder, run, ignore=shutil.ignore_patterns("train*.parquet", "*_judged.parquet"))
    shutil.copytree(demo_labels.parent, images)
    state = json.loads((run / "run.json").read_text())
    gone = {"image_root": "/nowhere/scenes", "labels_file": "/nowhere/scenes/labels.csv"}
    write_json(run / "run.json", state | gone | {"classes_file": None})
    return run, images


def train_rows(run):
    return run.split_table().split == "train"


def test_a_run_that_moved_shows_its_images_from_the_root_that_is_given(moved, tiny_run):
    folder, images = moved
    with pytest.raises(WorkbenchError, match=r"its images were in /nowhere/scenes, which is not here; .*--root DIR"):
        _ = Run(folder).root
    run = Run(folder, root=images)
    path = run.predictions("val").paths[0]
    assert run.look(path, run.class_names[0])[0].shape == tiny_run.look(path, run.class_names[0])[0].shape
    np.testing.assert_array_equal(run.predictions("train").y, tiny_run.split_table().take(train_rows(tiny_run)).y)
    assert len(run.traits("val")) == len(run.predictions("val"))
    assert find_suspects(run, "val").basis == "held out"


def test_commands_that_read_a_runs_images_take_the_root(moved, capsys):
    folder, images = moved
    for command in (["errors", str(folder)], ["evaluate", str(folder), "--split", "train"]):
        assert main(command) == 2 and "--root DIR" in capsys.readouterr().err
        assert main([*command, "--root", str(images)]) == 0, capsys.readouterr().err


def damaged(run, name, content):
    file = run / name
    if content is None:
        file.unlink()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        state = json.loads(file.read_text())
        content(state)
        file.write_text(json.dumps(state))


def without(name):
    return lambda state: state.pop(name)


def other(name, value):
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("thresholds.json", b"[]", "thresholds.json is not as the workbench writes it"),
        ("thresholds.json", b"3", "thresholds.json is not as the workbench writes it"),
        ("thresholds.json", b'{"split": "val"}', "thresholds.json is not as the workbench writes it"),
        ("thresholds.json", b'{"classes": [], "split": "val", "objective": "f1"}', "thresholds.json is not"),
        ("thresholds.json", b"{", "no readable JSON"),
        ("run.json", b"[]", "of no version that this package reads"),
        *[("run.json", without(name), f"has no '{name}'") for name in ("image_root", "labels_file", "architecture")],
        ("run.json", without("class_names"), "has no 'class_names'"),
        ("run.json", lambda state: state["settings"].pop("image_size"), "has no 'settings.image_size'"),
        ("run.json", other("class_names", "cat"), "class_names is 'cat'"),
        ("run.json", other("class_names", ["cat", 3]), "class_names is no list of different names"),
        ("run.json", other("settings", []), "settings is "),
        ("run.json", other("architecture", "yolo"), "architecture is 'yolo'"),
        ("run.json", other("image_root", 3), "image_root is '3'"),
        ("run.json", other("corrections", [["a.jpg", 1]]), "corrections are no rows"),
        ("run.json", other("corrections", 7), "corrections are no rows"),
        ("splits.csv", None, "splits.csv: No such file"),
        ("splits.csv", b"", "splits.csv: No columns"),
        ("splits.csv", b"image,part\na,b\n", "splits.csv has no column 'image_path'"),
        ("predictions/val.parquet", b"nonsense", "val.parquet is damaged"),
        ("predictions/val.parquet", b"", "val.parquet is damaged"),
        ("history.csv", None, "history.csv: No such file"),
        ("history.csv", b"epoch\n1\n", "history.csv has no column 'val_loss'"),
    ],
)  # fmt: skip
def test_a_folder_edited_by_hand_is_told_in_one_line(tiny_run, tmp_path, name, content, says):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    (folder / "thresholds.json").unlink(missing_ok=True)
    damaged(folder, name, content)

    def everything():
        run = Run(folder)
        _ = run.class_names, run.predictions("val"), run.best_epoch, run.model, run.root
        run.split_table()
        run.predict(run.predictions("val").paths[:1], run.root)

    with pytest.raises(WorkbenchError) as caught:
        everything()
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_of_the_umask(tmp_path, umask, mode):
    import os

    before = os.umask(umask)
    try:
        write_whole(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
