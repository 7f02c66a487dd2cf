"""Cores that a process may use, and how its threads wait."""

import os
import subprocess
import sys

import pytest
from conftest import PROJECT

from mlworkbench import cores


@pytest.mark.parametrize(
    "quota, found", [("max 100000", 4), ("150000 100000", 2), ("1000 100000", 1), ("900000 100000", 4), (None, 4)]
)
def test_no_more_than_it_is_bound_to_and_the_container_gives(monkeypatch, tmp_path, quota, found):
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 4, 6}, raising=False)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cores.count_cores() == found


@pytest.mark.parametrize(
    "before, given, spins",
    [
        ("", {}, "10000"),
        ("", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("", {"OMP_WAIT_POLICY": "active"}, None),
        ("import torch", {}, None),  # which has read it already
    ],
)
def test_threads_spin_briefly_where_it_is_ours_to_say(before, given, spins):
    said = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = f"{before}\nimport os, mlworkbench\nprint(os.environ.get('GOMP_SPINCOUNT'))"
    environment = said | {"PYTHONPATH": str(PROJECT)} | given
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(spins)
