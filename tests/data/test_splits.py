import shlex
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlworkbench.cli import main
from mlworkbench.data.splits import FRACTIONS, completed_split, stratified_parts, stratified_split


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
    rng, shares = np.random.default_rng(seed), np.array(shares)
    names = np.unique(groups)
    size = np.array([(groups == name).sum() for name in names])
    positives = np.array([(y[groups == name] == 1).sum(0) for name in names])
    wanted_rows, wanted, left = shares * len(y), np.outer(shares, positives.sum(0)), positives.sum(0)
    order, part_of = np.lexsort((rng.random(len(names)), -size)), np.full(len(names), -1)
    while (part_of < 0).any():
        rarest = np.argmin(np.where(left > 0, left, np.inf)) if left.any() else None
        for group in order[part_of[order] < 0]:
            if rarest is not None and positives[group, rarest] == 0:
                continue
            need = np.zeros(len(shares)) if rarest is None else wanted[:, rarest]
            best = np.flatnonzero(need >= need.max() - 1e-9)
            few = rarest is None or positives[:, rarest].sum() * shares.min() < 1 - 1e-9
            if few and need.max() < 1 - 1e-9:  # less than an image is left to each part
                best = np.flatnonzero(need > 1e-9) if (need > 1e-9).any() else np.arange(len(shares))
            fill = (wanted_rows / shares)[best]
            best = best[fill >= fill.max() - 1e-9]
            part_of[group] = chosen = rng.choice(best) if len(best) > 1 else best[0]
            wanted[chosen] -= positives[group]
            wanted_rows[chosen] -= size[group]
            left = left - positives[group]
    for empty in range(len(shares)):  # the smallest group of the largest part that can spare one
        counts = [(part_of == part).sum() for part in range(len(shares))]
        if counts[empty] == 0 and max(counts) > 1:
            rows = [size[part_of == part].sum() if counts[part] > 1 else -1 for part in range(len(shares))]
            own = np.flatnonzero(part_of == np.argmax(rows))
            part_of[own[np.argmin(size[own])]] = empty
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


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 8), st.sampled_from([0.02, 0.1, 0.5]))
def test_no_split_is_empty_while_there_are_three_groups_to_give(seed, rows, classes, often):
    rng = np.random.default_rng(seed)
    y = (rng.random((rows, classes)) < often).astype(np.int8)
    groups = rng.integers(0, rng.integers(1, rows + 1), rows)
    split = stratified_split(y, groups, seed % 100)
    assert len(set(split)) == min(3, len(np.unique(groups)))
    assert all(len(set(split[groups == group])) == 1 for group in np.unique(groups))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([1, 1, 1, 2, 2, 3, 5, 9, 40]), min_size=12, max_size=120), st.integers(0, 99))
def test_long_tails_keep_the_shares(sizes, seed):
    y = np.repeat(np.eye(len(sizes), dtype=np.int8), sizes, 0)
    split = stratified_split(y, np.arange(len(y)), seed)
    shares = [(split == name).mean() for name in ("train", "val", "test")]
    assert np.abs(np.array(shares) - FRACTIONS).max() <= 0.04 + 1 / len(y)
    # a class of several images is trained on wherever it is tested
    assert all((y[split == "train", c] == 1).any() for c, images in enumerate(sizes) if images > 1)


@pytest.mark.parametrize("images", [1, 2, 3, 4, 10])
def test_a_hundred_classes_of_few_images_each(images):
    y = np.repeat(np.eye(100, dtype=np.int8), images, 0)
    split = stratified_split(y, np.arange(len(y)))
    assert np.abs(np.array([(split == name).mean() for name in ("train", "val", "test")]) - FRACTIONS).max() < 0.02


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([("val",), ("test",), ("val", "test")]))
def test_a_missing_split_is_taken_from_train_by_class_and_with_groups_whole(seed, missing):
    rng = np.random.default_rng(seed)
    y = (rng.random((200, 4)) < [0.1, 0.2, 0.4, 0.6]).astype(np.int8)
    groups = rng.integers(0, 120, 200)
    first = {("val",): "test", ("test",): "val"}.get(missing, "train")
    given_ = np.array([first] * 40 + ["train"] * 160, object)
    groups[:40] += 1000
    split = completed_split(given_, missing, y, groups, seed % 100)
    assert (split[given_ != "train"] == given_[given_ != "train"]).all()  # what is given stays
    assert set(split) == {"train", "val", "test"}
    assert all(len(set(split[groups == group])) == 1 for group in np.unique(groups))
    train = given_ == "train"
    expected = 0.15 / (0.7 + 0.15 * len(missing))
    for name in missing:
        assert abs((split[train] == name).mean() - expected) < 0.05
        assert (y[split == name] == 1).any(0).all()
    assert (completed_split(split, (), y, groups) == split).all()


def test_of_a_class_with_two_positives_one_is_held_out():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = (rng.random((300, 5)) < [0, 0.05, 0.1, 0.2, 0.4]).astype(np.int8)
        y[rng.choice(300, 2, replace=False), 0] = 1
        split = stratified_split(y, np.arange(300), seed)
        assert sorted(split[y[:, 0] == 1]) in (["train", "val"], ["test", "train"])


def test_check_says_where_splits_come_from_and_names_a_file_that_gives_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [f"{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(name)
    rows = [f"{name},cat|dog,{split}\n" for name, split in zip(names, ["train"] * 4 + ["val", "test"], strict=True)]
    Path("given.csv").write_text("path,tags,split\n" + "".join(rows))
    Path("tags.csv").write_text("path,tags\n" + "".join(f"{row.rpartition(',')[0]}\n" for row in rows))

    def said(*words):
        assert main(["check", *words]) == 0
        return capsys.readouterr().out.splitlines()[2]

    assert said("given.csv") == "splits from the column split"
    assert said("tags.csv", "--seed", "3") == "splits drawn (70/15/15, seed 3)"
    Path("splits.csv").write_text("image_path,fold\n0.png,1\n")  # another thing
    assert said("tags.csv") == "splits drawn (70/15/15, seed 0)"
    Path("splits-2.csv").write_text(
        "image_path,split\n" + "".join(f"{r.split(',')[0]},{r.rpartition(',')[2]}" for r in rows)
    )
    drawn, _, way = said("tags.csv").partition("; ")
    assert drawn == "splits drawn (70/15/15, seed 0)" and way == "--splits splits-2.csv takes those of that file"
    assert said("tags.csv", *shlex.split(way)[:2]) == "splits from splits-2.csv"
