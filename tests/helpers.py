"""What tests of several rooms make: runs, checkpoints, hostile files, a process that dies while it writes."""

import hashlib
import itertools
import json
from collections import Counter
from dataclasses import asdict
from importlib import import_module

import numpy as np
import PIL.Image
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from mlworkbench import Predictions, Run, files, tune_thresholds
from mlworkbench.files import write_csv, write_whole
from mlworkbench.scoring.calibration import calibrate
from mlworkbench.settings import Settings

# The same network on the same images in another batch, or by another engine: fp32 adds up in another order, and how far
# that shows depends on the processor. Another image or weight moves logits by more than a hundredth.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def ultralytics_checkpoint(file, classes=3, change=None, stripped=False):
    """Save a checkpoint as Ultralytics' trainer does."""
    from ultralytics.nn.tasks import ClassificationModel

    torch.manual_seed(5)
    net = ClassificationModel("yolov8n-cls.yaml", nc=classes, verbose=False)
    if change is not None:
        change(net)
    if stripped:  # as its strip_optimizer leaves it: half precision, and nothing would train
        net.half().requires_grad_(False)
    torch.save({"model": net, "epoch": -1, "train_args": {}}, file)
    return net.float()


def blocks(size, seed):
    """An image of coarse random blocks, which a network tells from another; size is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def untrained_run(folder, names, size=32, images=3):
    """A run that nobody trained, of these classes: random weights that tell images apart, and some test images."""
    from mlworkbench import Run, build_model
    from mlworkbench.files import write_whole
    from mlworkbench.network.model import save_weights
    from mlworkbench.runs import folder as folder_of

    torch.manual_seed(1)
    model, run, root = build_model("yolov8n-cls.yaml", names), Run(folder), folder / "images"
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # statistics of the one batch that follows
    seen = np.stack([np.asarray(blocks((64, 64), 100 + i)) for i in range(16)])
    with torch.no_grad():
        model.train()(torch.from_numpy(seen).permute(0, 3, 1, 2) / 255)
    torch.nn.init.normal_(model.head.weight, 0, 0.5)
    root.mkdir(parents=True)
    for i in range(images):
        blocks((60, 40), i).save(root / f"{i}.png")
    rows = "".join(f"{i}.png,test\n" for i in range(images))
    write_whole(folder / folder_of.SPLITS, f"image_path,split\n{rows}".encode())
    write_whole(folder / folder_of.BEST, save_weights(model))
    settings = {"image_size": size, "batch_size": 8, "workers": 0, "loss": "bce"}
    run.write_state(format_version=1, class_names=names, status="finished", image_root=str(root), settings=settings,
                    architecture=model.architecture)  # fmt: skip
    return Run(folder)


class Hostile:
    """Writes a file when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


class Killed(BaseException):
    """No handler in the package knows it."""


def killed_at(patch, last, before=True):
    """Have a training die at this write of its files, before or after the file is there."""
    real, writes = files.write_whole, itertools.count(1)

    def write(path, data):
        number = next(writes)
        if number <= last - before:
            real(path, data)
        if number >= last:
            raise Killed

    importers = ("training.fit", "training.recorder", "training.ultralytics_route", "runs.run", "runs.folder", "files")
    for module in importers:
        patch.setattr(import_module(f"mlworkbench.{module}"), "write_whole", write)


class Recordable(TorchDispatchMode):
    """Fails where a value is read from the device: by `float()`, `if`, `.tolist()`, or a mask of unknown length."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


class StandIn:
    """For `replay.CUDAGraphs` where there is no card; `calls` counts what was asked of it."""

    def __init__(self):
        self.calls = Counter()

    def once(self, work):
        self.calls["once"] += 1
        return work()

    def record(self, work):
        self.calls["record"] += 1

        def replay():
            self.calls["replay"] += 1
            with Recordable():
                return work()

        return replay


WILD_NAMES = [
    "<img src=x onerror=alert(1)>", "<button data-commandlinker-command='x'>", r"\href{javascript:alert(1)}{x}",
    "</style><script>alert(1)</script>", "{{ 7 * 7 }}", "two\nlines", "=1+1", "$x^2$", "a/b", "'\"&amp;", "猫", "🐱",
]  # fmt: skip


def finished_run(folder, names, seed=0, images=80):
    """A finished run that nobody trained, with images of noise, labels, history, quarantine, findings, thresholds."""
    rng, run, root = np.random.default_rng(seed), Run(folder / "run"), folder / "images"
    root.mkdir(parents=True)
    split = np.repeat(["train", "val", "test"], images).astype(object)
    y = (rng.random((3 * images, len(names))) < 0.3).astype(np.int8)
    y[split == "test", 1] = 0  # without a positive
    paths = np.array([f"<b>{i}.png" for i in range(len(y))], object)
    for path in paths:
        PIL.Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(root / path)
    rows = [(path, json.dumps(row.tolist())) for path, row in zip(paths, y, strict=True)]
    write_whole(root / "labels.csv", write_csv(rows, ("image_path", "labels")))
    sha256 = hashlib.sha256((root / "labels.csv").read_bytes()).hexdigest()
    run.write_state(
        format_version=1, class_names=names, status="finished", image_root=str(root), seconds=75,
        labels_file=str(root / "labels.csv"), labels_sha256=sha256, tag_delimiter=None, given=["root", "classes"],
        settings=asdict(Settings(epochs=3, flip=True, backbone_rate=0.5)), versions={"torch": "9.9"},
    )  # fmt: skip
    logits = rng.normal(2.5 * y - 2, 1.3).astype(np.float32)
    files = {
        "splits.csv": write_csv(zip(paths, split, strict=True), ("image_path", "split")),
        "history.csv": write_csv(
            [(1, 1e-3, 0.5, 0.6, 0.25, 2), (2, 5e-4, 0.3, 0.4, 0.75, 2), (3, 0, 0.2, 0.5, 0.5, 2)],
            ("epoch", "lr", "train_loss", "val_loss", "val_map", "seconds"),
        ),
        "quarantine.csv": write_csv(
            [*((i, f"<i>{i}.png", "cut <off>") for i in range(5)), (9, "x.txt", "no image")],
            ("line", "image_path", "reason"),
        ),
        "inspect/findings.csv": write_csv([("rare", f"class {name!r}") for name in names], ("kind", "finding")),
        "inspect/summary.json": json.dumps({"labels_sha256": sha256}).encode(),
    }
    for name, content in files.items():
        write_whole(run.folder / name, content)
    for part in ("val", "test"):
        its = split == part
        run.write_predictions(Predictions(paths[its], names, logits[its], y[its], part), part)
    run.save_thresholds(tune_thresholds(calibrate(run.predictions("val", raw=True))))
    return run
