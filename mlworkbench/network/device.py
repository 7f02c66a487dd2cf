"""Device, processes and arithmetic: what Hugging Face accelerate is told, and what `auto` measures."""

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    broadcast_object_list,
    patch_environment,
)

from ..exceptions import WorkbenchError
from ..progress import counted, say
from .replay import WARM

WORTH = 60  # steps of a training from which on a trial of all ways, of 20 steps and more, can pay
STEPS = 5  # in which the fastest precision is found
NEAR = 0.05  # what is no faster than this much is not faster


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

    @property
    def dtype(self) -> torch.dtype:
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.name]

    def accelerator(self) -> Accelerator:
        """An accelerator for this precision on the device and among the processes of `join_processes`."""
        AcceleratorState._reset_state()  # or the precision of the session's first training would stay for ever
        # Named, or a user's configuration of accelerate would have the loss divided by a number of its own.
        whole = GradientAccumulationPlugin(num_steps=1)
        name = "no" if self.name == "fp32" else self.name
        # Statistics of norms are each process's own; the main one's are sent where they count, before validation.
        apart = DistributedDataParallelKwargs(broadcast_buffers=False)
        return Accelerator(mixed_precision=name, gradient_accumulation_plugin=whole, kwargs_handlers=[apart])


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


@contextmanager
def join_processes(device: str = "auto") -> Iterator[PartialState]:
    """This process's place among those that a launcher started: usually it is the only one.

    Launchers are `accelerate launch` and `notebook_launcher` for GPUs, and `torchrun`, for CPUs too.

    Raises
    ------
    WorkbenchError : the device is not usable, or one is named although several processes divide them among themselves
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and device not in ("auto", "cpu"):
        raise WorkbenchError(f"device {device!r} with several processes; leave it to the launcher")
    if device == "auto" and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        device = "cpu"
    chosen = choose_device(device)
    AcceleratorState._reset_state(reset_partial_state=True)  # a notebook may train on one device, then on another
    try:
        if several:  # one may check a million images while the others wait
            yield PartialState(cpu=chosen.type == "cpu", timeout=timedelta(days=7))
        else:
            with patch_environment(accelerate_torch_device=str(chosen)):
                alone = PartialState(cpu=chosen.type == "cpu")
            yield alone
    finally:
        if not several:  # a launcher may follow in this notebook, and wants to start from nothing
            AcceleratorState._reset_state(reset_partial_state=True)


@contextmanager
def arithmetic(tf32: bool) -> Iterator[None]:
    """While this is open a card gives the same bits each time; without `tf32`, fp32 is fp32 there, at half the speed.

    With TF32, PyTorch's default for convolutions, logits are off by some .05, without it by some 2e-5.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    name, exact = ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else ("allow_tf32", False)
    before = getattr(matmul, name)
    try:
        if not tf32:
            setattr(matmul, name, exact)
        with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        setattr(matmul, name, before)


def share(rows: list[int]) -> list[int]:
    """This process's part of rows that all processes share."""
    with PartialState().split_between_processes(rows) as mine:
        return mine


def refuse_misfit(precision: str, device: torch.device) -> None:
    """Raise WorkbenchError for a precision that the device does not have."""
    if precision == "fp16" and device.type in ("cpu", "mps"):  # on a Mac's nobody has tried it
        raise WorkbenchError(f"precision fp16 is for CUDA cards; on {device.type} choose auto, fp32 or bf16")


def choose_precision(
    name: str, make_step: Callable[[Precision], Callable[[], object]], images: int, steps: int
) -> Precision:
    """The precision asked for, or for "auto" the fastest in either memory format, as measured here.

    Machines differ too much to assume: bf16 doubles the speed of one CPU and slows down the next. Of those within
    5 % of the fastest it is the safest: fp32, then bf16, then fp16 (which is tried on GPUs only). A short training
    would be over before a trial had paid: fp32.

    Parameters
    ----------
    make_step : gives a function that trains a step in that precision and waits until it is done; one that finds no
        memory for it is out
    images : how many a step takes
    steps : how many the whole training takes
    """
    if name != "auto":
        return Precision(name, channels_last=True)
    silent = not PartialState().is_main_process
    if steps < WORTH:
        if not silent:
            say(f"precision: fp32; {steps} steps are too few for a trial to pay")
        return Precision("fp32", channels_last=True)
    names = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}.get(PartialState().device.type, ("fp32",))
    trials = [Precision(p, last) for p in names for last in (True, False)]
    measured = counted(trials, "measuring the fastest precision", "ways", silent)
    speeds = [_images_per_second(make_step, trial, images) for trial in measured]
    if not any(speeds):
        raise WorkbenchError(f"no memory for a step of {images} images; choose a smaller --batch or --imgsz")
    near = [place for place, speed in enumerate(speeds) if speed >= (1 - NEAR) * max(speeds)]
    best = [max((place for place in near if trials[place].name == trials[near[0]].name), key=speeds.__getitem__)]
    broadcast_object_list(best)  # all processes must choose the same
    forms = [f"{trial.name} {'channels_last' if trial.channels_last else 'contiguous'}" for trial in trials]
    chosen = replace(trials[best[0]], images_per_second=dict(zip(forms, speeds, strict=True)))
    if not silent and len(names) > 1:
        how = f"none is more than {100 * NEAR:.0f} % faster" if len(near) == len(trials) else "it is the fastest"
        say(f"precision: {chosen.name}; of {' and '.join(names)} {how} here")
    return chosen


def _images_per_second(make_step: Callable[[Precision], Callable[[], object]], trial: Precision, images: int) -> float:
    """Speed of the fastest of some steps; 0 where memory did not suffice."""
    seconds: list[float] = []
    step: Callable[[], object] | None = None
    try:
        step = make_step(trial)
        # As many in every process, since each step waits for all of them; on a card those before the first replay count
        # for nothing.
        for _ in range(STEPS if PartialState().device.type != "cuda" else WARM + 1 + STEPS):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
    except torch.OutOfMemoryError:
        return 0.0
    finally:
        del step  # its network goes before the next is made
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    return round(images / min(seconds), 1)
