import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from simulated import World
from sklearn.metrics import average_precision_score

from mlworkbench import Predictions
from mlworkbench.scoring.groups import FEW, effective
from mlworkbench.scoring.intervals import called_though_absent, interval_of, notes, precision_among_others, told
from mlworkbench.scoring.metrics import bootstrap, interval, score
from mlworkbench.scoring.predictions import decide

MEANS = ("map", "f1_macro", "f1_micro", "f1_samples", "exact_match")
USUAL = World(np.array([0.1, 0.2, 0.3]), np.array([1.5, 2, 3]))
HALF = np.full(3, 0.5)


def made(y, logits, groups=None):
    names = [f"c{c}" for c in range(y.shape[1])]
    return Predictions(np.arange(len(y)).astype(str).astype(object), names, logits.astype(np.float32), y, groups=groups)


def every_interval(scores):
    """Name, estimate and interval of each score that has one."""
    yield from ((name, scores[name], its) for name, its in scores["intervals"].items() if name != "classes")
    for name, both in scores["intervals"]["classes"].items():
        yield from ((name, scores["classes"][name][key], its) for key, its in both.items())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 60), st.integers(1, 12), st.integers(1, 5), st.booleans())
def test_every_interval_holds_its_estimate_and_has_a_width(seed, images, classes, size, coarse):
    rng = np.random.default_rng(seed)
    y = (rng.random((images, classes)) < rng.choice([0.01, 0.1, 0.5, 1], classes)).astype(np.int8)
    y[rng.random(y.shape) < rng.choice([0, 0.3])] = -1
    logits = rng.normal(y * rng.choice([0, 1, 30]), rng.choice([0.01, 1]))
    logits = logits.round() if coarse else logits
    groups = rng.integers(0, max(1, images // size), images) if size > 1 else None
    scores = score(made(y, logits, groups), rng.choice([-1, 0.2, 0.5, 2], classes), resamples=20)
    for name, estimate, its in every_interval(scores):
        if not math.isnan(its["low"]):
            assert 0 <= its["low"] <= estimate <= its["high"] <= 1, name
            assert its["high"] - its["low"] > 1e-6, name
        else:
            assert math.isnan(its["high"]) and math.isnan(its["se"])


def test_effective_number_of_groups():
    assert effective(np.array([], int)) == 0 and effective(np.arange(7)) == 7
    assert effective(np.repeat([0, 3], 4)) == 2 and effective(np.array([0] * 7 + [1])) == pytest.approx(64 / 50)


@pytest.mark.parametrize("seed", range(20))
def test_precision_among_other_groups_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    y, z = rng.choice([1, 0, 0, -1], (40, 3)).astype(np.int8), rng.integers(0, 9, (40, 3)) / 4
    y[:, 2] = 0
    groups = rng.integers(0, 12, 40)
    expected = []
    for c in range(3):
        found = []
        for i in np.flatnonzero(y[:, c] == 1):
            above = (y[:, c] >= 0) & (z[:, c] >= z[i, c]) & (groups != groups[i])
            found.append((y[above, c] == 1).mean() if above.any() else 1)
        expected.append(np.mean(found) if found else np.nan)
    np.testing.assert_allclose(precision_among_others(y, z, groups), expected, rtol=0, atol=1e-12)


def test_what_an_image_adds_to_its_own_precision_is_the_bias_by_chance():
    rng = np.random.default_rng(0)
    y = np.zeros((40, 400), np.int8)
    y[:2] = 1
    z = rng.normal(size=y.shape)
    ap = np.array([average_precision_score(y[:, c], z[:, c]) for c in range(400)])
    bias = ap - precision_among_others(y, z, np.arange(40))
    # Of two positives by chance the one is found among 39 others: the truth is between 1 / 39 and 2 / 40.
    assert ap.mean() > 0.12 and 0.02 < (ap - bias).mean() < 0.06


def test_an_interval_without_spread_is_that_of_a_share():
    its = interval_of(np.array([1.0, 0.0, 0.25]), np.tile([1.0, 0.0, 0.25], (9, 1)), 1e9, 0.0)
    np.testing.assert_allclose([its["low"], its["high"]], [[1, 0, 0.25], [1, 0, 0.25]], atol=1e-4)
    its = interval_of(1.0, np.ones(9), 5000, 0.0)
    assert its["low"] == pytest.approx(binomtest(5000, 5000).proportion_ci(method="wilson").low, abs=1e-5)
    few = interval_of(1.0, np.ones(9), FEW - 0.01, 0.0)
    assert math.isnan(few["low"]) and math.isnan(few["se"])


def test_one_resample_of_groups_by_hand_and_of_classes_that_it_leaves_out():
    rng = np.random.default_rng(3)
    groups = np.sort(rng.integers(0, 9, 50)) * 7 - 20  # any numbers
    y = (rng.random((50, 4)) < 0.3).astype(np.int8)
    y[:, 3] = 0
    y[groups == groups[-1], 3] = 1  # a class of the last group alone
    predictions = made(y, rng.normal(y, 1.0), groups)
    decided, numbers = predictions.logits > 0, np.unique(groups)
    whole = score(predictions, np.full(4, 0.5), resamples=0)
    left_out = 0
    for seed in range(8):
        times = np.random.default_rng(seed).multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)))
        rows = np.concatenate([np.tile(np.flatnonzero(groups == g), n) for g, n in zip(numbers, times, strict=True)])
        found = bootstrap(predictions, decided, 1, seed)
        drawn = score(predictions.take(rows), np.full(4, 0.5), resamples=0)
        for name in ("f1_micro", "f1_samples", "exact_match"):
            assert found[name][0] == pytest.approx(drawn[name])
        for key in ("ap", "f1"):
            expected = [row[key] for row in drawn["classes"].values()]
            if times[-1] == 0:  # what a resample leaves out keeps its score: all score the same classes
                left_out += 1
                expected[3] = whole["classes"]["c3"][key]
            np.testing.assert_allclose(found[key][0], expected)
        assert found["map"][0] == pytest.approx(found["ap"][0].mean())
    assert left_out


