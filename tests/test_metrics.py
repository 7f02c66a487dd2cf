import warnings

import numpy as np
import pytest
from sklearn import metrics as oracle

from mlworkbench import Predictions
from mlworkbench.metrics import (
    _weighted_ap,
    average_precision,
    bootstrap_map,
    class_scores,
    class_table,
    interval,
    score,
)


def random_case(rng, n=200, c=6, unknown=False):
    y = (rng.random((n, c)) < 0.3).astype(np.int8)
    logits = rng.normal(2 * y - 1, 1.5).round(1).astype(np.float32)  # rounded, so that ties occur
    if unknown:
        y[rng.random(y.shape) < 0.2] = -1
    names = [f"c{i}" for i in range(c)]
    return Predictions(np.array([str(i) for i in range(n)], object), names, logits, y, "test")


@pytest.mark.parametrize("seed", range(20))
def test_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    predictions = random_case(rng)
    y, p = predictions.labels, predictions.probabilities
    thresholds = rng.choice(p.ravel(), p.shape[1])
    decided = p >= thresholds
    found = score(predictions, thresholds, resamples=20)
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(found["map"], oracle.average_precision_score(y, p, average="macro"), **close)
    for mean in ("micro", "macro", "samples"):
        expected = oracle.f1_score(y, decided, average=mean, zero_division=1.0 if mean == "samples" else 0.0)
        np.testing.assert_allclose(found[f"f1_{mean}"], expected, **close)
    np.testing.assert_allclose(found["exact_match"], oracle.accuracy_score(y, decided), **close)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(y, decided, zero_division=np.nan)
    for c, row in enumerate(found["classes"].values()):
        expected = [precision[c], recall[c], f1[c], support[c]]
        np.testing.assert_allclose([row[k] for k in ("precision", "recall", "f1", "support")], expected, **close)


@pytest.mark.parametrize("seed", range(5))
def test_unknown_labels_are_left_out(seed):
    predictions = random_case(np.random.default_rng(seed), unknown=True)
    y, p = predictions.labels, predictions.probabilities
    table = class_scores(y, p >= 0.5)
    for c in range(y.shape[1]):
        known = y[:, c] >= 0
        expected = oracle.average_precision_score(y[known, c], p[known, c])
        assert average_precision(y, p)[c] == pytest.approx(expected, abs=1e-12)
        assert table["f1"][c] == pytest.approx(oracle.f1_score(y[known, c], p[known, c] >= 0.5), abs=1e-12)


def test_undefined_is_nan_and_counted():
    y = np.array([[1, 0, -1], [0, 0, -1]], np.int8)
    logits = np.array([[1, 1, 1], [-1, -1, -1]], np.float32)
    predictions = Predictions(np.array(["a", "b"], object), ["x", "none", "unknown"], logits, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(predictions, np.full(3, 0.5), resamples=10)
    assert found["map"] == 1.0 and found["undefined"] == 2
    assert np.isnan(found["classes"]["none"]["ap"]) and np.isnan(found["classes"]["none"]["f1"])
    assert found["classes"]["none"]["precision"] == 0  # one false alarm: defined, and bad
    assert found["f1_macro"] == 1.0


def test_an_image_of_unknown_labels_alone_is_scored_nowhere():
    y, logits = np.array([[1, 0], [-1, -1]], np.int8), np.array([[-1, 1], [1, 1]], np.float32)
    found = score(Predictions(np.array(["a", "b"], object), ["x", "y"], logits, y), np.full(2, 0.5), resamples=5)
    assert found["f1_samples"] == 0 and found["exact_match"] == 0 and found["f1_micro"] == 0


def test_all_undefined_is_nan_without_noise():
    predictions = Predictions(np.array(["a"], object), ["x"], np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(score(predictions, np.array([0.5]), resamples=5)["map"])


@pytest.mark.parametrize("seed", range(10))
def test_weighted_average_precision_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    p = np.sort(rng.integers(0, 20, 100))[::-1] / 20.0
    positive = rng.random(100) < 0.3
    weights = rng.integers(0, 4, (3, 100)).astype(np.float32)
    expected = [oracle.average_precision_score(positive, p, sample_weight=w) for w in weights]
    np.testing.assert_allclose(_weighted_ap(positive, p, weights), expected, atol=1e-9)


def test_bootstrap_spread_agrees_with_plain_resampling():
    predictions = random_case(np.random.default_rng(3), n=150, c=3)
    y, p = predictions.labels, predictions.probabilities
    rng = np.random.default_rng(0)
    plain = [
        oracle.average_precision_score(y[rows], p[rows], average="macro")
        for rows in (rng.integers(0, len(y), len(y)) for _ in range(1000))
    ]
    ours = interval(bootstrap_map(y, p, 1000, seed=1))
    assert ours["se"] == pytest.approx(np.std(plain), rel=0.12)
    np.testing.assert_allclose([ours["low"], ours["high"]], np.quantile(plain, [0.025, 0.975]), atol=0.01)


def test_order_of_images_and_classes_does_not_matter():
    predictions = random_case(np.random.default_rng(4))
    rows, columns = np.random.default_rng(5).permutation(200), [3, 1, 5, 0, 2, 4]
    turned = Predictions(
        predictions.paths[rows],
        [predictions.class_names[c] for c in columns],
        predictions.logits[rows][:, columns],
        predictions.labels[rows][:, columns],
    )
    one, two = (score(x, np.full(6, 0.4), resamples=2) for x in (predictions, turned))
    for name in predictions.class_names:
        assert one["classes"][name] == pytest.approx(two["classes"][name])
    assert one["map"] == pytest.approx(two["map"])


def test_class_table_puts_the_weakest_first():
    table = class_table(score(random_case(np.random.default_rng(6)), np.full(6, 0.5), resamples=2))
    assert table.ap.is_monotonic_increasing and table.index.name == "class"
