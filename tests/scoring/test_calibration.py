from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from levels_of_calibration import chance, costs, excess, fits, loss, oracle
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from test_metrics import random_case

from mlworkbench import Predictions, WorkbenchError, evaluate, tune_thresholds
from mlworkbench.scoring.calibration import bends, calibrate
from mlworkbench.scoring.metrics import calibration_chance, calibration_error, score


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
    for c in range(2):
        known = predictions.y[:, c] >= 0
        p = np.repeat(calibrate(one_class(predictions.logits[:, c], predictions.y[:, c])).probabilities, 2, axis=1)
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
    for method in ("platt", "temperature", "shifts"):
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


def test_fits_of_over_confident_networks_are_at_their_optimum():
    worse, away = fits()
    assert not worse and away < 1e-4


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    positives=st.integers(1, 8),
    images=st.integers(12, 400),
    apart=st.sampled_from([-3, 0, 1, 4, 30]),
    size=st.integers(-4, 6),
    off=st.sampled_from([0, -30, 1e3, 1e5]),
)
def test_a_fit_is_at_its_optimum_whatever_the_size_of_the_logits(seed, positives, images, apart, size, off):
    """Separable or not, far too large or small, far off: no step gains, and scikit-learn's is no better."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(images) < positives).astype(np.int8)
    found = calibrate(one_class(10.0**size * (apart * y + rng.normal(0, 1, images) + off), y))
    z, (scale, shift) = found.logits[:, 0].astype(float), found.calibration[:, 0]
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (images - positives + 2))
    missing, x = expit(scale * z + shift) - target, (z - z.mean()) / z.std()
    assert abs(missing.mean()) < 1e-5
    if scale * z.std() > 1.001e-3:
        assert abs((missing * x).mean()) < 1e-5
        assert loss(z, y, scale, shift) <= loss(z, y, *oracle(z, y)) + 1e-10
    else:  # a scale nearer to 0 would be better, or one below it
        assert (missing * x).mean() >= -1e-5 and scale > 0


def test_logits_that_hardly_vary_about_a_common_level_are_fitted():
    """As of a network that learnt next to nothing: the scale is some ten thousand, and so far the level is moved."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        y = (rng.permutation(17) < 4).astype(np.int8)
        found = calibrate(one_class(-2.3335 + rng.normal(0, 2e-5, 17), y))
        p = expit(found.calibration[0] * found.logits[:, 0].astype(float) + found.calibration[1])
        assert p.mean() == pytest.approx((4 * 5 / 6 + 13 * 1 / 15) / 17, abs=1e-6)  # of Platt's targets


def test_classes_of_other_sizes_and_extremes_stay_finite(rng):
    y = (rng.random((60, 5)) < [0.5, 0.05, 0.3, 0.3, 0]).astype(np.int8)
    y[0, 1], y[:, 3] = 1, -1
    logits = (rng.normal(2 * y, 1) * [1, 1e6, 1e-6, 1, 1]).astype(np.float32)
    predictions = Predictions(np.arange(60).astype(str).astype(object), list("abcde"), logits, y, "val")
    for method in ("platt", "shifts", "temperature"):
        found = calibrate(predictions, method)
        assert np.isfinite(found.calibration).all() and (found.calibration[0] > 0).all()


def test_rare_classes_are_drawn_to_what_all_have_in_common():
    """Excess log loss x 1e-4 of classes with 2, 5 and 10 positives: at most 9, 4, 5 of logits that were right."""
    found = {key: 1e4 * values for key, values in excess(draws=30).items()}
    assert (found["right", "drawn"][:3] <= [9, 5, 8]).all()
    for bent in ("right", "five times too large", "positive_weight 10", "asl"):
        assert (found[bent, "drawn"][:3] < found[bent, "each class alone"][:3] / 2).all()
    for bent in ("positive_weight 10", "asl", "five times too large"):
        assert (found[bent, "drawn"] < found[bent, "as it is"] / 10).all()
    alone, drawn = (found["each class otherwise", how] for how in ("each class alone", "drawn"))
    assert drawn[0] < 0.8 * alone[0] and (drawn < 1.25 * alone).all()  # really bent, each in its own way


