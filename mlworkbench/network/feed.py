"""Feed of a device: the batches of a data set, where they are needed before they are needed."""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from queue import Full, Queue
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info

from ..cores import count_cores
from ..exceptions import RunFailed
from .batches import Batch, ImageDataset

CPU = torch.device("cpu")
AHEAD = 2  # batches on their way to a card
MOST_WORKERS = 16  # 4,950 images/s of 500x375, where 8 give 3,510: no card is fed twice as fast


def make_loader(
    dataset: ImageDataset, batches: Any, workers: int | None = 0, device: torch.device = CPU
) -> Iterable[Batch]:
    """These batches (lists of rows) on a device, as often as one asks for them.

    Decoded images stay on a card where they fit in half of what is free there. Else a thread sends the next batches on
    a stream of its own.

    Parameters
    ----------
    workers : processes that decode where the pixels are not there already, see `count_workers`
    """
    if device.type != "cuda":
        return _loader(dataset, batches, workers)
    if dataset.pixels is not None and (held := _on_card(dataset, device)) is not None:
        return _Resident(*held, batches)
    return _Ahead(_loader(dataset, batches, workers), device)


def count_workers(asked: int | None) -> int:
    """As many as were asked for; None is one for each core that is this process's among those of a launcher."""
    own = count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(own, MOST_WORKERS)) if asked is None else asked


@contextmanager
def told_of_shared_memory() -> Iterator[None]:
    """While this is open, workers that find no shared memory for a batch end it with a line that says what to do.

    Raises
    ------
    RunFailed : instead of torch's RuntimeError, which holds a worker's traceback
    """
    try:
        yield
    except RuntimeError as error:
        if not re.search(r"shared memory|</torch_\d", text := str(error).strip()):  # the latter is a file of it
            raise
        reason = text.splitlines()[-1].removeprefix("RuntimeError: ")
        raise RunFailed(
            "decoding processes found no room in /dev/shm to hand a batch over; give it more (docker run "
            f"--shm-size=1g), or a smaller --batch, or --workers 0 ({reason})"
        ) from None


def _loader(dataset: ImageDataset, batches: Any, workers: int | None) -> DataLoader:
    workers = count_workers(workers) if dataset.pixels is None else 0
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_handed_over,
        worker_init_fn=_obey_the_parent,
        generator=torch.Generator(),  # or it would draw from the state that a resumed training has to find again
    )


def _obey_the_parent(_: int) -> None:
    """Ctrl-C and SIGTERM reach the whole group, but the main process finishes its batch and needs its workers for it.

    Only its own SIGTERM ends them; should it die, torch's watchdog does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def watch() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _handed_over(batch: Any) -> Any:
    """The batch, from a worker in shared memory.

    Else the thread that sends it would move it there, and drop it where there is no room, while the main process waits
    for it for ever.
    """
    if get_worker_info() is not None:
        for tensor in batch:
            tensor.share_memory_()
    return batch


def _on_card(dataset: ImageDataset, device: torch.device) -> tuple[torch.Tensor, torch.Tensor] | None:
    """All images and targets on the card, if they fit in half of what is free; they stay with the data set."""
    if dataset.on_card is None or dataset.on_card[0].device != device:
        assert dataset.pixels is not None
        if dataset.pixels.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return None
        images = torch.empty(dataset.pixels.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(images), 1024):  # never all of them in memory besides
            images[start : start + 1024] = torch.from_numpy(dataset.pixels[start : start + 1024])
        dataset.on_card = images, dataset.targets.to(device)
    return dataset.on_card


class _Resident:
    """Batches of images that lie on the card."""

    def __init__(self, images: torch.Tensor, targets: torch.Tensor, batches: Iterable[Sequence[int]]):
        self._images, self._targets, self._batches = images, targets, batches

    def __iter__(self) -> Iterator[Batch]:
        batches = list(self._batches)
        rows = torch.tensor([row for batch in batches for row in batch], dtype=torch.int64).to(self._images.device)
        for part in rows.split([len(batch) for batch in batches]):
            yield self._images[part], self._targets[part], part


class _Ahead:
    """Batches that a thread sends to the card on a stream of its own, a few ahead of those that are worked on."""

    def __init__(self, batches: Iterable[Batch], device: torch.device):
        self._batches, self._device = batches, device

    def __iter__(self) -> Iterator[Batch]:
        waiting: Queue[Any] = Queue(AHEAD)
        over = threading.Event()
        thread = threading.Thread(target=self._send, args=(_putter(waiting, over),), daemon=True)
        thread.start()
        try:
            while (sent := waiting.get()) is not None:
                if isinstance(sent, BaseException):
                    raise sent
                batch, ready = sent
                here = torch.cuda.current_stream(self._device)
                here.wait_event(ready)
                for tensor in batch:
                    tensor.record_stream(here)
                yield batch
        finally:
            over.set()
            thread.join()

    def _send(self, put: Callable[[Any], bool]) -> None:
        stream = torch.cuda.Stream(self._device)
        try:
            with torch.cuda.stream(stream):
                for batch in self._batches:
                    pinned = [tensor.pin_memory() for tensor in batch]
                    sent = tuple(tensor.to(self._device, non_blocking=True) for tensor in pinned)
                    if not put((sent, stream.record_event())):
                        return
            put(None)
        except BaseException as error:  # raised again where the batch is asked for
            put(error)


def _putter(waiting: Queue[Any], over: threading.Event) -> Callable[[Any], bool]:
    """Puts into a queue until nobody takes from it any more; answers whether somebody does."""

    def put(item: Any) -> bool:
        while not over.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except Full:
                continue
        return False

    return put
