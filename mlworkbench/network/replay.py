"""Replay of a training step as a CUDA graph: a card is kept waiting by Python and by launches, not by arithmetic."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import torch

Work = Callable[[], torch.Tensor]
WARM = 3  # calls before one is recorded: memory, workspaces and the optimiser's state are made in them


class Recorder(Protocol):
    """How work is done before it is recorded, and how it is recorded."""

    def once(self, work: Work) -> torch.Tensor:
        """Do it now."""

    def record(self, work: Work) -> Work:
        """Take it down without doing it; what comes back does it, always to the same tensor."""


class CUDAGraphs:
    """Recorder of a card. Its graphs are never replayed at once, and nothing lives in them from one replay to the next.

    So they share their memory. Before the first is recorded, what PyTorch keeps for later is given back, since graphs
    take memory of their own.
    """

    def __init__(self) -> None:
        self._aside, self._pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def once(self, work: Work) -> torch.Tensor:
        # On another stream, as a recording will be: autograd remembers on which one a parameter was first used.
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            told = work()
        torch.cuda.current_stream().wait_stream(self._aside)
        return told

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        # Meanwhile other threads go on sending batches to the card.
        with torch.cuda.graph(graph, self._pool, self._aside, capture_error_mode="thread_local"):
            told = work()

        def replay() -> torch.Tensor:
            graph.replay()
            return told

        return replay


class Replayed:
    """A function of tensors that is recorded once for each length of its first argument, and then replayed.

    Parameters
    ----------
    function : what it changes keeps its place in memory, nothing in it waits for the device, and no branch depends on
        a value that lies there
    recorder : see `Recorder`
    """

    def __init__(self, function: Callable[..., torch.Tensor], recorder: Recorder):
        self._function, self._recorder = function, recorder
        self._calls: Counter[int] = Counter()
        self._replays: dict[int, tuple[list[torch.Tensor], Work]] = {}

    def __call__(self, *given: torch.Tensor) -> torch.Tensor:
        size = len(given[0])
        self._calls[size] += 1
        if self._calls[size] <= WARM:
            return self._recorder.once(lambda: self._function(*given))
        if size not in self._replays:
            held = [tensor.clone() for tensor in given]
            self._replays[size] = held, self._recorder.record(lambda: self._function(*held))
        held, replay = self._replays[size]
        for mine, theirs in zip(held, given, strict=True):
            mine.copy_(theirs)
        return replay().clone()


def replayed(function: Callable[..., torch.Tensor], device: torch.device, alone: bool) -> Callable[..., Any]:
    """The function as a graph where a card works for one process, else as it is."""
    return Replayed(function, CUDAGraphs()) if device.type == "cuda" and alone else function
