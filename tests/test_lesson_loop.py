"""Lesson 2: the loop that it writes from scratch is the package's own."""

import copy
import json

import numpy as np
import pytest
from conftest import PROJECT

from mlworkbench import build_model, lessons, read_labels
from mlworkbench.network.batches import EpochBatches, ImageDataset
from mlworkbench.network.device import Precision, join_processes
from mlworkbench.network.feed import make_loader
from mlworkbench.settings import Settings
from mlworkbench.training.loop import Trainer
from mlworkbench.training.losses import bce

LESSON = PROJECT / "notebooks" / "lessons" / "L2_the_loop.ipynb"
SMALL = {"seed": 3, "images": 100, "looked_at": 12, "epochs": 4, "batch_size": 24, "learning_rate": 2e-3}
SAME = (
    3e-5  # a mean and a sum divided round otherwise: 4e-6 after ten steps; a loop without weight decay differs by 8e-5
)


@pytest.fixture(scope="module")
def lesson():
    """All that the lesson's cells have made when its training is done, and the weights that it began with as `start`.

    Of 100 images in batches of at most 24 the first ten steps are two epochs: the rate rises and falls meanwhile.
    """
    made = {}
    for cell in json.loads(LESSON.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or "jupyter" in cell["metadata"]:  # the latter installs
            continue
        exec(compile("".join(cell["source"]), f"{LESSON.name} {cell['id']}", "exec"), made)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert set(SMALL) == set(made) - {"__builtins__", "__annotations__"}
            made |= SMALL
        if "net" in made and "start" not in made:
            made["start"] = copy.deepcopy(made["net"].state_dict())
        if "losses" in made:
            return made
    raise AssertionError("no cell of the lesson trains")


def losses_of_the_package(lesson, monkeypatch, **others):
    """Of the first ten steps of `Trainer` from the lesson's first weights, on its files, without augmentation.

    Pixels lie in memory as torch's own loader leaves them: another order there is another rounding.
    """
    monkeypatch.setattr("mlworkbench.training.loop.augment", lambda images, *_: images.contiguous() / 255)
    table = read_labels(lesson["folder"] / "labels.csv")
    dataset = ImageDataset(table.paths, lesson["folder"], table.y, 64)
    batches = EpochBatches(np.arange(lesson["images"]), lesson["batch_size"], lesson["seed"])
    model = build_model("yolov8n-cls.yaml", lesson["names"])
    model.net.load_state_dict(lesson["start"])
    shared = {name: SMALL[name] for name in ("seed", "epochs", "batch_size", "learning_rate")}
    settings = Settings(**{**shared, **others})
    told = []
    with join_processes("cpu"):
        trainer = Trainer(model, bce, settings, Precision("fp32", False), len(batches), len(dataset))
        step = trainer.step
        monkeypatch.setattr(trainer, "step", lambda batch: told.append(step(batch)) or told[-1])
        trainer.train(make_loader(dataset, batches), batches, lambda row: len(told) < 10)
    return [float(loss_sum / known) for loss_sum, known, _ in told[:10]]


def apart(lesson, losses):
    """The largest relative difference of the lesson's first ten losses from these."""
    return np.abs(np.divide(lesson["losses"][:10], losses) - 1).max()


def test_the_first_ten_losses_of_the_lesson_are_those_of_the_package(lesson, monkeypatch):
    losses = losses_of_the_package(lesson, monkeypatch)
    assert len(losses) == 10 and len(set(losses)) == 10
    assert apart(lesson, losses) < SAME


@pytest.mark.parametrize("other", [{"weight_decay": 0.0}, {"epochs": 5}], ids=str)
def test_other_settings_would_be_told_from_the_lessons(lesson, monkeypatch, other):
    """The losses above agree because the loops do, not because nothing else could come of ten steps."""
    assert apart(lesson, losses_of_the_package(lesson, monkeypatch, **other)) > 1.5 * SAME


def test_a_loop_that_clips_no_gradient_would_be_told_from_the_lessons(lesson, monkeypatch):
    monkeypatch.setattr("mlworkbench.training.loop.MAX_NORM", 1e9)
    assert apart(lesson, losses_of_the_package(lesson, monkeypatch)) > 1e-3


def test_the_lesson_begins_at_ln_2_and_learns(lesson):
    assert lesson["losses"][0] == pytest.approx(np.log(2), abs=0.05)
    assert np.mean(lesson["losses"][-3:]) < 0.5


def test_painted_signs_are_the_same_for_the_same_seed_and_differ_where_labels_do():
    pixels, y = lessons.paint_signs(60, seed=1)
    again, other = lessons.paint_signs(60, seed=1), lessons.paint_signs(60, seed=2)
    assert pixels.shape == (60, 64, 64, 3) and y.shape == (60, len(lessons.SIGNS))
    assert np.array_equal(pixels, again[0]) and np.array_equal(y, again[1]) and not np.array_equal(y, other[1])
    assert set(y.sum(1)) == {0, 1, 2, 3} and y.any(0).all()
    contrast = pixels.astype(float).std((1, 2)).mean(1)  # plain ground has the noise alone
    assert contrast[y.any(1)].min() > contrast[~y.any(1)].max()
