"""Stopping, going on, and what a killed process leaves."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import PROJECT
from helpers import Killed, killed_at
from PIL import Image

from mlworkbench import Run, WorkbenchError, cli, fit, read_labels
from mlworkbench.data.demo import make_demo
from mlworkbench.data.images import load_image
from mlworkbench.exceptions import Interrupted
from mlworkbench.network.batches import squared
from mlworkbench.runs import folder as folder_of
from mlworkbench.settings import Settings
from mlworkbench.training import loop, recorder
from mlworkbench.training.loop import LoopRoute, Trainer

fitting = import_module("mlworkbench.training.fit")

TINY = {"epochs": 2, "image_size": 32, "batch_size": 12, "precision": "fp32", "patience": 9}


def trained(folder):
    """What must not differ between a run that was stopped and one that was not."""
    run = Run(folder)
    weights = [(folder / name).read_bytes() for name in (folder_of.BEST, folder_of.LAST)]
    resume = torch.load(folder / folder_of.RESUME, weights_only=True)
    history = run.history.drop(columns="seconds").to_csv()
    return [*weights, history, {name: tensor.numpy().tobytes() for name, tensor in resume["model"].items()}]


@pytest.fixture(scope="module")
def whole(demo_labels, tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert fit(read_labels(demo_labels), folder, **TINY).status == "finished"
    return trained(folder)


def test_what_is_written_needs_no_pickle_and_is_the_average(demo_labels, tmp_path):
    fit(read_labels(demo_labels), tmp_path, **TINY)
    state = torch.load(tmp_path / folder_of.RESUME, weights_only=True)
    assert len(state["history"]) == 2 and state["place"]["epoch"] == 3
    last = safetensors.torch.load_file(tmp_path / folder_of.LAST)
    assert all(torch.equal(tensor, state["average"][f"net.{name}"]) for name, tensor in last.items())
    assert torch.load(tmp_path / folder_of.PREVIOUS, weights_only=True)["place"]["epoch"] == 2
    history = Run(tmp_path).history
    assert [c for c in history.columns if c.startswith("ap_")] == [f"ap_{n}" for n in Run(tmp_path).class_names]
    np.testing.assert_allclose(history.filter(like="ap_").mean(axis=1), history.val_map)


@pytest.mark.parametrize("batch", range(1, 6))  # three batches an epoch
def test_stopped_after_any_batch_and_resumed_it_ends_the_same(demo_labels, tmp_path, monkeypatch, whole, batch):
    asked = itertools.count(1)

    @contextlib.contextmanager
    def stop_later():
        yield lambda: next(asked) >= batch

    table = read_labels(demo_labels)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_stop_on_signals", stop_later)
        if batch < 4:
            with pytest.raises(Interrupted, match="stopped in the first epoch; .* but what was trained so far is kept"):
                fit(table, tmp_path, **TINY)
        else:
            assert len(fit(table, tmp_path, **TINY).predictions("val")) == 17  # the best weights so far
    assert Run(tmp_path).status == "interrupted"
    assert fit(table, tmp_path, resume=True).status == "finished" and trained(tmp_path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_write_and_resumed_it_ends_the_same(demo_labels, tmp_path, monkeypatch, whole, before):
    table = read_labels(demo_labels)
    for last in itertools.count(1):
        folder = tmp_path / str(last)
        with monkeypatch.context() as patch:
            killed_at(patch, last, before)
            try:
                fit(table, folder, **TINY)
            except Killed:
                pass
            else:
                break
        assert fit(table, folder, resume=True, **TINY).status == "finished" and trained(folder) == whole
        assert {f.name for f in (folder / "predictions").iterdir()} == {"val.parquet", "test.parquet"}
    assert last > 10


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(demo_labels, tmp_path, whole, caplog):
    table = read_labels(demo_labels)
    fit(table, tmp_path, **TINY)
    Run(tmp_path).write_state(status="running")
    (tmp_path / folder_of.RESUME).write_bytes((tmp_path / folder_of.RESUME).read_bytes()[:5000])
    assert fit(table, tmp_path, resume=True).status == "finished" and trained(tmp_path) == whole
    assert "resume.pt (ValueError) is damaged; going on from the one before" in caplog.text


COMMAND = [sys.executable, "-m", "mlworkbench", "train"]
OPTIONS = ["--model", "yolo11n-cls.yaml", "--epochs", "4", "--imgsz", "32", "--batch", "4", "--precision", "fp32"]


def start(labels, folder, *more):
    """In a process group of its own, as a terminal or a scheduler starts it."""
    return subprocess.Popen(
        [*COMMAND, labels, "--run", folder, *OPTIONS, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_kill_9_and_sigterm_and_resume_on_the_command_line(demo_labels, tmp_path):
    undisturbed = start(demo_labels, tmp_path / "whole")
    assert undisturbed.wait() == 0
    folder, dice = tmp_path / "killed", random.Random(0)
    for number, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)):
        # The whole group is told, and so are the processes that decode where there is no cache.
        process = start(demo_labels, folder, "--resume", "--set", "cache_gb", "0")
        assert any(line.startswith("epoch") for line in process.stdout)
        time.sleep(dice.random() * 0.3)
        os.killpg(process.pid, number)
        _, err = process.communicate()
        assert process.returncode == expected, err
    assert Run(folder).status == "interrupted"
    bare = [*COMMAND, demo_labels, "--run", folder, "--resume"]  # everything else stands in run.json
    subprocess.run(bare, check=True, capture_output=True)
    assert trained(folder) == trained(tmp_path / "whole")
    assert not [f for f in folder.rglob(".*") if f.name != ".lock"]


def test_resume_refuses_what_would_be_another_training(demo_labels, tmp_path):
    table = read_labels(demo_labels)
    run = fit(table, tmp_path / "run", **TINY)
    with pytest.raises(WorkbenchError, match="epochs is 1, but the run to resume has 2"):
        fit(table, run.folder, resume=True, epochs=1)
    before = (run.folder / folder_of.RESUME).stat().st_mtime_ns
    assert fit(table, run.folder, resume=True).status == "finished"  # nothing to do
    assert (run.folder / folder_of.RESUME).stat().st_mtime_ns == before
    other = tmp_path / "labels.csv"
    other.write_text(demo_labels.read_text() + "\n")
    with pytest.raises(WorkbenchError, match="or its classes have changed since"):
        fit(read_labels(other, demo_labels.parent), run.folder, resume=True)
    run.write_state(status="interrupted")
    splits = pd.read_csv(run.folder / "splits.csv")
    splits.loc[0, "split"] = "test" if splits.split[0] != "test" else "val"
    splits.to_csv(run.folder / "splits.csv", index=False)
    with pytest.raises(WorkbenchError, match="images or their splits have changed"):
        fit(table, run.folder, resume=True)


def test_resume_refuses_other_classes_images_or_processes(demo_labels, tmp_path):
    shutil.copytree(demo_labels.parent, tmp_path / "data")
    labels = tmp_path / "data/labels.csv"
    run = fit(read_labels(labels), tmp_path / "run", **TINY)
    run.write_state(status="interrupted")
    checkpoint = torch.load(run.folder / folder_of.RESUME, weights_only=True)
    torch.save(checkpoint | {"steps": 3}, run.folder / folder_of.RESUME)
    with pytest.raises(WorkbenchError, match="3 batches an epoch, here there are 4; resume it with as many processes"):
        fit(read_labels(labels), run.folder, resume=True)
    torch.save(checkpoint, run.folder / folder_of.RESUME)
    names = (tmp_path / "data/classes.txt").read_text().split()
    (tmp_path / "data/classes.txt").write_text("\n".join(names[::-1]))
    with pytest.raises(WorkbenchError, match="or its classes have changed since"):
        fit(read_labels(labels), run.folder, resume=True)
    (tmp_path / "data/classes.txt").write_text("\n".join(names))
    Image.new("RGB", (96, 96)).save(tmp_path / "data/images/00007.jpg")
    with pytest.raises(WorkbenchError, match="the images or their splits have changed since"):
        fit(read_labels(labels), run.folder, resume=True)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A data set of which no default is true, and a run of it of which the last epoch is left to do.

    Its classes.txt is another's, its images lie elsewhere, every second one is bad, and names, splits and what parts
    its tags are told on the command line only.
    """
    home, dice = tmp_path_factory.mktemp("odd"), np.random.default_rng(0)
    (home / "labels").mkdir()
    (home / "labels/classes.txt").write_text("other\nnames\n")
    (home / "names.txt").write_text("hat\ncat\nnever\n")
    rows, splits = ["image_path,tags"], ["image_path,split"]
    for i in range(48):
        rows.append(f"{i}.png,{('cat', 'hat', 'cat/hat', '/')[dice.integers(4)]}")
        splits.append(f"{i}.png,{('train', 'train', 'val', 'test')[i // 2 % 4]}")
        for folder in ("images", "others"):
            (home / folder).mkdir(exist_ok=True)
            if i % 2:
                (home / folder / f"{i}.png").write_text("no image")
            else:
                pixels = dice.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(home / folder / f"{i}.png")
    (home / "labels/labels.csv").write_text("\n".join(rows))
    (home / "splits.csv").write_text("\n".join(splits))
    told = {"--root": "images", "--classes": "names.txt", "--splits": "splits.csv"}
    options = [text for name, value in told.items() for text in (name, str(home / value))]
    options += ["--tag-delimiter", "/", "--max-quarantine", "0.6"]
    begin = ["--epochs", "2", "--imgsz", "32", "--batch", "4", "--precision", "fp32", "--run", str(home / "run")]
    assert cli.main(["train", str(home / "labels/labels.csv"), *options, *begin]) == 0
    ended = trained(home / "run")
    os.replace(home / "run" / folder_of.PREVIOUS, home / "run" / folder_of.RESUME)
    Run(home / "run").write_state(status="interrupted")
    return home, options, ended


