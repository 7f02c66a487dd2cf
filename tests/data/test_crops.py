import numpy as np
import pytest

from mlworkbench.data.prepare import crop_costs


def test_square_images_lose_nothing_in_the_centre_but_much_at_random():
    costs = crop_costs(np.array([[100, 100]]))
    assert costs["centre_area"] == 0 and costs["centre_lost"] == 0 and 0.3 < costs["random_lost"] < 0.8


def test_a_wide_image_against_hand_computed_shares():
    # 2:1, thing 0.2: it may begin anywhere in 0..1.8; half of it is gone where its middle lies outside 0.5..1.5.
    costs = crop_costs(np.array([[200, 100]]), draws=200_000)
    assert costs["centre_area"] == 0.5
    assert costs["centre_lost"] == pytest.approx(0.8 / 1.8, abs=0.01)


def test_a_thing_as_large_as_the_image_is_lost_when_half_of_it_is_cut():
    costs = crop_costs(np.array([[100, 100]]), thing=1.0, draws=100_000)
    assert costs["random_lost"] == pytest.approx((0.5 - 0.08) / 0.92, abs=0.02)  # the crop's area below one half
