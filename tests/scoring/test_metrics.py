import warnings

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as oracle

from mlworkbench import Predictions
from mlworkbench.scoring.metrics import (
    _Curve,
    bootstrap,
    calibration_error,
    class_scores,
    class_table,
    interval,
    reliability,
    score,
    wilson,
)
from mlworkbench.scoring.predictions import decide

CLOSE = {"rtol": 0, "atol": 1e-12}
NAN = float("nan")


def random_case(rng, n=200, c=6, unknown=False):
    y = (rng.random((n, c)) < 0.3).astype(np.int8)
    logits = rng.normal(2 * y - 1, 1.5).round(1).astype(np.float32)  # rounded, so that ties occur
    if unknown:
        y[rng.random(y.shape) < 0.2] = -1
    names = [f"c{i}" for i in range(c)]
    return Predictions(np.array([str(i) for i in range(n)], object), names, logits, y, "test")


def odd_case(seed):
    """Ties, constant scores, unknowns, classes without positives or negatives, one row, one class."""
    rng = np.random.default_rng(seed)
    predictions = random_case(rng, int(rng.choice([1, 2, 7, 30])), int(rng.choice([1, 2, 5])), bool(rng.random() < 0.5))
    y, logits = predictions.y, predictions.logits
    for c in range(y.shape[1]):
        kind = rng.choice(["usual", "usual", "constant", "absent", "present", "unknown"])
        if kind == "constant":
            logits[:, c] = rng.normal()
        elif kind != "usual":
            y[:, c] = {"absent": 0, "present": 1, "unknown": -1}[kind]
    return predictions, rng.choice(np.append(predictions.probabilities.ravel(), [0, 0.5, 1]), y.shape[1])


def or_nan(defined, function, *arguments, **options):
    return float(function(*arguments, **options)) if defined else NAN


def expected_of_class(y, z, p, decided):
    """scikit-learn's scores of one class over its known labels; NaN by the rules of decision 003."""
    known = y >= 0
    y, z, p, decided = y[known], z[known], p[known].astype(float), decided[known]
    some, both = bool((y == 1).any()), len(set(y.tolist())) == 2
    precision, recall, f1, _ = (
        oracle.precision_recall_fscore_support(y, decided, labels=[1], zero_division=np.nan)
        if len(y)
        else ([NAN], [NAN], [NAN], None)
    )
    return {
        "ap": or_nan(some, oracle.average_precision_score, y, z),
        "roc_auc": or_nan(both, oracle.roc_auc_score, y, z),
        "precision": precision[0],
        "recall": recall[0] if some else NAN,
        "f1": f1[0] if some else NAN,
        "brier": or_nan(len(y), oracle.mean_squared_error, y, p),
        "support": (y == 1).sum(),
    }


@pytest.mark.parametrize("block", range(10))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_1000_random_cases_against_scikit_learn(block):
    for seed in range(100 * block, 100 * block + 100):
        predictions, thresholds = odd_case(seed)
        y, z, p = predictions.labels, predictions.logits, predictions.probabilities
        decided, known = decide(p, thresholds), y >= 0
        found = score(predictions, thresholds, resamples=2)
        classes = [expected_of_class(y[:, c], z[:, c], p[:, c], decided[:, c]) for c in range(y.shape[1])]
        for expected, row in zip(classes, found["classes"].values(), strict=True):
            np.testing.assert_allclose([row[k] for k in expected], list(expected.values()), **CLOSE, err_msg=str(seed))
        column = {key: np.array([row[key] for row in classes], float) for key in classes[0]}
        for mean, key in [("map", "ap"), ("roc_auc", "roc_auc"), ("brier", "brier")] + [
            (f"{key}_macro", key) for key in ("precision", "recall", "f1")
        ]:
            defined = column[key][~np.isnan(column[key])]
            np.testing.assert_allclose(found[mean], defined.mean() if len(defined) else NAN, **CLOSE, err_msg=str(seed))
            assert found["left_out"][mean] == np.isnan(column[key]).sum()
        assert found["undefined"] == np.isnan(column["ap"]).sum()

        flat, flat_decided = y[known], decided[known]
        some = bool((y == 1).any())
        micro = {
            "precision_micro": or_nan(flat_decided.any(), oracle.precision_score, flat, flat_decided),
            "recall_micro": or_nan(some, oracle.recall_score, flat, flat_decided),
            "f1_micro": or_nan(some, oracle.f1_score, flat, flat_decided),
            "hamming_loss": or_nan(len(flat), oracle.hamming_loss, flat, flat_decided),
        }
        for key in ("precision", "recall", "f1"):
            use = ~np.isnan(column[key]) & (column["support"] > 0)
            weights = column["support"][use]
            micro[f"{key}_weighted"] = or_nan(use.any(), np.average, column[key][use], weights=weights)
        np.testing.assert_allclose([found[k] for k in micro], list(micro.values()), **CLOSE, err_msg=str(seed))


