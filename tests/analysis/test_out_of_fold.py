from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import CLOSE

from mlworkbench import Run, WorkbenchError, fit, read_labels
from mlworkbench.analysis import suspects as folds
from mlworkbench.analysis.suspects import out_of_fold
from mlworkbench.cli import main
from mlworkbench.network.model import build_model
from mlworkbench.runs.folder import OUT_OF_FOLD

SETTINGS = {"epochs": 1, "image_size": 32, "batch_size": 8, "precision": "fp32", "workers": 0}


@pytest.fixture(scope="module")
def trained(demo_labels, tmp_path_factory):
    """A run of one epoch from random weights; the tests write its out-of-fold predictions only."""
    return fit(read_labels(demo_labels), tmp_path_factory.mktemp("folds") / "run", **SETTINGS)


@pytest.fixture
def trainings(monkeypatch):
    """What `fit` is called with: (table, settings)."""
    seen = []

    def watched(table, folder, **settings):
        seen.append((table, settings))
        return fit(table, folder, **settings)

    monkeypatch.setattr(folds, "fit", watched)
    return seen


def test_each_training_image_is_predicted_by_a_network_that_was_not_trained_on_it(trained, trainings):
    said = []
    found = out_of_fold(trained, 3, said.append)
    train = trained.predictions("train")
    assert found.split == OUT_OF_FOLD and sorted(found.paths) == sorted(train.paths)
    labels = dict(zip(train.paths, train.labels.tolist(), strict=True))
    assert all(labels[p] == y for p, y in zip(found.paths, found.labels.tolist(), strict=True))
    assert np.isfinite(found.logits).all()
    held = [set(table.paths[table.split == "test"]) for table, _ in trainings]
    assert set.union(*held) == set(train.paths) and max(map(len, held)) - min(map(len, held)) <= 1
    val = set(trained.predictions("val").paths)
    for table, settings in trainings:
        learned = set(table.paths[table.split == "train"])
        assert learned == set(train.paths) - set(table.paths[table.split == "test"])
        assert set(table.paths[table.split == "val"]) == val and len(table) == len(train) + len(val)
        assert {**settings, "precision": "fp32"} == trained.state["settings"]
    seconds = trained.state["seconds"]
    expected = f"3 networks, each on 67% of the training images: about {2 * seconds:.0f} s, as the run itself took"
    assert said[0].startswith(expected) and len(said) == 4
    # an oracle of its own: the same two networks, trained by hand
    table, settings = trainings[0]
    again = fit(table, trained.folder.parent / "by_hand", **settings).predictions("test", raw=True)
    ours = pd.DataFrame(found.logits, found.paths).loc[again.paths].to_numpy()
    np.testing.assert_allclose(ours, again.logits, **CLOSE)


def test_from_trained_weights_heads_are_fitted_on_their_features(trained, demo_labels, tmp_path, trainings):
    import torch

    from mlworkbench.network.foreign import quietly

    with quietly():
        network = build_model("yolov8n-cls.yaml", ["x", "y"]).net
    torch.save({"model": network}, tmp_path / "start.pt")
    run = fit(read_labels(demo_labels), tmp_path / "run", model=str(tmp_path / "start.pt"), **SETTINGS)
    said = []
    found = out_of_fold(run, 3, said.append)
    ((table, settings),) = trainings
    assert settings["route"] == "probe" and settings["folds"] == 3 and settings["model"].endswith("start.pt")
    assert len(said) == 1 and "features of" in said[0]
    assert sorted(found.paths) == sorted(p for p, split in run.splits().items() if split == "train")
    assert (run.predictions(OUT_OF_FOLD).logits == found.logits).all()
    again = fit(table, tmp_path / "again", **{**settings, "folds": 4}).predictions(OUT_OF_FOLD, raw=True)
    assert (again.logits != found.logits).any()  # other folds, other heads


def test_a_probe_has_features_that_saw_no_label_whatever_its_weights(demo_labels, tmp_path, trainings):
    run = fit(read_labels(demo_labels), tmp_path / "run", route="probe", **SETTINGS)
    five = run.predictions(OUT_OF_FOLD)
    assert (out_of_fold(run, 5, lambda _: None).logits == five.logits).all()
    assert (out_of_fold(run, 2, lambda _: None).logits != five.logits).any()
    assert [settings["route"] for _, settings in trainings] == ["probe", "probe"]


def test_the_command_line_names_what_it_ranks(trained, tmp_path, capsys, monkeypatch):
    (trained.folder / f"predictions/{OUT_OF_FOLD}.parquet").unlink(missing_ok=True)
    out = str(tmp_path / "e.csv")
    errors = ["errors", str(trained.folder), "--split", "train", "--out", out]
    with pytest.raises(
        WorkbenchError, match="no out-of-fold predictions: mlworkbench errors RUN --split train --folds"
    ):
        trained.predictions(OUT_OF_FOLD)
    assert main(errors) == 0 and "trained on these very labels" in capsys.readouterr().err
    within = pd.read_csv(out)
    assert main([*errors, "--folds", "2"]) == 0
    told = capsys.readouterr().err
    assert "2 networks" in told and "these very labels" not in told
    unseen = pd.read_csv(out)
    assert set(unseen.split) == {"train"} and len(unseen) == len(within) and not unseen.equals(within)
    monkeypatch.setattr(folds, "fit", lambda *_, **__: 1 / 0)  # it is there by now
    assert main(errors) == 0 and "these very labels" not in capsys.readouterr().err
    assert pd.read_csv(out).equals(unseen)
    assert main([*errors, "--in-sample"]) == 0 and "these very labels" in capsys.readouterr().err
    assert pd.read_csv(out).equals(within)
    for wrong in (
        ["--split", "val", "--folds", "2"],
        ["--in-sample"],
        ["--split", "train", "--folds", "1"],
        ["--split", "train", "--folds", "0"],
    ):
        assert main(["errors", str(trained.folder), *wrong]) == 2
    with pytest.raises(SystemExit):
        main([*errors, "--folds", "2", "--in-sample"])


def test_an_interrupted_network_leaves_nothing(trained, monkeypatch):
    file = trained.folder / f"predictions/{OUT_OF_FOLD}.parquet"
    file.unlink(missing_ok=True)
    folders = []

    def interrupted(table, folder, **settings):
        run = fit(table, folder, **settings)
        folders.append(Path(folder))
        run.write_state(status="interrupted")
        return Run(folder)

    monkeypatch.setattr(folds, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        out_of_fold(trained, 2, lambda _: None)
    assert not file.exists() and len(folders) == 1 and not folders[0].exists()


def test_images_that_all_belong_together_have_no_folds(write_labels, picture, tmp_path):
    rows = [(picture(f"{i}.png", seed=i), [i % 2]) for i in range(6)]
    table = read_labels(write_labels(rows))
    split = np.array(["train"] * 4 + ["val", "test"], object)
    together = np.array(["g"] * 4 + ["v", "t"], object)
    run = fit(replace(table, split=split, group=together), tmp_path / "run", **SETTINGS)
    lines = "".join(
        f'{p},"{y.tolist()}",{s},{g}\n' for p, y, s, g in zip(table.paths, table.y, split, together, strict=True)
    )
    file = write_labels("image_path,labels,split,group\n" + lines)
    run.write_state(labels_sha256=read_labels(file).sha256)
    with pytest.raises(WorkbenchError, match="the training images all belong together"):
        out_of_fold(run, 2, lambda _: None)
