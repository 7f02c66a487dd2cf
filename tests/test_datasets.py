import numpy as np
import pytest
import torch

from mlworkbench import datasets
from mlworkbench.datasets import ImageDataset, augment, make_loader, sample_uniforms
from mlworkbench.images import load_image


@pytest.fixture
def small(picture, tmp_path):
    paths = np.array([picture(f"{i}.png", seed=i) for i in range(7)], object)
    y = np.eye(7, 3, dtype=np.int8)

    def make(**options):
        return ImageDataset(paths, tmp_path, y, 32, **options)

    return make


def all_of(loader):
    parts = list(loader)
    return [torch.cat([part[i] for part in parts]) for i in range(3)]


def test_pixels_and_targets_are_those_of_the_row(small, tmp_path):
    images, targets, rows = all_of(make_loader(small(), 3))
    assert rows.tolist() == list(range(7)) and images.dtype == torch.uint8
    for row in range(7):
        assert np.array_equal(images[row].numpy(), load_image(f"{row}.png", tmp_path, 32).transpose(2, 0, 1))
    assert targets.tolist() == np.eye(7, 3, dtype=int).tolist()


def test_order_changes_with_the_epoch_and_repeats_with_the_seed(small):
    def order(epoch, seed):
        dataset = small(seed=seed)
        dataset.epoch = epoch
        return all_of(make_loader(dataset, 4, train=True))[2].tolist()

    assert order(1, 0) == order(1, 0) != order(2, 0) and order(1, 0) != order(1, 1)
    assert sorted(order(1, 0)) == list(range(7))


def test_a_lone_last_image_is_left_out_of_training_only(small):
    assert len(all_of(make_loader(small(), 3, train=True))[2]) == 6
    assert len(all_of(make_loader(small(), 3))[2]) == 7


def test_neither_cache_nor_workers_change_a_batch(small, monkeypatch):
    def batches(workers=0):
        dataset = small(augment=True, flip=True, seed=3)
        dataset.epoch = 2
        return all_of(make_loader(dataset, 4, train=True, workers=workers))

    cached = batches()
    monkeypatch.setattr(datasets, "CACHE_BYTES", 0)
    for other in (batches(), batches(workers=2)):
        for one, two in zip(cached, other, strict=True):
            assert torch.equal(one, two)


def test_augmentation_in_the_middle_of_its_range_changes_nothing():
    images = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    assert torch.equal(augment(images, torch.full((3, 7), 0.5)), images)


def test_augmentation_mirrors_only_when_asked():
    images = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    u = torch.full((2, 7), 0.5)
    u[0, 0] = 0.1
    assert torch.equal(augment(images, u, flip=True), torch.stack([images[0].flip(-1), images[1]]))
    assert torch.equal(augment(images, u, flip=False), images)


def test_augmentation_keeps_every_object_in_the_picture():
    image = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    image[..., :8, :8] = 255  # in the very corner
    u = sample_uniforms(list(range(200)), epoch=0, seed=0)
    bright = (augment(image.expand(200, -1, -1, -1), u, flip=True).float().amax((1, 2, 3)) > 150).float().mean()
    assert bright == 1


def test_uniforms_depend_on_seed_epoch_and_row_alone():
    assert torch.equal(sample_uniforms([4, 9], 1, 0)[1], sample_uniforms([9], 1, 0)[0])
    assert not torch.equal(sample_uniforms([9], 1, 0), sample_uniforms([9], 2, 0))
