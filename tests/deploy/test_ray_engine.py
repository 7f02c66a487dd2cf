"""The Ray engine says what this process says, whatever dies on the way: every image once."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

pytest.importorskip("ray", reason="Ray is not installed: pip install 'mlworkbench[ray]'")

from mlworkbench import Run, WorkbenchError, build_model, predict_to
from mlworkbench.cli import main
from mlworkbench.deploy.parts import ASIDE
from mlworkbench.deploy.predict import asked_for
from mlworkbench.deploy.ray_engine import FIRST, _in_order, _Worker
from mlworkbench.exceptions import RunFailed
from mlworkbench.network.model import save_weights
from mlworkbench.runs import folder as folder_of

IMAGES, GOOD, BLOCKS = 331, 291, 11  # blocks of 32, the last of them not full
SMALL = {"object_store_memory": 2**27}
NAMES = ["<script>x</script>", "$x$", "=1+1", "a/b", "new\nline", "猫", "🐟"]


@pytest.fixture(autouse=True)
def as_important_as_others(monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own default is 15


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A run that nobody trained, with class names that are any text, and images of which some are none."""
    folder = tmp_path_factory.mktemp("job")
    run, images = Run(folder / "run"), folder / "images"
    images.mkdir()
    torch.manual_seed(0)
    model = build_model("yolov8n-cls.yaml", NAMES)
    settings = {"image_size": 160, "loss": "bce"}
    about = {"image_root": str(images), "architecture": model.architecture, "settings": settings}
    run.write_state(format_version=1, class_names=NAMES, status="finished", **about)
    (run.folder / "checkpoints").mkdir()
    (run.folder / folder_of.BEST).write_bytes(save_weights(model))
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        name = images / f"{'=' if i > 325 else ''}{i:03} ä.jpg"
        if i % 37 == 5 or 64 <= i < 96:  # a whole block of them, too
            name.write_bytes(b"nonsense")
        else:
            Image.fromarray(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(name)
    predict_to(folder / "local.parquet", run.folder, images)
    return folder


def begin(job, out, *more):
    """The command in a process and a session of its own."""
    command = ["predict", str(job / "run"), str(job / "images"), "--engine", "ray", "--out", str(out), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "mlworkbench", *command], start_new_session=True, **pipes)


def finish(job, out, *more):
    """What the command said; Ray gives its own processes 15 s to come, which a busy machine does not."""
    for _ in range(4):
        process = begin(job, out, *more)
        told, complaints = process.communicate()
        if "Ray did not start" not in complaints:
            break
    assert process.returncode == 0, complaints
    return told, complaints, process.pid


def quarantine(out):
    return out.with_name(f"{out.name}.quarantine.csv").read_text()


def assert_as_local(job, out):
    """To the bit, in order, with the same images set aside."""
    pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(job / "local.parquet"), check_exact=True)
    assert quarantine(out) == quarantine(job / "local.parquet")
    assert not list(out.parent.glob(f".{out.name}*"))


def written(out):
    return list((out.parent / f".{out.name}.parts").glob("engine/rows/*.parquet"))


def committed(out):
    """Blocks that Ray's checkpoints know as written."""
    found = (out.parent / f".{out.name}.parts").glob("engine/checkpoint/*.parquet")
    return [file for file in found if "pending" not in file.name]


def wait_for(condition, process):
    """Whether it came true before the process ended."""
    while not condition() and process.poll() is None:
        time.sleep(0.02)
    return process.poll() is None


