from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from test_metrics import random_case

from mlworkbench import Predictions, WorkbenchError, evaluate, tune_thresholds
from mlworkbench.scoring.calibration import calibrate
from mlworkbench.scoring.metrics import score


def over_confident(seed, n=2000, times=4.0):
    """Logits that were right, made four times as large, and for each class shifted."""
    rng = np.random.default_rng(seed)
    prevalence = np.array([0.5, 0.2, 0.08, 0.04])
    y = (rng.random((n, 4)) < prevalence).astype(np.int8)
    logits = 2 * rng.normal(np.where(y == 1, 1, -1), 1) + np.log(prevalence / (1 - prevalence))
    paths = np.array([f"{seed}/{i}" for i in range(n)], object)
    bent = (times * logits + np.array([0, 2, -3, 1])).astype(np.float32)
    return Predictions(paths, list("abcd"), bent, y, "val" if seed % 2 else "test")


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_calibration_error_falls_on_new_images_and_no_ranking_changes(method):
    fitted, new = calibrate(over_confident(1), method), over_confident(2)
    calibrated = replace(new, calibration=fitted.calibration)
    assert (new.probabilities == 1).any()  # so sure that float32 cannot tell these apart: ranks must not come from p
    before, after = (score(x, np.full(4, 0.5), resamples=2) for x in (new, calibrated))
    assert after["calibration_error"] < before["calibration_error"] / 2 and after["brier"] < before["brier"]
    assert after["map"] == before["map"] and after["roc_auc"] == before["roc_auc"]
    for name in "abcd":
        assert after["classes"][name]["ap"] == before["classes"][name]["ap"]
        if method == "platt":  # one temperature for all cannot mend what a class has of its own
            assert after["classes"][name]["calibration_error"] < before["classes"][name]["calibration_error"]
    order = np.argsort(new.logits, axis=0)
    assert (np.diff(np.take_along_axis(calibrated.probabilities, order, 0), axis=0) >= 0).all()
    if method == "platt":
        np.testing.assert_allclose(fitted.calibration[0], 0.25, rtol=0.2)


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is its only feature."""

    def fit(self, x, y):
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, x):
        return x[:, 0]

    def predict(self, x):
        return (x[:, 0] > 0).astype(int)


@pytest.mark.parametrize("seed", range(10))
def test_platt_against_scikit_learn(seed):
    predictions = random_case(np.random.default_rng(seed), n=120, c=2, unknown=True)
    p = calibrate(predictions).probabilities
    for c in range(2):
        known = predictions.y[:, c] >= 0
        x, y = predictions.logits[known, c : c + 1].astype(float), predictions.y[known, c]
        oracle = CalibratedClassifierCV(FrozenEstimator(Logits().fit(x, y)), method="sigmoid", ensemble=False, cv=2)
        np.testing.assert_allclose(p[known, c], oracle.fit(x, y).predict_proba(x)[:, 1], atol=2e-5)


def test_temperature_is_the_one_of_least_loss():
    predictions = over_confident(3)
    scale = calibrate(predictions, "temperature").calibration
    assert (scale[0] == scale[0, 0]).all() and (scale[1] == 0).all()
    flat = predictions.y.ravel()

    def loss(scale):
        return log_loss(flat, replace(predictions, calibration=np.array([[scale] * 4, [0] * 4])).probabilities.ravel())

    assert scale[0, 0] == pytest.approx(minimize_scalar(loss, bounds=(0.01, 5), method="bounded").x, rel=0.02)


def one_class(logits, labels):
    paths = np.array([str(i) for i in range(len(labels))], object)
    return Predictions(paths, ["x"], np.array(logits, np.float32)[:, None], np.array(labels, np.int8)[:, None], "val")


@pytest.mark.parametrize(
    ("logits", "labels"),
    [([1, 2, 3], [0, 0, 0]), ([1, 2, 3], [1, 1, -1]), ([2, 2, 2], [0, 1, 0]), ([1, 2], [-1, -1]), ([0], [1])],
)
def test_a_class_with_nothing_to_fit_stays_as_it_is(logits, labels):
    for method in ("platt", "temperature"):
        found = calibrate(one_class(logits, labels), method)
        assert found.calibration.tolist() == [[1], [0]]
        assert (found.probabilities == one_class(logits, labels).probabilities).all()


def test_perfect_separation_stays_finite_and_a_wrong_ranking_is_not_turned_round():
    apart = calibrate(one_class([-3, -2, 2, 3], [0, 0, 1, 1]))
    assert 0 < apart.calibration[0, 0] < 2 and apart.probabilities.ravel() == pytest.approx(
        [0.22, 0.3, 0.7, 0.78], abs=0.05
    )
    wrong = calibrate(one_class([-3, -2, 2, 3], [1, 1, 0, 0]))
    assert 0 < wrong.calibration[0, 0] <= 1e-3 * (1 + 1e-9)
    assert (np.diff(wrong.probabilities.ravel()) > 0).all() and wrong.probabilities == pytest.approx(0.5, abs=0.01)


def test_fitting_anew_replaces_and_unknown_labels_have_no_say():
    predictions = over_confident(5, n=300)
    once = calibrate(predictions)
    assert (calibrate(once).calibration == once.calibration).all()
    hidden = replace(predictions, y=predictions.y.copy())
    hidden.y[:100] = -1
    rest = Predictions(predictions.paths[100:], list("abcd"), predictions.logits[100:], predictions.y[100:])
    np.testing.assert_allclose(calibrate(hidden).calibration, calibrate(rest).calibration, rtol=1e-6)
    assert (once.reorder(list("dcba")).probabilities == once.probabilities[:, ::-1]).all()
    with pytest.raises(WorkbenchError, match="'isotonic'; expected one of platt, temperature"):
        calibrate(predictions, "isotonic")


def test_thresholds_and_their_guarantee_survive_calibration():
    """Calibration moves every p and the threshold with it, so the decisions stay."""
    fitted, new = over_confident(7), over_confident(8)
    plain, tuned = (tune_thresholds(x, "guarantee", 0.1) for x in (fitted, calibrate(fitted)))
    assert (plain.decide(new) == tuned.decide(new)).mean() > 0.999  # but for what float32 cannot tell apart
    assert evaluate(new, tuned)["classes"]["b"]["recall"] > 0.85


@pytest.mark.parametrize("level", [0.0, -2.2, 40.0])
def test_what_float32_rounds_off_is_not_stretched_to_a_scale(level, rng):
    """A network that says the same of every image, but for the last bits."""
    noise = level * (1 + rng.uniform(-3e-7, 3e-7, (200, 1))) + rng.uniform(-1e-6, 1e-6, (200, 1))
    y = (rng.random((200, 1)) < 0.3).astype(np.int8)
    paths = np.array([f"{i}" for i in range(200)], object)
    flat = Predictions(paths, ["a"], noise.astype(np.float32), y, "val")
    np.testing.assert_array_equal(calibrate(flat).calibration, [[1], [0]])
