"""The table of runs below a folder."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from mlworkbench import Run, WorkbenchError, list_runs
from mlworkbench.cli import main
from mlworkbench.files import write_json
from mlworkbench.runs.listing import age


@pytest.fixture
def below(tiny_run, tmp_path):
    """Three runs at different depths, the second evaluated, and what is none."""
    for place, began in (("a", "2026-01-01"), ("deep/er/b", "2026-03-01"), ("c <b>", "2026-02-01")):
        shutil.copytree(tiny_run.folder, tmp_path / place)
        Run(tmp_path / place).write_state(started=f"{began}T12:00:00+00:00")
    write_json(tmp_path / "deep/er/b/metrics/test.json", {"map": 0.625, "f1_macro": None})
    Run(tmp_path / "c <b>").write_state(status="interrupted")
    (tmp_path / "c <b>/history.csv").unlink()
    shutil.copytree(tiny_run.folder, tmp_path / "a/predictions/inner")  # inside of a run
    shutil.copytree(tiny_run.folder, tmp_path / ".hidden/run")
    return tmp_path


def test_every_run_below_has_a_row_the_newest_first(below):
    found = list_runs(below)
    assert found.run.tolist() == ["deep/er/b", "c <b>", "a"]
    assert found.status.tolist() == ["finished", "interrupted", "finished"] and found.epochs.tolist() == [2, 0, 2]
    best = pd.read_csv(below / "a/history.csv").val_map.max()
    np.testing.assert_allclose(found.val_map, [best, np.nan, best])
    np.testing.assert_allclose(found.test_map, [0.625, np.nan, np.nan])
    assert found.f1_macro.isna().all() and found.started[0] == pd.Timestamp("2026-03-01T12", tz="UTC")
    assert found.model.tolist() == ["yolov8n-cls.yaml"] * 3 and found.image_size.tolist() == [32] * 3
    assert list_runs(below / "a").run.tolist() == ["."]


def test_a_run_says_when_it_was_begun(tiny_run):
    began = pd.Timestamp(tiny_run.state["started"])
    assert began.tz is not None and pd.Timedelta(0) <= pd.Timestamp.now("UTC") - began < pd.Timedelta("1h")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: "{",
        lambda state: "[]",
        lambda state: json.dumps({**state, "format_version": 99}),
        lambda state: json.dumps({**state, "started": "yesterday"}),
        lambda state: json.dumps({k: v for k, v in state.items() if k != "settings"}),
    ],
)
def test_a_run_that_cannot_be_read_is_told_and_left_out(below, spoil, caplog):
    file = below / "a/run.json"
    file.write_text(spoil(json.loads(file.read_text())))
    assert list_runs(below).run.tolist() == ["deep/er/b", "c <b>"]
    (told,) = caplog.messages
    assert told.startswith(f"left out: {below / 'a'}") and "\n" not in told


def test_the_command_shows_them_as_a_table(below, capsys):
    assert main(["runs", str(below)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", head) == [
        "run", "status", "begun", "model", "route", "epochs", "size", "val mAP", "test mAP", "F1 macro",
    ]  # fmt: skip
    assert re.match(
        r"deep/er/b +finished +[\d,]+ days ago +yolov8n-cls\.yaml +loop +2 +32 +0\.\d{4} +0\.6250 +–$", rows[0]
    )
    assert len(rows) == 3 and len({len(row) for row in rows}) == 1
    (below / "empty").mkdir()
    assert main(["runs", str(below / "empty")]) == 0 and capsys.readouterr().out.startswith("no run below ")
    assert list_runs(below / "empty").empty
    assert main(["evaluate", str(below)]) == 2
    told = capsys.readouterr().err.strip()
    assert told == f"error: {below} holds runs and is none: mlworkbench runs {below} lists them"
    assert main(["runs", str(below / "nowhere")]) == 2
    assert re.match(r"error: .*nowhere is no folder; expected one with runs in it$", capsys.readouterr().err.strip())
    with pytest.raises(WorkbenchError):
        list_runs(below / "a/run.json")


@pytest.mark.parametrize(
    ("back", "text"),
    [
        ("30s", "just now"),
        ("95s", "just now"),
        ("5min", "5 min ago"),
        ("119min", "119 min ago"),
        ("3h", "3 h ago"),
        ("9d", "9 days ago"),
    ],
)
def test_an_age_is_told_in_the_largest_unit_that_fits(back, text):
    assert age(pd.Timestamp.now("UTC") - pd.Timedelta(back)) == text
