"""Feeds of a card, with the processor in its place where that tells as much; the rest is in `training/test_gpu.py`."""

import torch

from mlworkbench.network.feed import _Resident


def test_resident_images_come_in_the_order_of_the_batches():
    images, targets = torch.arange(7)[:, None, None, None].to(torch.uint8), torch.arange(7)[:, None]
    order = [[3, 1], [6], [0, 2, 5]]
    for _ in range(2):
        found = list(_Resident(images, targets, order))
    assert [batch[2].tolist() for batch in found] == order == [batch[0].flatten().tolist() for batch in found]
