"""Batches of images and targets, and the augmentation of a whole batch on whatever device it lies."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from ..data.images import load_named
from ..tables.cells import UNKNOWN

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class ImageDataset(Dataset):
    """Images resized to a square, with targets.

    Parameters
    ----------
    paths : [N] str, relative to `root`
    y : int8 [N, C] of 1, 0, -1, or None (all unknown, no class)
    size : side of the square in pixels
    digests : [N], of the bytes that were checked; an image whose file holds others by now raises ImageFault

    Attributes
    ----------
    pixels : uint8 [N, 3, S, S], the images where they are decoded already; None decodes each as it is asked for
    on_card : these and the targets, where `feed.make_loader` has brought them to a card
    """

    def __init__(
        self, paths: np.ndarray, root: Path, y: np.ndarray | None, size: int, digests: Sequence[str] | None = None
    ):
        self.paths, self.root, self.size, self.digests = paths, root, size, digests
        self.pixels: np.ndarray | None = None
        self.on_card: tuple[torch.Tensor, torch.Tensor] | None = None
        self.targets = torch.from_numpy(np.full((len(paths), 0), UNKNOWN, np.int8) if y is None else y)

    def __len__(self) -> int:
        return len(self.paths)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes that are not forked: a mapped file goes by its name, not by its content."""
        state = self.__dict__ | {"on_card": None}
        if isinstance(self.pixels, np.memmap):
            state["pixels"] = (self.pixels.filename, self.pixels.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if isinstance(self.pixels, tuple):
            file, shape = self.pixels
            self.pixels = np.memmap(file, np.uint8, "r", shape=shape)

    def __getitem__(self, row: int) -> Batch:
        images, targets, rows = self.__getitems__([row])
        return images[0], targets[0], rows[0]

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """uint8 [B, 3, S, S], int8 [B, C] and int64 [B], the rows themselves."""
        pixels = np.stack([self.decode(row) for row in rows]) if self.pixels is None else self.pixels[rows]
        return torch.from_numpy(pixels), self.targets[rows], torch.tensor(rows)

    def decode(self, row: int) -> np.ndarray:
        """One image from its file, whole (nothing is cropped away), as uint8 [3, S, S]."""
        checked = self.digests[row] if self.digests else None
        return squared(load_named(self.paths[row], self.root, self.size, checked), self.size)

    def augmented(self, epoch: int, seed: int, flip: bool = False, crop: bool = False) -> np.ndarray:
        """Every image as that training epoch sees it, uint8 [N, S, S, 3]: for looking at."""
        seen = augment(self.__getitems__(range(len(self)))[0], sample_uniforms(len(self), epoch, seed), flip, crop)
        return (255 * seen).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def squared(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, 3] to [3, size, size], bilinear without aliasing: Pillow's result within 1."""
    return resized(pixels, (size, size))


def resized(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The same to [3, height, width]."""
    if pixels.shape[:2] == shape:
        return pixels.transpose(2, 0, 1)
    image = torch.from_numpy(pixels.transpose(2, 0, 1)[None])
    return F.interpolate(image, size=shape, mode="bilinear", antialias=True).numpy()[0]


class EpochBatches(Sampler[list[int]]):
    """The batches of an epoch: a new order each time, from (seed, epoch) alone, in parts of nearly equal size.

    Equal parts, because BatchNorm can do nothing with a lone last image and a small last batch steps in a random
    direction. Nothing is left out and nothing comes twice.

    Parameters
    ----------
    rows : what to order
    batch_size : most images in a batch (one more, where a lone image would be left)
    least : images that a batch must have for each of its parts to have two
    share : gives the part of a batch that this process computes
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, least: int = 2, share: Any = None):
        self.rows, self.seed, self.share = rows, seed, share or (lambda batch: batch)
        self.parts = max(1, min(-(-len(rows) // batch_size), len(rows) // least))
        self.epoch, self.first = 1, 0

    def __len__(self) -> int:
        return self.parts - self.first

    def start(self, epoch: int, first: int = 0) -> None:
        """Make the next pass that of this epoch, from this batch on."""
        self.epoch, self.first = epoch, first

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        for batch in np.array_split(order, self.parts)[self.first :]:
            yield self.share(batch.tolist())


def in_order(rows: Sequence[int] | np.ndarray, batch_size: int) -> list[list[int]]:
    """Rows in batches, as they come."""
    return [[int(row) for row in rows[start : start + batch_size]] for start in range(0, len(rows), batch_size)]


def sample_uniforms(samples: int, epoch: int, seed: int) -> torch.Tensor:
    """Random numbers in 0..1 for each sample of an epoch, float32 [N, 9], a row's from (seed, epoch, row) alone."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).random((samples, 9), np.float32))


def augment(images: torch.Tensor, u: torch.Tensor, flip: bool = False, crop: bool = False) -> torch.Tensor:
    """Mild scale and shift with reflection, and colour: changes that keep what a label names.

    Scale 0.95 to 1.05 and shift up to 4 % of the side, so that not even a small thing in a corner is lost;
    brightness, contrast and saturation within 15 %. With `flip` half of the images are mirrored too, which keeps a
    fish a fish but makes no sign, letter or left hand. With `crop` a random part is shown instead, between a quarter
    and all of the area and up to 4:3 or 3:4 in shape: more variety, at the risk of losing what a label names.

    Parameters
    ----------
    images : [B, 3, S, S] of 0..255
    u : float32 [B, 9] in 0..1, see `sample_uniforms`

    Returns
    -------
    float [B, 3, S, S] in 0..1
    """
    mirrored, scale, dx, dy, brightness, contrast, saturation, area, shape = u.to(images.device).T
    if crop:
        side, aspect = (0.25 + 0.75 * area).sqrt(), (4 / 3) ** (shape - 0.5)
        wide, high = (side * aspect).clamp(max=1), (side / aspect).clamp(max=1)
        right, down = (1 - wide) * (2 * dx - 1), (1 - high) * (2 * dy - 1)
    else:
        wide = high = 0.95 + 0.1 * scale
        right, down = 0.16 * dx - 0.08, 0.16 * dy - 0.08  # in units of half the side
    if flip:
        wide = torch.where(mirrored < 0.5, -wide, wide)
    size = images.shape[-1]
    centres = (torch.arange(size, device=images.device) + 0.5) * (2 / size) - 1
    x = (wide[:, None] * centres + right[:, None])[:, None, :].expand(-1, size, -1)
    y = (high[:, None] * centres + down[:, None])[:, :, None].expand(-1, -1, size)
    moved = F.grid_sample(images.float(), torch.stack((x, y), -1), padding_mode="reflection", align_corners=False)

    # Brightness, contrast about the mean, saturation and the step to 0..1, as one affine map of the three channels.
    b, c, s = (0.85 + 0.3 * v.view(-1, 1, 1) for v in (brightness, contrast, saturation))
    matrix = b / 255 * c * (s * torch.eye(3, device=images.device) + (1 - s) / 3)
    offset = b / 255 * (1 - c) * moved.mean((1, 2, 3)).view(-1, 1, 1)
    mixed = torch.baddbmm(offset.expand(-1, 3, 1), matrix, moved.flatten(2))
    return mixed.view_as(moved).clamp_(0, 1)
