"""The training loop, and the one bridge from tensors to arrays."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from .exceptions import WorkbenchError
from .losses import bce

ROUTES = ("loop",)
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training, saved with the run.

    `learning_rate` is the peak of the schedule; `workers` are processes that decode images where these do
    not fit the cache. Sizes are in pixels.
    """

    model: str = "yolov8n-cls.yaml"
    route: str = "loop"
    epochs: int = 15
    batch_size: int = 32
    image_size: int = 224
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    flip: bool = False
    precision: str = "auto"
    device: str = "auto"
    workers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 2), ("image_size", 32), ("workers", 0), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise WorkbenchError(f"{name} is {value!r}; expected a whole number of at least {low}")
        if not 0 < self.learning_rate < 1:
            raise WorkbenchError(f"learning_rate is {self.learning_rate!r}; expected a number between 0 and 1")
        for name, choices in (("route", ROUTES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise WorkbenchError(f"{name} {getattr(self, name)!r}; expected one of {', '.join(choices)}")

    @classmethod
    def of(cls, **values: Any) -> "Settings":
        """Settings from keywords; an unknown one is an error that names those that exist."""
        known = [field.name for field in fields(cls)]
        odd = [name for name in values if name not in known]
        if odd:
            raise WorkbenchError(f"unknown setting {odd[0]!r}; expected one of {', '.join(known)}")
        return cls(**values)


@dataclass(frozen=True)
class Precision:
    """How the arithmetic of a training is done: autocast dtype, memory format, and what was measured to choose it."""

    name: str
    channels_last: bool
    images_per_second: dict[str, float] | None = None

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.name)
        return torch.autocast(device.type, dtype, enabled=dtype is not None)

    def place(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Move the model to the device, in this memory format."""
        return model.to(device).to(memory_format=self.memory_format)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """What keeps small fp16 gradients from vanishing; does nothing in other precisions."""
        return torch.amp.GradScaler(device.type, enabled=self.name == "fp16")

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise WorkbenchError(f"device {name!r} is not usable here: {str(error).splitlines()[0]}") from None
    return device


def refuse_misfit(name: str, device: torch.device) -> None:
    """Raise WorkbenchError for a precision that the device does not have."""
    if name == "fp16" and device.type == "cpu":
        raise WorkbenchError("precision fp16 is for GPUs; on a CPU choose auto, fp32 or bf16")


def choose_precision(name: str, model: nn.Module, batch: tuple[torch.Tensor, ...], device: torch.device) -> Precision:
    """The precision asked for, or for "auto" the fastest of fp32 and bf16 in either memory format, as measured here.

    Machines differ too much to assume: bf16 doubles the speed of one CPU and slows down the next.
    """
    if name != "auto":
        return Precision(name, channels_last=True)
    speed = {}
    trials = [Precision(p, last) for last in (True, False) for p in ("fp32", "bf16")]
    for trial in trials:
        copied = trial.place(copy.deepcopy(model), device).train()
        optimizer, scaler = make_optimizer(copied, 1e-6, 0.0), trial.scaler(device)
        steps = []
        for _ in range(5):
            start = time.perf_counter()
            train_step(copied, optimizer, batch, trial, device, scaler).item()  # item() waits for a GPU
            steps.append(time.perf_counter() - start)
        speed[f"{trial.name} {'channels_last' if trial.channels_last else 'contiguous'}"] = len(batch[0]) / min(steps)
    best = int(np.argmax(list(speed.values())))
    rounded = {key: round(value, 1) for key, value in speed.items()}
    return Precision(trials[best].name, trials[best].channels_last, rounded)


def make_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW, without decay on norms and biases."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate)


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the peak rate: a linear rise over the first tenth of the steps, then half a cosine down to 0."""
    warm = max(1, round(0.1 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm + 1) / max(1, steps - warm))))


def to_input(images: torch.Tensor, device: torch.device, precision: Precision) -> torch.Tensor:
    """uint8 [B, 3, S, S] to what the network takes: float32 in 0..1."""
    moved = images.to(device, non_blocking=True, memory_format=precision.memory_format)
    return moved.float() / 255


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[torch.Tensor, ...],
    precision: Precision,
    device: torch.device,
    scaler: torch.amp.GradScaler,
) -> torch.Tensor:
    """One forward, backward and optimiser step; returns the loss, NaN where it or a gradient is not finite."""
    images, targets = batch[:2]
    with precision.autocast(device):
        logits = model(to_input(images, device, precision))
    loss = bce(logits.float(), targets.to(device))
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)  # in fp16 an infinite gradient only skips the step and lowers the scale
    scaler.update()
    return loss.detach() if scaler.is_enabled() else loss.detach() + 0 * norm


def train(
    model: nn.Module,
    loader: DataLoader,
    settings: Settings,
    precision: Precision,
    device: torch.device,
    on_epoch_end: Callable[[dict[str, float]], None],
    on_batch_end: Callable[[int], object] | None = None,
) -> None:
    """Train in place: AdamW, warm-up and cosine, gradient clipping.

    Parameters
    ----------
    loader : batches of (uint8 images, targets, rows); its dataset has an `epoch` to set
    on_epoch_end : called with the row `epoch, lr, train_loss, seconds`, `epoch` counted from 1
    on_batch_end : called with the number of images, for progress bars

    Raises
    ------
    FloatingPointError : the loss is NaN or infinite; its second argument holds the rows of the batch
    """
    precision.place(model, device)
    optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
    scaler = precision.scaler(device)
    steps = settings.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps))
    for epoch in range(1, settings.epochs + 1):
        start, total, seen = time.perf_counter(), 0.0, 0
        loader.dataset.epoch = epoch  # type: ignore[attr-defined]
        model.train()
        for batch in loader:
            loss = train_step(model, optimizer, batch, precision, device, scaler).item()
            if not np.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} in epoch {epoch}", batch[2].tolist())
            schedule.step()
            total, seen = total + loss * len(batch[0]), seen + len(batch[0])
            if on_batch_end is not None:
                on_batch_end(len(batch[0]))
        row = {"epoch": epoch, "lr": float(schedule.get_last_lr()[0]), "train_loss": total / seen}
        on_epoch_end(row | {"seconds": time.perf_counter() - start})


@torch.no_grad()
def infer(model: nn.Module, loader: DataLoader, device: torch.device, channels_last: bool = True) -> np.ndarray:
    """Raw logits, float32 [N, C], in the loader's order; always in fp32, so that they do not depend on the machine.

    During a training `channels_last` must be what the training uses: the model is placed in that format.
    """
    precision, training = Precision("fp32", channels_last), model.training
    precision.place(model, device).eval()
    out = [model(to_input(batch[0], device, precision)).cpu() for batch in loader]
    model.train(training)
    return torch.cat(out).numpy()
