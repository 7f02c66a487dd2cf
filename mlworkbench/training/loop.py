"""Training loop: AdamW, warm-up and cosine, averaged weights, several processes.

`Trainer.train` and `Trainer.step` are the whole of it; read them first.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast, gather_object

from ..exceptions import WorkbenchError
from ..network.batches import Batch, EpochBatches, augment, in_order, sample_uniforms
from ..network.device import Precision, choose_precision, share
from ..network.feed import make_loader
from ..network.infer import infer
from ..network.model import YOLOClassifier, save_weights
from ..network.replay import replayed
from ..progress import progress_bar
from ..runs.run import Run
from ..settings import Settings
from . import recorder
from .losses import Loss
from .route import Job, Route

log = logging.getLogger("mlworkbench")

TRAINED_BACKBONE_RATE = 0.7
MAX_NORM = 1.0  # of the gradient
STEADY = 16  # images from which on the statistics of BatchNorm are of some use
UNREAD = 16  # steps that a card may be ahead of what is known of them: to wait after each costs it more than its work


@dataclass
class Place:
    """How far a training is: `step` batches of `epoch` are done, with these sums over the epoch so far."""

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    known: float = 0.0
    seconds: float = 0.0


class Trainer:
    """A network that learns, and all that changes meanwhile.

    Parameters
    ----------
    model : trained in place
    loss : see `losses`
    steps : batches an epoch
    samples : rows of the data set
    stop_asked : asked after every batch

    Attributes
    ----------
    average : the network with the moving average of the weights: what validation sees and what is saved
    place : see `Place`
    """

    def __init__(
        self,
        model: YOLOClassifier,
        loss: Loss,
        settings: Settings,
        precision: Precision,
        steps: int,
        samples: int,
        stop_asked: Callable[[], bool] = lambda: False,
    ):
        self.accelerator = precision.accelerator()
        self.device = self.accelerator.device
        self.model, self.loss, self.settings, self.precision = model, loss, settings, precision
        self.steps, self.samples, self.stop_asked, self.place = steps, samples, stop_asked, Place()
        model.to(self.device).to(memory_format=precision.memory_format)
        self.average = copy.deepcopy(model)
        self._weights = list[torch.Tensor](model.parameters()), list[torch.Tensor](self.average.parameters())
        self._buffers = _alike(model.buffers(), self.average.buffers())
        self.optimizer = self.accelerator.prepare_optimizer(make_optimizer(model, settings))
        # A card reads the rates of a step from here, where a recorded step finds them too: one for each group of the
        # optimiser, and how far the average moves.
        self._rates = torch.zeros(len(self.optimizer.param_groups) + 1, device=self.device)
        self._wrapped: Any = None  # the model as accelerate calls it
        self._run: Any = None  # `_compute`, which a card records anew where other layers learn
        if settings.compile:
            model.compile()
        self.begin_epoch()

    def train(
        self,
        loader: Iterable[Batch],
        batches: EpochBatches,
        on_epoch_end: Callable[[dict[str, float]], bool],
        on_batch_end: Callable[[int], object] | None = None,
    ) -> bool:
        """Train from `place` to the last epoch; False where it was asked to stop, after the batch under way.

        Parameters
        ----------
        loader : of `batches`, which are told the epoch
        on_epoch_end : called with `epoch, lr, train_loss, seconds`; answers whether to go on
        on_batch_end : called with the number of images, for progress bars

        Raises
        ------
        FloatingPointError : the loss is NaN or infinite; its second argument holds the rows of the batch
        """
        most = UNREAD if self.device.type == "cuda" else 1
        while self.place.epoch <= self.settings.epochs:
            place, start, stop = self.place, time.perf_counter(), False
            unread: list[tuple[torch.Tensor, torch.Tensor]] = []
            self.begin_epoch()
            batches.start(place.epoch, place.step)
            for batch in loader:
                unread.append((batch[2], self.step(batch)))
                stop = self._stop()
                place.step += 1
                if stop or len(unread) == most:
                    self._read(unread)
                if on_batch_end is not None:
                    on_batch_end(len(batch[2]) * self.accelerator.num_processes)
                if stop:
                    break
            self._read(unread)
            place.seconds += time.perf_counter() - start
            if place.step < self.steps:
                return False
            row = {"epoch": place.epoch, "lr": self.learning_rate, "train_loss": place.loss_sum / max(1, place.known)}
            self.place = Place(place.epoch + 1)
            if not on_epoch_end(row | {"seconds": place.seconds}):
                return True
            if stop:
                return False
        return True

    def step(self, batch: Batch) -> torch.Tensor:
        """One optimiser step: augment, forward, backward, clip, step, average; a card has only begun with it.

        Returns
        -------
        float32 [3] on the device, over all processes: sum of the loss, known labels, norm of the gradient
        """
        images, targets = (tensor.to(self.device, non_blocking=True) for tensor in batch[:2])
        self._set_rates()
        if self._run is None:
            alone = self.accelerator.num_processes == 1 and not self.settings.compile
            self._run = replayed(self._compute, self.device, alone)
        return self._run(images, targets, self._uniforms[batch[2]])

    def _compute(self, images: torch.Tensor, targets: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """See `step`; as `replay.Replayed` asks of a function."""
        images = augment(images, u, self.settings.flip, self.settings.crop)
        known = self.accelerator.reduce((targets >= 0).sum())
        # Data parallel processes take the mean of their gradients: undone here, so that the loss is the mean over the
        # known labels of all of them, however these are spread.
        share = self.accelerator.num_processes / known.clamp(min=1)
        loss_sum = torch.zeros((), device=self.device)
        pieces = self.settings.accumulate
        parts = zip(images.tensor_split(pieces), targets.tensor_split(pieces), strict=True)
        for number, (x, y) in enumerate(parts, 1):
            with nullcontext() if number == pieces else self.accelerator.no_sync(self._wrapped):
                loss = self.loss(self._wrapped(x).float(), y).sum()
                self.accelerator.backward(loss * share)
            loss_sum += loss.detach()
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._move_average()
        return torch.stack([self.accelerator.reduce(loss_sum), known.float(), norm.float()])

    def _set_rates(self) -> None:
        """The rates of this step; those of the average grow, or the random first weights would stay in it for long."""
        step, groups = self._step_of_all, self.optimizer.param_groups
        factor = self.next_factor
        decay = min(self.settings.ema, (1 + step) / (10 + step)) if step else 0.0
        rates = [group["peak"] * factor for group in groups]
        self._rates.copy_(torch.tensor([*rates, 1 - decay]))
        for place, group in enumerate(groups):
            group["lr"] = self._rates[place] if group["capturable"] else rates[place]

    @torch.no_grad()
    def _move_average(self) -> None:
        weights, average = self._weights
        apart = torch._foreach_sub(weights, average)
        torch._foreach_mul_(apart, self._rates[-1])
        torch._foreach_add_(average, list(apart))
        for theirs, mine in self._buffers:
            torch._foreach_copy_(mine, theirs)

    def _read(self, unread: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Take (rows, what `step` told of them) into `place`, and leave none of it unread."""
        told = torch.stack([each for _, each in unread]).tolist() if unread else []
        for (rows, _), (loss_sum, known, norm) in zip(unread, told, strict=True):
            if not math.isfinite(loss_sum) or not (math.isfinite(norm) or self._scale_may_fall()):
                found = f"the loss is {loss_sum / max(1, known):g} and the norm of its gradient {norm:g}"
                raise FloatingPointError(f"{found} in epoch {self.place.epoch}", gather_object(rows.tolist()))
            self.place.loss_sum, self.place.known = self.place.loss_sum + loss_sum, self.place.known + known
        unread.clear()

    def _stop(self) -> bool:
        """Whether any process was asked to stop."""
        asked = self.stop_asked()
        if self.accelerator.num_processes == 1:
            return asked
        return bool(self.accelerator.reduce(torch.tensor(float(asked), device=self.device)))

    def release(self) -> None:
        """Give back a card's memory of recorded steps; the next step begins a new record."""
        self._run = None

    def begin_epoch(self) -> None:
        """Make ready for the epoch of `place`: its random numbers, and which layers learn."""
        head_only = self.place.epoch <= self.settings.head_epochs
        before = {name for name, p in self.model.named_parameters() if p.requires_grad}
        self.model.requires_grad_(not head_only).train(not head_only)
        for layer in self.model.layers[: self.settings.freeze]:
            layer.requires_grad_(False).eval()  # in eval mode BatchNorm keeps its statistics
        self.model.head.requires_grad_(True)
        now = {name for name, p in self.model.named_parameters() if p.requires_grad}
        if before != now or self._wrapped is None:  # data parallelism is told anew which gradients will come
            self._wrapped = None  # or the one before would keep its memory while the next is made
            self._wrapped = self.accelerator.prepare_model(self.model)
            self.release()
        self._uniforms = sample_uniforms(self.samples, self.place.epoch, self.settings.seed).to(self.device)

    def logits(self, loader: Iterable[Batch]) -> np.ndarray:
        """Logits of the averaged weights for what the loaders of all processes hold together, process by process.

        A card computes them in the precision of the training.
        """
        broadcast(list(self.average.buffers()))  # the main process's BatchNorm statistics stand for all
        fast_in = self.precision.dtype if self.device.type == "cuda" else None
        form = self.precision.memory_format
        parts = gather_object([infer(self.average, loader, self.device, form, fast_in=fast_in)])
        return np.concatenate(parts)

    @property
    def learning_rate(self) -> float:
        """Of the last layer, in the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state(self) -> dict[str, Any]:
        """All that changes, as tensors and plain values."""
        scaler = self.accelerator.scaler
        return {
            "place": asdict(self.place),
            "steps": self.steps,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from such a state; one of another number of batches an epoch is an error."""
        if state["steps"] != self.steps:
            raise WorkbenchError(
                f"the run has {state['steps']} batches an epoch, here there are {self.steps}; "
                "resume it with as many processes"
            )
        self.place = Place(**state["place"])
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])

    def _scale_may_fall(self) -> bool:
        """In fp16 an infinite gradient only skips the step and lowers the scale of the loss, while there is room."""
        scaler = self.accelerator.scaler
        return scaler is not None and scaler.get_scale() > 1e-3

    @property
    def next_factor(self) -> float:
        """See `learning_rate_factor`: that of the next step."""
        return learning_rate_factor(self._step_of_all, self.settings.epochs * self.steps)

    @property
    def _step_of_all(self) -> int:
        return (self.place.epoch - 1) * self.steps + self.place.step


