"""Zones for people: as good as the best that brute force finds, as large as asked, and worth it on new images."""

import json
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom
from simulated import World
from sklearn.metrics import f1_score, fbeta_score

from mlworkbench import Predictions, Thresholds, WorkbenchError, evaluate, tune_thresholds
from mlworkbench.decisions.thresholds import margin, reviewed
from mlworkbench.decisions.zone import review_gain, share_of, with_zones
from mlworkbench.scoring.calibration import calibrate

BETTER = [("f1", None), ("fbeta", 2.0), ("cost", 3.0)]


def drawn(seed, classes=10, images=450, size=1, prevalence=(0.03, 0.3)):
    rng = np.random.default_rng(seed)
    world = World(rng.uniform(*prevalence, classes), rng.uniform(1.5, 3, classes), size)
    return world.draw(rng, images)[0], replace(world.draw(rng, 5000)[0], split="test")


def expected(chance, present, asked, objective, target):
    """Expected score of each class once the labels asked for are right, from the chance that each label is present."""
    left = ~asked
    fp, fn = ((1 - chance) * present * left).sum(0), (chance * ~present * left).sum(0)
    if objective == "cost":
        return -(target * fn + fp)
    square = 1.0 if target is None else target**2
    tp = chance.sum(0) - fn
    return (1 + square) * tp / ((1 + square) * tp + square * fn + fp)


def best(chance, present, most, objective, target):
    """The highest sum of expected scores by any cuts that send at most so many images to a person."""
    zones = []
    for c in range(chance.shape[1]):
        below = sorted(np.flatnonzero(~present[:, c]), key=lambda i: -chance[i, c])
        above = sorted(np.flatnonzero(present[:, c]), key=lambda i: chance[i, c])
        its = {}
        for a, b in product(range(len(below) + 1), range(len(above) + 1)):
            images = frozenset((*below[:a], *above[:b]))
            if len(images) <= most:
                asked = np.isin(np.arange(len(chance)), list(images))[:, None]
                column = chance[:, [c]], present[:, [c]], asked
                its[images] = expected(*column, objective, target)[0]
        zones.append(list(its.items()))
    return max(
        sum(value for _, value in chosen)
        for chosen in product(*zones)
        if len(frozenset().union(*(images for images, _ in chosen))) <= most
    )


def share_of_the_best(predictions, objective, target, share=0.25):
    """Of what the best cuts are expected to gain, how much the zones do."""
    thresholds = replace(tune_thresholds(predictions, objective, target), learnt=None)  # the test of chance aside
    chance, present = calibrate(predictions).probabilities.astype(float), thresholds.decide(predictions)
    value = partial(expected, chance, present, objective=objective, target=target)
    asked = with_zones(predictions, thresholds, share).asks(predictions)
    most = round(share * len(predictions))
    assert asked.any(1).sum() <= most
    nothing = value(asked=np.zeros_like(asked)).sum()
    return (value(asked=asked).sum() - nothing) / (best(chance, present, most, objective, target) - nothing)


@pytest.mark.parametrize(("objective", "target"), BETTER)
def test_of_one_class_no_two_cuts_are_better(objective, target):
    for seed in range(20):
        predictions, _ = drawn(seed, classes=1, images=40, prevalence=(0.2, 0.5))
        assert share_of_the_best(predictions, objective, target) == pytest.approx(1, abs=1e-4), seed


@pytest.mark.parametrize(("objective", "target"), BETTER)
def test_of_several_classes_hardly_any_cuts_are_better(objective, target):
    """Of few images several classes are in doubt by chance at once, which a price for each label cannot foresee."""
    found = []
    for seed in range(12):
        predictions, _ = drawn(seed, classes=2, images=24, prevalence=(0.2, 0.5))
        found.append(share_of_the_best(predictions, objective, target))
    assert min(found) > 0.5 and np.mean(found) > 0.8 and max(found) < 1 + 1e-6


