import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlworkbench.data.splits import FRACTIONS, stratified_parts, stratified_split


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


def one_by_one(y, groups, shares, seed):
    """The algorithm as it is told: every wish is brought up to date after every group."""
    rng = np.random.default_rng(seed)
    names = np.unique(groups)
    size = np.array([(groups == name).sum() for name in names])
    positives = np.array([(y[groups == name] == 1).sum(0) for name in names])
    wanted_rows, wanted, left = np.array(shares) * len(y), np.outer(shares, positives.sum(0)), positives.sum(0)
    order, part_of = np.lexsort((rng.random(len(names)), -size)), np.full(len(names), -1)
    while (part_of < 0).any():
        rarest = np.argmin(np.where(left > 0, left, np.inf)) if left.any() else None
        for group in order[part_of[order] < 0]:
            if rarest is not None and positives[group, rarest] == 0:
                continue
            need = wanted_rows if rarest is None else wanted[:, rarest]
            best = np.flatnonzero(need >= need.max() - 1e-9)
            best = best[wanted_rows[best] >= wanted_rows[best].max() - 1e-9] if len(best) > 1 else best
            part_of[group] = chosen = rng.choice(best)
            wanted[chosen] -= positives[group]
            wanted_rows[chosen] -= size[group]
            left = left - positives[group]
    return part_of[np.searchsorted(names, groups)]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(1, 6), st.sampled_from([FRACTIONS, [0.2] * 5]))
def test_parts_are_those_of_the_algorithm_one_group_at_a_time(seed, rows, classes, shares):
    rng = np.random.default_rng(seed)
    y = np.where(rng.random((rows, classes)) < rng.random(classes), 1, rng.integers(-1, 1, (rows, classes)))
    groups = rng.integers(0, rng.integers(1, rows + 1), rows)
    found = stratified_parts(y.astype(np.int8), groups, shares, seed % 100)
    assert found.tolist() == one_by_one(y, groups, shares, seed % 100).tolist()


def test_nothing_is_as_large_as_groups_times_classes_in_wide_numbers(rng):
    y = (rng.random((10_000, 200)) < 0.3).astype(np.int8)
    tracemalloc.start()
    stratified_split(y, np.arange(10_000))
    assert tracemalloc.get_traced_memory()[1] < 3 * y.nbytes
    tracemalloc.stop()