def _alike(some: Iterable[torch.Tensor], others: Iterable[torch.Tensor]) -> list[tuple[list, list]]:
    """Pairs of tensors as a list of each side for every dtype."""
    kinds: dict[torch.dtype, tuple[list, list]] = {}
    for one, other in zip(some, others, strict=True):
        for side, tensor in zip(kinds.setdefault(one.dtype, ([], [])), (one, other), strict=True):
            side.append(tensor)
    return list(kinds.values())


def make_optimizer(model: YOLOClassifier, settings: Settings) -> torch.optim.AdamW:
    """AdamW without decay on norms and biases, and with a lower rate for layers that come with trained weights."""
    rate = settings.backbone_rate
    if rate is None:
        rate = TRAINED_BACKBONE_RATE if model.trained else 1.0
    head = {id(p) for p in model.head.parameters()}
    groups = []
    for part, inside in ((1.0, True), (rate, False)):
        for decay, matrices in ((settings.weight_decay, True), (0.0, False)):
            chosen = [p for p in model.parameters() if (id(p) in head) == inside and (p.ndim > 1) == matrices]
            groups.append({"params": chosen, "weight_decay": decay, "peak": part * settings.learning_rate})
    kind = model.head.weight.device.type
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, fused=kind in ("cpu", "cuda"), capturable=kind == "cuda"
    )


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the peak rate: a linear rise over the first tenth of the steps, then half a cosine down to 0."""
    warm = max(1, round(0.1 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm + 1) / max(1, steps - warm))))


class LoopRoute(Route):
    """See `route.Route`."""

    def __init__(self, job: Job):
        super().__init__(job)
        settings = job.settings
        self.batches, loss = self._make_batches(), job.loss()
        self._check_frozen()

        def trial(precision: Precision) -> Callable[[], object]:
            trainer = Trainer(copy.deepcopy(job.model), loss, settings, precision, len(self.batches), len(job.dataset))
            images, targets, rows = job.dataset.__getitems__(next(iter(self.batches)))
            batch = images.to(trainer.device), targets.to(trainer.device), rows.to(trainer.device)
            return lambda: trainer.step(batch).tolist()

        if job.resuming:
            self.precision = Precision(**job.run.state["precision"])
        else:
            images = min(settings.batch_size, len(self.batches.rows))
            steps = settings.epochs * len(self.batches)
            self.precision = choose_precision(settings.precision, trial, images, steps)
        self.trainer = Trainer(job.model, loss, settings, self.precision, len(self.batches), len(job.dataset))
        self.recorder = job.recorder(job.checkpoint["history"] if job.checkpoint else ())
        if job.checkpoint:
            self.trainer.load_state(job.checkpoint)
        if job.main and self.recorder.history:
            _ = job.run.model  # refused now if the best weights are gone

    @staticmethod
    def read_checkpoint(run: Run) -> dict[str, Any] | None:
        return recorder.read_checkpoint(run.folder)

    def next_rate(self) -> float:
        return self.trainer.next_factor

    def train(self, stop_asked: Callable[[], bool]) -> bool:
        job, trainer, records, settings = self.job, self.trainer, self.recorder, self.job.settings
        loader = make_loader(job.dataset, self.batches, settings.workers, trainer.device)
        validation = in_order(share(job.prepared.rows("val").tolist()), settings.batch_size)
        val_loader = make_loader(job.dataset, validation, settings.workers, trainer.device)
        trainer.stop_asked = stop_asked

        def end_epoch(row: dict[str, float]) -> bool:
            row = records.epoch(row, trainer.logits(val_loader))
            if job.main:
                records.keep(save_weights(trainer.average))
                records.checkpoint(trainer.state())
                bar.set_postfix(loss=f"{row['train_loss']:.4f}", val_map=f"{row['val_map']:.4f}")
                records.tell()
            return not records.spent(settings.patience)

        images = len(self.batches.rows)
        done = (trainer.place.epoch - 1) * images
        with progress_bar(settings.epochs * images, "training", done, silent=not job.main) as bar:
            finished = records.spent(settings.patience) or trainer.train(loader, self.batches, end_epoch, bar.update)
        trainer.release()
        if job.main and not finished:
            records.checkpoint(trainer.state())
        return finished

    def _make_batches(self) -> EpochBatches:
        """The batches of an epoch, each of them large enough for every process and piece to have two images."""
        job, settings = self.job, self.job.settings
        rows, source = job.prepared.rows("train"), job.prepared.table.source
        pieces = settings.accumulate * job.processes.num_processes
        for what, number in ((f"{source}: images to train on", len(rows)), ("batch_size", settings.batch_size)):
            if number < 2 * pieces:
                raise WorkbenchError(f"{what}: {number}; expected at least 2 for each of {pieces} pieces of a batch")
        each = settings.batch_size // pieces
        if job.processes.num_processes > 1 and job.main and each < STEADY:
            log.warning(
                "BatchNorm sees %d images at once, a process's piece of a batch; with fewer than %d its statistics are "
                "rough: --batch %d", each, STEADY, STEADY * pieces,
            )  # fmt: skip
        return EpochBatches(rows, settings.batch_size, settings.seed, 2 * pieces, share)

    def _check_frozen(self) -> None:
        job, frozen, layers = self.job, self.job.settings.freeze, len(self.job.model.layers)
        if frozen >= layers:
            raise WorkbenchError(
                f"freeze is {frozen}; expected at most {layers - 1}, the last of {layers} layers learns"
            )
        if frozen and not job.model.trained and job.main:
            log.warning(
                "model %s starts from random weights, and freeze keeps %d layers so", job.settings.model, frozen
            )
