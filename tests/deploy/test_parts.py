"""Predictions into a file: the same as in memory, after whatever stops, and nothing else is left behind."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT

from mlworkbench import WorkbenchError, predict, predict_to
from mlworkbench.cli import main
from mlworkbench.deploy import parts
from mlworkbench.runs import folder as folder_of


@pytest.fixture
def folder(picture, tmp_path, monkeypatch):
    """Seventy images in parts of 32; two of them are none, one is called like a formula."""
    monkeypatch.setattr(parts, "PART", 32)
    for i in range(69):
        picture(f"many/{i:02}.png", seed=i)
    picture("many/=1+1.png", seed=99)
    (tmp_path / "many/07.png").write_bytes(b"no image")
    (tmp_path / "many/40.png").write_bytes(b"\xff\xd8\xff")
    return tmp_path / "many"


READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet}


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_holds_what_memory_does(tiny_run, folder, tmp_path, suffix):
    out = tmp_path / f"p{suffix}"
    written = predict_to(out, tiny_run, folder)
    frame, aside = predict(tiny_run, folder)
    found = READERS[suffix](out)
    marked = frame.image_path.replace("=1+1.png", "./=1+1.png") if suffix == ".csv" else frame.image_path
    assert list(found) == list(frame) and list(found.image_path) == list(marked)
    np.testing.assert_allclose(found.iloc[:, 1:], frame.iloc[:, 1:], rtol=1e-7)
    assert written.images == len(frame) == 68 and written.aside == aside and len(aside) == 2
    quarantine = pd.read_csv(written.quarantine)
    assert [tuple(row) for row in quarantine.itertuples(index=False)] == aside
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", out.name, f"{out.name}.quarantine.csv"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_job_that_stops_goes_on(tiny_run, folder, tmp_path, monkeypatch, caplog, at):
    """Whichever file it was about to write."""
    predict_to(tmp_path / "whole.parquet", tiny_run, folder)
    out, real, writes = tmp_path / "p.parquet", parts.write_whole, []

    def write(path, data):
        writes.append(path)
        if len(writes) == at:
            raise Stop
        real(path, data)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(parts, "write_whole", write)
        predict_to(out, tiny_run, folder)
    assert not out.exists()
    asked, answers = [], parts.Asked.answers
    monkeypatch.setattr(
        parts.Asked, "answers", lambda job, paths, *more: asked.extend(paths) or answers(job, paths, *more)
    )
    predict_to(out, tiny_run, folder)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    there = 32 * max(at - 2, 0)
    assert len(asked) == 70 - there
    told = [message for message in caplog.messages if "going on" in message]
    assert told == ([f"going on: {there} of 70 images are done"] if there else [])
    assert not (tmp_path / ".p.parquet.parts").exists()


def test_parts_of_another_question_are_not_used(tiny_run, folder, tmp_path, monkeypatch, caplog):
    out = tmp_path / "p.parquet"

    def interrupted(**how):
        def stop(*_):
            raise Stop

        with monkeypatch.context() as patch, pytest.raises(Stop):
            patch.setattr(parts, "_join", stop)
            predict_to(out, tiny_run, folder, **how)

    interrupted()
    predict_to(out, tiny_run, folder, steady=True)
    assert any("begun anew" in message for message in caplog.messages)
    expected, _ = predict(tiny_run, folder, steady=True)
    assert pd.read_parquet(out).equals(expected)
    interrupted(steady=True)
    (folder / "00.png").unlink()
    predict_to(out, tiny_run, folder, steady=True)
    assert list(pd.read_parquet(out).image_path) == list(expected.image_path[expected.image_path != "00.png"])


def test_an_older_quarantine_goes_with_the_predictions_that_it_was_of(tiny_run, folder, tmp_path):
    written = predict_to(tmp_path / "p.csv", tiny_run, folder)
    for path, _ in written.aside:
        (folder / path).unlink()
    again = predict_to(tmp_path / "p.csv", tiny_run, folder)
    assert again.quarantine is None and not written.quarantine.exists() and again.images == 68


def test_refusals_leave_nothing(tiny_run, folder, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"no image")
    (tmp_path / "there.csv").mkdir()
    (tmp_path / "old.csv").write_text("image_path,p_mine")
    for out, source in ((tmp_path / "old.csv", "bad"), (tmp_path / "p.txt", "many"), (tmp_path / "there.csv", "many")):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(WorkbenchError, match="no image to predict in|expected the name of a file"):
            predict_to(out, tiny_run, tmp_path / source)
        assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "old.csv").read_text() == "image_path,p_mine"


def test_two_writers_of_one_file(tiny_run, folder, tmp_path):
    with (
        folder_of.writing(tmp_path / ".p.csv.parts", "--out"),
        pytest.raises(WorkbenchError, match=f"by process {os.getpid()} on .*; wait for it or choose another --out"),
    ):
        predict_to(tmp_path / "p.csv", tiny_run, folder)


def test_names_that_no_file_can_hold_are_told(tiny_run, folder, tmp_path, caplog):
    try:
        (folder / "00.png").rename(folder / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert predict_to(tmp_path / "p.parquet", tiny_run, folder).images == 67
    assert any(message.endswith("1 whose name is no UTF-8") for message in caplog.messages)


@pytest.mark.slow
def test_killed_and_started_again(tiny_run, folder, tmp_path):
    """By SIGKILL, at whatever moment it has come to."""
    out, whole = tmp_path / "p.csv", tmp_path / "whole.csv"
    predict_to(whole, tiny_run, folder)
    code = (
        "import sys; from mlworkbench.deploy import parts; parts.PART = 32; from mlworkbench.cli import main\n"
        "print('go', flush=True); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "predict", str(tiny_run.folder), str(folder), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    for wait in (0.0, 0.5):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.stdout.readline()
            deadline = time.monotonic() + 60
            while not list((tmp_path / ".p.csv.parts").glob("0*.parquet")) and time.monotonic() < deadline:
                time.sleep(0.01)
                if process.poll() is not None:
                    break
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
    assert main(command[3:]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert (tmp_path / "p.csv.quarantine.csv").read_bytes() == (tmp_path / "whole.csv.quarantine.csv").read_bytes()
