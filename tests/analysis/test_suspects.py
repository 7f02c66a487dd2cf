from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from mlworkbench import Predictions, Run, Thresholds, WorkbenchError, fit, read_labels
from mlworkbench.analysis import suspects as judges
from mlworkbench.analysis.suspects import PENALTIES, find_suspects, rank_labels, seen
from mlworkbench.data.demo import make_demo
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
    for c in range(3):
        known = y[:, c] >= 0
        errors = [np.mean((scores[known, c, k] - y[known, c]) ** 2) for k in range(len(PENALTIES))]
        chosen = scores[:, [c], int(np.argmin(errors))].astype(np.float32)
        scale, shift = calibrate(Predictions(np.arange(30).astype(object), ["c"], chosen, y[:, [c]])).calibration
        found = judges.left_one_out(features, y)[:, c]
        np.testing.assert_allclose(found, (scale * chosen + shift)[:, 0], atol=2e-3)


def test_images_are_seen_in_five_views(run):
    table = run.split_table().take(slice(0, 4))
    images = torch.stack([ImageDataset(table.paths, table.root, None, 32)[i][0] for i in range(4)]).float() / 255
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")  # a twelfth of 32 is 2.7
    views = [(3, 3), (0, 3), (6, 3), (3, 0), (3, 6)]
    with torch.no_grad():
        logits = [run.model(torch.from_numpy(padded[:, :, y : y + 32, x : x + 32])).numpy() for y, x in views]
    features, found = seen(run, table)
    assert features.shape == (4, 1280)
    np.testing.assert_allclose(found, np.mean(logits, axis=0), atol=1e-4)


def test_held_out_labels_are_judged_by_the_mean_of_both_and_kept(run, monkeypatch):
    found = [find_suspects(run, split, say=lambda text: 1 / 0) for split in ("val", "test")]
    val, test = (suspects.predictions for suspects in found)
    assert val.split == "val" and all(suspects.basis == "held out" for suspects in found)
    assert "held out: neither the network nor the regression" in str(found[0])
    table = run.split_table()
    table = table.take(table.split != "train")
    features, own = seen(run, table)
    both = (own + judges.left_one_out(features, table.y)) / 2
    logits = pd.concat([pd.DataFrame(p.logits, p.paths) for p in (val, test)]).loc[table.paths].to_numpy()
    np.testing.assert_allclose(logits, both, atol=1e-5)
    np.testing.assert_array_equal(val.labels, run.predictions("val").labels)
    pd.testing.assert_frame_equal(found[0].ranking, rank_labels(val))
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


@pytest.mark.notebook
def test_with_one_label_in_twenty_flipped_the_first_100_suspects_are_wrong_ones(tmp_path):
    labels = make_demo(tmp_path / "data", label_noise=0.05)
    truth = read_labels(tmp_path / "data" / "truth.csv")
    run = fit(read_labels(labels), tmp_path / "run", epochs=15, image_size=96, precision="fp32")
    found = pd.concat([find_suspects(run, split).ranking for split in ("val", "test")])
    clean = pd.DataFrame(truth.y, truth.paths, truth.class_names).stack()
    first = found.sort_values("score", kind="stable").head(100)
    wrong = first.label.to_numpy() != clean.loc[list(zip(first.image_path, first["class"], strict=True))].to_numpy()
    assert wrong.sum() >= 90
