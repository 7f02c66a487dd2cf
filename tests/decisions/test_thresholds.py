import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.metrics import f1_score, fbeta_score, precision_score, recall_score
from test_metrics import odd_case, random_case

from mlworkbench import Predictions, Thresholds, WorkbenchError, evaluate, tune_thresholds
from mlworkbench.decisions.thresholds import tuning_scores
from mlworkbench.decisions.tuning import CONFIDENCE, FEW, Curves, shared_threshold, tune_class
from mlworkbench.scoring.calibration import calibrate

BEST = [("f1", None), ("fbeta", 2.0), ("fbeta", 0.5), ("cost", 4.0), ("cost", 0.25), ("cost", 1.0)]


def known_of(predictions, c):
    known = predictions.labels[:, c] >= 0
    return predictions.labels[known, c], predictions.probabilities[known, c]


def value_of(objective, target, truth, present):
    """What an objective is about, counted plainly: scikit-learn's functions would take minutes for all thresholds."""
    tp, fp, fn = ((truth == 1) & present).sum(), ((truth == 0) & present).sum(), ((truth == 1) & ~present).sum()
    if objective == "cost":
        return -(target * fn + fp)
    if objective == "precision":
        return tp / (tp + fp) if tp + fp else np.nan
    if objective == "recall":
        return tp / (tp + fn)
    beta = 1.0 if target is None else target
    return (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp)


def test_the_plain_counts_are_scikit_learns():
    rng = np.random.default_rng(0)
    truth, present = rng.integers(0, 2, 50), rng.random(50) < 0.6
    for objective, target, expected in (
        ("f1", None, f1_score(truth, present)),
        ("fbeta", 2.0, fbeta_score(truth, present, beta=2)),
        ("precision", 0.5, precision_score(truth, present)),
        ("recall", 0.5, recall_score(truth, present)),
    ):
        assert value_of(objective, target, truth, present) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("block", range(10))
def test_the_best_of_all_thresholds_in_500_random_cases(block):
    for seed in range(50 * block, 50 * block + 50):
        predictions, _ = odd_case(seed)
        curves = Curves(predictions.labels, predictions.probabilities)
        objective, target = BEST[seed % len(BEST)]
        for c in range(predictions.labels.shape[1]):
            truth, p = known_of(predictions, c)
            threshold, met = tune_class(curves, c, objective, target)
            assert met == (truth == 1).any() and 0 <= threshold <= 1
            if met:
                every = [value_of(objective, target, truth, p >= t) for t in np.append(np.unique(p), np.float32(2))]
                found = value_of(objective, target, truth, p >= np.float32(threshold))
                assert found == pytest.approx(max(every), abs=1e-12), seed
                higher = [t for t, v in zip(np.unique(p), every, strict=False) if v >= max(every) - 1e-12]
                assert not higher or (p >= np.float32(threshold)).sum() <= (p >= max(higher)).sum()  # the highest such


@pytest.mark.parametrize("block", range(10))
def test_targets_held_in_500_random_cases(block):
    for seed in range(50 * block, 50 * block + 50):
        predictions, _ = odd_case(seed)
        curves, target = Curves(predictions.labels, predictions.probabilities), [0.3, 0.5, 0.7, 0.9, 1.0][seed % 5]
        for c in range(predictions.labels.shape[1]):
            truth, p = known_of(predictions, c)
            cuts = np.unique(p)
            good = [t for t in cuts if value_of("precision", None, truth, p >= t) >= target]
            expected = (min(good), True) if good else (1.0, False)
            assert tune_class(curves, c, "precision", target) == expected, seed
            if (truth == 1).any():
                good = [t for t in cuts if value_of("recall", None, truth, p >= t) >= target]
                assert tune_class(curves, c, "recall", target) == (max(good), True), seed
            else:
                assert tune_class(curves, c, "recall", target) == (0.0, False)


@pytest.mark.parametrize("seed", range(40))
def test_one_threshold_for_all_against_brute_force(seed):
    predictions = random_case(np.random.default_rng(seed), n=40, c=3, unknown=True)
    cuts = np.append(np.unique(predictions.probabilities), np.float32(2))
    objective, target = BEST[seed % len(BEST)]

    def mean(threshold):
        pairs = [known_of(predictions, c) for c in range(3)]
        return np.mean([value_of(objective, target, truth, p >= np.float32(threshold)) for truth, p in pairs])

    tuned = tune_thresholds(predictions, objective, target, one_for_all=True, anyway=True)
    assert len(set(tuned.values)) == 1 and tuned.met.all()
    assert mean(tuned.values[0]) == pytest.approx(max(mean(t) for t in cuts), abs=1e-9)
    y = predictions.labels
    truth, p = y[y >= 0], predictions.probabilities[y >= 0]
    held = tune_thresholds(predictions, "precision", 0.6, one_for_all=True).values[0]
    assert held == min(t for t in np.unique(p) if value_of("precision", None, truth, p >= t) >= 0.6)


