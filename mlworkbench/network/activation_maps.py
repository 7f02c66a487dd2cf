"""Class activation maps of all classes at once: where a network looked."""

import copy

import numpy as np
import torch
from torch.nn import functional as F

from ..exceptions import WorkbenchError
from .model import YOLOClassifier

PROBE = 64  # side of an image from which the stride is told
TOGETHER = 64  # images that a network is shown at once


@torch.no_grad()
def maps(model: YOLOClassifier, images: torch.Tensor, fine: int = 1) -> np.ndarray:
    """Class activation maps (Zhou et al., CVPR 2016): how much each place speaks for each class.

    The head is a convolution, the mean over its cells and a linear layer, so the linear layer applied to each cell
    before the mean is the map: exactly, its mean plus the class's bias is the logit (of a softmax network the softmax's
    own). A cell is some 32 pixels wide. Finer maps are those of shifted images, interleaved; between them nothing is
    interpolated, every value is the network's own, and the mean is that of the shifted images' logits: not this
    image's, see `distance`.

    Parameters
    ----------
    images : [B, 3, H, W] in 0..1, on any device; the network stays as it is, in whatever mode
    fine : 1, or a power of two: cells along each side of a coarse one, at the price of fine² times the work

    Returns
    -------
    float32 [B, C, h * fine, w * fine], without the bias

    Raises
    ------
    WorkbenchError : `fine` is no power of two up to half of the stride, or the sides are no multiples of the stride
    """
    net = copy.deepcopy(model).eval().float()
    images = images.to(net.head.weight.device, torch.float32)
    if fine == 1:
        return _coarse(net, images)
    height, width = images.shape[2:]
    stride = PROBE // _coarse(net, images.new_zeros(1, 3, PROBE, PROBE)).shape[-1]
    if fine < 1 or fine & (fine - 1) or fine > stride // 2 or height % stride or width % stride:
        raise WorkbenchError(
            f"a map {fine} times as fine of images {width}x{height}; expected a power of two up to {stride // 2}, "
            f"and sides that are multiples of {stride}"
        )
    # Half a fine cell off a coarse one's edge and on by whole ones: their middles are evenly spread over the image.
    starts = range(stride // fine // 2, stride, stride // fine)
    found = []
    for part in F.pad(images, [stride // 2] * 4, mode="replicate").split(max(1, TOGETHER // fine**2)):
        shifted = torch.cat([part[:, :, y : y + height, x : x + width] for y in starts for x in starts])
        cells = _coarse(net, shifted)
        h, w = cells.shape[2:]
        cells = cells.reshape(fine, fine, len(part), -1, h, w).transpose(2, 3, 4, 0, 5, 1)
        found.append(cells.reshape(len(part), -1, h * fine, w * fine))
    return np.concatenate(found)


@torch.no_grad()
def distance(model: YOLOClassifier, images: torch.Tensor, found: np.ndarray) -> np.ndarray:
    """How far maps of images, see `maps`, are from the logits: their mean and the class's bias less the logit.

    Returns
    -------
    float32 [B, C]; 0 but for rounding where the maps are not finer than the network's cells
    """
    net = copy.deepcopy(model).eval().float()
    exact = _coarse(net, images.to(net.head.weight.device, torch.float32))
    return found.mean((2, 3)) - exact.mean((2, 3))


def _coarse(net: YOLOClassifier, images: torch.Tensor) -> np.ndarray:
    """The maps [B, C, h, w] of images as they are."""
    caught: list[torch.Tensor] = []
    pool = net.net.model[-1].pool  # type: ignore[index, union-attr]
    hook = pool.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    with torch.autocast(images.device.type, enabled=False):
        net(images)
        hook.remove()
        return torch.einsum("bdhw,cd->bchw", caught[0], net.head.weight).cpu().numpy()


def peaks(found: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """The middle of the strongest cell of each map, int64 [..., 2] as (x, y) in pixels of images of this (H, W)."""
    h, w = found.shape[-2:]
    rows, columns = np.divmod(found.reshape(*found.shape[:-2], h * w).argmax(-1), w)
    return np.stack(((2 * columns + 1) * side[1] // (2 * w), (2 * rows + 1) * side[0] // (2 * h)), -1)