@pytest.mark.parametrize("size", [1, 6])
def test_on_new_images_a_person_gets_as_many_as_asked_and_better_ones_than_others_choose(size):
    shares, gains = [], []
    for seed in range(20):
        val, new = drawn(seed, size=size)
        thresholds = with_zones(val, tune_thresholds(val), 0.1)
        assert round(0.1 * len(val)) - 1 <= thresholds.asks(val).any(1).sum() <= round(0.1 * len(val))
        asked, present, y = thresholds.asks(new), thresholds.decide(new), new.labels == 1
        share = asked.any(1).mean()
        far = np.abs(margin(new.probabilities, thresholds.values))
        by_margin = far <= np.quantile(far.min(1), share)
        by_chance = np.random.default_rng(seed).random(len(new)) < share
        values = [
            f1_score(y, np.where(its, y, present), average="macro", zero_division=0)
            for its in (np.zeros_like(asked), asked, by_margin, by_chance[:, None] & np.ones_like(asked))
        ]
        told = reviewed(new.labels, present, asked)
        assert told["share"] == share and told["f1_macro"] == pytest.approx(values[1])
        shares.append(share)
        gains.append(np.array(values[1:]) - values[0])
    zone, margins, whole = np.transpose(gains)
    assert abs(np.mean(shares) - 0.1) < 0.015 and min(shares) > 0.04 and max(shares) < 0.18
    # Of a margin as many labels are asked for, of images taken by chance all ten.
    enough = binom.ppf(0.99, 20, 0.5)
    assert (zone > margins).sum() > enough and (zone > 0).all() and zone.mean() > 1.5 * margins.mean()
    assert zone.mean() > whole.mean()


def test_a_single_price_is_chows_rule_where_it_is_a_matter_of_cost():
    """A label goes to a person where its expected loss is above a price, which is the same at every cut."""
    val, _ = drawn(3)
    for target in (0.5, 4.0):
        thresholds = with_zones(calibrate(val), tune_thresholds(calibrate(val), "cost", target), 0.2)
        low, high = thresholds.review.astype(float)
        open_low, open_high = low < thresholds.values, high > thresholds.values
        prices = np.concatenate([target * low[open_low], 1 - high[open_high]])
        assert len(prices) >= 10 and np.ptp(prices) < 1e-4 * prices.mean()


def test_logits_that_are_bent_send_the_same_images_to_a_person():
    val, new = drawn(4)
    plain = with_zones(val, tune_thresholds(val), 0.1).asks(new)
    bent = [replace(its, logits=(5 * its.logits - 2).astype(np.float32)) for its in (val, new)]
    asked = with_zones(bent[0], tune_thresholds(bent[0]), 0.1).asks(bent[1])
    assert (plain != asked).mean() < 0.002 and plain.any()
    calibrated = calibrate(bent[0])
    asked = with_zones(calibrated, tune_thresholds(calibrated), 0.1).asks(bent[1])  # whatever calibration is given
    assert (plain != asked).mean() < 0.002


def test_a_probability_on_the_low_cut_is_asked_for_and_one_on_the_high_cut_is_not():
    p = np.array([[0.2, 0.3], [0.4, 0.3], [0.3, 0.6], [0.19999, 0.1]], np.float32)
    logits = np.log(p / (1 - p))
    predictions = Predictions(np.array(list("abcd"), object), ["x", "y"], logits.astype(np.float32))
    p = predictions.probabilities
    review = np.array([[p[0, 1], p[0, 0]], [p[2, 1], p[1, 0]]])
    thresholds = Thresholds(["y", "x"], np.array([0.3, 0.3], np.float32), review=review)
    assert thresholds.asks(predictions).tolist() == [[True, True], [False, True], [True, False], [False, False]]
    assert not Thresholds.default(["y", "x"]).asks(predictions).any()


