"""Which classes are tuned, whether that pays, and what is promised of new images."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, mannwhitneyu, norm
from simulated import World
from sklearn.metrics import f1_score

from mlworkbench import Predictions, Thresholds, WorkbenchError, tune_thresholds
from mlworkbench.decisions.gain import choose_thresholds, learning_remark, remarks, tuning_gain
from mlworkbench.decisions.thresholds import Gain
from mlworkbench.decisions.tuning import LEVEL, Curves, _at_most, _chance, learnt_classes, shared_threshold, tune_class


def made(z, y, split="val", groups=None):
    paths = np.array([f"{i}.jpg" for i in range(len(y))], object)
    return Predictions(paths, [f"c{c}" for c in range(y.shape[1])], z.astype("f4"), y.astype("i1"), split, None, groups)


def eighty(rng, images=40, learnt=0, least=1, centre=-3.9):
    """80 classes with up to 5 positives of 40, logits by chance but for those of the first few."""
    y, z = np.zeros((images, 80), np.int8), rng.normal(centre, 0.15, (images, 80))
    for c in range(80):
        y[rng.choice(images, rng.integers(least, 6) * images // 40, replace=False), c] = 1
    z[:, :learnt] += 1.6 * y[:, :learnt] + rng.normal(0, 0.3, (images, learnt))
    return made(z, y)


# Not learnt


def test_a_network_that_learnt_nothing_calls_nothing_present_and_says_so():
    false = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        for centre in (-3.9, 1.0):  # also one that at 0.5 would call everything present
            val = eighty(rng, centre=centre)
            tuned = choose_thresholds(val)
            if True in tuned.learnt:
                false += 1
                continue
            assert not tuned.decide(eighty(rng, 400, centre=centre)).any()
            assert (tuned.values == (0.5 if centre < 0 else 1)).all() and tuned.objective == "default"
            assert learning_remark(tuned).startswith("None of the 80 classes is learnt")
            assert remarks(val, tuned)[0] == learning_remark(tuned) and len(tuned.not_learnt) == 80
    assert false <= binom.ppf(0.99, 20, 0.01)


def test_one_that_learnt_ten_of_eighty_is_tuned_on_these():
    found, others, better = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        val, new = eighty(rng, learnt=10, least=2), eighty(rng, 400, learnt=10)
        tuned = tune_thresholds(val)
        found.append(sum(its is True for its in tuned.learnt[:10]))
        others.append(sum(its is True for its in tuned.learnt[10:]))
        kept = np.array([its is False for its in tuned.learnt])
        assert (tuned.values[kept] == 0.5).all() and tuned.met.tolist() == (~kept).tolist()
        own = val.reorder(val.class_names)
        alone = shared_threshold(Curves(own.labels[:, ~kept], own.probabilities[:, ~kept]))
        assert shared_threshold(Curves(own.labels, own.probabilities), classes=np.flatnonzero(~kept)) == alone
        assert (tune_thresholds(val, one_for_all=True).values[~kept] == np.float32(alone)).all()
        decided = [f1_score(new.labels[:, :10], its[:, :10], average="macro", zero_division=0.0)
                   for its in (tuned.decide(new), new.probabilities >= 0.5)]  # fmt: skip
        better.append(decided[0] - decided[1])
    assert np.mean(found) > 9.5 and np.mean(others) < 4 and min(better) > 0.2


@pytest.mark.parametrize("seed", range(6))
def test_the_rank_test_against_every_choice_of_positives(seed):
    rng = np.random.default_rng(seed)
    y, z = np.zeros(12, np.int8), rng.normal(size=12)
    y[rng.choice(12, 3, replace=False)] = 1
    z += 0.7 * y
    ranks = z.argsort().argsort()
    sums = [sum(ranks[list(chosen)]) for chosen in combinations(range(12), 3)]
    exact = np.mean(np.array(sums) >= ranks[y == 1].sum())
    assert _chance(y, z, None) == pytest.approx(exact, abs=1e-12)
    assert _chance(y, z, np.arange(12)) == _chance(y, z, None)
    tied = z.round(0)
    assert _chance(y, tied, None) >= mannwhitneyu(tied[y == 1], tied[y == 0], alternative="greater").pvalue - 0.05
    assert _chance(y, np.zeros(12), None) == 1
    many, scores = np.tile(y, 200), rng.normal(size=2400).round(1)
    assert (
        _chance(many, scores, None) == mannwhitneyu(scores[many == 1], scores[many == 0], alternative="greater").pvalue
    )


@pytest.mark.parametrize("size", [1, 3, 6, 12, 20])
def test_chance_passes_no_more_often_than_promised_in_groups(size):
    world, passed = World(np.full(20, 0.1), np.full(20, 1e-3), size), []
    for seed in range(10):
        new = world.draw(np.random.default_rng(seed), 240)[0]
        passed += [_chance(new.labels[:, c], new.logits[:, c], new.groups) <= LEVEL for c in range(20)]
    assert sum(passed) <= binom.ppf(0.99, 200, LEVEL)


def test_what_cannot_be_learnt_and_what_is_present_more_often_than_not(rng):
    y = np.zeros((60, 4), np.int8)
    y[:20, 0], y[:45, 1], y[:, 2] = 1, 1, 1
    z = np.stack([3.0 * y[:, 0] - 1 + rng.normal(size=60), np.full(60, 0.8), rng.normal(size=60) + 1,
                  np.full(60, 0.3)], 1)  # fmt: skip
    val = made(z, y)
    tuned = tune_thresholds(val)
    assert tuned.learnt == [True, False, None, None] and tuned.not_learnt == ["c1"]
    assert tuned.values[1] == 0.5, "by chance, but present and rightly so in three of four"
    assert tuned.values[2] < tuned.values[3] == 0.5 and tuned.met.tolist() == [True, False, True, False]
    assert tune_thresholds(made(z, np.where(np.arange(4) == 1, 1 - y, y))).values[1] == 1, "present in one of four"
    anyway = tune_thresholds(val, anyway=True)
    assert anyway.met.tolist() == [True, True, True, False] and anyway.learnt == tuned.learnt


# Does tuning pay?


def test_the_interval_is_the_jackknifes_of_the_decisions_of_nine_tenths(monkeypatch):
    import mlworkbench.decisions.gain as of

    val, half, given = World(np.full(3, 0.3), np.full(3, 2.0), 3).draw(np.random.default_rng(0), 60)[0], 0.5, []
    monkeypatch.setattr(of, "REPEATS", 1)
    monkeypatch.setattr(of, "decide", lambda p, values: given.append(p >= np.float32(values)) or given[-1])
    found = tuning_gain(val)
    fold = np.random.default_rng(0).permutation(np.arange(20) % 10)[val.groups]
    decided = np.zeros(val.labels.shape, bool)
    for k in range(10):
        decided[fold == k] = given[k]
        part = val.take(fold != k)
        expected = [tune_class(c := Curves(part.labels, part.probabilities), i, "f1", None, shared_threshold(c))[0]
                    for i in range(3)]  # fmt: skip
        assert (given[k] == (val.probabilities[fold == k] >= np.float32(expected))).all()

    def macro(rows, present):
        return f1_score(val.labels[rows], present[rows], average="macro")

    every = np.ones(60, bool)
    gains = np.array([macro(rows, decided) - macro(rows, val.probabilities >= half)
                      for rows in (every, *(val.groups != g for g in range(20)))])  # fmt: skip
    assert found.value == pytest.approx(gains[0], abs=1e-6)
    spread = np.sqrt(3 / 2 * 19 / 20 * ((gains[1:] - gains[1:].mean()) ** 2).sum())
    assert found.high - found.low == pytest.approx(2 * 2.0930240544 * spread, rel=1e-5)


def bent(rng, images, size=1, bias=0.0):
    apart, shift = rng.uniform(1.5, 3.5, 10), rng.normal(0, bias, 10).astype("f4")
    prevalence = np.geomspace(0.05, 0.25, 10)
    worlds = World(prevalence, apart, size).draw(rng, images)[0], World(prevalence, apart).draw(rng, 5000)[0]
    return [replace(its, logits=its.logits + shift) for its in worlds]


@pytest.mark.parametrize(("objective", "target", "size"), [("f1", None, 1), ("f1", None, 6), ("cost", 5.0, 1)])
def test_the_interval_holds_the_gain_on_new_images(objective, target, size, monkeypatch):
    monkeypatch.setattr("mlworkbench.decisions.gain.REPEATS", 1)  # for speed; more make it steadier
    held, chosen = 0, []
    for seed in range(30):
        val, new = bent(np.random.default_rng(seed), 450, size, 0.5)
        tuned, y = tune_thresholds(val, objective, target), new.labels
        gain = tuning_gain(val, objective, target, classes=np.flatnonzero(tuned.met))

        def worth(present, y=y, met=tuned.met):
            if objective == "f1":
                return f1_score(y[:, met], present[:, met], average="macro", zero_division=0.0)
            return -np.mean((5 * ((y == 1) & ~present) + ((y == 0) & present))[:, met])

        truth = worth(tuned.decide(new)) - worth(new.probabilities >= 0.5)
        held += gain.low <= truth <= gain.high
        chosen.append((gain.pays, truth > 0))
    assert held >= binom.ppf(0.01, 30, 0.95)
    assert sum(pays and not won for pays, won in chosen) <= binom.ppf(0.99, 30, 0.025)


def test_where_it_pays_it_is_tuned_and_elsewhere_one_half_stays():
    val, _ = bent(np.random.default_rng(0), 450, bias=1.5)
    tuned = choose_thresholds(val)
    assert tuned.gain.pays and (tuned.values == tune_thresholds(val).values).all() and tuned.objective == "f1"
    assert any(text.startswith("Tuning pays: against 0.5 it gains mean F1") for text in remarks(val, tuned))
    plain, _ = bent(np.random.default_rng(0), 150)
    kept, asked = choose_thresholds(plain), choose_thresholds(plain, anyway=True)
    assert not kept.gain.pays and (kept.values == 0.5).all() and kept.gain == asked.gain
    assert (kept.objective, kept.target, kept.met, kept.split) == ("default", None, None, "val")
    assert any(
        "cannot be told from nothing" in text and text.endswith("so 0.5 stays.") for text in remarks(plain, kept)
    )
    assert (asked.values == tune_thresholds(plain, anyway=True).values).all()
    assert any(text.endswith("and is used as asked.") for text in remarks(plain, asked))
    assert choose_thresholds(plain, "recall", 0.8).gain is None
    nothing = tuning_gain(plain.take(np.arange(1)))
    assert np.isnan(nothing.low) and not nothing.pays


def test_the_file_keeps_what_was_told():
    val, _ = bent(np.random.default_rng(1), 450, bias=1.0)
    for tuned in (choose_thresholds(val), tune_thresholds(val, "precision", 0.8, confidence=0.95, jointly=True)):
        again = Thresholds.from_dict(json.loads(json.dumps(tuned.to_dict())))
        for name in ("learnt", "gain", "confidence", "jointly"):
            assert getattr(again, name) == getattr(tuned, name), name
    assert tuned.to_dict()["confidence"] == 0.95 and tuned.to_dict()["classes"]["c0"]["learnt"] is True
    older = choose_thresholds(val).to_dict()
    del older["gain"], older["jointly"], older["confidence"]
    for row in older["classes"].values():
        del row["learnt"]
    again = Thresholds.from_dict(older)
    assert again.learnt is again.gain is again.confidence is None and learning_remark(again) == ""
    assert np.isnan(Gain.from_dict({"objective": "f1", "target": None, "value": None, "low": None, "high": None}).low)
    older["classes"]["c0"]["learnt"] = "perhaps"
    with pytest.raises(WorkbenchError, match="not as the workbench writes it"):
        Thresholds.from_dict(older)


# Guarantees


def test_the_bound_is_the_binomials_and_goes_on_between_whole_numbers():
    for trials in (1, 22, 60, 400):
        for rate in (0.01, 0.1, 0.5):
            assert _at_most(np.arange(trials + 1), trials, rate) == pytest.approx(
                binom.cdf(np.arange(trials + 1), trials, rate), abs=1e-12
            )
    assert binom.cdf(2, 23, 0.1) < _at_most(2, 22.5, 0.1) < binom.cdf(2, 22, 0.1)


@pytest.mark.parametrize(("groups", "met"), [(21, False), (22, True)])
def test_a_group_counts_as_one(groups, met):
    of = np.append(np.repeat(np.arange(groups), 5), np.arange(1000, 1100))
    y = (np.arange(len(of)) < 5 * groups)[:, None].astype(np.int8)
    z = np.random.default_rng(0).normal(2.0 * y - 1)
    for size in (1, 5):
        val = made(z, y, groups=of if size == 5 else np.arange(len(of)))
        tuned = tune_thresholds(val, "guarantee", 0.1)
        assert tuned.met[0] == (met or size == 1) and tuned.confidence == 0.9
    alone = tune_thresholds(replace(val, groups=None), "guarantee", 0.1)
    assert tune_thresholds(replace(val, groups=np.arange(len(of))), "guarantee", 0.1).values == alone.values


def in_groups(rng, positives, size):
    """Logits of a class in groups that are alike, beside the share of new positives below each threshold."""
    of = np.append(np.arange(positives) // size, np.arange(10_000, 10_300))
    y = (np.arange(len(of)) < positives)[:, None].astype(np.int8)
    noise = np.sqrt(0.7) * rng.standard_normal(10_300)[of] + np.sqrt(0.3) * rng.standard_normal(len(of))
    return Curves(y, expit((noise[:, None] + 3 * y - 1.5).astype("f4")), of)


@pytest.mark.parametrize(("positives", "size"), [(60, 1), (60, 5), (60, 20), (200, 5), (400, 10)])
def test_a_miss_rate_holds_in_groups(positives, size):
    rng, broken, values = np.random.default_rng(0), 0, []
    for _ in range(200):
        threshold, met = tune_class(in_groups(rng, positives, size), 0, "guarantee", 0.1)
        values.append(threshold if met else 0.0)
        broken += threshold > 0 and norm.cdf(np.log(threshold / (1 - threshold)) - 1.5) > 0.1
    assert broken <= binom.ppf(0.99, 200, 0.1)
    assert (np.median(values) > 0.1) == (positives / size >= 22)


@pytest.mark.parametrize(("classes", "needed"), [(1, 22), (10, 44), (80, 64)])
def test_jointly_asks_for_more_positives(classes, needed):
    for positives in (needed - 1, needed):
        y = np.zeros((positives + 30, classes), np.int8)
        y[:positives] = 1
        val = made(np.random.default_rng(0).normal(2.0 * y - 1), y)
        assert tune_thresholds(val, "recall", 0.9, confidence=0.9, jointly=True).met.all() == (positives == needed)
        assert tune_thresholds(val, "recall", 0.9, confidence=0.9).met.all() == (positives >= 22)


def test_all_classes_hold_at_once():
    rng, broken, y = np.random.default_rng(0), 0, np.repeat(np.array([1, 0], np.int8), [60, 100])[:, None]
    for _ in range(80):
        val = made(rng.normal(3.0 * np.tile(y, 10) - 1.5), np.tile(y, 10))
        values = tune_thresholds(val, "guarantee", 0.1, jointly=True).values.astype(float)
        broken += (norm.cdf(np.log(values / (1 - values)) - 1.5) > 0.1).any()
    assert broken <= binom.ppf(0.99, 80, 0.1)


@pytest.mark.parametrize(
    ("images", "size", "apart", "target"), [(450, 1, 3.0, 0.9), (2000, 1, 2.0, 0.8), (1000, 6, 3.0, 0.8)]
)
def test_a_precision_holds_with_its_confidence(images, size, apart, target):
    world, truth = World(np.full(10, 0.2), np.full(10, apart), size), World(np.full(1, 0.2), np.full(1, apart)).truth()
    truth = Curves(truth.labels, truth.probabilities)
    below = {None: 0, 0.9: 0}
    met = recall = 0
    for seed in range(20):
        val = world.draw(np.random.default_rng(seed), images)[0]
        for confidence in below:
            tuned = tune_thresholds(val, "precision", target, confidence=confidence)
            at = [truth.at(0, value) for value in tuned.values]
            below[confidence] += sum(m and its["precision"] < target for m, its in zip(tuned.met, at, strict=True))
        met += tuned.met.sum()
        recall += sum(float(its["recall"]) for its in at)
    assert below[0.9] <= binom.ppf(0.99, 200, 0.1) < 60 < below[None]
    assert met > 160 and recall / 200 > 0.3


def test_a_precision_needs_as_many_calls_as_could_do():
    for called, met in ((21, False), (22, True)):
        y = (np.arange(200) < called)[:, None].astype(np.int8)
        found = tune_thresholds(made(4.0 * y - 2 - np.arange(200)[:, None] / 1000, y), "precision", 0.9, confidence=0.9)
        assert found.met[0] == met and (found.values[0] < 1) == met
    of = np.arange(200) // 2
    y = (np.arange(200) < 42)[:, None].astype(np.int8)
    assert not tune_thresholds(made(4.0 * y - 2, y, groups=of), "precision", 0.9, confidence=0.9).met[0]
    assert not tune_thresholds(made(4.0 * y - 2, y), "precision", 1, confidence=0.9).met[0]


def test_what_stands_beside_a_point_and_a_promise():
    val, _ = bent(np.random.default_rng(0), 450)
    point, held = (tune_thresholds(val, "precision", 0.8, confidence=its) for its in (None, 0.9))
    few = [text for text in remarks(val, point) if text.startswith("It rests on fewer than 15")]
    hits = ((val.labels == 1) & point.decide(val)).sum(0)
    assert few and all((f"c{c} {hits[c]}" in few[0]) == (hits[c] < 15 and point.met[c]) for c in range(10))
    assert any("about every second time or less" in text for text in remarks(val, point))
    assert not any("second time" in text for text in remarks(val, held))
    assert any("confidence 0.9 for each class by itself" in text for text in remarks(val, held))
    joint = tune_thresholds(val, "recall", 0.5, confidence=0.9, jointly=True)
    assert any("confidence 0.9 for all 10 classes at once" in text for text in remarks(val, joint))
    changed = (point.decide(val) != (val.probabilities >= 0.5)).sum()
    wrong, before = ((its != (val.labels == 1)).sum() for its in (point.decide(val), val.probabilities >= 0.5))
    said = next(text for text in remarks(val, point) if text.startswith("Against 0.5"))
    assert f"change {changed:,} of 4,500 decisions" in said and f"{wrong:,} are wrong" in said and f"{before:,}" in said


def test_refusals():
    val = eighty(np.random.default_rng(0))
    for how, message in (
        ({"confidence": 0.9}, "'f1' takes no confidence"),
        ({"objective": "recall", "target": 0.9, "confidence": 1.0}, "confidence 1; expected a number between 0 and 1"),
        ({"objective": "recall", "target": 0.9, "confidence": float("nan")}, "confidence nan"),
        ({"objective": "recall", "target": 0.9, "jointly": True}, "jointly is for a confidence"),
        ({"objective": "recall", "target": 0.9, "confidence": 0.9, "one_for_all": True}, "for each class by itself"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            choose_thresholds(val, **how)
    assert all(its is False for its in learnt_classes(val))
