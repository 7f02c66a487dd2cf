"""Everything that decides a training, in one place that is saved with the run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .exceptions import WorkbenchError

ROUTES = ("loop", "ultralytics", "probe")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
LOSSES = ("bce", "asl", "softmax")
# What decides only where and how fast a training runs: a resumed one may change it.
FREE = ("device", "workers", "cache_gb")


@dataclass(frozen=True)
class Settings:
    """Settings of a training; sizes are in pixels.

    Attributes
    ----------
    batch_size : images an optimiser step, over all processes
    accumulate : pieces in which each process computes its part of a batch; more of them need less memory
    learning_rate : the peak of the schedule, reached after a tenth of the steps; then half a cosine down to 0
    backbone_rate : share of it for all but the last layer; None is 1 from random weights and 0.7 from trained ones
    head_epochs : first epochs in which only the last layer learns (the others keep their BatchNorm statistics too)
    weight_decay : AdamW's, not applied to norms and biases
    ema : upper bound of the decay of the moving average of the weights that is validated and saved; 0 is none
    patience : epochs without a better validation mAP after which to stop; 0 is never
    loss : "bce" (binary cross entropy), "asl" (asymmetric loss), or "softmax" (route "ultralytics": their single-label
        classifier as it is, for comparison)
    positive_weight : with "bce", the most that a positive label may weigh; a class with k negatives to a positive
        gets k, up to this, and 1 is no weighting
    flip, crop : mirror images, and crop a random part of them, for training
    precision : "auto" measures and takes the fastest of fp32 and bf16
    compile : have torch.compile translate the network first (a minute or more; faster only on some machines)
    workers : processes that decode images where the cache does not hold them
    cache_gb : most disk space for decoded images, over all data sets, in 10^9 bytes; 0 decodes in every epoch
    folds : for the route "probe", parts of its cross-validation
    ultralytics : for the route "ultralytics", arguments of its trainer beyond these, by Ultralytics' names
    """

    model: str = "yolov8n-cls.yaml"
    route: str = "loop"
    epochs: int = 15
    batch_size: int = 32
    accumulate: int = 1
    image_size: int = 224
    learning_rate: float = 1e-3
    backbone_rate: float | None = None
    head_epochs: int = 0
    weight_decay: float = 0.05
    ema: float = 0.99
    patience: int = 0
    loss: str = "bce"
    positive_weight: float = 1.0
    flip: bool = False
    crop: bool = False
    precision: str = "auto"
    compile: bool = False
    device: str = "auto"
    workers: int = 2
    cache_gb: float = 10.0
    folds: int = 5
    ultralytics: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 2, "accumulate": 1, "image_size": 32, "folds": 2}
        for name in (*least, "head_epochs", "patience", "workers", "seed"):
            value, low = getattr(self, name), least.get(name, 0)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise WorkbenchError(f"{name} is {value!r}; expected a whole number of at least {low}")
        for name in ("learning_rate", "weight_decay", "ema", "positive_weight", "cache_gb"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise WorkbenchError(f"{name} is {value!r}; expected a number of at least 0")
        if not 0 < self.learning_rate < 1:
            raise WorkbenchError(f"learning_rate is {self.learning_rate!r}; expected a number between 0 and 1")
        if not self.ema < 1:
            raise WorkbenchError(f"ema is {self.ema!r}; expected a number from 0 to below 1")
        if self.backbone_rate is not None and not 0 < self.backbone_rate <= 1:
            raise WorkbenchError(f"backbone_rate is {self.backbone_rate!r}; expected a number above 0 and at most 1")
        if self.positive_weight < 1 or (self.positive_weight > 1 and self.loss != "bce"):
            raise WorkbenchError(f"positive_weight is {self.positive_weight!r}; expected at least 1, above it only bce")
        if self.batch_size < 2 * self.accumulate:
            raise WorkbenchError(f"batch_size {self.batch_size} in {self.accumulate} pieces; expected 2 images in each")
        for name, choices in (("route", ROUTES), ("precision", PRECISIONS), ("loss", LOSSES)):
            if getattr(self, name) not in choices:
                raise WorkbenchError(f"{name} {getattr(self, name)!r}; expected one of {', '.join(choices)}")
        if self.route != "ultralytics" and (self.ultralytics or self.loss == "softmax"):
            what = "the arguments of Ultralytics' trainer" if self.ultralytics else "loss 'softmax'"
            raise WorkbenchError(f"{what} with the route {self.route!r}; expected the route 'ultralytics'")

    @classmethod
    def of(cls, **values: Any) -> "Settings":
        """Settings from keywords; an unknown one is an error that names those that exist."""
        known = [field.name for field in fields(cls)]
        odd = [name for name in values if name not in known]
        if odd:
            raise WorkbenchError(f"unknown setting {odd[0]!r}; expected one of {', '.join(known)}")
        return cls(**values)

    @classmethod
    def resumed(cls, saved: Mapping[str, Any], given: Mapping[str, Any]) -> "Settings":
        """The settings of a run that goes on: its own, which those given now must not contradict."""
        cls.of(**given)  # an unknown name is told as such
        for name, value in given.items():
            if name not in FREE and value != saved.get(name):
                raise WorkbenchError(
                    f"{name} is {value!r}, but the run to resume has {saved.get(name)!r}; "
                    "leave it out, or train into another folder"
                )
        return cls.of(**{**saved, **{name: given[name] for name in FREE if name in given}})


def typed(name: str, text: str) -> Any:
    """The value of a setting as people write it; anything that does not fit its type is an error."""
    kind = {field.name: str(field.type) for field in fields(Settings)}.get(name, "")
    try:
        if "bool" in kind:
            return {"true": True, "false": False}[text.lower()]
        return int(text) if "int" in kind else float(text) if "float" in kind else text
    except (ValueError, KeyError):
        what = "true or false" if "bool" in kind else "a whole number" if "int" in kind else "a number"
        raise WorkbenchError(f"{name} is {text!r}; expected {what}") from None
