import argparse
import ast
import inspect
import json
import re
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import get_args

import numpy as np
import pytest
from conftest import PROJECT

from mlworkbench import WorkbenchError
from mlworkbench.data.prepare import prepare
from mlworkbench.parser import make_parser
from mlworkbench.settings import Settings, default_text, typed


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; expected one of model,"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"batch_size": 8, "accumulate": 5}, "batch_size 8 in 5 pieces; expected 2 images in each"),
        ({"seed": -1}, "seed is -1"),
        ({"patience": True}, "patience is True"),
        ({"image_size": 1.5}, "image_size is 1.5"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"backbone_rate": 2.0}, "backbone_rate is 2.0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"cache_gb": float("nan")}, "cache_gb is nan"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"positive_weight": 0.5}, "positive_weight is 0.5"),
        ({"positive_weight": 3.0, "loss": "asl"}, "above it only bce"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"loss": "focal"}, "loss is 'focal'; expected one of bce, asl"),
        ({"route": "magic"}, "route is 'magic'"),
    ],
)
def test_settings_are_strict(settings, part):
    with pytest.raises(WorkbenchError) as caught:
        Settings.of(**settings)
    assert part in str(caught.value)


def test_a_resumed_run_keeps_its_settings_but_may_move():
    saved = vars(Settings(epochs=9, workers=1))
    assert Settings.resumed(saved, {"epochs": 9, "workers": 4, "device": "cpu"}) == Settings(
        epochs=9, workers=4, device="cpu"
    )
    assert Settings.resumed(saved, {"epochs": 20}) == Settings(epochs=20, workers=1)  # it trains on
    with pytest.raises(WorkbenchError, match="epochs is 8, but the run to resume has 9; give more to train on"):
        Settings.resumed(saved, {"epochs": 8})
    with pytest.raises(WorkbenchError, match="epochs is 20, but the run to resume has 9"):
        Settings.resumed({**saved, "route": "probe"}, {"epochs": 20})
    with pytest.raises(WorkbenchError, match="unknown setting 'epoch'"):
        Settings.resumed(saved, {"epoch": 20})


def test_values_as_people_write_them():
    assert typed("patience", "5") == 5 and typed("ema", "0.9") == 0.9 and typed("crop", "True") is True
    assert typed("backbone_rate", "0.1") == 0.1 and typed("model", "7") == "7"
    for name, text, kind in (
        ("patience", "5.5", "a whole number"),
        ("crop", "perhaps", "true or false"),
        ("ema", "x", "a number"),
    ):
        with pytest.raises(WorkbenchError, match=f"{name} is '{text}'; expected {kind}"):
            typed(name, text)


WRONG = {
    bool: ("false", 1, None, np.int64(0)),
    int: ("5", True, 5.0, None, np.float32(5), np.array([5])),
    float: ("0.5", True, None, 1j, float("inf"), 10**400, np.array([0.5]), np.bool_(True)),
    str: (3, None, b"auto", ["auto"], PROJECT, "\udcff"),
    dict: ("x", [("lrf", 0.1)], None, 3, {1: 2}, {"a": object()}, {"a": float("nan")}, {"a\udcff": 1}),
}


@pytest.mark.parametrize("known", fields(Settings), ids=lambda known: known.name)
def test_every_setting_is_checked_by_its_type(known):
    kind, *or_none = get_args(known.type) or (known.type,)
    for value in WRONG[kind]:
        if (value is None and or_none) or (value == 3 and known.name == "device"):
            continue
        with pytest.raises(WorkbenchError) as caught:
            Settings.of(**{known.name: value})
        text = str(caught.value)
        assert text.startswith(f"{known.name} is ") and "; expected " in text and "\n" not in text and len(text) < 250


def test_numpy_scalars_are_taken_and_can_be_written():
    given = {
        "epochs": np.int64(3), "learning_rate": np.float32(0.25), "flip": np.bool_(True), "weight_decay": 1,
        "model": np.str_("a.yaml"), "cache_gb": np.uint8(2), "backbone_rate": np.float64(0.5), "seed": np.array(4),
        "route": "ultralytics",
        "ultralytics": MappingProxyType({"lrf": np.float32(0.5), "freeze": (np.int64(1), 2), "plots": np.bool_(False)}),
    }  # fmt: skip
    chosen = Settings.of(**given)
    written = json.loads(json.dumps(asdict(chosen)))
    assert written == asdict(chosen) and Settings.of(**written) == chosen
    assert chosen.flip is True and chosen.learning_rate == 0.25 and type(chosen.weight_decay) is float
    assert chosen.ultralytics == {"lrf": 0.5, "freeze": [1, 2], "plots": False}
    assert Settings.resumed(written, given) == chosen


