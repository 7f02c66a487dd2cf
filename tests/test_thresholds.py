import json

import numpy as np
import pytest
from sklearn.metrics import f1_score
from test_metrics import random_case

from mlworkbench import Predictions, Thresholds, WorkbenchError, evaluate, tune_thresholds
from mlworkbench.thresholds import Curves, tuning_scores


@pytest.mark.parametrize("seed", range(30))
def test_best_f1_against_brute_force(seed):
    predictions = random_case(np.random.default_rng(seed), n=60, c=3, unknown=seed % 2 == 1)
    y, p = predictions.labels, predictions.probabilities
    tuned = tune_thresholds(predictions)
    for c in range(3):
        known = y[:, c] >= 0
        truth, scores = y[known, c], p[known, c]
        best = max(f1_score(truth, scores >= t) for t in np.unique(scores))
        assert f1_score(truth, scores >= tuned.values[c]) == pytest.approx(best, abs=1e-12)


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


def test_class_without_positives_keeps_one_half_and_says_so():
    predictions = Predictions(
        np.array(["a", "b"], object),
        ["x", "y"],
        np.array([[1, 1], [0, 0]], np.float32),
        np.array([[1, 0], [0, 0]], np.int8),
    )
    tuned = tune_thresholds(predictions)
    assert tuned.values[1] == 0.5 and tuned.met.tolist() == [True, False] and tuned.positives.tolist() == [1, 0]


def test_decisions_follow_names_not_positions():
    predictions = random_case(np.random.default_rng(0), c=3)
    thresholds = Thresholds(["c2", "c1", "c0"], np.array([0.9, 0.5, 0.1], np.float32))
    assert (thresholds.decide(predictions) == (predictions.probabilities >= np.float32([0.1, 0.5, 0.9]))).all()
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


def test_json_round_trip_keeps_every_bit():
    tuned = tune_thresholds(random_case(np.random.default_rng(1)))
    again = Thresholds.from_dict(json.loads(json.dumps(tuned.to_dict())), tuned.tuned_paths)
    assert (again.values == tuned.values).all() and again.values.dtype == np.float32
    assert again.class_names == tuned.class_names and again.split == "test" and (again.met == tuned.met).all()


def test_refusals():
    with pytest.raises(WorkbenchError, match="objective 'best'"):
        tune_thresholds(random_case(np.random.default_rng(0)), objective="best")
    with pytest.raises(WorkbenchError, match="not as the workbench writes it"):
        Thresholds.from_dict({"split": "val", "objective": "f1", "classes": {"a": {}}})