def test_what_zones_cannot_be_made_of():
    val, _ = drawn(0)
    absent = val.labels.copy()
    absent[:, 2] = 0
    absent[:, 3] = -1
    val = replace(val, y=absent)
    thresholds = tune_thresholds(val)
    for share in (0.1, 1.0):
        zones = with_zones(val, thresholds, share)
        low, high = zones.review
        assert (low <= thresholds.values).all() and (thresholds.values <= high).all() and (low >= 0).all()
        assert (low[[2, 3]] == high[[2, 3]]).all() and np.isclose(zones.asks(val).any(1).mean(), share, atol=0.003)
    same = Predictions(val.paths, val.class_names, np.zeros_like(val.logits), val.y)
    assert not with_zones(same, tune_thresholds(same), 0.1).asks(same).any()  # all at once or none: none
    for share in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(WorkbenchError, match="a person looks at .* of the images; expected a share above 0"):
            with_zones(val, thresholds, share)
    assert share_of(1) == pytest.approx(0.36)  # 360 images in an hour
    for hours in (0, 2.8, float("nan")):
        with pytest.raises(WorkbenchError, match="at 10 s an image all of them take 2.78"):
            share_of(hours)
    with pytest.raises(WorkbenchError, match="needs at least two groups"):
        review_gain(replace(val, groups=np.zeros(len(val), int)), 0.1, tune_thresholds)


@pytest.mark.parametrize(("objective", "target"), BETTER)
def test_the_gain_is_that_of_folds_that_part_no_group(objective, target):
    val, _ = drawn(6, size=5)
    held = []

    def tune(others):
        held.append(set(val.groups) - set(others.groups))
        assert not held[-1] & set(others.groups)
        return tune_thresholds(others, objective, target)

    gain = review_gain(val, 0.1, tune)
    assert len(held) == 5 and sum(map(len, held)) == len(set(val.groups)) and 0.03 < gain.share < 0.2
    present, asked = np.zeros_like(val.labels, bool), np.zeros_like(val.labels, bool)
    for groups in held:
        out = np.isin(val.groups, list(groups))
        its = with_zones(val.take(~out), tune_thresholds(val.take(~out), objective, target), 0.1)
        present[out], asked[out] = its.decide(val.take(out)), its.asks(val.take(out))
    y = val.labels == 1
    for found, decided in ((gain.before, present), (gain.after, np.where(asked, y, present))):
        if objective == "cost":
            assert found == pytest.approx((3 * (y & ~decided).sum() + (~y & decided).sum()) / len(y))
        else:
            beta = 1 if objective == "f1" else 2
            assert found == pytest.approx(fbeta_score(y, decided, beta=beta, average="macro"))
    assert f"{asked.any(1).mean():.1%} of the images looked at" in str(gain) and "cross-validated" in str(gain)


def test_files_with_and_without_zones():
    val, new = drawn(8)
    thresholds = with_zones(val, tune_thresholds(val), 0.1)
    content = json.loads(json.dumps(thresholds.to_dict()))
    again = Thresholds.from_dict(content)
    assert (again.review == thresholds.review).all() and (again.asks(new) == thresholds.asks(new)).all()
    assert set(evaluate(new, again)["review"]) == {"share", "labels", "f1_macro"}
    older = tune_thresholds(val).to_dict()
    assert all("review" not in row for row in older["classes"].values()) and Thresholds.from_dict(older).review is None
    assert "review" not in evaluate(new, Thresholds.from_dict(older))
    assert thresholds.with_values(thresholds.values).review is None  # moved by hand, they would not fit any more
    for review in ([0.9, 0.95], [0.1, 1.5], [0.1], "all", None):
        content["classes"]["c0"]["review"] = review
        with pytest.raises(WorkbenchError, match=r"thresholds\.json is not as the workbench writes it"):
            Thresholds.from_dict(content)
    del content["classes"]["c0"]["review"]
    with pytest.raises(WorkbenchError, match=r"thresholds\.json is not as the workbench writes it"):
        Thresholds.from_dict(content)
