"""Arguments of Ultralytics' trainer: which change a training with several labels, and what they are by default."""

# isort: off
from ..network.foreign import quietly  # first: it says that Ultralytics installs nothing, which is read at its import
# isort: on

import math
import re
from collections.abc import Mapping
from typing import Any

from ultralytics.cfg import get_cfg
from ultralytics.utils import DEFAULT_CFG_DICT

from ..exceptions import WorkbenchError
from ..settings import Settings

AUGMENTATIONS = {"auto_augment": None} | dict.fromkeys(
    ("scale", "fliplr", "flipud", "erasing", "hsv_h", "hsv_s", "hsv_v"), 0.0
)
FIXED = {"val": True, "save": True, "fraction": 1.0, "single_cls": False, "distill_model": None, "quantize": None,
         "pretrained": True, "time": None, "compile": False, "rect": False, "cache": False,
         "resume": False}  # fmt: skip
# Of their arguments those that change a training of ours; a test holds them to the library's source.
HONOURED = (
    *AUGMENTATIONS, "optimizer", "lrf", "cos_lr", "momentum", "weight_decay", "warmup_epochs", "warmup_momentum",
    "warmup_bias_lr", "nbs", "dropout", "freeze", "deterministic", "channels_last", "save_period", "plots", "verbose",
)  # fmt: skip
TAKEN = ("task", "mode", "model", "data", "save_dir", "project", "name", "exist_ok", "epochs", "batch", "imgsz",
         "patience", "seed", "amp", "workers", "device", "lr0", "split")  # fmt: skip


def check_arguments(settings: Settings) -> None:
    """Raise WorkbenchError for an argument that does not exist, cannot be honoured, or would have no effect."""
    for name, value in settings.ultralytics.items():
        if name in TAKEN:
            raise WorkbenchError(f"{name} is no argument for Ultralytics here: it follows from the settings")
        if value != FIXED.get(name, value):
            raise WorkbenchError(f"{name}={value!r}: with several labels an image only {FIXED[name]!r} is possible")
    try:
        with quietly():
            get_cfg(overrides=dict(settings.ultralytics))
    except (SyntaxError, TypeError, ValueError) as error:  # an unknown name comes with a page of help
        reason = re.sub(r"\x1b\[\d*m", "", str(error)).strip().splitlines()[0]
        raise WorkbenchError(f"Ultralytics' arguments: {reason}") from None
    for name, value in settings.ultralytics.items():
        if name not in (*HONOURED, *FIXED) and value not in (DEFAULT_CFG_DICT.get(name), 0, False, None):
            raise WorkbenchError(
                f"{name}={value!r} would have no effect on images with several labels; leave it out. Of their "
                f"arguments these have one: {', '.join(HONOURED)}"
            )
    chosen = {name: settings.ultralytics.get(name, off) for name, off in AUGMENTATIONS.items()}
    theirs = [name for name, value in chosen.items() if value != AUGMENTATIONS[name]]
    for name, instead in (("flip", "fliplr=0.5"), ("crop", "scale=0.5")):
        if theirs and getattr(settings, name):
            raise WorkbenchError(f"{name} is not done beside Ultralytics' own {theirs[0]}; give {instead} instead")
    named = recipe(settings)["optimizer"]
    if "warmup_momentum" in settings.ultralytics and named.lower().startswith(("adam", "nadam", "radam")):
        raise WorkbenchError(
            f"warmup_momentum would have no effect on the optimizer {named}; leave it out, or name SGD"
        )
    if chosen["auto_augment"] and (colours := [name for name in theirs if name.startswith("hsv_")]):
        raise WorkbenchError(f"{colours[0]} would have no effect beside auto_augment; leave one of them out")


def recipe(settings: Settings) -> dict[str, Any]:
    """Arguments of their trainer beyond the settings: ours as far as the settings do not give them by its names."""
    return {
        "optimizer": "AdamW", "lrf": 0.01, "cos_lr": True, "momentum": 0.9, "weight_decay": settings.weight_decay,
        "warmup_epochs": 0.1 * settings.epochs, "warmup_bias_lr": 0.0, "nbs": settings.batch_size, "plots": False,
        "freeze": settings.freeze or None, "verbose": False, **AUGMENTATIONS, **settings.ultralytics,
    }  # fmt: skip


def next_rate(settings: Settings, checkpoint: Mapping[str, Any]) -> float:
    """The learning rate of the next step as a share of its peak, by their schedule, where a run goes on."""
    given, done = recipe(settings), checkpoint["epoch"] + 1
    through, warm = done / settings.epochs, min(given["warmup_epochs"], settings.epochs - 1)
    falls = (1 + math.cos(math.pi * through)) / 2 if given["cos_lr"] else 1 - through
    return (given["lrf"] + (1 - given["lrf"]) * falls) * min(1, done / warm if warm else 1)