@pytest.mark.parametrize("seed", range(60))
def test_scores_of_images_against_scikit_learn(seed):
    predictions = random_case(np.random.default_rng(seed), n=40)
    y, p = predictions.labels, predictions.probabilities
    decided = p >= np.float32(0.7)
    found = score(predictions, np.full(6, 0.7), resamples=2)
    options = {"average": "samples", "zero_division": np.nan}
    np.testing.assert_allclose(found["precision_samples"], oracle.precision_score(y, decided, **options), **CLOSE)
    np.testing.assert_allclose(found["recall_samples"], oracle.recall_score(y, decided, **options), **CLOSE)
    assert found["left_out"]["precision_samples"] == (~decided.any(1)).sum()
    f1 = oracle.f1_score(y, decided, average="samples", zero_division=1.0)
    np.testing.assert_allclose(found["f1_samples"], f1, **CLOSE)
    np.testing.assert_allclose(found["exact_match"], oracle.accuracy_score(y, decided), **CLOSE)
    for mean in ("precision", "recall", "f1"):
        expected = oracle.precision_recall_fscore_support(y, decided, average="weighted", zero_division=np.nan)
        np.testing.assert_allclose(
            found[f"{mean}_weighted"], expected[("precision", "recall", "f1").index(mean)], **CLOSE
        )
    ranked = y.any(1)
    assert found["left_out"]["lrap"] == found["left_out"]["coverage_error"] == (~ranked).sum()
    np.testing.assert_allclose(
        found["lrap"], oracle.label_ranking_average_precision_score(y[ranked], p[ranked].astype(float)), **CLOSE
    )
    np.testing.assert_allclose(found["coverage_error"], oracle.coverage_error(y[ranked], p[ranked]), **CLOSE)


@pytest.mark.parametrize("seed", range(30))
def test_ranking_of_an_image_by_hand_with_unknown_labels(seed):
    predictions, thresholds = odd_case(seed)
    y, p = predictions.labels, predictions.probabilities
    precisions, depths = [], []
    for truth, its in zip(y, p, strict=True):
        truth, its = truth[truth >= 0], its[truth >= 0]
        if (truth == 1).any():
            ranks = [(its >= value).sum() for value in its[truth == 1]]
            hits = [(its[truth == 1] >= value).sum() for value in its[truth == 1]]
            precisions.append(np.mean(np.divide(hits, ranks)))
            depths.append(max(ranks))
    found = score(predictions, thresholds, resamples=2)
    expected = [np.mean(precisions), np.mean(depths)] if precisions else [NAN, NAN]
    np.testing.assert_allclose([found["lrap"], found["coverage_error"]], expected, **CLOSE)


def test_undefined_is_nan_and_counted_and_makes_no_noise():
    y = np.array([[1, 0, -1], [0, 0, -1]], np.int8)
    logits = np.array([[1, 1, 1], [-1, -1, -1]], np.float32)
    predictions = Predictions(np.array(["a", "b"], object), ["x", "none", "unknown"], logits, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(predictions, np.full(3, 0.5), resamples=10)
        alone = Predictions(np.array(["a"], object), ["x"], np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int8))
        nothing = score(alone, np.array([0.5]), resamples=5)
    assert found["map"] == 1.0 and found["undefined"] == found["left_out"]["map"] == 2
    assert np.isnan(found["classes"]["none"]["ap"]) and np.isnan(found["classes"]["none"]["f1"])
    assert found["classes"]["none"]["precision"] == 0  # one false alarm: defined, and bad
    assert found["f1_macro"] == 1.0 and found["left_out"]["f1_macro"] == 2 and found["left_out"]["brier"] == 1
    assert all(np.isnan(nothing[key]) for key in ("map", "roc_auc", "lrap", "f1_micro", "recall_weighted"))


def test_an_image_of_unknown_labels_alone_is_scored_nowhere():
    y, logits = np.array([[1, 0], [-1, -1]], np.int8), np.array([[-1, 1], [1, 1]], np.float32)
    found = score(Predictions(np.array(["a", "b"], object), ["x", "y"], logits, y), np.full(2, 0.5), resamples=5)
    assert found["f1_samples"] == 0 and found["exact_match"] == 0 and found["f1_micro"] == 0
    assert found["hamming_loss"] == 1 and found["left_out"]["exact_match"] == 1


