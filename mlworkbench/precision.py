"""Device, processes and arithmetic: what Hugging Face accelerate is told, and what `auto` measures."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, patch_environment

from .exceptions import WorkbenchError


@dataclass(frozen=True)
class Precision:
    """How the arithmetic of a training is done, and what was measured to choose it.

    Attributes
    ----------
    name : "fp32", "bf16" or "fp16"
    channels_last : memory format of images and weights
    images_per_second : of a training step, by precision and format, where it was measured
    """

    name: str
    channels_last: bool
    images_per_second: dict[str, float] | None = None

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def accelerator(self) -> Accelerator:
        """An accelerator for this precision on the device and processes that `join_processes` found."""
        AcceleratorState._reset_state()  # or the precision of the session's first training would stay for ever
        return Accelerator(mixed_precision="no" if self.name == "fp32" else self.name)


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


def join_processes(device: str = "auto") -> PartialState:
    """This process's place among those that `accelerate launch` or `notebook_launcher` started: usually the only one.

    Raises
    ------
    WorkbenchError : the device is not usable, or one is named although several processes divide them among themselves
    """
    AcceleratorState._reset_state(reset_partial_state=True)  # a notebook may train on one device, then on another
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if device not in ("auto", "cpu"):
            raise WorkbenchError(f"device {device!r} with several processes; leave it to accelerate launch")
        return PartialState(cpu=device == "cpu" or choose_device().type == "cpu")
    chosen = choose_device(device)
    with patch_environment(accelerate_torch_device=str(chosen)):
        return PartialState(cpu=chosen.type == "cpu")


def refuse_misfit(precision: str, device: torch.device) -> None:
    """Raise WorkbenchError for a precision that the device does not have."""
    if precision == "fp16" and device.type == "cpu":
        raise WorkbenchError("precision fp16 is for GPUs; on a CPU choose auto, fp32 or bf16")


def choose_precision(name: str, make_step: Callable[[Precision], Callable[[], object]], images: int) -> Precision:
    """The precision asked for, or for "auto" the fastest of fp32 and bf16 in either memory format, as measured here.

    Machines differ too much to assume: bf16 doubles the speed of one CPU and slows down the next.

    Parameters
    ----------
    make_step : gives a function that trains a step in that precision and waits until it is done
    images : how many a step takes
    """
    if name != "auto":
        return Precision(name, channels_last=True)
    speed = {}
    trials = [Precision(p, last) for last in (True, False) for p in ("fp32", "bf16")]
    for trial in trials:
        step = make_step(trial)
        seconds: list[float] = []
        while len(seconds) < 2 or (len(seconds) < 6 and sum(seconds) < 5):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        speed[f"{trial.name} {'channels_last' if trial.channels_last else 'contiguous'}"] = images / min(seconds)
    names = [max(speed, key=speed.__getitem__)]
    broadcast_object_list(names)  # all processes must choose the same
    best = trials[list(speed).index(names[0])]
    return Precision(best.name, best.channels_last, {key: round(value, 1) for key, value in speed.items()})
