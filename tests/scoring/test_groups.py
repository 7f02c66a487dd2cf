import numpy as np
import pytest
from scipy.stats import binom
from simulated import World

from mlworkbench import Predictions
from mlworkbench.scoring.groups import design_effect, few_positives, group_sums, numbered, resampled, shares


def test_of_single_images_the_error_is_the_binomial_one(rng):
    hits, counted = rng.random((300, 4)) < [0.1, 0.3, 0.5, 0.9], rng.random((300, 4)) < 0.8
    share, error = shares(hits & counted, counted, numbered(None, 300))
    n = counted.sum(0)
    np.testing.assert_allclose(share, (hits & counted).sum(0) / n)
    np.testing.assert_allclose(error**2, share * (1 - share) / n * 300 / 299)


def test_copies_of_an_image_add_nothing(rng):
    hits = rng.random((200, 3)) < 0.3
    one = shares(hits, np.ones(hits.shape), numbered(None, 200))
    groups = numbered(np.repeat(rng.permutation(1000)[:200], 5), 1000)
    five = shares(np.repeat(hits, 5, 0), np.ones((1000, 3)), groups)
    np.testing.assert_allclose(five, one)
    np.testing.assert_allclose(design_effect(np.repeat(hits, 5, 0), np.ones((1000, 3)), groups), 5, rtol=0.01)
    assert few_positives(np.repeat(hits, 5, 0)[:35], groups[:35]).all()  # seven images, however often


@pytest.mark.parametrize("size", [1, 6, 20])
def test_errors_are_as_large_as_shares_vary(size):
    world, rng, found = World(np.full(3, 0.3), np.zeros(3), size=size), np.random.default_rng(1), []
    for _ in range(300):
        drawn = world.draw(rng, 480)[0]
        found.append(shares(drawn.labels == 1, np.ones(drawn.labels.shape), numbered(drawn.groups, 480)))
    share, error = np.array(found).transpose(1, 0, 2)
    np.testing.assert_allclose(np.sqrt((error**2).mean(0)), share.std(0), rtol=0.15)


def test_resamples_take_groups_whole_and_as_often_as_chance_does():
    groups = np.array([7, 7, 3, 9, 9, 9])
    paths = np.array(list("abcdef"), object)
    drawn = Predictions(paths, ["x"], np.zeros((6, 1), np.float32), groups=groups)
    weights = np.concatenate(list(resampled(drawn, 250, 0)), 1)
    assert weights.shape == (6, 250) and weights.dtype == np.float32
    assert (weights[0] == weights[1]).all() and (weights[3] == weights[5]).all()
    assert (weights[[0, 2, 3]].sum(0) == 3).all()
    assert abs((weights[2] == 1).mean() - binom.pmf(1, 3, 1 / 3)) < 0.1
    np.testing.assert_array_equal(group_sums(numbered(groups, 6), np.arange(6)[:, None]).ravel(), [2, 1, 12])
