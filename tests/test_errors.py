from dataclasses import replace

import numpy as np

from mlworkbench import Predictions, Thresholds, tune_thresholds
from mlworkbench.errors import disagreements, suspects


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
    found = suspects(example())
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert list(found.columns) == ["rank", "image_path", "split", "class", "label", "probability", "score"]
    np.testing.assert_allclose(found.score, [0.01, 0.1, 0.12, 0.2, 0.4], atol=1e-6)
    assert not ((found.image_path == "c") & (found["class"] == "y")).any()  # unknown: nothing to suspect