@pytest.mark.parametrize("value", [0, "0", " 0", np.int64(0), [0], "cuda:0"])
def test_a_device_may_be_the_number_of_a_gpu(value):
    assert Settings(device=value).device == "cuda:0"


@pytest.mark.parametrize("value", ["0,1", [0, 1], (0, 1)])
def test_several_devices_are_refused_with_the_way(value):
    with pytest.raises(
        WorkbenchError, match="a process trains on one; for 2 .*: torchrun .*--nproc_per_node 2 -m -- ml"
    ):
        Settings(device=value)


def test_what_belongs_together_may_be_given_to_a_resumed_run_in_part():
    saved = asdict(Settings(route="ultralytics", loss="softmax", batch_size=64, accumulate=20))
    assert Settings.resumed(saved, {"loss": "softmax"}) == Settings.resumed(saved, {"accumulate": 20})


def test_a_mapping_is_no_text():
    with pytest.raises(WorkbenchError, match="^ultralytics is 'x'; a mapping is given in Python only: mw.fit(.*)$"):
        typed("ultralytics", "x")
    with pytest.raises(WorkbenchError, match="unknown setting 'epoch'; expected one of model,"):
        typed("epoch", "3")


OFFERED = {
    "model": ("--model", "NAME.yaml|NAME.pt|RUN", None),
    "route": ("--route", None, ("loop", "ultralytics", "probe")),
    "epochs": ("--epochs", "N", None),
    "batch_size": ("--batch", "N", None),
    "image_size": ("--imgsz", "N", None),
    "learning_rate": ("--lr", "X", None),
    "flip": ("--flip", None, None),
    "seed": ("--seed", "N", None),
    "precision": ("--precision", None, ("auto", "fp32", "bf16", "fp16")),
    "device": ("--device", "D", None),
    "workers": ("--workers", "N", None),
    "loss": ("--loss", None, ("bce", "asl", "softmax")),
    "compile": ("--compile", None, None),
    "max_quarantine": ("--max-quarantine", "F", None),
}
FURTHER = ["head_epochs", "backbone_rate", "freeze", "accumulate", "patience", "positive_weight", "ema", "weight_decay",
           "crop", "folds", "cache_gb"]  # fmt: skip


def test_the_command_line_offers_the_settings():
    commands = next(a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    found = {action.dest: action for action in commands["train"]._actions}
    names = [each.name for each in fields(Settings)]
    offered = {name: (*a.option_strings, a.metavar, a.choices) for name, a in found.items() if name in names}
    assert offered == OFFERED and [*OFFERED, *FURTHER, "ultralytics"] == names
    others = {"help", "debug", "labels", "root", "classes", "splits", "corrections", "tag_delimiter", "run", "set",
              "resume", "overwrite"}  # fmt: skip
    assert found.keys() - OFFERED.keys() == others
    assert all(each.metadata["help"] in found[each.name].help for each in fields(Settings) if each.metadata["flag"])
    assert all(name in found["set"].help for name in FURTHER) and "ultralytics" not in found["set"].help
    assert {"seed", "max_quarantine"} < {action.dest for action in commands["check"]._actions}
    assert inspect.signature(prepare).parameters["max_quarantine"].default == Settings().max_quarantine


def test_the_page_on_training_has_the_further_settings():
    table = re.search(
        r"^\| setting \|.*\n\|---.*\n((\|.*\n)+)", (PROJECT / "docs/training.md").read_text(), re.MULTILINE
    )[1]
    known = {each.name: each for each in fields(Settings)}
    rows = [f"| `{name}` | {default_text(known[name])} | {known[name].metadata['help']} |" for name in FURTHER]
    assert table.splitlines() == rows


# Notebooks begin with the built-in images, for which this is enough.
OTHERWISE = {"image_size": [96], "epochs": [18, 12]}


def test_notebooks_begin_with_the_settings_defaults():
    found = set()
    for path in (PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        source = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", ()))
        for node in ast.parse(source).body:
            name, value = node.target.id, ast.literal_eval(node.value)
            if hasattr(Settings, name):
                found.add(name)
                assert value in OTHERWISE.get(name, [getattr(Settings(), name)]), (path.name, name)
                assert type(value).__name__ == node.annotation.id
    assert found == {
        "model",
        "route",
        "epochs",
        "batch_size",
        "image_size",
        "learning_rate",
        "flip",
        "precision",
        "seed",
    }
