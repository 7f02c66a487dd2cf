"""Predictor: from image files to raw logits, each image decoded once, on all cores."""

import copy
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ..data.images import ImageFault, load_image
from ..exceptions import WorkbenchError
from .batches import squared
from .device import arithmetic, choose_device
from .infer import logits_of, prepared
from .model import YOLOClassifier

BATCH = 32  # images that a thread decodes and gives to the network at once
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
Part = tuple[range, np.ndarray, dict[int, ImageFault]]


class Predictor:
    """A network that answers for image files.

    Each thread decodes a batch and gives it to the network with one thread of arithmetic. So no core waits for another,
    and a batch has the same bits on any number of cores.

    Parameters
    ----------
    size : side in pixels of the squares that the network sees
    device : by default a GPU where there is one
    precision : "fp32", so that no machine matters, or "bf16", faster on some
    steady : the mean over five views of each image, see `infer.logits_of`
    threads : by default as many as there are cores
    """

    def __init__(
        self,
        model: YOLOClassifier,
        size: int,
        device: torch.device | None = None,
        precision: str = "fp32",
        steady: bool = False,
        threads: int | None = None,
    ):
        if precision not in PRECISIONS:
            raise WorkbenchError(f"precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
        self.size, self.device, self.steady = size, device or choose_device(), steady
        self._fast_in, self._threads = PRECISIONS[precision], threads or os.cpu_count() or 1
        self._network = prepared(model, self.device)
        self._classes = len(model.class_names)

    def alone(self) -> "Predictor":
        """The same on one core and without a GPU: for a process among many."""
        other = copy.copy(self)
        other.device, other._threads = torch.device("cpu"), 1
        other._network = copy.deepcopy(self._network).cpu()
        return other

    def stream(self, paths: Sequence[str], root: Path) -> Iterator[Part]:
        """Batch after batch, in order: the rows, the raw logits, float32 [n, C], of those that can be read, and by its
        row why an image cannot."""
        rows = (range(start, min(start + BATCH, len(paths))) for start in range(0, len(paths), BATCH))
        ahead: deque[Future[Part]] = deque()
        before = torch.get_num_threads()
        with arithmetic(tf32=self._fast_in is not None), ThreadPoolExecutor(self._threads, initializer=_alone) as pool:
            try:
                for part in rows:
                    ahead.append(pool.submit(self._answer, part, paths, root))
                    if len(ahead) > 2 * self._threads:  # no more waits in memory than the threads need
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(before)  # what threads that are yet to come begin with

    @torch.inference_mode()
    def _answer(self, rows: range, paths: Sequence[str], root: Path) -> Part:
        squares, faults = [], {}
        for row in rows:
            try:
                squares.append(squared(load_image(paths[row], root, self.size), self.size))
            except ImageFault as fault:
                faults[row] = fault
        if not squares:
            return rows, np.empty((0, self._classes), np.float32), faults
        images = torch.from_numpy(np.stack(squares))
        with torch.autocast(self.device.type, self._fast_in, enabled=self._fast_in is not None):
            logits = logits_of(self._network, images, self.device, steady=self.steady)
        return rows, logits.cpu().numpy(), faults


def _alone() -> None:
    """One thread of arithmetic for each thread of ours: several would wait for each other on the same cores."""
    torch.set_num_threads(1)
