"""Arguments of Ultralytics' trainer: an argument has an effect, or is refused."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import ultralytics
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils import DEFAULT_CFG_DICT

from mlworkbench import MultiLabelYOLO, WorkbenchError
from mlworkbench.settings import Settings
from mlworkbench.training import ultralytics_arguments, ultralytics_route
from mlworkbench.training.ultralytics_arguments import AUGMENTATIONS, FIXED, HONOURED, TAKEN, next_rate, recipe
from mlworkbench.training.ultralytics_route import UltralyticsRoute

LIBRARY = Path(ultralytics.__file__).parent
TRAINER = [LIBRARY / "engine/trainer.py", LIBRARY / "models/yolo/classify/train.py"]
# Read by their trainer, and without effect on a training of ours all the same, with the reason.
READ_IN_VAIN = {
    "multi_scale": "set to 0 for classification",
    "close_mosaic": "there is no mosaic; a few more sample plots",
}


def read_in(files):
    """Names that follow `args.` in these sources, or `self.args.`."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Attribute) and getattr(node.value, "attr", getattr(node.value, "id", "")) == "args":
                found.add(node.attr)
    return found


def check(**arguments):
    UltralyticsRoute.check(Settings(route="ultralytics", ultralytics=arguments), torch.device("cpu"))


def test_those_honoured_are_those_that_the_trainer_reads():
    read = read_in(TRAINER) | {*AUGMENTATIONS, "verbose"}  # these our own subclass reads
    ours = Path(ultralytics_route.__file__).read_text()
    assert all(name in ours for name in ("self.args.scale", "self.args.fliplr", 'arguments["verbose"]', '"erasing"'))
    known = {name for name in DEFAULT_CFG_DICT if name in read}
    assert set(HONOURED) <= known
    assert known - {*HONOURED, *FIXED, *TAKEN} == set(READ_IN_VAIN)


def test_frozen_layers_are_theirs_too():
    assert recipe(Settings(route="ultralytics", freeze=4))["freeze"] == 4
    assert recipe(Settings(route="ultralytics"))["freeze"] is None is DEFAULT_CFG_DICT["freeze"]
    assert recipe(Settings(route="ultralytics", freeze=4, ultralytics={"freeze": [1]}))["freeze"] == [1]


@pytest.mark.parametrize("name", sorted({*DEFAULT_CFG_DICT} - {*HONOURED, *FIXED, *TAKEN}))
def test_every_other_is_refused_unless_it_is_off_or_as_always(name):
    usual = DEFAULT_CFG_DICT[name]
    check(**{name: usual})
    value = {bool: not usual, str: usual, list: [1]}.get(type(usual), 0.75 if isinstance(usual, float) else 3)
    if isinstance(usual, str) or value in (usual, False):
        return
    with pytest.raises(WorkbenchError) as caught:
        check(**{name: value})
    text = str(caught.value)
    assert name in text and "\n" not in text and ("no effect" in text or "Ultralytics' arguments" in text)


@pytest.mark.parametrize(
    "given", [{"mixup": 0.5}, {"cutmix": 1.0}, {"degrees": 10.0}, {"cls_pw": 0.5}, {"mosaic": 0.5}]
)
def test_what_people_give_is_refused_before_anything_is_read(given, tmp_path):
    (name,) = given
    with pytest.raises(
        WorkbenchError, match=f"^{name}=.* would have no effect on images with several labels; leave it out"
    ):
        check(**given)
    (tmp_path / "labels.csv").write_text("image_path,cat\na.png,1\n")
    with pytest.raises(WorkbenchError, match=f"^{name}="):
        MultiLabelYOLO("yolov8n-cls.yaml").train(
            data=str(tmp_path / "labels.csv"), save_dir=str(tmp_path / "r"), **given
        )
    assert not (tmp_path / "r").exists()


def test_off_and_what_stands_in_each_others_way():
    check(mosaic=0.0, mixup=0.0, degrees=0.0, close_mosaic=0)
    for arguments, part in (
        ({"auto_augment": "randaugment", "hsv_h": 0.1}, "hsv_h would have no effect beside auto_augment"),
        ({"warmup_momentum": 0.5}, "warmup_momentum would have no effect on the optimizer AdamW"),
    ):
        with pytest.raises(WorkbenchError, match=part):
            check(**arguments)
    check(warmup_momentum=0.5, optimizer="SGD")
    for name in ("flip", "crop"):
        settings = Settings(route="ultralytics", ultralytics={"erasing": 0.5}, **{name: True})
        with pytest.raises(WorkbenchError, match=f"{name} is not done beside Ultralytics' own erasing"):
            ultralytics_arguments.check_arguments(settings)
    with pytest.raises(WorkbenchError, match="lr0: the optimizer 'auto' chooses its own; name one"):
        MultiLabelYOLO("yolov8n-cls.yaml").train(data=pd.DataFrame({"image_path": ["a.png"], "cat": [1]}), lr0=0.1)


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize("done", [1, 3, 7])
def test_the_next_rate_is_their_schedulers(done, straight):
    settings = Settings(
        route="ultralytics", epochs=8, ultralytics={"cos_lr": not straight, "lrf": 0.1, "warmup_epochs": 2}
    )
    weights = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weights], lr=1.0)
    theirs = SimpleNamespace(args=SimpleNamespace(cos_lr=not straight, lrf=0.1), epochs=8, optimizer=optimizer)
    BaseTrainer._setup_scheduler(theirs)
    warm = min(1, done / 2)
    assert next_rate(settings, {"epoch": done - 1}) == pytest.approx(theirs.lf(done) * warm)
