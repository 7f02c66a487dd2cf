import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import PROJECT

from mlworkbench import Predictions, WorkbenchError
from mlworkbench.scoring.predictions import decide, probabilities


def test_sigmoid_at_known_points_and_extremes():
    p = probabilities(np.array([0.0, np.log(3), -np.log(3), 200.0, -200.0]))
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, [0.5, 0.75, 0.25, 1.0, 0.0], atol=1e-7)


def test_the_sigmoid_stands_in_one_place():
    pattern = re.compile(r"\bsigmoid\s*\(|nn\.Sigmoid|\bexpit\s*\(|exp\(\s*-")
    found = [
        f"{path.name}: {line.strip()}"
        for path in sorted((PROJECT / "mlworkbench").rglob("*.py"))
        for line in path.read_text().splitlines()
        if pattern.search(line)
    ]
    assert found == [
        'graph.py: found = {"probabilities": logits.sigmoid()}',  # what is exported has no package beside it
        'model.py: parts |= {"flat": nn.Flatten(), "drop": head.drop, "linear": head.linear, "sigmoid": nn.Sigmoid()}',
        "predictions.py: return expit(np.asarray(logits, np.float32))",
        "probe.py: p = expit(self.rows @ w)",  # the slope of a loss, in float64
    ]


def test_ties_count_as_present_in_float32_too():
    p = np.array([[0.1, 0.7]], np.float32)
    assert decide(p, np.array([0.1, 0.7])).all()  # float64 0.1 is above float32 0.1
    assert decide(p, np.nextafter(p[0], 1)).any() == False  # noqa: E712


def example():
    return Predictions(
        paths=np.array(["a", "b"], object),
        class_names=["x", "y"],
        logits=np.array([[1, 2], [3, 4]], np.float32),
        y=np.array([[1, 0], [-1, 1]], np.int8),
        split="val",
    )


def test_reorder_by_name():
    turned = example().reorder(["y", "x"])
    assert turned.logits.tolist() == [[2, 1], [4, 3]] and turned.labels.tolist() == [[0, 1], [1, -1]]
    with pytest.raises(WorkbenchError, match="'z'"):
        example().reorder(["x", "z"])


def test_frame_round_trip():
    before = example()
    after = Predictions.from_frame(before.to_frame(), "val")
    assert list(after.paths) == ["a", "b"] and after.class_names == ["x", "y"]
    assert (after.logits == before.logits).all() and (after.labels == before.labels).all()


def test_shapes_are_checked_and_missing_labels_named():
    with pytest.raises(WorkbenchError, match=r"\(1, 1\); expected \(1, 2\)"):
        Predictions(np.array(["a"], object), ["x", "y"], np.zeros((1, 1), np.float32))
    with pytest.raises(WorkbenchError, match="no labels"):
        _ = Predictions(np.array(["a"], object), ["x"], np.zeros((1, 1), np.float32)).labels


def test_calibration_bends_the_probabilities_and_nothing_else():
    bent = replace(example(), calibration=np.array([[2.0, 0.5], [-1.0, 0.0]]))
    expected = probabilities(np.array([[1.0, 1.0], [5.0, 2.0]]))
    assert (bent.probabilities == expected).all() and (bent.logits == example().logits).all()
    assert (bent.reorder(["y", "x"]).probabilities == expected[:, ::-1]).all()
    assert (Predictions.from_frame(bent.to_frame()).probabilities == example().probabilities).all()  # raw in the file


def test_groups_go_with_the_images_through_files_rows_and_other_orders(tmp_path):
    y = np.array([[1, 0], [0, 1], [1, -1]], np.int8)
    logits = np.arange(6, dtype=np.float32).reshape(3, 2)
    predictions = Predictions(
        np.array(["a", "b", "c"], object), ["x", "y"], logits, y, "val", groups=np.array([7, 7, 9])
    )
    assert list(Predictions.from_frame(predictions.to_frame()).groups) == [7, 7, 9]
    part = predictions.reorder(["y", "x"]).take(np.array([2, 0]))
    assert list(part.groups) == [9, 7] and list(part.paths) == ["c", "a"] and part.split == "val"
    assert part.labels.tolist() == [[-1, 1], [0, 1]] and part.logits.tolist() == [[5, 4], [1, 0]]
    assert Predictions.from_frame(Predictions(predictions.paths, ["x", "y"], logits).to_frame()).groups is None
    with pytest.raises(WorkbenchError, match=r"groups has the shape \(2,\)"):
        Predictions(predictions.paths, ["x", "y"], logits, groups=np.array([1, 2]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_told_with_its_image_and_class(value):
    logits = np.zeros((2, 2), np.float32)
    logits[1, 0] = value
    with pytest.raises(WorkbenchError, match=r"the logit of image 'b' for class 'x' is -?(nan|inf)"):
        Predictions(np.array(["a", "b"], object), ["x", "y"], logits)
