import json
import os
import subprocess
import sys

import pytest

from mlworkbench import WorkbenchError
from mlworkbench.files import read_json, write_json, write_whole
from mlworkbench.runs import folder as folder_of


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    write_whole(file, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old" and [f.name for f in tmp_path.iterdir()] == ["a.txt"]


def test_nan_becomes_null(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [1.5, float("inf")], "ü": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [1.5, None], "ü": 1}


def test_reading_what_is_not_there_or_no_json(tmp_path):
    with pytest.raises(WorkbenchError, match="is .* a run folder"):
        read_json(tmp_path / "run.json")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(WorkbenchError, match="no readable JSON"):
        read_json(tmp_path / "run.json")


def test_a_second_writer_is_refused_by_name_and_a_dead_one_forgotten(tmp_path):
    hold = (
        "import sys, pathlib, mlworkbench.runs.folder as r\n"
        "with r.writing(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(WorkbenchError, match=f"process {process.pid} on "), folder_of.writing(tmp_path):
        pass
    process.kill()
    process.wait()
    with folder_of.writing(tmp_path):
        pass


def make_run(folder):
    for name in ("run.json", "history.csv", "checkpoints/best.safetensors", "inspect/summary.json", "mine.txt"):
        write_whole(folder / name, b"x")


def test_a_folder_of_somebody_elses_is_no_run_folder(tmp_path):
    theirs, ours = tmp_path / "photographs", tmp_path / "ours"
    for folder in (theirs, ours):
        write_whole(folder / "a.jpg", b"x")
    with folder_of.writing(ours):
        pass
    for folder in (theirs, ours):
        write_whole(folder / "splits.csv", b"x")
    with folder_of.writing(ours):  # a beginning that was killed
        pass
    refused = pytest.raises(WorkbenchError, match=r"photographs holds splits.csv, which no run wrote")
    with refused, folder_of.writing(theirs):
        pass
    assert sorted(file.name for file in theirs.iterdir()) == ["a.jpg", "splits.csv"]


def test_moving_aside_counts_up_and_keeps_what_is_not_the_runs(tmp_path):
    folder = tmp_path / "demo"
    assert folder_of.move_aside(folder) is None
    for number in (1, 2):
        make_run(folder)
        aside = folder_of.move_aside(folder)
        assert aside == tmp_path / f"demo.{number}"
        assert (aside / "checkpoints/best.safetensors").exists() and not folder_of.holds_run(folder)
    assert (folder / "inspect/summary.json").exists() and (folder / "mine.txt").exists()


def test_clear_removes_the_run_and_nothing_else(tmp_path):
    make_run(tmp_path)
    (tmp_path / "corrections.csv").write_text("a person's work")
    folder_of.clear(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["corrections.csv", "inspect", "mine.txt"]


@pytest.mark.parametrize("remove", [folder_of.clear, folder_of.clear_results])
def test_what_a_person_set_outlives_the_weights(tmp_path, remove, caplog):
    for name, objective in ((folder_of.THRESHOLDS, "by hand"), (f"{folder_of.THRESHOLDS}.1", "older")):
        (tmp_path / name).write_text(json.dumps({"objective": objective}))
    remove(tmp_path)
    assert {file.name: json.loads(file.read_text())["objective"] for file in tmp_path.iterdir()} == {
        "thresholds.json.1": "older", "thresholds.json.2": "by hand"
    }  # fmt: skip
    assert caplog.messages == [f"the thresholds set by hand are kept as {tmp_path / 'thresholds.json.2'}"]
    (tmp_path / folder_of.THRESHOLDS).write_text(json.dumps({"objective": "f1"}))
    remove(tmp_path)
    assert not (tmp_path / folder_of.THRESHOLDS).exists() and not (tmp_path / "thresholds.json.3").exists()
