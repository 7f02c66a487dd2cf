import itertools
from dataclasses import replace

import numpy as np
import pytest

from mlworkbench import Predictions, Thresholds, WorkbenchError, tune_thresholds
from mlworkbench.analysis.errors import almost_right, confused_images, confusions, disagreements
from mlworkbench.analysis.suspects import rank_labels


def example():
    p = np.array([[0.88, 0.2], [0.4, 0.99], [0.1, 0.6]])
    y = np.array([[0, 1], [1, 0], [1, -1]], np.int8)
    return Predictions(np.array(["a", "b", "c"], object), ["x", "y"], np.log(p / (1 - p)).astype(np.float32), y, "val")


def test_disagreements_ranked_by_margin():
    found = disagreements(example(), Thresholds.default(["x", "y"]))
    rows = [tuple(row) for row in found[["image_path", "class", "kind"]].to_numpy()]
    assert rows == [
        ("b", "y", "false positive"),  # .49 of .5
        ("c", "x", "false negative"),  # .4 of .5
        ("a", "x", "false positive"),  # .38 of .5
        ("a", "y", "false negative"),
        ("b", "x", "false negative"),
    ]
    np.testing.assert_allclose(found.margin, [0.98, 0.8, 0.76, 0.6, 0.2], atol=1e-6)


def test_mistakes_on_the_tuned_images_say_so():
    thresholds = tune_thresholds(example())
    assert disagreements(example(), thresholds).tuned_on.all()
    other = replace(example(), split="test", paths=np.array(["d", "e", "f"], object))
    assert len(disagreements(other, thresholds)) and not disagreements(other, thresholds).tuned_on.any()


def test_mistakes_are_those_of_the_calibrated_probabilities():
    calibration = np.array([[2.0, 1.0], [-1.0, 3.0]])
    calibrated = Thresholds(["x", "y"], np.array([0.5, 0.9], np.float32), calibration=calibration)
    found = disagreements(example(), calibrated).set_index(["image_path", "class"])
    assert (
        len(found)
        == calibrated.decide(example())[example().y == 0].sum()
        + (~calibrated.decide(example())[example().y == 1]).sum()
    )
    assert found.probability["b", "y"] == replace(example(), calibration=calibration).probabilities[1, 1]


def test_margins_compare_classes_with_different_thresholds():
    found = disagreements(example(), Thresholds(["x", "y"], np.array([0.8, 0.98], np.float32)))
    np.testing.assert_allclose(found.set_index(["image_path", "class"]).margin["a", "x"], 0.4, atol=1e-5)


def test_suspects_rank_every_known_label_by_self_confidence():
    found = rank_labels(example())
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert list(found.columns) == ["rank", "image_path", "split", "class", "label", "probability", "score"]
    np.testing.assert_allclose(found.score, [0.01, 0.1, 0.12, 0.2, 0.4], atol=1e-6)
    assert not ((found.image_path == "c") & (found["class"] == "y")).any()  # unknown: nothing to suspect


def drawn(rng, images=60, classes=6):
    """Random predictions with some unknown labels."""
    y = rng.integers(-1, 2, (images, classes)).astype(np.int8)
    paths = np.array([f"{i}.jpg" for i in range(images)], object)
    names = [f"c{i}" for i in range(classes)]
    return Predictions(paths, names, rng.normal(0, 2, y.shape).astype(np.float32), y, "val")