@pytest.mark.slow
def test_a_file_as_this_process_writes_it_and_nothing_else(job, tmp_path):
    out = tmp_path / "p.csv"
    told, complaints, pid = finish(job, out)
    predict_to(tmp_path / "local.csv", job / "run", job / "images")
    assert out.read_bytes() == (tmp_path / "local.csv").read_bytes()
    assert quarantine(out) == quarantine(tmp_path / "local.csv")
    assert told == f"{GOOD} images: {out}; the {IMAGES - GOOD} set aside: {out}.quarantine.csv\n"
    (line,) = complaints.splitlines()  # Ray itself is quiet
    assert line == f"set aside  005 ä.jpg and {IMAGES - GOOD - 1} more: not an image that Pillow can read"
    left = subprocess.run(["ps", "-o", "args=", "-s", str(pid)], capture_output=True, text=True).stdout
    assert left == "" and not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_a_killed_driver_and_the_same_command_again(job, tmp_path):
    """What Ray had committed is not done again, the rest is, and every image stands there once."""
    out = tmp_path / "predicted"
    for _ in range(4):
        first = begin(job, out)
        if wait_for(lambda: len(committed(out)) >= 2, first):
            break
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    kept = {(file.name.split(".")[0], file.stat().st_ino) for file in committed(out)}
    assert 2 <= len(kept) < BLOCKS
    kept = {part.stat().st_ino for part in written(out) if part.name.split(".")[0] in dict(kept)}
    assert len(kept) >= 2
    _, complaints, _ = finish(job, out)
    assert "going on: about " in complaints
    assert kept < {part.stat().st_ino for part in out.iterdir()}
    assert [part.name for part in sorted(out.iterdir())] == [f"part-{place:07}.parquet" for place in range(BLOCKS)]
    assert_as_local(job, out)


@pytest.mark.slow
def test_a_machine_that_dies_on_the_way(job, tmp_path):
    from ray.cluster_utils import Cluster

    out, cluster = tmp_path / "predicted", Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **SMALL})
    try:
        doomed = cluster.add_node(num_cpus=2, **SMALL)  # with it go a worker's core and what it had in hand
        process = begin(job, out, "--address", cluster.address)
        assert wait_for(lambda: committed(out), process), process.communicate()
        cluster.remove_node(doomed, allow_graceful=False)
        assert len(committed(out)) < BLOCKS
        told, complaints = process.communicate()
        assert process.returncode == 0 and len([*told.splitlines(), *complaints.splitlines()]) == 2, complaints
        assert_as_local(job, out)
    finally:
        cluster.shutdown()


def test_a_worker_that_does_not_see_the_images_sets_none_aside(job):
    asked = asked_for(job / "run", job / "images", None)
    with pytest.raises(WorkbenchError, match=f"{job / 'gone'} with the images is not on the machine"):
        _Worker(replace(asked, root=job / "gone"))


def test_parts_that_are_missing_or_there_twice(tmp_path):
    """Missing where the folder is not the same on all machines, twice where a worker outlived its driver."""

    def part(name, first, images):
        table = pa.table({"image_path": ["a"] * images}).replace_schema_metadata({ASIDE: "[]", FIRST: str(first)})
        pq.write_table(table, tmp_path / f"{name}.parquet")

    part("x", 3, 2)
    part("y", 0, 3)
    part("z", 3, 2)
    assert [len(pq.read_table(file)) for file in _in_order(tmp_path, 5)] == [3, 2]
    assert [file.name for file in _in_order(tmp_path, 5)] == ["part-0000000.parquet", "part-0000001.parquet"]
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(RunFailed, match="do not hold each of 6 images once; is it the same folder on all machines"):
        _in_order(tmp_path, 6)
    part("early", 2, 1)
    with pytest.raises(RunFailed, match="each of 5 images once"):
        _in_order(tmp_path, 5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--engine", "ray"], "--engine ray writes what it finds: say where, --out FILE or DIR"),
        (["--address", "a:1", "--out", "p.csv"], "--address is that of a Ray cluster: add --engine ray"),
        (["--engine", "ray", "--out", "p.json"], "expected the name of a file, ending in .csv or .parquet, or of a fo"),
        (["--engine", "ray", "--out", "{images}"], "or of a folder that holds nothing else"),
        (["--out", "p"], "p: expected the name of a file, ending in .csv or .parquet\n"),
    ],
)
def test_what_is_refused(job, capsys, options, told):
    images = str(job / "images")
    assert main(["predict", str(job / "run"), f"{images}/*", *(text.format(images=images) for text in options)]) == 2
    assert told in capsys.readouterr().err
