from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import average_precision_score

from mlworkbench import Predictions, Thresholds, WorkbenchError, tune_thresholds
from mlworkbench.analysis.compare import compare, compare_runs


def two(seed, images=80, gain=1.0, unknown=0.1):
    """The same images as two models see them, the second the better the larger `gain` is."""
    rng = np.random.default_rng(seed)
    y = (rng.random((images, 3)) < [0.5, 0.3, 0.2]).astype(np.int8)
    noise = rng.normal(0, 1.5, (2, *y.shape))
    logits = ((2 * y - 1) * np.array([1, 1 + gain])[:, None, None] + noise).astype(np.float32)
    y[rng.random(y.shape) < unknown] = -1
    paths = np.array([f"{i}.jpg" for i in range(images)], object)
    return [Predictions(paths, ["a", "b", "c"], z, y, "test") for z in logits], Thresholds.default(["a", "b", "c"])


def exact(better, worse):
    """McNemar's exact p, by counting: twice the smaller tail of a fair coin."""
    n = better + worse
    return min(1.0, 2 * binom.cdf(min(better, worse), n, 0.5)) if n else 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_counts_flips_and_tests_agree_with_a_plain_count(seed):
    (a, b), thresholds = two(seed)
    found = compare(a, b, thresholds, thresholds)
    y, p, q = a.labels, a.probabilities, b.probabilities
    better, worse = [], []
    for i, c in np.ndindex(y.shape):
        if y[i, c] >= 0:
            right = [(part[i, c] >= 0.5) == (y[i, c] == 1) for part in (p, q)]
            if right == [False, True]:
                better.append((f"{i}.jpg", "abc"[c]))
            if right == [True, False]:
                worse.append((f"{i}.jpg", "abc"[c]))
    flips = found.flips
    keys = list(zip(flips.image_path, flips["class"], strict=True))
    assert sorted(keys[len(worse) :]) == sorted(better) and sorted(keys[: len(worse)]) == sorted(worse)
    assert (flips.change == ["worse"] * len(worse) + ["better"] * len(better)).all()
    moved = (flips.probability_after - flips.probability_before).abs()
    assert all(moved[flips.change == change].is_monotonic_decreasing for change in ("worse", "better"))
    for row in found.classes.itertuples():
        name = row[1]
        counts = [sum(label == name for _, label in part) for part in (better, worse)]
        assert [row.better, row.worse] == counts and row.p == pytest.approx(exact(*counts))
        c = "abc".index(name)
        known = y[:, c] >= 0
        for z, ap in ((a, row.ap_before), (b, row.ap_after)):
            assert ap == pytest.approx(average_precision_score(y[known, c], z.logits[known, c]))
    whole = [((part >= 0.5) == (y == 1)) | (y < 0) for part in (p, q)]
    sets = [int((whole[i].all(1) & ~whole[1 - i].all(1)).sum()) for i in (1, 0)]
    assert [found.sets["better"], found.sets["worse"]] == sets and found.sets["p"] == pytest.approx(exact(*sets))
    assert found.images.better.sum() == len(better) and found.images.worse.sum() == len(worse)
    assert (found.images.better + found.images.worse > 0).all()


def test_a_better_model_is_told_and_the_same_one_is_no_better():
    (a, b), thresholds = two(0, images=400, gain=2)
    found = compare(a, b, thresholds, thresholds)
    assert found.map["low"] > 0 and found.map["low"] < found.map["difference"] < found.map["high"]
    assert found.map["after"] - found.map["before"] == pytest.approx(found.map["difference"])
    assert found.sets["p"] < 0.001 and (found.classes.q < 0.05).any() and not found.tuned_on
    back = compare(b, a, thresholds, thresholds)
    assert back.map["difference"] == -found.map["difference"] and back.map["low"] == pytest.approx(-found.map["high"])
    same = compare(a, a, thresholds, thresholds)
    assert same.flips.empty and same.images.empty and (same.classes.p == 1).all()
    assert same.map["difference"] == same.map["low"] == same.map["high"] == 0 and same.sets["p"] == 1


def test_the_interval_is_a_paired_one():
    """Two models alike but for little noise: paired, the interval is far narrower than those of either."""
    (a, _), thresholds = two(1, images=200)
    rng = np.random.default_rng(0)
    b = replace(a, logits=a.logits + rng.normal(0, 0.05, a.logits.shape).astype(np.float32))
    from mlworkbench.scoring.metrics import score

    alone = score(a, thresholds.values)["intervals"]["map"]
    found = compare(a, b, thresholds, thresholds).map
    assert found["high"] - found["low"] < 0.3 * (alone["high"] - alone["low"])


def test_images_and_classes_align_by_name():
    (a, b), thresholds = two(2)
    plain = compare(a, b, thresholds, thresholds)
    order = np.random.default_rng(0).permutation(len(a))
    shuffled = replace(a, paths=a.paths[order], logits=a.logits[order], y=a.labels[order]).reorder(["c", "a", "b"])
    other = compare(shuffled, b, thresholds, thresholds)
    assert plain.flips.equals(other.flips) and plain.classes.equals(other.classes) and plain.map == other.map
    with pytest.raises(WorkbenchError, match="image '79.jpg' and 0 more stand in only one of the two"):
        compare(a, replace(b, paths=b.paths[:79], logits=b.logits[:79], y=b.labels[:79]), thresholds, thresholds)


def test_the_labels_of_the_second_count_and_what_was_tuned_here_says_so():
    (a, b), thresholds = two(3, unknown=0)
    y = b.labels.copy()
    y[:5, 0] = 1 - y[:5, 0]
    found = compare(a, replace(b, y=y), thresholds, tune_thresholds(b))
    assert found.relabelled == 5 and found.tuned_on
    mended = [replace(part, y=y) for part in (a, b)]
    expected = compare(*mended, thresholds, tune_thresholds(b))
    assert found.flips.equals(expected.flips) and found.map == expected.map


def test_a_class_without_a_positive_has_no_difference():
    (a, b), thresholds = two(4)
    y = np.where([False, False, True], 0, a.labels).astype(np.int8)
    found = compare(replace(a, y=y), replace(b, y=y), thresholds, thresholds)
    last = found.classes.set_index("class").loc["c"]
    assert np.isnan(last.ap_before) and np.isnan(last.low) and not np.isnan(found.map["low"])
    nothing = np.zeros_like(y)
    assert np.isnan(compare(replace(a, y=nothing), replace(b, y=nothing), thresholds, thresholds).map["difference"])


def test_two_runs(tiny_run):
    found = compare_runs(tiny_run, tiny_run)
    assert found.flips.empty and len(found.classes) == 10
