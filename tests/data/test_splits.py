import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlworkbench.data.splits import FRACTIONS, stratified_split


def deviation(y, split):
    """Mean distance of each class's share in each split from the wanted one."""
    shares = np.array([[(y[split == s, c] == 1).sum() for c in range(y.shape[1])] for s in ("train", "val", "test")])
    return np.abs(shares / shares.sum(0) - np.array(FRACTIONS)[:, None]).mean()


def test_closer_to_the_wanted_shares_than_a_random_split():
    ours, by_chance = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        y = (rng.random((600, 8)) < np.geomspace(0.02, 0.4, 8)).astype(np.int8)
        split = stratified_split(y, np.arange(600), seed)
        ours.append(deviation(y, split))
        by_chance.append(deviation(y, rng.permutation(split)))
    assert np.mean(ours) < np.mean(by_chance) / 2


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(1, 5))
def test_groups_stay_whole_and_every_row_has_a_split(seed, rows, classes):
    rng = np.random.default_rng(seed)
    y = rng.integers(-1, 2, (rows, classes)).astype(np.int8)
    groups = rng.integers(0, max(1, rows // 2), rows)
    split = stratified_split(y, groups, seed % 100)
    assert set(split) <= {"train", "val", "test"}
    assert all(len(set(split[groups == group])) == 1 for group in np.unique(groups))
    assert (split == stratified_split(y, groups, seed % 100)).all()


def test_sizes():
    split = stratified_split(np.zeros((100, 3), np.int8), np.arange(100))
    assert [(split == name).sum() for name in ("train", "val", "test")] == [70, 15, 15]