def test_calibration_error_by_hand():
    # 30 probabilities, most of them small, in 15 bins of two; equal ones share a bin, however the rows lie.
    p = (np.arange(30) / 30) ** 3
    truth = (np.arange(30) % 3 == 0).astype(int)
    pairs = np.abs(p.reshape(15, 2).mean(1) - truth.reshape(15, 2).mean(1))
    assert calibration_error(truth[:, None], p[:, None])[0] == pytest.approx(pairs.mean(), abs=1e-12)
    assert calibration_error(truth[::-1, None], p[::-1, None])[0] == pytest.approx(pairs.mean(), abs=1e-12)
    assert calibration_error(truth[:, None], np.full((30, 1), 0.5))[0] == pytest.approx(0.5 - 1 / 3, abs=1e-12)
    assert np.isnan(calibration_error(np.full((3, 1), -1), np.full((3, 1), 0.5))[0])
    predicted, present, images = reliability(truth, np.repeat([0.2, 0.9], 15))
    assert predicted == pytest.approx([0.2, 0.9]) and images.tolist() == [15, 15] and present[0] == 1 / 3


@pytest.mark.parametrize("seed", range(20))
def test_weighted_average_precision_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 20, 100) / 20.0
    y = rng.choice([0, 0, 1, -1], 100).astype(np.int8)
    weights = rng.integers(0, 4, (100, 3)).astype(np.float32)
    known = y >= 0
    expected = [oracle.average_precision_score(y[known], scores[known], sample_weight=w[known]) for w in weights.T]
    np.testing.assert_allclose(_Curve(y, scores).average_precision(weights), expected, **CLOSE)


def test_bootstrap_agrees_with_plain_resampling():
    predictions = random_case(np.random.default_rng(3), n=150, c=3)
    y, z = predictions.labels, predictions.logits
    decided = decide(predictions.probabilities, np.full(3, 0.4))
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(y), len(y)) for _ in range(500)]
    plain = {
        "map": [oracle.average_precision_score(y[rows], z[rows], average="macro") for rows in draws],
        "f1_macro": [oracle.f1_score(y[rows], decided[rows], average="macro") for rows in draws],
        "f1_micro": [oracle.f1_score(y[rows], decided[rows], average="micro") for rows in draws],
        "exact_match": [oracle.accuracy_score(y[rows], decided[rows]) for rows in draws],
    }
    ours = bootstrap(predictions, decided, 1000, seed=1)
    for name, samples in plain.items():
        found = interval(ours[name])
        assert found["se"] == pytest.approx(np.std(samples), rel=0.12)
        np.testing.assert_allclose([found["low"], found["high"]], np.quantile(samples, [0.025, 0.975]), atol=0.015)
    assert ours["ap"].shape == ours["f1"].shape == (1000, 3)
    np.testing.assert_allclose(ours["ap"].mean(1), ours["map"], **CLOSE)


def test_one_bootstrap_resample_by_hand():
    predictions, thresholds = random_case(np.random.default_rng(8), n=50, unknown=True), np.full(6, 0.5)
    predictions.y[:5] = -1
    y, z = predictions.labels, predictions.logits
    decided = decide(predictions.probabilities, thresholds)
    rows = np.repeat(np.arange(50), np.random.default_rng(7).multinomial(50, np.full(50, 1 / 50), size=1)[0])
    drawn = Predictions(predictions.paths[rows], predictions.class_names, z[rows], y[rows])
    found, expected = bootstrap(predictions, decided, 1, seed=7), score(drawn, thresholds, resamples=1)
    for name in ("map", "f1_macro", "f1_micro", "f1_samples", "exact_match"):
        np.testing.assert_allclose(found[name][0], expected[name], **CLOSE)
    np.testing.assert_allclose(found["ap"][0], [row["ap"] for row in expected["classes"].values()], **CLOSE)


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
    for found in (one, two):
        del found["classes"], found["intervals"]
    assert one.pop("left_out") == two.pop("left_out") and one == pytest.approx(two)


def test_class_table_puts_the_weakest_first():
    table = class_table(score(random_case(np.random.default_rng(6)), np.full(6, 0.5), resamples=2))
    assert table.ap.is_monotonic_increasing and table.index.name == "class"


def test_counts_leave_out_unknown_labels():
    y = np.array([[1], [1], [0], [0], [-1], [-1]], np.int8)
    table = class_scores(y, np.array([[True], [False], [True], [False], [True], [False]]))
    assert [int(table[key][0]) for key in ("tp", "fn", "fp", "tn", "support")] == [1, 1, 1, 1, 2]


def test_interval_of_a_share():
    for hits, of in ((0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (450, 1000), (1, 50_000)):
        theirs = binomtest(hits, of).proportion_ci(method="wilson")
        np.testing.assert_allclose(wilson(hits, of), (theirs.low, theirs.high), **CLOSE)
    assert np.isnan(wilson(0, 0)).all()
