from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import CLOSE
from scipy.special import expit, logit
from sklearn.linear_model import Ridge

from mlworkbench import Predictions, Run, Thresholds, WorkbenchError, fit, read_labels
from mlworkbench.analysis import suspects as judges
from mlworkbench.analysis.suspects import PENALTIES, compared, find_suspects, rank_labels, seen
from mlworkbench.network.batches import ImageDataset
from mlworkbench.runs.folder import OUT_OF_FOLD
from mlworkbench.scoring.calibration import calibrate


@pytest.fixture(scope="module")
def run(demo_labels, tmp_path_factory):
    """A run from random weights of one's own: judging writes into its folder."""
    settings = {"epochs": 1, "image_size": 32, "batch_size": 8, "precision": "fp32", "workers": 0}
    return fit(read_labels(demo_labels), tmp_path_factory.mktemp("judges") / "run", **settings)


def test_each_image_is_judged_by_a_regression_that_was_fitted_without_it(rng):
    y = (rng.random((30, 3)) < 0.4).astype(np.int8)
    y[rng.random(y.shape) < 0.1] = -1
    features = (np.maximum(y, 0) @ rng.normal(0, 1, (3, 8)) + rng.normal(0, 1, (30, 8))).astype(np.float32)
    x = (features - features.mean(0)) / features.std()
    mean = np.array([column[column >= 0].mean() for column in y.T])
    filled = np.where(y < 0, mean, y)
    scores = np.empty((*y.shape, len(PENALTIES)))
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        for k, penalty in enumerate(PENALTIES):
            scores[i, :, k] = Ridge(penalty).fit(x[rest], filled[rest]).predict(x[[i]])
    chosen = np.empty((30, 3), np.float32)
    for c in range(3):
        known = y[:, c] >= 0
        errors = [np.mean((scores[known, c, k] - y[known, c]) ** 2) for k in range(len(PENALTIES))]
        chosen[:, c] = scores[:, c, int(np.argmin(errors))]
    scale, shift = calibrate(Predictions(np.arange(30).astype(object), list("abc"), chosen, y), "shifts").calibration
    np.testing.assert_allclose(judges.left_one_out(features, y), scale * chosen + shift, atol=2e-3)


def test_images_are_seen_in_five_views(run):
    table = run.split_table().take(slice(0, 4))
    images = torch.stack([ImageDataset(table.paths, table.root, None, 32)[i][0] for i in range(4)]).float() / 255
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")  # a twelfth of 32 is 2.7
    views = [(3, 3), (0, 3), (6, 3), (3, 0), (3, 6)]
    with torch.no_grad():
        logits = [run.model(torch.from_numpy(padded[:, :, y : y + 32, x : x + 32])).numpy() for y, x in views]
    features, found = seen(run, table)
    assert features.shape == (4, 1280)
    np.testing.assert_allclose(found, np.mean(logits, axis=0), **CLOSE)


def test_held_out_labels_are_judged_by_the_mean_of_both_and_kept(run, monkeypatch):
    found = [find_suspects(run, split, say=lambda text: 1 / 0) for split in ("val", "test")]
    val, test = (suspects.predictions for suspects in found)
    assert val.split == "val" and all(suspects.basis == "held out" for suspects in found)
    assert "labels: each judged by what has not learnt from it" in str(found[0])
    table = run.split_table()
    table = table.take(table.split != "train")
    features, own = seen(run, table)
    scale, shift = calibrate(run.predictions("val", raw=True), "shifts").calibration
    both = (own + (judges.left_one_out(features, table.y) - shift) / scale) / 2  # on the run's own scale
    logits = pd.concat([pd.DataFrame(p.logits, p.paths) for p in (val, test)]).loc[table.paths].to_numpy()
    np.testing.assert_allclose(logits, both, **CLOSE)
    np.testing.assert_array_equal(val.labels, run.predictions("val").labels)
    pd.testing.assert_frame_equal(found[0].ranking, rank_labels(val, calibration=np.array([scale, shift])))
    monkeypatch.setattr(judges, "seen", lambda *_: 1 / 0)  # they are there
    assert (find_suspects(Run(run.folder), "val").predictions.logits == val.logits).all()


def test_training_images_by_the_better_judge_for_how_the_run_began(run, demo_labels, tmp_path):
    said = []
    inside = find_suspects(run, "train", say=said.append)
    assert inside.predictions.split == "train" and inside.basis == "in sample" and not said
    outside = find_suspects(run, "train", folds=2, say=said.append)
    assert outside.predictions.split == OUT_OF_FOLD and outside.basis == "out of fold" and "2 networks" in said[0]
    assert find_suspects(run, "train", say=said.append).basis == "out of fold"  # it is there by now
    again = find_suspects(run, "train", in_sample=True, say=said.append)
    assert (again.predictions.logits == inside.predictions.logits).all()
    probe = fit(read_labels(demo_labels), tmp_path / "probe", route="probe", image_size=32, workers=0)
    assert find_suspects(probe, "train", say=said.append).basis == "out of fold"
    assert find_suspects(probe, "train", in_sample=True, say=said.append).basis == "in sample"


@pytest.mark.parametrize("folds", [0, 1, -3])
def test_folds_are_a_number_from_two_on_and_no_truth_value(run, folds):
    with pytest.raises(WorkbenchError, match=f"{folds} folds; expected at least 2"):
        find_suspects(run, "train", folds=folds)
    with pytest.raises(WorkbenchError, match="are for train"):
        find_suspects(run, "val", folds=folds)


