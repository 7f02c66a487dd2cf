import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from mlworkbench.data.prepare import RATIO, SCALE, crop_costs


def test_square_images_lose_nothing_in_the_centre_but_much_at_random():
    costs = crop_costs(np.array([[100, 100]]))
    assert costs["centre_area"] == 0 and costs["centre_lost"] == 0 and 0.1 < costs["random_lost"] < 0.4


def test_a_wide_image_against_hand_computed_shares():
    # 2:1, thing 0.2: it may begin anywhere in 0..1.8; half of it is gone where its middle lies outside 0.5..1.5.
    costs = crop_costs(np.array([[200, 100]]), draws=200_000)
    assert costs["centre_area"] == 0.5
    assert costs["centre_lost"] == pytest.approx(0.8 / 1.8, abs=0.01)


@pytest.mark.parametrize("size", [(100, 100), (150, 100), (100, 300)])
def test_random_crops_lose_as_much_as_torchvisions(size):
    width, height = size
    rng, image, lost = np.random.default_rng(0), torch.empty(3, height, width), []
    torch.manual_seed(0)
    side = 0.2 * min(size)
    for _ in range(4000):
        top, left, h, w = RandomResizedCrop.get_params(image, list(SCALE), list(RATIO))
        x, y = rng.random() * (width - side), rng.random() * (height - side)
        seen_x, seen_y = min(x + side, left + w) - max(x, left), min(y + side, top + h) - max(y, top)
        lost.append(max(seen_x, 0) * max(seen_y, 0) < 0.5 * side**2)
    assert crop_costs(np.array([size]))["random_lost"] == pytest.approx(np.mean(lost), abs=0.025)


def test_the_random_crop_is_ultralytics_own():
    from ultralytics.data.augment import classify_augmentations
    from ultralytics.utils import DEFAULT_CFG

    crop = classify_augmentations(scale=(1 - DEFAULT_CFG.scale, 1.0)).transforms[0]  # as their dataset begins it
    assert (crop.scale, crop.ratio) == (SCALE, RATIO)