def test_groups_of_one_are_images():
    predictions = USUAL.draw(np.random.default_rng(0), 60)[0]
    alone = replace(predictions, groups=np.arange(60) * 3)
    np.testing.assert_equal(score(predictions, HALF, 50), score(alone, HALF, 50))


@pytest.mark.parametrize(("size", "draws"), [(1, 40), (6, 40), (20, 40)])
def test_intervals_of_groups_cover_what_they_promise(size, draws):
    world, rng = replace(USUAL, size=size), np.random.default_rng(size)
    truth, held = score(world.truth(50_000), HALF, 0), {}
    for _ in range(draws):
        drawn = world.draw(rng, 400)[0]
        its = score(drawn, HALF, 60)
        told_ = [(name, truth[name], its["intervals"][name]) for name in MEANS]
        told_ += [
            (f"{name} {key}", truth["classes"][name][key], its["intervals"]["classes"][name][key])
            for name in drawn.class_names
            for key in ("ap", "f1")
        ]
        for name, true, ends in told_:
            if not math.isnan(ends["low"]):
                held.setdefault(name, []).append(ends["low"] <= true <= ends["high"])
    for name, hits in held.items():
        assert sum(hits) >= binom.ppf(0.01, len(hits), 0.93), (name, sum(hits), len(hits))
    assert len(held["map"]) > draws / 2


def test_images_of_groups_taken_for_independent_fall_short():
    """What groups are for: this is how it was."""
    world, rng = replace(USUAL, size=20), np.random.default_rng(1)
    truth, hits = score(world.truth(50_000), HALF, 0), 0
    for _ in range(40):
        drawn = replace(world.draw(rng, 400)[0], groups=None)
        samples = bootstrap(drawn, decide(drawn.probabilities, HALF), 100)["exact_match"]
        hits += interval(samples)["low"] <= truth["exact_match"] <= interval(samples)["high"]
    assert hits < binom.ppf(0.01, 40, 0.93)


def test_eighty_classes_of_a_few_positives_have_no_interval_of_their_own_nor_their_mean():
    rng = np.random.default_rng(0)
    y = np.zeros((40, 80), np.int8)
    for c in range(80):
        y[rng.choice(40, 1 + c % 5, replace=False), c] = 1
    scores = score(made(y, rng.normal(-3.9, 0.15, y.shape)), np.full(80, 0.5), 100)
    assert scores["too_few"] == 80 and math.isnan(scores["intervals"]["map"]["low"])
    assert notes(scores, "map") == ["too few positives for an interval"]
    assert told(scores, "map") == f"{scores['map']:.4f} (too few positives for an interval)"


def test_what_a_mean_leaves_out_stands_beside_it():
    rng = np.random.default_rng(0)
    y = np.zeros((60, 4), np.int8)
    y[:30, :2] = 1
    logits = rng.normal(4 * y - 2, 1)
    logits[:, 2], logits[:, 3] = 5, -5  # absent: called present everywhere, and nowhere
    scores = score(made(y, logits), np.full(4, 0.5), 50)
    assert called_though_absent(scores) == ["c2 in 60 images"]
    assert notes(scores, "f1_macro") == ["2 of 4 classes undefined"]
    assert notes(scores, "precision_macro") == ["1 of 4 classes undefined"] and notes(scores, "f1_micro") == []
    assert scores["classes"]["c2"]["false_alarms"] == 60 and scores["images"] == scores["groups"] == 60


def test_labels_of_an_image_are_ranked_by_logits_where_probabilities_tie():
    y = np.array([[1, 0], [1, 0]], np.int8)
    scores = score(made(y, np.array([[18, 19], [40, 30]])), np.full(2, 0.5), 0)
    assert scores["lrap"] == 0.75 and scores["coverage_error"] == 1.5
    calibrated = replace(made(y, np.array([[18, 19], [40, 30]])), calibration=np.array([[2.0, 1], [0, 0]]))
    assert score(calibrated, np.full(2, 0.5), 0)["lrap"] == 1
