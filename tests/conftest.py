"""Shared data: made once a session, small enough for seconds."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mlworkbench-cache-")  # nobody's own cache
os.environ["YOLO_AUTOINSTALL"] = "False"  # also for tests that import ultralytics themselves
os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"


@pytest.fixture(scope="session")
def demo_labels(tmp_path_factory):
    """The labels file of 60 digit scenes."""
    from mlworkbench.demo import make_demo

    return make_demo(tmp_path_factory.mktemp("demo") / "scenes", images=60, seed=1)


@pytest.fixture(scope="session")
def tiny_run(demo_labels, tmp_path_factory):
    """A finished run of two epochs at 32 px; tests must not write to it."""
    from mlworkbench import fit, read_labels

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return fit(read_labels(demo_labels), folder, epochs=2, image_size=32, batch_size=8, precision="fp32")


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
