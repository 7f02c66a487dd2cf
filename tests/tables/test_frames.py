"""DataFrames go the way of a labels file."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from PIL import Image

from mlworkbench import Run, WorkbenchError, fit, read_labels


@pytest.fixture
def frame():
    return pd.DataFrame({"image_path": [f"{i}.png" for i in range(12)], "cat": [0, 1] * 6, "dog": [1, 1, 0] * 4})


def same(table, frame):
    return (
        list(table.paths) == list(frame.image_path)
        and table.class_names == ["cat", "dog"]
        and table.y.tolist() == frame[["cat", "dog"]].to_numpy().tolist()
    )


def test_columns_in_every_type_that_people_hold(frame):
    assert same(read_labels(frame), frame) and read_labels(frame).root == Path()
    assert same(read_labels(frame.astype({"cat": bool, "dog": float})), frame)
    assert same(read_labels(frame.assign(image_path=frame.image_path.map(Path))), frame)
    assert same(read_labels(frame.set_index("image_path")), frame)
    assert same(read_labels(frame.astype({"image_path": "category"})), frame)
    assert same(read_labels(frame.iloc[::-1]), frame.iloc[::-1])
    assert same(read_labels(pyarrow.Table.from_pandas(frame)), frame)
    assert same(read_labels(read_labels(frame)), frame)
    unknown = read_labels(frame.assign(cat=[np.nan, *frame.cat[1:]]))
    assert unknown.y[0].tolist() == [-1, 1] and unknown.lines[0] == 1


@pytest.mark.parametrize("make", [list, tuple, np.array, str])
def test_lists_of_labels(frame, make):
    lists = frame[["image_path"]].assign(labels=[make([a, b]) for a, b in zip(frame.cat, frame.dog, strict=True)])
    assert read_labels(lists, classes=["cat", "dog"]).y.tolist() == frame[["cat", "dog"]].to_numpy().tolist()


def test_lists_of_names(frame):
    rows = [[n for n in ("cat", "dog") if row[n]] for row in frame.to_dict("records")]
    for make in (list, set):
        assert same(read_labels(frame[["image_path"]].assign(tags=list(map(make, rows)))), frame)


def test_it_is_checked_as_a_file_is(frame):
    with pytest.raises(WorkbenchError) as caught:
        read_labels(frame.assign(dog=["no idea"] + [0] * 11))
    assert "DataFrame:1: 'no idea' in column 'dog' is no label" in str(caught.value) and "/" not in str(caught.value)


@pytest.mark.parametrize("odd", [[1, 2], {"a": [1]}, 3, None, np.zeros((3, 3)), b"labels.csv"])
def test_what_is_no_table_is_told_with_the_next_step(odd, tmp_path):
    for call in (read_labels, lambda x: fit(x, tmp_path / "run")):
        with pytest.raises(WorkbenchError, match="^labels are .*; expected the path of a labels file, or a DataFrame"):
            call(odd)
    assert not (tmp_path / "run").exists()


def test_what_no_file_can_hold_is_told(frame):
    for odd in (frame.set_axis(["image_path", "cat", "cat"], axis=1), frame.assign(cat=[{1, "a"}] * 12)):
        with pytest.raises(WorkbenchError, match="^the DataFrame holds what no labels file can: "):
            read_labels(odd)


def test_a_command_in_a_refusal_works_once_it_is_saved(monkeypatch):
    """The error of the reader names a file that goes with the process; the one that is shown does not."""
    from mlworkbench.tables.frames import frame_file

    frame = pd.DataFrame({"image_path": ["a.jpg"], "cat": [1]})
    with pytest.raises(WorkbenchError) as caught, frame_file(frame) as file:
        raise WorkbenchError(f"{file}: which columns are classes? mlworkbench check {file} tells")
    told, saved = str(caught.value), re.search(r"save it first: df\.to_json\('(.*?)', (.*)\)$", str(caught.value))
    assert "mlworkbench check labels.jsonl tells" in told and str(file.parent) not in told
    assert saved[1] == "labels.jsonl" and saved[2] == "orient='records', lines=True"


def test_its_run_goes_on_when_the_frame_is_gone(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    code = (
        "import pandas as pd, mlworkbench as mw\n"
        "df = pd.DataFrame({'image_path': [f'{i}.png' for i in range(12)], 'cat': [0, 1] * 6, 'dog': [1, 1, 0] * 4})\n"
        "mw.fit(df, 'run', epochs=1, image_size=32, batch_size=4, precision='fp32', workers=0)\n"
        "assert mw.fit(df, 'run', resume=True).status == 'finished'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    run = Run(tmp_path / "run")
    assert Path(run.state["labels_file"]).parent == tmp_path / "run"
    assert len(run.table()) == 12 and run.table().class_names == ["cat", "dog"]
    (tmp_path / "run").rename(tmp_path / "moved")
    assert len(Run(tmp_path / "moved").table()) == 12
