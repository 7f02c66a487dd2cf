import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from simulated import World
from sklearn.metrics import average_precision_score

from mlworkbench import Predictions, Run, Thresholds, WorkbenchError, tune_thresholds
from mlworkbench.analysis.compare import TWO_NETWORKS, _mcnemar, _variances, compare, compare_recipes, compare_runs
from mlworkbench.data.demo import CLASSES


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
    assert found.flips.empty and len(found.classes) == len(CLASSES)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_mcnemars_test_over_groups_agrees_with_all_signs_one_after_the_other(balance):
    balance = np.array(balance, int)
    sums = [abs(np.dot(signs, balance)) for signs in product((-1, 1), repeat=len(balance))]
    assert _mcnemar(balance) == pytest.approx(np.mean(np.array(sums) >= abs(balance.sum())))


def test_groups_of_one_are_as_no_groups_and_a_group_of_copies_is_one_image():
    (a, b), thresholds = two(5, images=150)
    plain = compare(a, b, thresholds, thresholds)
    order = np.random.default_rng(0).permutation(150)
    alone = compare(a, replace(b, groups=order.astype(np.int64)), thresholds, thresholds)
    assert plain.sets == alone.sets and plain.classes.p.equals(alone.classes.p)
    rows = np.repeat(np.arange(150), 4)
    paths = np.array([f"{i}.png" for i in range(600)], object)
    copies = [replace(p.take(rows), paths=paths, groups=rows) for p in (a, b)]
    found = compare(*copies, thresholds, thresholds)
    assert found.sets["p"] == pytest.approx(plain.sets["p"])
    assert found.map["se"] == pytest.approx(plain.map["se"], rel=0.1) and found.sets["better"] > plain.sets["better"]


def test_the_variance_is_the_jackknifes():
    """Left out one group after the other, by scikit-learn's average precision."""
    (a, b), _ = two(6, images=60, unknown=0)
    groups = np.repeat(np.arange(20), 3)
    by_class, of_mean = _variances((a, b), groups, 0)
    left_out = []
    for group in range(20):
        kept = groups != group
        left_out.append([
            average_precision_score(a.labels[kept, c], b.logits[kept, c])
            - average_precision_score(a.labels[kept, c], a.logits[kept, c])
            for c in range(3)
        ])  # fmt: skip
    assert by_class == pytest.approx(19 * np.var(left_out, 0))
    assert of_mean == pytest.approx(19 * np.var(np.mean(left_out, 1)))


@pytest.mark.parametrize("size", [1, 6, 20])
def test_two_equal_models_differ_no_more_often_than_said(size):
    draws, world = 100, World(np.linspace(0.02, 0.3, 4), np.full(4, 2.0), size)
    rng, found = np.random.default_rng(size), []
    for _ in range(draws):
        a, b = world.draw(rng, 480, models=2)
        thresholds = Thresholds.default(a.class_names)
        its = compare(a, b, thresholds, thresholds)
        found.append((its.sets["p"] <= 0.05, (its.classes.q <= 0.05).any(), its.map["low"] > 0 or its.map["high"] < 0))
    assert (np.sum(found, 0) <= binom.ppf(0.99, draws, 0.05)).all(), np.mean(found, 0)


def networks(rng, world, better, by_seed, images=200):
    """Three networks of each of two recipes, which their seeds make better or worse, and the second recipe better."""
    by = rng.normal(0, by_seed, 6) + np.repeat([0, better], 3)
    found = world.draw(rng, images, models=6)
    return [
        replace(p, logits=p.logits + 4 * b * (p.labels - 0.5).astype(np.float32))
        for p, b in zip(found, by, strict=True)
    ]


def of_recipes(runs):
    thresholds = [Thresholds.default(runs[0].class_names)] * 3
    return compare_recipes(runs[:3], runs[3:], thresholds, thresholds)


def test_recipes_differ_by_more_than_their_seeds():
    world, rng = World(np.linspace(0.1, 0.4, 3), np.full(3, 2.0)), np.random.default_rng(0)
    draws, pairs, recipes = 40, 0, []
    for _ in range(draws):
        runs = networks(rng, world, 0, 0.1)
        scores = of_recipes(runs).scores
        recipes.append((scores.low > 0) | (scores.high < 0))
        thresholds = Thresholds.default(runs[0].class_names)
        one = compare(runs[0], runs[3], thresholds, thresholds).map
        pairs += one["low"] > 0 or one["high"] < 0
    assert (np.sum(recipes, 0) <= binom.ppf(0.99, draws, 0.05)).all(), np.mean(recipes, 0)
    assert pairs > binom.ppf(0.99, draws, 0.05)  # told as recipes, two networks would be wrong too often
    scores = of_recipes(networks(rng, world, 1, 0.1)).scores.loc["map"]
    assert scores.low > 0 and scores.after - scores.before == pytest.approx(scores.difference)


def test_what_the_seeds_and_the_images_add_is_told_apart():
    """Runs that say the same have no variance by seed; the more they have of their own, the more."""
    world, rng = World(np.linspace(0.1, 0.4, 3), np.full(3, 2.0)), np.random.default_rng(1)
    one, other = world.draw(rng, 300, models=2)
    same = of_recipes([one] * 3 + [other] * 3).scores.loc["map"]
    assert same.seed_before == pytest.approx(0, abs=1e-12)
    thresholds = Thresholds.default(one.class_names)
    assert same.test == pytest.approx(compare(one, other, thresholds, thresholds).map["se"], rel=0.25)
    apart = of_recipes(networks(rng, world, 0, 0.5)).scores.loc["map"]
    assert apart.seed_before > 0.02 and apart.test < same.test + 0.02


def test_runs_as_recipes(tiny_run, tmp_path):
    assert TWO_NETWORKS in str(compare_runs(tiny_run, tiny_run))
    with pytest.raises(WorkbenchError, match="1 and 1 runs; a recipe needs 2 or more"):
        compare_runs([tiny_run], tiny_run)
    copies = [Run(shutil.copytree(tiny_run.folder, tmp_path / name)) for name in ("a", "b", "c", "d")]
    with pytest.raises(WorkbenchError, match="b has the seed 0 of another run"):
        compare_runs(copies[:2], copies[2:])
    rng = np.random.default_rng(0)
    for i, run in enumerate(copies):
        run.write_state(settings=run.state["settings"] | {"seed": i % 2, "device": f"cuda:{i}", "epochs": 2 + i // 2})
        found = run.predictions("test", raw=True)
        run.write_predictions(
            replace(found, logits=found.logits + rng.normal(0, 1, found.logits.shape).astype("f4")), "test"
        )
    found = compare_runs(copies[:2], copies[2:])
    assert found.runs == (2, 2) and found.images == len(tiny_run.predictions("test")) and "macro F1" in str(found)
    with pytest.raises(WorkbenchError, match="epochs is '3' in .*d and '2' in .*a; expected runs of one recipe"):
        compare_runs([copies[0], copies[3]], copies[2:])