@pytest.mark.parametrize("seed", range(10))
def test_few_positives_draw_towards_the_shared_threshold(seed):
    predictions = random_case(np.random.default_rng(seed), n=80, c=4)
    predictions.y[:, 0] = 0
    predictions.y[:3, 1], predictions.y[3:, 1] = 1, 0
    curves, tuned = Curves(predictions.labels, predictions.probabilities), tune_thresholds(predictions, anyway=True)
    shared = shared_threshold(curves)
    assert tuned.values[0] == pytest.approx(shared, abs=1e-6) and tuned.met.tolist() == [False, True, True, True]
    for c in (1, 2, 3):
        own, positives = tune_class(curves, c)[0], (predictions.labels[:, c] == 1).sum()
        expected = expit((positives * logit(own) + FEW * logit(shared)) / (positives + FEW))
        assert tuned.values[c] == pytest.approx(expected, abs=1e-6)
    assert (tune_thresholds(predictions, "precision", 0.5).values[1:] == [tune_class(curves, c, "precision", 0.5)[0]
                                                                           for c in (1, 2, 3)]).all()  # fmt: skip


def scenes(rng, images, prevalence, centre):
    """Calibrated logits of classes that differ in difficulty, then bent as networks bend them."""
    y = rng.random((images, len(prevalence))) < prevalence
    s = rng.normal(np.where(y, centre, -centre) / 2, 1)
    logits = centre * s + np.log(prevalence / (1 - prevalence)) + np.linspace(-0.5, 0.5, len(prevalence))
    names = [f"c{c}" for c in range(len(prevalence))]
    paths = np.array([f"{rng.integers(2**62)}" for _ in range(images)], object)
    return Predictions(paths, names, logits.astype(np.float32), y.astype(np.int8))


def test_drawn_thresholds_beat_undrawn_ones_and_one_half_on_new_images():
    scores = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        prevalence, centre = rng.uniform(0.04, 0.2, 10), rng.uniform(1.5, 3.5, 10)
        few, new = scenes(rng, 150, prevalence, centre), scenes(rng, 2000, prevalence, centre)
        curves = Curves(few.labels, few.probabilities)
        own = few, [tune_class(curves, c)[0] for c in range(10)]
        for values in (np.full(10, 0.5), own[1], tune_thresholds(few).values):
            present = new.probabilities >= np.asarray(values, np.float32)
            scores.append(f1_score(new.labels, present, average="macro", zero_division=0.0))
    half, own, drawn = np.reshape(scores, (40, 3)).T
    assert (drawn - half).mean() > 0.01 and (drawn - own).mean() > 0.005
    assert binomtest(int((drawn > own).sum()), 40, alternative="greater").pvalue < 0.01


@pytest.mark.parametrize(("positives", "target"), [(60, 0.1), (25, 0.1), (200, 0.05)])
def test_the_guarantee_holds_over_500_simulations(positives, target):
    """Half of the positives' scores lie on a coarse grid, so that ties occur; a third of the labels is unknown."""
    rng, kept, values = np.random.default_rng(positives), 0, []
    for _ in range(500):
        y = np.repeat(np.array([1, 0, -1], np.int8), [positives, 300, 150])[:, None]
        logits = rng.normal(np.where(y == 1, 1.5, -1.5), 1.2).astype(np.float32)
        logits = np.where(rng.random(y.shape) < 0.5, logits.round(1), logits)
        paths = np.array([str(i) for i in range(len(y))], object)
        tuned = tune_thresholds(Predictions(paths, ["x"], logits, y), "guarantee", target)
        new = rng.normal(1.5, 1.2, 20_000).astype(np.float32)
        new = np.where(rng.random(len(new)) < 0.5, new.round(1), new)
        kept += (expit(new) < tuned.values[0]).mean() <= target
        values.append(float(tuned.values[0]))
        assert tuned.met.all()
    assert binomtest(kept, 500, CONFIDENCE, alternative="less").pvalue > 0.01
    assert min(values) > 0.01 and np.median(values) > 0.1  # not everything is called present
    if positives > 25:
        assert kept < 490  # nor is far more given away than was asked


def test_a_guarantee_needs_enough_positives():
    for positives, met in ((21, False), (22, True)):
        y = np.repeat(np.array([1, 0], np.int8), [positives, 50])[:, None]
        logits = np.random.default_rng(0).normal(2 * y - 1).astype(np.float32)
        curves = Curves(y, expit(logits))
        expected = expit(logits[y == 1].min()) if met else 0.0  # .9 ** 22 is the first power below .1
        assert tune_class(curves, 0, "guarantee", 0.1) == (pytest.approx(expected), met)


