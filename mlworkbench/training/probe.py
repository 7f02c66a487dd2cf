"""Probe of a frozen backbone: pooled features once, then a linear head fitted to convergence in seconds."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit

from ..data.splits import stratified_parts
from ..exceptions import WorkbenchError
from ..network.device import Precision
from ..network.infer import cached_features
from ..network.model import save_weights
from ..runs import folder as folder_of
from ..scoring.predictions import Predictions
from .losses import mean_known
from .route import Job, Route

log = logging.getLogger("mlworkbench")


class ProbeRoute(Route):
    """See `route.Route`. Epochs, rates, augmentation and precision have no part in it.

    The fitted head takes the place of the network's last layer. Its out-of-fold logits of the training split, each by a
    head that has not seen the image's label, are kept beside the predictions.
    """

    def __init__(self, job: Job):
        super().__init__(job)
        self.precision, self.recorder = Precision("fp32", channels_last=True), job.recorder()
        if not job.model.trained and job.main:
            log.warning("model %s starts from random weights: its features know little of images", job.settings.model)

    def train(self, stop_asked: Callable[[], bool]) -> bool:
        job, start = self.job, time.perf_counter()
        rows = job.prepared.rows("train")
        given = job.model, job.dataset, job.prepared.images_hash, job.settings, job.processes.device
        features = cached_features(*given, stop_asked, silent=not job.main)
        if features is None:
            return False
        self.features = features
        x, y = features[rows], job.dataset.targets[rows]
        fitted = fit_linear(x, y.numpy(), job.prepared.groups[rows], job.settings.seed, job.settings.folds)
        head = job.model.head
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(fitted.weight))
            head.bias.copy_(torch.from_numpy(fitted.bias))
        loss = mean_known(self.recorder.loss(torch.from_numpy(self.logits(rows)), y), y).item()
        seconds = time.perf_counter() - start
        row = {"epoch": 1, "lr": float("nan"), "train_loss": loss, "seconds": seconds}
        self.recorder.epoch(row, self.logits(job.prepared.rows("val")))
        self.recorder.keep(save_weights(job.model))
        unseen = Predictions(job.dataset.paths[rows], job.model.class_names, fitted.out_of_fold, y.numpy(), "train")
        job.run.write_predictions(unseen, folder_of.OUT_OF_FOLD)
        self.recorder.tell()
        return True

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """What the network says of these rows, without running it again."""
        return self.job.model.logits_of(self.features[rows])


PENALTIES = 10.0 ** np.arange(5)  # of the sum of squared weights of standardised features; halves of a loss
BIAS_PENALTY = 1e-6  # so small that it only gives a class that is never present a finite answer
FOLDS = 5
TOLERANCE = 1e-7  # of the loss that a column may still lose
MOST_STEPS = 100
MOST_CELLS = 2e7  # rows times columns that are fitted together: bounds the memory


@dataclass(frozen=True)
class LinearFit:
    """A linear head and how it was chosen.

    Attributes
    ----------
    weight, bias : float32 [C, D] and [C], for features as they come
    penalties : float64 [C], one of `PENALTIES` for each class
    out_of_fold : float32 [N, C], logits of each row by a head that was fitted without its fold
    """

    weight: np.ndarray
    bias: np.ndarray
    penalties: np.ndarray
    out_of_fold: np.ndarray


def fit_linear(x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int = 0, folds: int = FOLDS) -> LinearFit:
    """Fit one L2-regularised logistic regression a class; unknown labels have no part in it.

    Each class gets the penalty with the least log loss over the folds, which keep classes balanced and groups whole.

    Parameters
    ----------
    x : float [N, D], features
    y : int8 [N, C] of 1, 0, -1 (left out)
    groups : [N], rows with equal values share a fold
    folds : how many, at most as many as there are groups

    Raises
    ------
    WorkbenchError : all rows belong together, so that nothing can be held out
    """
    folds = min(folds, len(np.unique(groups)))
    if folds < 2:
        raise WorkbenchError("the images to train on all belong together; the probe needs at least two groups of them")
    fold = stratified_parts(y, groups, [1 / folds] * folds, seed)
    mean, spread = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    spread[spread == 0] = 1  # a feature that never changes gets no weight
    space = _Space((x - mean) / spread)
    known, penalties = y >= 0, np.empty(y.shape[1])
    out_of_fold = np.empty(y.shape)
    columns = folds * len(PENALTIES)
    classes = max(1, int(MOST_CELLS / (len(x) * columns)))
    for start in range(0, y.shape[1], classes):
        part = slice(start, start + classes)
        present, count = y[:, part] == 1, len(range(y.shape[1])[part])
        # One column for each fold, penalty and class; the rows of the fold weigh nothing in it.
        counts = known[:, None, None, part] & (fold[:, None] != np.arange(folds))[:, :, None, None]
        shape = (len(x), folds, len(PENALTIES), count)
        penalty = np.broadcast_to(PENALTIES[:, None], shape[1:]).ravel()
        target = np.broadcast_to(present[:, None, None], shape).reshape(len(x), -1)
        weights = space.fit(target, np.broadcast_to(counts, shape).reshape(len(x), -1), penalty)
        logits = (space.rows @ weights).reshape(shape)[np.arange(len(x)), fold]  # [N, penalties, count]
        loss = np.where(known[:, None, part], np.logaddexp(0, np.where(present[:, None], -logits, logits)), 0).sum(0)
        best = loss.argmin(0)
        penalties[part] = PENALTIES[best]
        out_of_fold[:, part] = logits[:, best, np.arange(count)]
    weights = space.fit(y == 1, known, penalties)
    weight = (space.back(weights[:-1]) / spread[:, None]).T
    bias = weights[-1] - weight @ mean
    return LinearFit(weight.astype(np.float32), bias.astype(np.float32), penalties, out_of_fold.astype(np.float32))


class _Space:
    """Standardised rows in the coordinates of their principal axes, and a constant for the bias.

    There a problem's curvature is nearly diagonal, the squared length of an axis times the mean of p (1 - p), which
    makes a good preconditioner: some tens of products with the rows bring all columns together to their optimum.
    """

    def __init__(self, x: np.ndarray):
        self.x, self.wide = x, x.shape[1] > x.shape[0]
        values, axes = np.linalg.eigh(x @ x.T if self.wide else x.T @ x)
        kept = values > 1e-10 * max(values[-1], 1e-300)
        self.values, self.axes = values[kept], axes[:, kept]
        rows = self.axes * np.sqrt(self.values) if self.wide else x @ self.axes
        self.rows = np.column_stack((rows, np.ones(len(x))))  # [N, r + 1]
        self.curvature = np.append(self.values, len(x))[:, None]

    def back(self, weights: np.ndarray) -> np.ndarray:
        """Weights [r, K] in these coordinates to [D, K] for the standardised features."""
        return self.x.T @ (self.axes @ (weights / np.sqrt(self.values)[:, None])) if self.wide else self.axes @ weights

    def fit(self, target: np.ndarray, counts: np.ndarray, penalty: np.ndarray) -> np.ndarray:
        """Weights and bias [r + 1, K] for targets and which of them count, both bool [N, K], and penalties [K].

        Newton's method, its steps by preconditioned conjugate gradients (truncated Newton; Nocedal and Wright,
        "Numerical Optimization", 2006, chapter 7) and halved until the loss falls.
        """
        found = np.zeros((self.rows.shape[1], len(penalty)))
        live = np.arange(len(penalty))  # columns that are not at their optimum yet
        for _ in range(MOST_STEPS):
            t, k, w = target[:, live], counts[:, live], found[:, live]
            ridge = np.vstack(
                (np.broadcast_to(penalty[live], (len(found) - 1, len(live))), np.full(len(live), BIAS_PENALTY))
            )

            def loss(w: np.ndarray, t: np.ndarray = t, k: np.ndarray = k, ridge: np.ndarray = ridge) -> np.ndarray:
                z = self.rows @ w
                return ((np.logaddexp(0, z) - t * z) * k).sum(0) + (ridge * w**2).sum(0) / 2

            p = expit(self.rows @ w)
            gradient = self.rows.T @ ((p - t) * k) + ridge * w
            bend = p * (1 - p) * k
            inverse = 1 / (self.curvature * bend.mean(0) + ridge)
            decrease = (gradient**2 * inverse).sum(0)
            step = self._solve(gradient, bend, ridge, inverse)
            before, size = loss(w), np.ones(len(live))
            for _ in range(30):
                worse = loss(w - size * step) > before
                if not worse.any():
                    break
                size[worse] /= 2
            found[:, live] = w - size * step
            live = live[decrease > TOLERANCE]
            if not len(live):
                break
        return found

    def _solve(self, gradient: np.ndarray, bend: np.ndarray, ridge: np.ndarray, inverse: np.ndarray) -> np.ndarray:
        """Nearly the Newton step [r + 1, K]: conjugate gradients until the residual is small in every column."""
        step, residual = np.zeros_like(gradient), gradient.copy()
        scaled = inverse * residual
        direction, size = scaled.copy(), (residual * scaled).sum(0)
        goal = size * 1e-4
        for _ in range(50):
            turned = self.rows.T @ (bend * (self.rows @ direction)) + ridge * direction
            rate = size / np.maximum((direction * turned).sum(0), 1e-300)
            step += rate * direction
            residual -= rate * turned
            scaled = inverse * residual
            size, last = (residual * scaled).sum(0), size
            if (size <= goal).all():
                break
            direction = scaled + size / np.maximum(last, 1e-300) * direction
        return step
