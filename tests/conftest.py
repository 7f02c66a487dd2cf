"""Shared data: made once a session, small enough for seconds."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"

os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # failed tests leave their files there
# Everything else goes when the suite ends, also what killed processes left. Short: a socket's path has 107 bytes.
HOUSE = tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="mlw-")
os.environ["XDG_CACHE_HOME"] = f"{HOUSE}/cache"  # nobody's own
os.environ["YOLO_AUTOINSTALL"] = "False"  # also for tests that import ultralytics themselves
os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"


def pytest_configure(config):
    """The suite is about the processor, whose bits it asks for; what a card does is told by `pytest -m gpu` alone."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_unconfigure():
    shutil.rmtree(HOUSE, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    import torch

    # Files that take minutes come first, so that no process is left with one at the end.
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("notebook")}
    items.sort(key=lambda item: item.path not in long)
    if not torch.cuda.is_available():
        reason = "a GPU: none is here" if config.option.markexpr == "gpu" else "a GPU: run `pytest -m gpu` where one is"
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def demo_labels(tmp_path_factory):
    """The labels file of 70 images of signs."""
    from mlworkbench.data.demo import make_demo

    return make_demo(tmp_path_factory.mktemp("demo") / "scenes", images=70, seed=1)


@pytest.fixture(scope="session")
def tiny_run(demo_labels, tmp_path_factory):
    """A finished run of two epochs at 32 px; tests must not write to it."""
    from mlworkbench import fit, read_labels

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return fit(read_labels(demo_labels), folder, epochs=2, image_size=32, batch_size=8, precision="fp32")


HOSTILE_NAMES = ["cat", "dog", "<script>alert(1)</script> $x^2$", "rare"]


@pytest.fixture(scope="module")
def handmade_run(tmp_path_factory):
    """A run folder that nobody trained: noisy logits of small images of one colour."""
    import pandas as pd

    from mlworkbench import Predictions, Run
    from mlworkbench.runs import folder as folder_of

    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("handmade")
    run, root = Run(folder / "run"), folder / "images"
    root.mkdir()
    run.write_state(format_version=1, class_names=HOSTILE_NAMES, status="finished", image_root=str(root))
    sizes = {"val": 120, "test": 80}
    rows = [(f"{split}{i}.png", split) for split, images in sizes.items() for i in range(images)]
    pd.DataFrame(rows, columns=["image_path", "split"]).to_csv(run.folder / folder_of.SPLITS, index=False)
    for split, images in sizes.items():
        y = (rng.random((images, 4)) < [0.4, 0.3, 0.2, 0.06]).astype(np.int8)
        paths = np.array([f"{split}{i}.png" for i in range(images)], object)
        for path in paths:
            Image.new("RGB", (24, 24), tuple(rng.integers(0, 256, 3).tolist())).save(root / path)
        logits = rng.normal(2 * y - 2, 1.2).astype(np.float32)
        run.write_predictions(Predictions(paths, HOSTILE_NAMES, logits, y, split), split)
    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def write_labels(tmp_path):
    """Write a labels file (text or rows) and return its path."""

    def write(content, name="labels.csv"):
        if not isinstance(content, str):
            rows = "".join(f'{image},"{json.dumps(labels)}"\n' for image, labels in content)
            content = "image_path,labels\n" + rows
        file = tmp_path / name
        file.write_text(content, encoding="utf-8", newline="")
        return file

    return write


@pytest.fixture
def picture(tmp_path):
    """Write an image of random pixels below tmp_path and return its name."""

    def write(name, size=(40, 30), mode="RGB", seed=0, **options):
        numbers = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers).convert(mode).save(file, **options)
        return name

    return write
