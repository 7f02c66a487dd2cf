"""Logits and features of images: the one bridge from tensors to arrays."""

import copy
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ..cores import count_cores
from ..data.images import DECODER, ImageFault, load_image
from ..exceptions import WorkbenchError
from ..progress import progress_bar
from ..settings import Settings
from .batches import Batch, ImageDataset, in_order, squared
from .cache import cached_array
from .device import arithmetic, choose_device
from .feed import make_loader, told_of_shared_memory
from .model import YOLOClassifier

BATCH = 32  # images that a thread decodes and gives to the network at once
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
Part = tuple[range, np.ndarray, dict[int, ImageFault]]
TOGETHER = 32  # batches whose logits are read at once: a card need not wait for Python after each


@torch.no_grad()
def infer(
    model: YOLOClassifier,
    batches: Iterable[Batch],
    device: torch.device,
    memory_format: torch.memory_format = torch.channels_last,
    steady: bool = False,
    fast_in: torch.dtype | None = None,
) -> np.ndarray:
    """Raw logits, float32 [N, C], in the order of `batches`; in true fp32, so that no machine matters.

    With `fast_in`, such as bfloat16, they are what that arithmetic gives instead, and TF32 may be in it. For `steady`
    see `logits_of`.
    """
    fast, out, read = prepared(model, device, memory_format), [], []
    with arithmetic(tf32=fast_in is not None), torch.autocast(device.type, fast_in, enabled=fast_in is not None):
        for raw, _, _ in batches:
            out.append(logits_of(fast, raw, device, memory_format, steady))
            if len(out) == TOGETHER:
                read.append(torch.cat(out).cpu().numpy())
                out = []
    read += [torch.cat(out).cpu().numpy()] if out else []
    return np.concatenate(read) if read else np.empty((0, len(model.class_names)), np.float32)


def prepared(
    model: YOLOClassifier, device: torch.device, memory_format: torch.memory_format = torch.channels_last
) -> YOLOClassifier:
    """A copy for inference alone: norms become part of the convolutions, which is nearly twice as fast."""
    fast = copy.deepcopy(model).to(device).to(memory_format=memory_format).eval()
    fast.net.fuse(verbose=False)  # type: ignore[operator]
    return fast


def logits_of(
    fast: YOLOClassifier,
    raw: torch.Tensor,
    device: torch.device,
    memory_format: torch.memory_format = torch.channels_last,
    steady: bool = False,
) -> torch.Tensor:
    """Raw logits, float32 [B, C] on the device, of images uint8 [B, 3, S, S].

    Steady ones are the mean over five views of each image: as it is, and moved by a twelfth of its side either way.
    """
    images = raw.to(device, memory_format=memory_format).float() / 255  # as the network takes them
    views = _moved(images) if steady else [images]
    return torch.stack([fast(view).float() for view in views]).mean(0)


def _moved(images: torch.Tensor) -> Iterator[torch.Tensor]:
    by, (height, width) = round(images.shape[-1] / 12), images.shape[2:]
    wide = F.pad(images, [by] * 4, mode="replicate")
    for y, x in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2)):
        yield wide[:, :, y * by : y * by + height, x * by : x * by + width]


class Predictor:
    """A network that answers for image files.

    Each thread decodes a batch and gives it to the network with one thread of arithmetic. So no core waits for another,
    and a batch has the same bits on any number of cores.

    Parameters
    ----------
    size : side in pixels of the squares that the network sees
    device : by default a GPU where there is one
    precision : "fp32", so that no machine matters, or "bf16", faster on some
    steady : the mean over five views of each image, see `logits_of`
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
        self._fast_in, self._threads = PRECISIONS[precision], threads or count_cores()
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
    def logits(self, images: torch.Tensor) -> np.ndarray:
        """Raw logits, float32 [B, C], of images uint8 [B, 3, S, S]."""
        fast = self._fast_in is not None
        with arithmetic(tf32=fast), torch.autocast(self.device.type, self._fast_in, enabled=fast):
            return logits_of(self._network, images, self.device, steady=self.steady).cpu().numpy()

    def _answer(self, rows: range, paths: Sequence[str], root: Path) -> Part:
        squares, faults = [], {}
        for row in rows:
            try:
                squares.append(squared(load_image(paths[row], root, self.size), self.size))
            except ImageFault as fault:
                faults[row] = fault
        if not squares:
            return rows, np.empty((0, self._classes), np.float32), faults
        return rows, self.logits(torch.from_numpy(np.stack(squares))), faults


def _alone() -> None:
    """One thread of arithmetic for each thread of ours: several would wait for each other on the same cores."""
    torch.set_num_threads(1)


def cached_features(
    model: YOLOClassifier,
    dataset: ImageDataset,
    images_hash: str,
    settings: Settings,
    device: torch.device,
    stop_asked: Callable[[], bool] = lambda: False,
    silent: bool = False,
) -> np.ndarray | None:
    """Features of all images of a run, float32 [N, D], from the cache if they are there; None after a wish to stop.

    Parameters
    ----------
    images_hash : names the content of the images, see `prepare.Prepared`
    """
    backbone = {name: value for name, value in model.net.state_dict().items() if ".linear." not in name}
    weights = hashlib.blake2b(digest_size=16)
    for value in backbone.values():
        weights.update(value.cpu().numpy().tobytes())
    key = f"features {DECODER} {images_hash} {settings.image_size} {weights.hexdigest()}"

    def compute() -> np.ndarray | None:
        batches = batches_of(dataset, settings.batch_size, settings.workers, "computing features", stop_asked, silent)
        features = pooled_features(model, batches, device)
        return features if len(features) == len(dataset) else None

    return cached_array(key, compute, settings.cache_gb * 1e9)


def pooled_features(
    model: YOLOClassifier, batches: Iterable[Batch], device: torch.device, steady: bool = False
) -> np.ndarray:
    """What the last layer is given, float32 [N, 1280], for batches as `feed.make_loader` yields them."""
    headless = copy.deepcopy(model)
    headless.exclusive, headless.net.model[-1].linear = False, torch.nn.Identity()  # type: ignore[index, union-attr]
    return infer(headless, batches, device, steady=steady)


def batches_of(
    dataset: ImageDataset,
    size: int,
    workers: int | None,
    what: str,
    stop_asked: Callable[[], bool] = lambda: False,
    silent: bool = False,
) -> Iterator[Batch]:
    """All images in order, under a progress bar, until asked to stop."""
    with progress_bar(len(dataset), what, silent=silent) as bar, told_of_shared_memory():
        for batch in make_loader(dataset, in_order(range(len(dataset)), size), workers):
            if stop_asked():
                return
            yield batch
            bar.update(len(batch[0]))