@pytest.mark.parametrize("seed", range(10))
def test_curves_against_direct_counts(seed):
    rng = np.random.default_rng(seed)
    predictions = random_case(rng, unknown=True)
    y, p = predictions.labels, predictions.probabilities
    curves = Curves(y, p)
    for threshold in [0.0, 1.0, *np.linspace(0, 1, 101), *rng.choice(p.ravel(), 50)]:
        c = int(rng.integers(y.shape[1]))
        at = curves.at(c, threshold)
        present = p[:, c] >= np.float32(threshold)
        assert at["tp"] == ((y[:, c] == 1) & present).sum() and at["fp"] == ((y[:, c] == 0) & present).sum()
        assert at["fn"] == ((y[:, c] == 1) & ~present).sum() and at["tn"] == ((y[:, c] == 0) & ~present).sum()


def test_curves_and_scores_agree_on_what_is_undefined():
    curves = Curves(np.zeros((3, 1), np.int8), np.array([[0.1], [0.5], [0.9]], np.float32))
    assert np.isnan(curves.at(0, 0.4)["f1"]) and curves.at(0, 0.4)["precision"] == 0


@pytest.mark.parametrize("label", [0, -1])
@pytest.mark.parametrize(
    ("objective", "target", "value"),
    [
        ("f1", None, None),
        ("fbeta", 2, None),
        ("cost", 3, None),
        ("precision", 0.9, 1),
        ("recall", 0.9, 0),
        ("guarantee", 0.1, 0),
    ],
)
def test_without_a_positive_nothing_is_met_and_it_says_so(label, objective, target, value):
    y, logits = np.full((3, 2), label, np.int8), np.array([[1, 2], [0, 1], [0, 2]], np.float32)
    tuned = tune_thresholds(Predictions(np.array(["a", "b", "c"], object), ["x", "y"], logits, y), objective, target)
    # What was not learnt is not called present: at 0.5 all of these would be, and all of them wrongly.
    expected = (1 if label == 0 else 0.5) if value is None else value
    assert (tuned.values == expected).all() and not tuned.met.any() and tuned.positives.tolist() == [0, 0]


def test_decisions_follow_names_not_positions():
    predictions = random_case(np.random.default_rng(0), c=3)
    calibration = np.array([[1, 2, 0.5], [0, 1, -1]])
    values = np.array([0.9, 0.5, 0.1], np.float32)
    thresholds = Thresholds(["c2", "c1", "c0"], values, calibration=calibration)
    p = expit((predictions.logits * calibration[0, ::-1] + calibration[1, ::-1]).astype(np.float32))
    assert (thresholds.decide(predictions) == (p >= values[::-1])).all()
    with pytest.raises(WorkbenchError, match="'c2'"):
        Thresholds.default(["c0", "c1"]).decide(predictions)


def test_evaluate_refuses_the_tuned_images_also_under_another_name():
    predictions = random_case(np.random.default_rng(0))
    tuned = tune_thresholds(predictions)
    with pytest.raises(WorkbenchError, match="tuned on 200 of these images"):
        evaluate(predictions, tuned)
    renamed = Predictions(
        predictions.paths[:5], predictions.class_names, predictions.logits[:5], predictions.y[:5], "new"
    )
    with pytest.raises(WorkbenchError, match="5 of these images"):
        evaluate(renamed, tuned)
    others = Predictions(predictions.paths + "x", predictions.class_names, predictions.logits, predictions.y, "val")
    assert evaluate(others, tuned)["map"] > 0.3
    assert tuned.decide(predictions).shape == (200, 6)  # deciding works on any data
    assert tuning_scores(predictions, tuned)["f1"].shape == (6,)
    assert [tuned.tuned_on(x) for x in (predictions, renamed, others)] == [True, True, False]
    assert tuned.note(renamed) == " (tuned on these)" and tuned.note(others) == ""
    assert not Thresholds.default(others.class_names).tuned_on(others)


def test_evaluate_scores_at_the_calibration_of_the_thresholds_not_of_the_predictions():
    predictions = random_case(np.random.default_rng(0), c=3)
    new = Predictions(predictions.paths + "x", predictions.class_names, predictions.logits * 3, predictions.y, "test2")
    tuned = tune_thresholds(calibrate(predictions))
    assert evaluate(new, tuned) == evaluate(calibrate(new, "temperature"), tuned)
    plain, calibrated = evaluate(new, tune_thresholds(predictions)), evaluate(new, tuned)
    assert calibrated["map"] == plain["map"] and calibrated["brier"] != plain["brier"]


