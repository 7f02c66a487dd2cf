"""Feeds of a card, with the processor in its place where that tells as much; the rest is in `training/test_gpu.py`."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import PROJECT

from mlworkbench.exceptions import RunFailed
from mlworkbench.network import feed
from mlworkbench.network.feed import _Resident, count_workers, told_of_shared_memory


def test_resident_images_come_in_the_order_of_the_batches():
    images, targets = torch.arange(7)[:, None, None, None].to(torch.uint8), torch.arange(7)[:, None]
    order = [[3, 1], [6], [0, 2, 5]]
    for _ in range(2):
        found = list(_Resident(images, targets, order))
    assert [batch[2].tolist() for batch in found] == order == [batch[0].flatten().tolist() for batch in found]


def test_workers_without_shared_memory_end_in_a_line_that_says_what_to_do(picture, tmp_path):
    """In a process of its own, whose files, those of shared memory among them, may not grow: it hung for ever."""
    names = [picture(f"{i}.png") for i in range(4)]
    code = f"""
import resource
from pathlib import Path
import numpy as np
from mlworkbench.exceptions import RunFailed
from mlworkbench.network.batches import ImageDataset
from mlworkbench.network.feed import make_loader, told_of_shared_memory
images = ImageDataset(np.array({names}, object), Path({str(tmp_path)!r}), None, 256)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    with told_of_shared_memory():
        list(make_loader(images, [[0, 1], [2, 3]], workers=1))
except RunFailed as error:
    print(error)
"""
    command, environment = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    (told,) = done.stdout.splitlines()
    assert told.startswith("decoding processes found no room in /dev/shm") and "--workers 0 (unable to" in told


def test_only_want_of_shared_memory_is_told_as_such():
    with pytest.raises(RuntimeError, match="^something else$"), told_of_shared_memory():
        raise RuntimeError("something else")
    bus_error = "DataLoader worker is killed by signal: Bus error. Please try to raise your shared memory limit."
    with pytest.raises(RunFailed, match="--shm-size=1g"), told_of_shared_memory():
        raise RuntimeError(bus_error)


@pytest.mark.parametrize("cores, processes, workers", [(6, 1, 6), (6, 4, 1), (2, 4, 1), (64, 2, 16)])
def test_a_worker_for_each_core_of_this_process(monkeypatch, cores, processes, workers):
    monkeypatch.setattr(feed, "count_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert count_workers(None) == workers and count_workers(0) == 0 and count_workers(5) == 5