def unfinished(begun, folder):
    shutil.copytree(begun[0] / "run", folder)
    return ["train", str(begun[0] / "labels/labels.csv"), "--run", str(folder), "--resume"]


def test_a_resumed_run_needs_nothing_repeated(begun, tmp_path):
    home, options, ended = begun
    command = unfinished(begun, tmp_path / "again")
    assert cli.main([*command, *options]) == 0 and trained(tmp_path / "again") == ended
    for name in ("names.txt", "splits.csv"):  # nobody needs them any longer
        shutil.move(home / name, tmp_path / name)
    try:
        assert cli.main(unfinished(begun, tmp_path / "bare")) == 0 and trained(tmp_path / "bare") == ended
        run = Run(tmp_path / "bare")
        assert run.class_names == run.table().class_names == ["hat", "cat", "never"]
        assert len(run.splits()) == 24 and len(run.predictions("train")) == 12
        assert run.state["settings"]["max_quarantine"] == 0.6 and run.root == home / "images"
        unfinished(begun, tmp_path / "python")
        (home / "labels/classes.txt").rename(tmp_path / "classes.txt")
        table = read_labels(home / "labels/labels.csv", tag_delimiter="/")
        assert table.class_names != run.class_names
        assert fit(table, tmp_path / "python", resume=True).status == "finished"
        assert trained(tmp_path / "python") == ended
    finally:
        for name in ("names.txt", "splits.csv"):
            shutil.move(tmp_path / name, home / name)
        (home / "labels/classes.txt").write_text("other\nnames\n")


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--max-quarantine", "0.7", "max_quarantine is 0.7, but the run to resume has 0.6"),
        ("--tag-delimiter", "|", "tag_delimiter is '|', but the run to resume has '/'"),
        ("--classes", "more.txt", "or its classes have changed since"),
        ("--splits", "moved.csv", "the images or their splits have changed since"),
        ("--root", "others", "the images or their splits have changed since"),
    ],
)
def test_what_contradicts_the_data_of_a_run_is_refused(begun, tmp_path, capsys, option, value, part):
    home = begun[0]
    (home / "more.txt").write_text("cat\nhat\nnever\n")
    (home / "moved.csv").write_text((home / "splits.csv").read_text().replace("0.png,train", "0.png,val", 1))
    command = unfinished(begun, tmp_path / "run")
    before = (tmp_path / "run" / folder_of.STATE).read_bytes()
    assert cli.main([*command, option, str(home / value) if (home / value).exists() else value]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ") and part in said and said.count("error") == 1
    assert (tmp_path / "run" / folder_of.STATE).read_bytes() == before


def test_images_that_moved_are_told_once(demo_labels, tmp_path):
    shutil.copytree(demo_labels.parent, tmp_path / "data")
    labels, run = tmp_path / "data/labels.csv", fit(read_labels(demo_labels), tmp_path / "run", **TINY)
    (tmp_path / "moved").mkdir()
    (tmp_path / "data/images").rename(tmp_path / "moved/images")
    for table in (read_labels(labels, tmp_path / "moved"), read_labels(labels)):
        os.replace(run.folder / folder_of.PREVIOUS, run.folder / folder_of.RESUME)
        Run(run.folder).write_state(status="interrupted")
        assert fit(table, run.folder, resume=True).root == tmp_path / "moved"


def test_another_delimiter_that_gives_the_same_classes_is_refused_too(begun, tmp_path):
    unfinished(begun, tmp_path / "run")
    Run(tmp_path / "run").write_state(given=[])
    home = begun[0]
    table = read_labels(home / "labels/labels.csv", home / "images", home / "names.txt", home / "splits.csv", "/")
    Run(tmp_path / "run").write_state(tag_delimiter="|")
    with pytest.raises(WorkbenchError, match=r"tag_delimiter is '/', but the run to resume has '\|'; leave it out"):
        fit(table, tmp_path / "run", resume=True)


def test_callbacks_that_no_route_would_call_are_refused(demo_labels, tmp_path):
    with pytest.raises(WorkbenchError, match="callbacks with the route 'loop'"):
        fit(read_labels(demo_labels), tmp_path / "run", callbacks={"on_train_start": [print]}, **TINY)
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_cannot_be_read_are_refused_and_never_kept_as_the_one_before(demo_labels, tmp_path):
    table = read_labels(demo_labels)
    run = fit(table, tmp_path, **TINY)
    run.write_state(status="interrupted")
    (tmp_path / folder_of.RESUME).write_bytes(b"")
    assert recorder.read_checkpoint(tmp_path)["place"]["epoch"] == 2
    assert not (tmp_path / folder_of.RESUME).exists()
    (tmp_path / folder_of.PREVIOUS).write_bytes(b"nonsense")
    with pytest.raises(WorkbenchError, match="no checkpoint can be read: .*previous.pt"):
        fit(table, tmp_path, resume=True)
    (tmp_path / folder_of.PREVIOUS).unlink()
    assert recorder.read_checkpoint(tmp_path) is None


def test_best_weights_that_are_gone_are_told_before_the_training_goes_on(demo_labels, tmp_path):
    run = fit(read_labels(demo_labels), tmp_path, **TINY)
    run.write_state(status="interrupted")
    (tmp_path / folder_of.BEST).unlink()
    with pytest.raises(WorkbenchError, match="best.safetensors does not exist"):
        fit(read_labels(demo_labels), tmp_path, resume=True)


def test_an_overwrite_that_was_killed_is_no_run_to_resume(demo_labels, tmp_path, monkeypatch):
    def die(_):
        raise Killed

    table = read_labels(demo_labels)
    fit(table, tmp_path, **TINY)
    with monkeypatch.context() as patch:
        patch.setattr(folder_of.shutil, "rmtree", die)
        with pytest.raises(Killed):
            fit(table, tmp_path, overwrite=True, **TINY)
    assert (tmp_path / folder_of.BEST).exists() and not folder_of.holds_run(tmp_path)
    assert fit(table, tmp_path, resume=True, **{**TINY, "epochs": 1}).state["settings"]["epochs"] == 1


def test_resume_where_nothing_is_begins(demo_labels, tmp_path):
    assert fit(read_labels(demo_labels), tmp_path, resume=True, **{**TINY, "epochs": 1}).status == "finished"


def test_results_of_weights_that_will_change_are_removed_and_said(demo_labels, tmp_path, caplog):
    table = read_labels(demo_labels)
    run = fit(table, tmp_path, **TINY)
    run.save_thresholds(run.thresholds())
    run.evaluate("test")
    run.write_state(status="interrupted")
    fit(table, tmp_path, resume=True)
    assert "made of weights that will change: predictions, metrics, thresholds.json" in caplog.text
    assert not (tmp_path / "thresholds.json").exists() and (tmp_path / "predictions/val.parquet").exists()


def test_resume_trains_in_the_precision_that_was_chosen(demo_labels, tmp_path, monkeypatch):
    table, used = read_labels(demo_labels), []
    run = fit(table, tmp_path, **{**TINY, "precision": "auto"})
    os.replace(tmp_path / folder_of.PREVIOUS, tmp_path / folder_of.RESUME)  # an epoch is left to do
    run.write_state(status="interrupted", precision={**run.state["precision"], "name": "bf16"})
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, b: used.append(self.accelerator.mixed_precision) or step(self, b))
    monkeypatch.setattr(loop, "choose_precision", lambda *_: 1 / 0)
    assert fit(table, tmp_path, resume=True).state["precision"]["name"] == "bf16" and used == ["bf16"] * 4