def test_json_round_trip_keeps_every_bit():
    predictions = random_case(np.random.default_rng(1))
    for tuned in (
        tune_thresholds(predictions),
        tune_thresholds(calibrate(predictions), "guarantee", 0.2),
        tune_thresholds(predictions, "cost", 3.0).with_values(np.full(6, 0.25)),
        Thresholds.default(predictions.class_names),
    ):
        data = json.loads(json.dumps(tuned.to_dict()))
        again = Thresholds.from_dict(data, tuned.tuned_paths)
        assert again.values.dtype == np.float32
        for key in ("class_names", "split", "objective", "target", "values", "positives", "met", "calibration"):
            assert np.array_equal(getattr(again, key), getattr(tuned, key)), key
        by_hand = tuned.objective == "by hand"
        assert not by_hand or (tuned.met is None and tuned.target is None and tuned.positives.sum() > 0)
        assert data["confidence"] == (0.9 if tuned.objective == "guarantee" else None)
        assert set(data["classes"]["c0"]) == {"threshold", "scale", "shift", "positives", "met", "learnt"}
    assert tuned.to_dict()["classes"]["c0"]["scale"] == 1


def test_refusals():
    predictions = random_case(np.random.default_rng(0))
    for objective, target, message in (
        ("best", None, "objective 'best'; expected one of f1, fbeta"),
        ("f1", 0.5, "'f1' takes no target"),
        ("recall", None, "needs as target the recall to hold, above 0 and at most 1 \\(--target\\); got None"),
        ("precision", 1.01, "got 1.01"),
        ("guarantee", 0.0, "the miss rate to stay under"),
        ("cost", float("nan"), "got nan"),
        ("fbeta", float("inf"), "got inf"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            tune_thresholds(predictions, objective, target)
    with pytest.raises(WorkbenchError, match="for each class by itself"):
        tune_thresholds(predictions, "guarantee", 0.1, one_for_all=True)
    good = tune_thresholds(predictions).to_dict()
    for damage in ({"threshold": 1.5}, {"threshold": float("nan")}, {"scale": 0}, {"scale": float("nan")}):
        data = json.loads(json.dumps(good))
        data["classes"]["c3"] |= damage
        with pytest.raises(WorkbenchError, match="not as the workbench writes it"):
            Thresholds.from_dict(data)
    with pytest.raises(WorkbenchError, match="not as the workbench writes it"):
        Thresholds.from_dict({"split": "val", "objective": "f1", "classes": {"a": {}}})


def test_thresholds_are_made_of_what_people_hold():
    names = ["cat", "dog"]
    for values in ([0.25, 0.75], (0.25, 0.75), np.array([0.25, 0.75]), {"dog": 0.75, "cat": 0.25},
                   pd.Series({"dog": 0.75, "cat": 0.25})):  # fmt: skip
        found = Thresholds.of(values, names)
        assert found.values.tolist() == [0.25, 0.75] and found.values.dtype == np.float32 and found.split == ""
    for values in (0.5, np.float64(0.5), np.array(0.5), "0.5"):
        assert Thresholds.of(values, names).values.tolist() == [0.5, 0.5]
    own = Thresholds.default(names)
    assert Thresholds.of(own, ["dog"]) is own


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ([0.5], "expected a number in 0..1, 2 of them"),
        (1.5, "thresholds are float '1.5'"),
        ([0.5, np.nan], "expected a number"),
        ("high", "thresholds are str 'high'"),
        (None, "thresholds are NoneType"),
        ({"cat": 0.5}, "class 'dog' stands only on one side"),
        ({"cat": 0.5, "dog": 0.5, "ox": 0.5}, "class 'ox' stands only on one side"),
        ([[0.5, 0.5]], "expected a number"),
    ],
)
def test_anything_else_is_told_with_what_was_expected(values, part):
    with pytest.raises(WorkbenchError) as caught:
        Thresholds.of(values, ["cat", "dog"])
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_score_at_plain_thresholds_and_of_no_predictions(rng):
    predictions = Predictions(np.array(["a", "b", "c"], object), ["cat", "dog"], rng.normal(size=(3, 2)).astype("f4"),
                              np.array([[1, 0], [0, 1], [1, 1]], np.int8))  # fmt: skip
    at_half = evaluate(predictions, Thresholds.default(["cat", "dog"]))
    for values in (0.5, [0.5, 0.5], {"dog": 0.5, "cat": 0.5}):
        np.testing.assert_equal(evaluate(predictions, values), at_half)
    for call in (lambda p: evaluate(p, 0.5), tune_thresholds, calibrate):
        for odd in (None, predictions.logits, "runs/first"):
            with pytest.raises(
                WorkbenchError, match=r'^predictions are .*; expected Predictions: run.predictions\("test"\)'
            ):
                call(odd)