def test_confusions_count_a_missed_and_an_added_class_of_the_same_image(rng):
    predictions = drawn(rng)
    thresholds = Thresholds(predictions.class_names, rng.uniform(0.2, 0.8, 6).astype(np.float32))
    present, y = thresholds.decide(predictions), predictions.labels
    expected, paths = {}, {}
    for missed, added in itertools.permutations(range(6), 2):
        both = [
            i
            for i in range(60)
            if y[i, missed] == 1 and not present[i, missed] and y[i, added] == 0 and present[i, added]
        ]
        if both:
            share = len(both) / sum(y[i, missed] == 1 and not present[i, missed] for i in range(60))
            expected[f"c{missed}", f"c{added}"] = len(both), share
            paths[f"c{missed}", f"c{added}"] = [f"{i}.jpg" for i in both]
    found = confusions(predictions, thresholds)
    assert {(r.missed, r.predicted): (r.images, r.share) for r in found.itertuples()} == expected
    assert found.images.is_monotonic_decreasing
    for row in found.to_dict("records"):
        assert confused_images(predictions, thresholds, row).tolist() == paths[row["missed"], row["predicted"]]


def test_almost_right_are_the_images_with_one_wrong_label(rng):
    predictions = drawn(rng, images=200, classes=3)
    thresholds = Thresholds.default(predictions.class_names)
    wrong = (thresholds.decide(predictions) != (predictions.labels == 1)) & (predictions.labels >= 0)
    found = almost_right(predictions, thresholds)
    assert set(found.image_path) == set(predictions.paths[wrong.sum(1) == 1]) and found.image_path.is_unique
    assert found.margin.is_monotonic_increasing
    row = list(predictions.paths).index(found.image_path[0])
    assert found["class"][0] == f"c{int(np.flatnonzero(wrong[row])[0])}"


def test_suspects_are_cleanlabs_own_where_every_label_is_known(rng):
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    predictions = drawn(rng)
    predictions = replace(predictions, y=np.abs(predictions.labels))
    labels = [np.flatnonzero(row).tolist() for row in predictions.labels]
    theirs = get_label_quality_scores_per_class(labels, predictions.probabilities)
    ours = rank_labels(predictions).pivot(index="image_path", columns="class", values="score")
    np.testing.assert_allclose(ours.loc[predictions.paths, predictions.class_names], theirs, atol=1e-7)


def test_suspects_where_labels_are_unknown_or_all_alike(rng):
    predictions = drawn(rng)
    y = predictions.labels.copy()
    y[:, 0], y[:, 1], y[:, 2] = -1, 0, 1
    found = rank_labels(replace(predictions, y=y))
    assert len(found) == (y >= 0).sum() and set(found["class"]) == {"c1", "c2", "c3", "c4", "c5"}
    assert found.score.between(0, 1).all() and found.score.is_monotonic_increasing
    assert rank_labels(replace(predictions, y=np.full_like(y, -1))).empty


def test_the_surer_of_two_certainties_comes_first():
    logits = np.array([[30], [90], [60], [-2]], np.float32)
    found = rank_labels(Predictions(np.array(list("abcd"), object), ["x"], logits, np.zeros((4, 1), np.int8), "val"))
    assert found.image_path.tolist() == ["b", "c", "a", "d"] and found.score.tolist()[:3] == [0, 0, 0]


def test_a_model_that_has_seen_the_labels_ranks_them_only_when_that_is_said():
    seen = replace(example(), split="train")
    with pytest.raises(WorkbenchError, match="the model has seen the labels of its training images"):
        rank_labels(seen)
    assert set(rank_labels(seen, in_sample=True).split) == {"train"}
    assert set(rank_labels(replace(example(), split="train_out_of_fold")).split) == {"train"}


def test_flipped_labels_come_first():
    """An oracle of its own: of labels flipped at random those that a good model contradicts are found."""
    rng = np.random.default_rng(0)
    truth = (rng.random((900, 10)) < 0.2).astype(np.int8)
    logits = rng.normal(8 * truth - 4, 1.5).astype(np.float32)
    flipped = rng.random(truth.shape) < 0.05
    paths = np.arange(900).astype(str).astype(object)
    found = rank_labels(
        Predictions(paths, [str(c) for c in range(10)], logits, np.where(flipped, 1 - truth, truth), "val")
    )
    first = found.head(100)
    assert flipped[first.image_path.astype(int), first["class"].astype(int)].mean() >= 0.9