def test_a_class_is_drawn_by_its_positives():
    """By hand: the pooled scale, a shift between the pooled one and the class's own at that scale, and 15 positives."""
    predictions = over_confident(11, n=400)
    z, y = predictions.logits.astype(float), predictions.labels
    pooled, near = calibrate(one_class(z.ravel(), y.ravel())).calibration[:, 0], calibrate(predictions, "shifts")
    np.testing.assert_allclose(near.calibration[0], pooled[0], rtol=1e-6)
    own, told = np.empty(4), np.empty(4)
    for c in range(4):
        p, n = y[:, c].sum(), (y[:, c] == 0).sum()
        target = np.where(y[:, c] == 1, (p + 1) / (p + 2), 1 / (n + 2)).mean()
        own[c] = brentq(lambda b, c=c, t=target: expit(pooled[0] * z[:, c] + b).mean() - t, -99, 99)
        its = expit(pooled[0] * z[:, c] + own[c])
        told[c] = (its * (1 - its)).sum()
    variance = max(0, (np.sum(told * (own - pooled[1]) ** 2) - 4) / told.sum())
    weight = variance / (variance + 1 / told)
    np.testing.assert_allclose(near.calibration[1], weight * own + (1 - weight) * pooled[1], rtol=1e-5)
    positives = np.minimum(y.sum(0), 400 - y.sum(0))
    alone = np.hstack([calibrate(one_class(z[:, c], y[:, c])).calibration for c in range(4)])
    weight = positives / (positives + 15)
    expected = weight * alone + (1 - weight) * near.calibration
    np.testing.assert_allclose(calibrate(predictions).calibration, expected, rtol=1e-5)


def test_a_class_without_a_positive_has_what_all_have_in_common():
    predictions = over_confident(13, n=400)
    predictions.y[:, 3] = 0
    for method in ("platt", "shifts"):
        scale, shift = calibrate(predictions, method).calibration
        pooled = calibrate(one_class(predictions.logits.ravel(), predictions.y.ravel())).calibration
        assert scale[3] == pytest.approx(pooled[0, 0], rel=1e-6) and np.isfinite(shift[3])


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"loss": "bce", "positive_weight": 1.0}, ""),
        ({"loss": "softmax", "positive_weight": 1.0}, ""),
        ({"loss": "asl", "positive_weight": 1.0}, "loss asl"),
        ({"loss": "bce", "positive_weight": 10.0}, "positive_weight 10"),
        ({}, ""),
    ],
)
def test_what_bends_probabilities(chosen, said):
    assert bends(chosen) == said


@pytest.mark.parametrize("images", [30, 150, 2000])
def test_calibration_chance_is_what_true_probabilities_have(images, rng):
    p = expit(rng.normal([-4, -2.5, 0], [1, 2, 1.5], (images, 3)))
    errors = [calibration_error((rng.random(p.shape) < p).astype(np.int8), p) for _ in range(2000)]
    y = np.zeros(p.shape, np.int8)
    np.testing.assert_allclose(calibration_chance(y, p), np.mean(errors, 0), rtol=0.06)
    y[:, 0] = -1
    assert np.isnan(calibration_chance(y, p)[0]) and np.isfinite(calibration_chance(y, p)[1:]).all()


def test_calibration_chance_of_one_bin_is_de_moivres():
    counts = np.arange(21)
    expected = np.sum(np.abs(counts - 6) * binom.pmf(counts, 20, 0.3)) / 20
    assert calibration_chance(np.ones((20, 1)), np.full((20, 1), 0.3))[0] == pytest.approx(expected, rel=1e-12)
    assert calibration_chance(np.ones((5, 1)), np.array([[0.0, 1, 1, 0, 1]]).T)[0] == 0


def test_the_simulated_tables_say_what_the_record_does():
    for errors, said in chance(draws=100).values():
        np.testing.assert_allclose(said, errors, rtol=0.2)
    for ways in costs(draws=20).values():
        assert ways["calibrated, known"] < ways["tuned"]
