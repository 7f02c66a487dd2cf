"""Attacks by files, each in a process that has read nothing yet. Arguments: ours|theirs (imported first) FOLDER.

An attack that runs code writes FOLDER/executed. Prints a line an attack: its name, and the refusal or what came of it.
"""

# ruff: noqa: E402, E501
import json
import os
import sys
from pathlib import Path

order, folder = sys.argv[1], Path(sys.argv[2])
if order == "theirs":
    from ultralytics import YOLO  # noqa: F401  (the usual first line of a notebook)

# isort: off
from mlworkbench import MultiLabelYOLO, Run, WorkbenchError, build_model
import torch
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import ClassificationModel, DetectionModel
# isort: on

CODE = f"open({str(folder / 'executed')!r}, 'w').close() or __import__('torch').nn.ReLU()"
HEAD = "head:\n  - [-1, 1, Classify, [nc]]\n"
CONV = "nc: 2\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n"


class Code:
    """Writes a file when it is unpickled in full."""

    def __reduce__(self):
        return (open, (str(folder / "executed"), "w"))


class Distills:
    """Has a distillation model built from a second file."""

    def __reduce__(self):
        return (DistillationModel, (str(folder / "second.pt"), ClassificationModel("yolov8n-cls.yaml", verbose=False)))


def architecture(**changes):
    return {**build_model("yolov8n-cls.yaml", ["a", "b"]).architecture, **changes}


def inner_model():
    inner = {"nc": 1, "activation": CODE, "backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[-1, 1, "Classify", [1]]]}
    return architecture(backbone=[[-1, 1, "ClassificationModel", [inner]]])


def yaml_file(text):
    (folder / "foreign.yaml").write_text(text)
    return folder / "foreign.yaml"


def checkpoint(net, **more):
    torch.save({"model": net, "epoch": -1, "train_args": {}, **more}, folder / "foreign.pt")
    return folder / "foreign.pt"


def run_folder(mapping):
    (folder / "run").mkdir(exist_ok=True)
    settings = {"loss": "bce"}
    state = {"format_version": 1, "class_names": ["a", "b"], "architecture": mapping, "settings": settings}
    (folder / "run" / "run.json").write_text(json.dumps(state))
    return Run(folder / "run")


def exploding(levels=40, each=10):
    lines = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * each)}]" for i in range(1, levels)]
    return "\n".join(lines) + f"\nnc: 2\nbackbone:\n  - [-1, 1, Conv, [*a{levels - 1}]]\n{HEAD}"


def net_with(mapping):
    net = ClassificationModel("yolov8n-cls.yaml", nc=2, verbose=False)
    net.yaml = mapping
    return net


def shadowed():
    """A network whose state_dict is another's forward: whoever calls the file's objects runs what they hold."""
    net = ClassificationModel("yolov8n-cls.yaml", nc=2, verbose=False)
    net.state_dict = net.model[0].forward
    return net


def doors(file):
    """Each way in for a file: the front page and Ultralytics' own class."""
    return {"build_model": lambda: build_model(file, ["a", "b"]), "MultiLabelYOLO": lambda: MultiLabelYOLO(file)}


def second():
    torch.save({"model": Code()}, folder / "second.pt")
    return Distills()


ATTACKS = {
    "mapping: a model as a layer": lambda: {"build_model": lambda: build_model(inner_model(), ["a", "b"])},
    "run.json: a model as a layer": lambda: {"Run.model": lambda: run_folder(inner_model()).model},
    "run.json: code as activation": lambda: {"Run.model": lambda: run_folder(architecture(activation=CODE)).model},
    "yaml: a model as a layer": lambda: doors(yaml_file(
        f'nc: 2\nbackbone:\n  - [-1, 1, ClassificationModel, [{json.dumps(inner_model()["backbone"][0][3][0])}]]\n{HEAD}')),
    "yaml: code as activation": lambda: doors(yaml_file(f"activation: {json.dumps(CODE)}\n{CONV}{HEAD}")),
    "yaml: weights are fetched": lambda: doors(yaml_file(
        f"nc: 2\nbackbone:\n  - [-1, 1, TorchVision, [512, resnet18, DEFAULT, True, 2]]\n{HEAD}")),
    "yaml: a variable of the parser": lambda: doors(yaml_file(
        f"nc: 2\nbackbone:\n  - [-1, 1, nn.Identity, [layers]]\n{HEAD}")),
    "yaml: aliases explode": lambda: doors(yaml_file(exploding())),
    "yaml: billions of repeats": lambda: doors(yaml_file(
        f"nc: 2\nbackbone:\n  - [-1, 3000000000, nn.Identity, []]\n{HEAD}")),
    "yaml: repeats by a factor": lambda: doors(yaml_file(
        f"nc: 2\ndepth_multiple: 90000000\nbackbone:\n  - [-1, 50, nn.Identity, []]\n{HEAD}")),
    "yaml: repeats inside a layer": lambda: doors(yaml_file(
        f"nc: 2\nbackbone:\n  - [-1, 1, ResNetLayer, [3, 8, 1, False, '3000000000']]\n{HEAD}")),
    "yaml: billions of channels": lambda: doors(yaml_file(
        f"nc: 2\nbackbone:\n  - [-1, 1, nn.Conv2d, ['99999999', 99999, 3]]\n{HEAD}")),
    "pt: code in the pickle": lambda: doors(checkpoint(Code())),
    "pt: a model as a layer": lambda: doors(checkpoint(net_with(inner_model()))),
    "pt: code as activation": lambda: doors(checkpoint(net_with(architecture(activation=CODE)))),
    "pt: a second file": lambda: doors(checkpoint(second())),
    "pt: another task": lambda: doors(checkpoint(DetectionModel("yolov8n.yaml", verbose=False))),
    "pt: objects with methods of their own": lambda: {"build_model": lambda: build_model(checkpoint(shadowed()), ["a"])},
}  # fmt: skip


def attack(name):
    for door, enter in ATTACKS[name]().items():
        try:
            enter()
            said = "passed"
        except WorkbenchError as error:
            said = str(error)
        print(f"{name} | {door} | {said}", flush=True)


for name in ATTACKS:
    if (child := os.fork()) == 0:
        attack(name)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(f"{name} | died", flush=True)
