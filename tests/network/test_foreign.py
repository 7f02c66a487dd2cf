"""Files of strangers: whatever they hold is refused, and never run; see attacks.py."""

import os
import subprocess
import sys

import pytest
from conftest import PROJECT

REFUSED = {
    "mapping: a model as a layer": "more than any architecture",
    "run.json: a model as a layer": "more than any architecture",
    "run.json: code as activation": "expected a torch layer",
    "yaml: a model as a layer": "more than any architecture",
    "yaml: code as activation": "expected a torch layer",
    "yaml: weights are fetched": "TorchVision is a whole model that fetches weights",
    "yaml: a variable of the parser": "'layers' is no argument of a layer",
    "yaml: aliases explode": "has YAML aliases",
    "yaml: billions of repeats": "3000000000 is no value of an architecture",
    "yaml: repeats by a factor": "90000000 is no value of an architecture",
    "yaml: repeats inside a layer": "more than 20,000 layers",
    "yaml: billions of channels": "does not build a network",
    "pt: code in the pickle": f"is damaged or no Ultralytics checkpoint: it names {open.__module__}.open",
    "pt: a model as a layer": "more than any architecture",
    "pt: code as activation": "expected a torch layer",
    "pt: a second file": "(it holds ultralytics.nn.distill_model.DistillationModel)",
    "pt: another task": "is no classification network (it holds ultralytics.nn.tasks.DetectionModel)",
    "pt: objects with methods of their own": "passed",  # only their tensors are read
}


USUAL = [("theirs", None), ("ours", "0")]
ALL = [(first, setting) for first in ("ours", "theirs") for setting in (None, "0", "1")]


@pytest.mark.parametrize(
    "first, setting", [pytest.param(*its, marks=() if its in USUAL else pytest.mark.slow) for its in ALL]
)
def test_nothing_foreign_is_executed_whatever_was_imported_before(tmp_path, first, setting):
    environment = {name: value for name, value in os.environ.items() if name != "ULTRALYTICS_SAFE_LOAD"}
    environment |= {"PYTHONPATH": str(PROJECT)} | ({} if setting is None else {"ULTRALYTICS_SAFE_LOAD": setting})
    command = [sys.executable, PROJECT / "tests" / "network" / "attacks.py", first, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line.split(" | ") for line in done.stdout.splitlines() if " | " in line]
    assert {name for name, *_ in told} == set(REFUSED)
    for name, door, said in told:
        assert REFUSED[name] in said, (name, door, said)
    assert not (tmp_path / "executed").exists()