def test_an_interrupt_before_the_training_says_that_nothing_was_written(demo_labels, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for what in ("prepare", "_dataset"):  # checking images, decoding them
        with monkeypatch.context() as patch:
            patch.setattr(fitting, what, interrupted)
            with pytest.raises(Interrupted, match="^stopped before the training began: nothing was written to .*run; "):
                fit(read_labels(demo_labels), tmp_path / "run", **TINY)
        assert not folder_of.holds_run(tmp_path / "run")


def test_what_goes_on_is_said_on_standard_output_and_no_note_is_an_error(demo_labels, tmp_path, capfd):
    fit(read_labels(demo_labels), tmp_path / "run", **TINY | {"epochs": 1, "precision": "auto"})
    said, errors = capfd.readouterr()
    beginnings = (
        "- set aside: 'images/truncated.jpg': ",
        "- duplicate: ",
        "- leak: ",
        "decoding ",
        "precision: ",
        "training on ",
    )
    places = [next(i for i, line in enumerate(said.splitlines()) if line.startswith(its)) for its in beginnings]
    assert places[3:] == sorted(places[3:]) and errors == ""


def test_an_interrupt_keeps_the_best_weights_so_far_and_the_next_one_is_immediate(demo_labels, tmp_path, capsys):
    def interrupt(row):
        if row["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    run = fit(read_labels(demo_labels), tmp_path / "run", on_epoch_end=interrupt, **{**TINY, "epochs": 5})
    assert run.status == "interrupted" and len(run.history) in (2, 3) and len(run.predictions("test")) == 17
    assert signal.getsignal(signal.SIGINT) is handler
    assert (
        f"training stopped after {len(run.history)} epochs; the best weights so far are kept" in capsys.readouterr().out
    )

    def twice(row):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    with pytest.raises(Interrupted, match="training stopped after 1 epoch; the best weights so far are kept. To go on"):
        fit(read_labels(demo_labels), tmp_path / "twice", on_epoch_end=twice, **TINY)
    assert Run(tmp_path / "twice").status == "interrupted"


def test_whoever_was_asked_to_terminate_does_so_once_everything_is_saved(demo_labels, tmp_path):
    def terminated(*_):
        raise Killed

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        with pytest.raises(Killed):
            ask = {"on_epoch_end": lambda _: os.kill(os.getpid(), signal.SIGTERM)}
            fit(read_labels(demo_labels), tmp_path, **ask, **TINY)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert Run(tmp_path).status == "interrupted" and len(Run(tmp_path).history) == 1


def test_a_failing_loss_names_the_images_and_is_never_the_best(demo_labels, tmp_path, monkeypatch):
    step = Trainer.step

    def poisoned(self, batch):
        if self.place.epoch == 2 and self.place.step == 2:
            self.model.head.weight.data.fill_(float("inf"))
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", poisoned)
    message = "in epoch 2; the batch holds 'images/.*; try a lower --lr"
    with pytest.raises(WorkbenchError, match=message) as caught:
        fit(read_labels(demo_labels), tmp_path, **TINY)
    assert caught.value.exit_status == 1 and Run(tmp_path).status == "failed"
    assert len(Run(tmp_path).history) == 1
    for name in (folder_of.BEST, folder_of.LAST):
        assert all(tensor.isfinite().all() for tensor in safetensors.torch.load_file(tmp_path / name).values())


def test_patience_ends_a_training_that_no_longer_gains(demo_labels, tmp_path):
    settings = {**TINY, "epochs": 20, "patience": 2, "learning_rate": 1e-12}
    run = fit(read_labels(demo_labels), tmp_path, **settings)
    best = int(run.best_epoch.epoch)
    assert run.status == "finished" and len(run.history) == best + 2 < 20


def test_the_decoded_images_change_nothing(demo_labels, tmp_path, whole):
    fit(read_labels(demo_labels), tmp_path, cache_gb=0.0, **TINY)
    assert trained(tmp_path) == whole


@pytest.mark.parametrize("settings", [{}, {"cache_gb": 0.0}, {"cache_gb": 0.0, "workers": 2}])
def test_an_image_replaced_after_its_check_is_neither_trained_on_nor_cached(tmp_path, monkeypatch, settings):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = read_labels(make_demo(tmp_path / "scenes", images=20, seed=2))
    image, prepared = table.root / table.paths[7], fitting._dataset
    other, own = (table.root / table.paths[8]).read_bytes(), image.read_bytes()

    def replaced(*given):
        image.write_bytes(other)
        return prepared(*given)

    monkeypatch.setattr(fitting, "_dataset", replaced)
    told = f"image '{table.paths[7]}': not the bytes that were checked; has it changed since it was checked\\?$"
    with pytest.raises(WorkbenchError, match=told):
        fit(table, tmp_path / "run", **TINY | settings)
    image.write_bytes(own)
    monkeypatch.setattr(fitting, "_dataset", lambda *given: decoded.append(prepared(*given)) or decoded[-1])
    decoded = []
    fit(table, tmp_path / "run", overwrite=True, **TINY | {"epochs": 1} | settings)
    row = decoded[0].paths.tolist().index(table.paths[7])
    expected = squared(load_image(table.paths[7], table.root, 32), 32)
    np.testing.assert_array_equal(decoded[0][row][0].numpy(), expected)


def launch(script, labels, processes, *arguments):
    """Run in several processes on the CPU, by torchrun: `accelerate launch` would start only one there without MPI.

    Each launch begins with an empty cache, which the processes then fill together.
    """
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += [*script, *map(str, (labels, *arguments))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": tempfile.mkdtemp()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(demo_labels, tmp_path):
    """Unknown labels and an uneven last batch included; BatchNorm's statistics frozen, which a smaller part changes."""
    table, dice = read_labels(demo_labels), np.random.default_rng(0)
    y = np.where(dice.random(table.y.shape) < dice.choice([0.1, 0.9], (len(table), 1)), -1, table.y)
    rows = [f'{path},"{row.tolist()}",{split}' for path, row, split in zip(table.paths, y, table.split, strict=True)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["image_path,labels,split", *rows]) + "\n")
    script = str(PROJECT / "tests/training/two_processes.py")
    runs = []
    for processes, pieces in ((1, 1), (2, 1), (2, 2)):
        folder = tmp_path / f"{processes}-{pieces}"
        launch([script], labels, processes, demo_labels.parent, folder, "frozen", pieces)
        runs.append(Run(folder))
    assert [run.state["processes"] for run in runs] == [1, 2, 2] and len(runs[0].splits()) == 77
    norms = [list(map(json.loads, Path(f"{run.folder}.norms").read_text().splitlines())) for run in runs]
    assert [len(of_run) for of_run in norms] == [1, 2, 2]
    for run, of_run in zip(runs[1:], norms[1:], strict=True):
        assert of_run[0] == of_run[1]
        np.testing.assert_allclose(of_run[0][:3], norms[0][0][:3], rtol=1e-4)  # not a mean of the processes' means
        np.testing.assert_allclose(of_run[0], norms[0][0], rtol=2e-2)
        for column in ("train_loss", "val_loss", "val_map"):
            np.testing.assert_allclose(run.history[column], runs[0].history[column], rtol=1e-3)
        np.testing.assert_allclose(run.predictions("test").logits, runs[0].predictions("test").logits, atol=2e-2)


@pytest.mark.slow
def test_several_processes_say_everything_once(demo_labels, tmp_path):
    options = ["--run", tmp_path / "run", *OPTIONS, "--epochs", "1"]
    out = launch(["-m", "--", "mlworkbench", "train"], demo_labels, 2, *options)
    said = out.splitlines()
    assert len(set(said)) == len(said) and [line.split()[0] for line in said[-2:]] == ["epoch", f"{tmp_path / 'run'}:"]


@pytest.mark.slow
def test_several_processes_drop_the_wrapper_of_the_head_epochs_and_send_no_statistics(demo_labels, tmp_path):
    told = json.loads(
        launch([str(PROJECT / "tests/training/wrappers.py")], demo_labels, 2, tmp_path / "run").splitlines()[-1]
    )
    assert told["wrappers"] == 2 and set(told["alive"]) == {1} and set(told["buffers are sent"]) == {False}


@pytest.mark.parametrize("processes, batch, rough", [(2, 31, True), (2, 32, False), (1, 8, False)])
def test_a_process_with_few_images_a_batch_is_told_of(caplog, processes, batch, rough):
    rows = np.arange(64)
    prepared = SimpleNamespace(rows=lambda _: rows, table=SimpleNamespace(source="labels.csv"))
    job = SimpleNamespace(
        settings=Settings(batch_size=batch),
        prepared=prepared,
        main=True,
        processes=SimpleNamespace(num_processes=processes),
    )
    LoopRoute._make_batches(SimpleNamespace(job=job))
    assert ("BatchNorm sees 15 images at once" in caplog.text) == rough == ("--batch 32" in caplog.text)


def test_layers_that_cannot_be_frozen_are_refused_and_random_ones_warned_of(demo_labels, tmp_path, caplog):
    with pytest.raises(WorkbenchError, match="freeze is 10; expected at most 9, the last of 10 layers learns"):
        fit(read_labels(demo_labels), tmp_path / "all", freeze=10, **TINY)
    assert not (tmp_path / "all" / "run.json").exists()
    fit(read_labels(demo_labels), tmp_path / "some", freeze=9, **{**TINY, "epochs": 1})
    assert "starts from random weights, and freeze keeps 9 layers so" in caplog.text
