"""Feeds of a card, with the processor in its place where that tells as much; the rest is in `training/test_gpu.py`."""

import numpy as np
import pytest
import torch
from PIL import Image

from mlworkbench.data.images import plain_jpeg
from mlworkbench.network.batches import ImageDataset
from mlworkbench.network.feed import CPU, _DecodedByCard, _Resident, make_loader


@pytest.fixture
def photographs(tmp_path, rng):
    """JPEGs, two of them turned or in CMYK, and a PNG."""
    paths = []
    for i, (suffix, mode, turned) in enumerate(
        [("jpg", "RGB", 1), ("png", "RGB", 1), ("jpg", "RGB", 6), ("jpg", "CMYK", 1), ("jpg", "L", 1)]
    ):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        exif = Image.Exif()
        exif[274] = turned
        image = small.resize((160, 120), Image.Resampling.BICUBIC).convert(mode)
        paths.append(f"{i}.{suffix}")
        image.save(tmp_path / paths[-1], **({"quality": 92, "exif": exif} if suffix == "jpg" else {}))
    return ImageDataset(np.array(paths, object), tmp_path, np.eye(5, dtype=np.int8), 64)


def test_only_jpegs_that_every_decoder_shows_alike_are_plain(photographs):
    assert [plain_jpeg(photographs.read(row)) for row in range(5)] == [True, False, False, False, True]
    assert not plain_jpeg(b"") and not plain_jpeg(photographs.read(0)[:20])


def test_what_the_card_decodes_is_nearly_what_the_processor_does(photographs):
    order = [[0, 1, 3], [4, 2]]
    for _ in range(2):  # the second time it is known which are plain
        for mine, right in zip(_DecodedByCard(photographs, order, CPU), make_loader(photographs, order), strict=True):
            assert torch.equal(mine[1], right[1]) and torch.equal(mine[2], right[2])
            assert (mine[0].int() - right[0].int()).abs().max() <= 16  # another reduced scale, another rounding


def test_what_the_card_cannot_decode_the_processor_does(photographs, monkeypatch):
    def none(*_, **__):
        raise RuntimeError("no such JPEG")

    monkeypatch.setattr("torchvision.io.decode_jpeg", none)
    ((images, _, _),) = _DecodedByCard(photographs, [[0, 4]], CPU)
    assert torch.equal(images, torch.from_numpy(np.stack([photographs.decode(0), photographs.decode(4)])))


def test_resident_images_come_in_the_order_of_the_batches(rng):
    images, targets = torch.arange(7)[:, None, None, None].to(torch.uint8), torch.arange(7)[:, None]
    order = [[3, 1], [6], [0, 2, 5]]
    for _ in range(2):
        found = list(_Resident(images, targets, order))
    assert [batch[2].tolist() for batch in found] == order == [batch[0].flatten().tolist() for batch in found]
