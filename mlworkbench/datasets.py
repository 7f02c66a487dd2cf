"""Images and targets as torch batches: decoded once, augmented in whole batches."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from .cells import UNKNOWN
from .images import load_named

CACHE_BYTES = 2_000_000_000


class ImageDataset(Dataset):
    """Images resized to a square, with targets.

    Within `CACHE_BYTES` all images are decoded at once (on all cores) and kept; above it they are decoded as they
    are asked for. A batch does not depend on which of the two happened, nor on the number of workers: the random
    state of each sample comes from (seed, epoch, row).

    Parameters
    ----------
    paths : [N] str, relative to `root`
    y : int8 [N, C] of 1, 0, -1, or None (all unknown, no class)
    size : side of the square in pixels
    augment, flip : apply `augment` to every batch, and whether it may mirror
    """

    def __init__(
        self,
        paths: np.ndarray,
        root: Path,
        y: np.ndarray | None,
        size: int,
        augment: bool = False,
        flip: bool = False,
        seed: int = 0,
    ):
        self.paths, self.root, self.size = paths, root, size
        self.augment, self.flip, self.seed = augment, flip, seed
        self.targets = torch.from_numpy(np.full((len(paths), 0), UNKNOWN, np.int8) if y is None else y)
        self.epoch = 0
        self.pixels: torch.Tensor | None = None
        if len(paths) * 3 * size * size <= CACHE_BYTES:
            self.pixels = self._decode(range(len(paths)), threads=os.cpu_count() or 1)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images, targets, rows = self.__getitems__([row])
        return images[0], targets[0], rows[0]

    def __getitems__(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """uint8 [B, 3, S, S], int8 [B, C] and int64 [B], the rows themselves."""
        images = self._decode(rows) if self.pixels is None else self.pixels[rows]
        if self.augment:
            images = augment(images, sample_uniforms(rows, self.epoch, self.seed), self.flip)
        return images, self.targets[rows], torch.tensor(rows)

    def at_epoch(self, epoch: int) -> np.ndarray:
        """Every image as a training epoch sees it, uint8 [N, S, S, 3]: for looking at."""
        self.epoch = epoch
        return self.__getitems__(list(range(len(self))))[0].permute(0, 2, 3, 1).numpy()

    def _decode(self, rows: range | list[int], threads: int = 1) -> torch.Tensor:
        out = np.empty((len(rows), 3, self.size, self.size), np.uint8)

        def fill(place: int) -> None:
            out[place] = load_named(self.paths[rows[place]], self.root, self.size).transpose(2, 0, 1)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(len(rows))))
        return torch.from_numpy(out)


class _EpochOrder(Sampler[int]):
    """A new order each epoch, from (seed, epoch) alone."""

    def __init__(self, dataset: ImageDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng([self.dataset.seed, self.dataset.epoch]).permutation(len(self)).tolist())


def make_loader(dataset: ImageDataset, batch_size: int, train: bool = False, workers: int = 0) -> DataLoader:
    """Batches of (uint8 images [B, 3, S, S], int8 targets [B, C], rows [B]); shuffled anew each epoch for training."""
    return DataLoader(
        dataset,
        batch_size,
        sampler=_EpochOrder(dataset) if train else None,
        num_workers=workers if dataset.pixels is None else 0,
        collate_fn=_as_is,
        # BatchNorm cannot take the statistics of a lone last image.
        drop_last=train and len(dataset) > batch_size and len(dataset) % batch_size == 1,
    )


def _as_is(batch: Any) -> Any:
    return batch


def sample_uniforms(rows: list[int], epoch: int, seed: int) -> torch.Tensor:
    """Random numbers in 0..1 for each sample, float32 [B, 7], from (seed, epoch, row) alone."""
    numbers = [np.random.default_rng([seed, epoch, row]).random(7, np.float32) for row in rows]
    return torch.from_numpy(np.stack(numbers))


def augment(images: torch.Tensor, u: torch.Tensor, flip: bool = False) -> torch.Tensor:
    """Mild scale and shift with reflection, and colour: changes that keep what a label names.

    Scale 0.95 to 1.05 and shift up to 4 % of the side, so that not even a small thing in a corner is lost;
    brightness, contrast and saturation within 15 %. With `flip` half of the images are mirrored too, which keeps a
    fish a fish but makes no digit, letter or left hand.

    Parameters
    ----------
    images : uint8 [B, 3, S, S]
    u : float32 [B, 7] in 0..1, see `sample_uniforms`

    Returns
    -------
    uint8 [B, 3, S, S]
    """
    mirrored, scale, dx, dy, brightness, contrast, saturation = u.T
    zoom = 0.95 + 0.1 * scale
    theta = torch.zeros(len(u), 2, 3)
    theta[:, 0, 0] = torch.where(flip & (mirrored < 0.5), -zoom, zoom)
    theta[:, 1, 1] = zoom
    theta[:, 0, 2], theta[:, 1, 2] = 0.16 * dx - 0.08, 0.16 * dy - 0.08  # grid units: 2 is the whole side
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    x = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)

    def factor(v: torch.Tensor) -> torch.Tensor:
        return (0.85 + 0.3 * v).view(-1, 1, 1, 1)

    x = x * factor(brightness)
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, factor(contrast))
    x = torch.lerp(x.mean(1, keepdim=True), x, factor(saturation))
    return x.round_().clamp_(0, 255).to(torch.uint8)
