import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlworkbench.data.images import ImageFault, load_image
from mlworkbench.network.batches import (
    EpochBatches,
    ImageDataset,
    augment,
    in_order,
    sample_uniforms,
    squared,
)
from mlworkbench.network.feed import make_loader


@pytest.fixture
def small(picture, tmp_path):
    paths = np.array([picture(f"{i}.png", seed=i) for i in range(7)], object)
    return ImageDataset(paths, tmp_path, np.eye(7, 3, dtype=np.int8), 32)


def all_of(loader):
    parts = list(loader)
    return [torch.cat([part[i] for part in parts]) for i in range(3)]


def test_pixels_and_targets_are_those_of_the_row(small, tmp_path):
    images, targets, rows = all_of(make_loader(small, in_order(range(7), 3)))
    assert rows.tolist() == list(range(7)) and images.dtype == torch.uint8
    for row in range(7):
        assert np.array_equal(images[row].numpy(), squared(load_image(f"{row}.png", tmp_path), 32))
    assert targets.tolist() == np.eye(7, 3, dtype=int).tolist()


def test_squared_keeps_the_whole_image_and_is_what_pillow_makes_of_it(rng):
    wide = np.zeros((20, 100, 3), np.uint8)
    wide[:, :10], wide[:, -10:] = (255, 0, 0), (0, 0, 255)
    square = squared(wide, 50)
    assert square.shape == (3, 50, 50) and square.dtype == np.uint8
    assert tuple(square[:, 25, 1]) == (255, 0, 0) and tuple(square[:, 25, -2]) == (0, 0, 255)
    for shape in ((375, 500), (40, 300), (31, 17), (64, 64)):
        pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
        expected = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(squared(pixels, 64).astype(int) - expected).max() <= 1


@given(n=st.integers(2, 300), size=st.integers(2, 64), pieces=st.integers(1, 4), seed=st.integers(0, 5))
def test_an_epoch_has_every_row_once_in_batches_of_nearly_equal_size(n, size, pieces, seed):
    rows, least = np.arange(n) * 3, 2 * pieces
    batches = EpochBatches(rows, max(size, least), seed, least)
    parts = list(batches)
    assert len(parts) == len(batches) and sorted(row for part in parts for row in part) == rows.tolist()
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1 and (min(lengths) >= least or len(parts) == 1)
    assert max(lengths) <= max(size, least) or len(parts) == n // least  # more only where too few would be left


def test_order_changes_with_the_epoch_and_repeats_with_the_seed():
    def order(epoch, seed, first=0):
        batches = EpochBatches(np.arange(20), 4, seed)
        batches.start(epoch, first)
        return list(batches)

    assert order(1, 0) == order(1, 0) != order(2, 0) and order(1, 0) != order(1, 1)
    assert order(1, 0, first=3) == order(1, 0)[3:]


def test_neither_cache_nor_workers_change_a_batch(small):
    def batches(workers=0):
        order = EpochBatches(np.arange(7), 4, 3)
        order.start(2)
        return all_of(make_loader(small, order, workers))

    decoded = [batches(), batches(workers=2)]
    small.pixels = np.stack([small.decode(row) for row in range(7)])
    for other in (*decoded, batches(workers=2)):
        for one, two in zip(batches(), other, strict=True):
            assert torch.equal(one, two)


def test_augmentation_in_the_middle_of_its_range_changes_nothing():
    images = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    torch.testing.assert_close(augment(images, torch.full((3, 9), 0.5)), images / 255, atol=1e-5, rtol=0)


def test_augmentation_mirrors_only_when_asked():
    images, u = torch.rand(2, 3, 24, 24), torch.full((2, 9), 0.5)
    u[0, 0] = 0.1
    mirrored = torch.stack([images[0].flip(-1), images[1]])
    torch.testing.assert_close(augment(255 * images, u, flip=True), mirrored, atol=1e-5, rtol=0)
    torch.testing.assert_close(augment(255 * images, u, flip=False), images, atol=1e-5, rtol=0)


def test_colour_is_brightness_then_contrast_then_saturation():
    images, u = 0.2 + 0.5 * torch.rand(4, 3, 8, 8), torch.full((4, 9), 0.5)
    u[:, 4:7] = torch.rand(4, 3)
    b, c, s = ((0.85 + 0.3 * u[:, k]).view(-1, 1, 1, 1) for k in (4, 5, 6))
    x = images * b
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, c)
    x = torch.lerp(x.mean(1, keepdim=True), x, s)
    torch.testing.assert_close(augment(255 * images, u), x.clamp(0, 1), atol=1e-5, rtol=0)


def test_augmentation_keeps_every_object_in_the_picture_unless_a_crop_is_asked_for():
    image = torch.zeros(1, 3, 96, 96)
    image[..., :8, :8] = 255  # in the very corner

    def kept(**options):
        u = sample_uniforms(200, epoch=0, seed=0)
        return (augment(image.expand(200, -1, -1, -1), u, **options).amax((1, 2, 3)) > 0.6).float().mean()

    assert kept(flip=True) == 1 and 0.05 < kept(crop=True) < 0.6


def test_a_crop_shows_a_part_enlarged_and_nothing_from_beyond_the_edge():
    ramp = 255 * torch.linspace(0.2, 0.8, 64).expand(1, 3, 64, 64)
    u = sample_uniforms(100, epoch=0, seed=0)
    u[:, 4:7] = 0.5
    shown = augment(ramp.expand(100, -1, -1, -1).contiguous(), u, crop=True)[:, 0, 0]
    share = (shown.amax(1) - shown.amin(1)) / 0.6
    assert (shown.diff(dim=1) > -1e-6).all()  # reflection would turn the ramp around
    assert share.min() > 0.4 and share.max() <= 1.01 and share.std() > 0.1


def test_uniforms_depend_on_seed_epoch_and_row_alone():
    assert torch.equal(sample_uniforms(9, 1, 0)[4], sample_uniforms(20, 1, 0)[4])
    assert not torch.equal(sample_uniforms(9, 1, 0), sample_uniforms(9, 2, 0))
    assert not torch.equal(sample_uniforms(9, 1, 0), sample_uniforms(9, 1, 1))


def test_what_an_epoch_sees_can_be_looked_at(small):
    one, again, two = (small.augmented(epoch, seed=0) for epoch in (1, 1, 2))
    assert one.shape == (7, 32, 32, 3) and one.dtype == np.uint8
    assert np.array_equal(one, again) and not np.array_equal(one, two)


def test_a_mapped_file_travels_to_workers_by_its_name(small, tmp_path):
    pixels = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(7, 3, 32, 32))
    pixels[:] = np.stack([small.decode(row) for row in range(7)])
    small.pixels = pixels
    sent = pickle.dumps(small)
    assert len(sent) < 5000 and np.array_equal(pickle.loads(sent).pixels, pixels)


def test_a_fault_in_a_worker_is_one_line(small):
    (small.root / "3.png").unlink()
    for workers in (0, 2):
        with pytest.raises(ImageFault) as caught:
            list(make_loader(small, in_order(range(7), 3), workers))
        assert str(caught.value) == "image '3.png': missing; has it changed since it was checked?"