def test_a_calibration_of_the_run_changes_no_order(run):
    before = {split: find_suspects(run, split, in_sample=split == "train").ranking for split in ("train", "val")}
    scale = np.geomspace(0.2, 5, len(run.class_names))
    thresholds = Thresholds.default(run.class_names)
    run.save_thresholds(replace(thresholds, calibration=np.stack([scale, np.linspace(-2, 2, len(scale))])))
    try:
        for split, ranking in before.items():
            now = find_suspects(Run(run.folder), split, in_sample=split == "train").ranking
            pd.testing.assert_frame_equal(now.drop(columns="probability"), ranking.drop(columns="probability"))
            assert (now.probability != ranking.probability).any()
    finally:
        (run.folder / "thresholds.json").unlink()


def weighed(rng, images, apart, prevalence, memory):
    """True labels, and what a network says by BCE and by positive_weight 10 that saw one in twenty of them flipped."""
    classes = len(prevalence)
    truth = (rng.random((images, classes)) < prevalence).astype(np.int8)
    clean = apart * (apart * (truth - 0.5) + rng.normal(0, 1, truth.shape)) + logit(prevalence)
    y = truth.ravel().copy()
    y[rng.permutation(y.size)[: y.size // 20]] ^= 1
    y = y.reshape(truth.shape)
    bce = logit(0.05 + 0.9 * expit(clean)) + memory * (2 * y - 1)
    names, paths = [str(c) for c in range(classes)], np.arange(images).astype(str).astype(object)
    weights = np.log(np.clip((1 - prevalence) / prevalence, 1, 10))
    return truth, *(Predictions(paths, names, np.float32(z), y, "val") for z in (bce, bce + weights))


def wrong_in_front(truth, judged, calibration=None):
    first = rank_labels(judged, calibration=calibration).head(100)
    rows, columns = first.image_path.astype(int), first["class"].astype(int)
    return int((judged.labels[rows, columns] != truth[rows, columns]).sum())


@pytest.mark.parametrize("memory", [0, 1])  # held out; in sample, where a network believes its labels in part
def test_judges_find_wrong_labels_whatever_the_loss_weighs(memory):
    rng, counts = np.random.default_rng(0), []
    for _ in range(10):
        apart, prevalence = rng.uniform(2, 4.5, 10), rng.uniform(0.05, 0.3, 10)
        unseen = weighed(rng, 450, apart, prevalence, 0)[1:]
        truth, *judged = weighed(rng, 2100 if memory else 900, apart, prevalence, memory)
        raw = [wrong_in_front(truth, its) for its in judged]
        even = [wrong_in_front(truth, its, compared(v)) for its, v in zip(judged, unseen, strict=True)]
        counts.append(raw + even)
    bce, weighed_more, bce_judge, judge = np.mean(counts, 0)
    assert bce_judge >= bce - 2 and judge >= 92 and judge > weighed_more + 5


def test_what_the_first_suspects_would_bring_where_the_truth_is_known(tmp_path):
    """Four images and two classes by hand; one label of each class is wrong, and one true one unknown."""
    (tmp_path / "truth.csv").write_text("image_path,b,a\n1.png,1,1\n2.png,0,0\n3.png,0,1\n4.png,,0\n")
    truth, paths = read_labels(tmp_path / "truth.csv"), np.array(["4.png", "3.png", "2.png", "1.png"], object)
    y = np.array([[0, 1], [0, 0], [0, 1], [1, 1]], np.int8)  # wrong: 3.png is an a, 2.png is no b
    p = np.array([[0.2, 0.6], [0.9, 0.2], [0.3, 0.4], [0.8, 0.7]])
    told = Predictions(paths, ["a", "b"], logit(p).astype(np.float32), y, "test")
    ranking = rank_labels(told)
    assert ranking.image_path[:2].tolist() == ["3.png", "2.png"] and ranking["class"][:2].tolist() == ["a", "b"]
    found = judges.against_truth(ranking, truth, told, Thresholds.default(["a", "b"]), looks=(1, 2, 8, 50))
    assert found["first suspects"].tolist() == [0, 1, 2, 8] and found["really wrong"].tolist() == [0, 1, 2, 2]
    assert found["of all wrong"].tolist() == [0, 0.5, 1, 1]
    # a: ranked 3, 1, 2, 4, present 3 and 1; as labelled 1 alone is right. b: 1, 4, 2, 3, present 1 and 4.
    np.testing.assert_allclose(found.mAP, [(0.5 + 1) / 2, 1, 1, 1])
    np.testing.assert_allclose(found["macro F1"], [(2 / 3 + 4 / 5) / 2, (1 + 4 / 5) / 2, 1, 1])
    assert (told.labels == y).all()
    with pytest.raises(WorkbenchError, match="nothing of '4.png'"):
        judges.against_truth(ranking, truth.take(slice(0, 3)), told, Thresholds.default(["a", "b"]))


def test_the_truth_is_read_as_the_labels_were_and_is_none_where_there_is_none(run, tmp_path):
    truth = judges.known_truth(run)
    assert truth.class_names == run.class_names and (truth.y != read_labels(run.state["labels_file"]).y).any()
    other = Run(tmp_path)
    other.write_state(labels_file=str(tmp_path / "labels.csv"))
    assert judges.known_truth(other) is None
