import logging
from dataclasses import asdict
from itertools import count
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle

from mlworkbench import Predictions, Run, read_labels
from mlworkbench.analysis import approaches
from mlworkbench.analysis.approaches import APPROACHES, comparison, telling_images, train_all
from mlworkbench.exceptions import Interrupted
from mlworkbench.files import write_csv, write_whole
from mlworkbench.progress import say
from mlworkbench.settings import Settings

NAMES = ["loop", "ultralytics", "probe", "softmax"]
CLASSES = ["a", "b", "c", "d"]


def a_run(folder, logits, y, seconds=1.0, cut=0.0):
    """A run that nobody trained, with these test predictions; on val all is clear: its thresholds are sigmoid(cut)."""
    run, classes = Run(folder), CLASSES[: y.shape[1]]
    run.write_state(format_version=1, class_names=classes, status="finished", image_root=str(folder), settings={})
    rows = [(epoch, 1, 1, seconds + 9 * (epoch == 1)) for epoch in (1, 2, 3)]  # the first has to set up
    write_whole(run.folder / "history.csv", write_csv(rows, ("epoch", "val_loss", "val_map", "seconds")))
    sure = np.arange(len(classes) * 40).reshape(40, -1) % 3 == 0
    for split, its, truth in (("val", np.where(sure, cut + 2, cut - 2), sure), ("test", logits, y)):
        paths = np.array([f"{split}{i}.png" for i in range(len(its))], object)
        run.write_predictions(Predictions(paths, classes, np.float32(its), np.int8(truth), split), split)
    return run


def some_runs(tmp_path, present, y):
    """A run of each approach that calls these classes present, bool [A, N, C]."""
    return {name: a_run(tmp_path / name, np.where(its, 1, -1), y) for name, its in zip(NAMES, present, strict=False)}


def shown(found):
    return list(dict.fromkeys(found.image_path))


@pytest.mark.parametrize("number_of_runs", [2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_the_images_with_most_disputed_labels_come_first(seed, number_of_runs, tmp_path):
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 1, -1], (30, 4), p=[0.5, 0.3, 0.2])
    present = rng.random((number_of_runs, 30, 4)) < rng.random((30, 1))

    def rank(image):
        disputed = 0
        for c in range(4):
            right = {bool(present[run, image, c]) == (y[image, c] == 1) for run in range(number_of_runs)}
            disputed += y[image, c] != -1 and len(right) == 2
        return -disputed, -list(y[image]).count(1), image

    expected = [f"test{image}.png" for image in sorted(range(30), key=rank)]
    found = telling_images(some_runs(tmp_path, present, y), number=30)
    assert shown(found) == expected
    assert shown(telling_images({name: Run(tmp_path / name) for name in NAMES[:number_of_runs]})) == expected[:3]


def test_one_against_three_disputes_a_label_as_two_against_two(tmp_path):
    y = np.zeros((2, 2), int)
    present = np.zeros((4, 2, 2), bool)
    present[:2, 0, 0] = True  # one label on which they are two and two
    present[0, 1] = True  # two on each of which one stands alone
    assert shown(telling_images(some_runs(tmp_path, present, y))) == ["test1.png", "test0.png"]


def test_of_equals_the_image_with_more_classes_comes_first_and_then_the_earlier(tmp_path):
    y = np.array([[0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    present = np.stack([y == 1, y == 1])
    present[1, :, 0] = True
    assert shown(telling_images(some_runs(tmp_path, present, y))) == ["test1.png", "test2.png", "test0.png"]


def test_unknown_labels_dispute_nothing_and_are_neither_missed_nor_added(tmp_path):
    y = np.array([[-1, -1, -1, 0], [0, 0, 0, 0]])
    present = np.array([[[1, 1, 1, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 1]]], bool)
    found = telling_images(some_runs(tmp_path, present, y))
    assert shown(found) == ["test1.png", "test0.png"]
    assert found.says.tolist() == ["the whole set", "wrongly finds d", "the whole set", "the whole set"]


def test_the_words_say_what_each_misses_and_adds(tmp_path):
    y = np.array([[1, 1, 0, 0]])
    present = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 1]], [[0, 1, 0, 1]]], bool)
    runs = some_runs(tmp_path, present, y)
    runs["own"] = runs.pop("softmax")  # by another name nothing is said of shares
    found = telling_images(runs)
    assert found.approach.tolist() == ["loop", "ultralytics", "probe", "own"]
    assert found.says.tolist() == ["the whole set", "misses a, b", "wrongly finds c, d", "misses a and wrongly finds d"]


@pytest.mark.parametrize(
    "logits, y, says",
    [
        ([2, -2, -2, -2], [1, 1, 0, 0], "misses b (its 2 true classes share 1.00 of one)"),
        ([-2, -2, 2, -2], [1, 1, -1, 1], "misses a, b, d (its 3 true classes share 0.36 of one)"),
        ([-2, -2, 2, -2], [1, 0, 0, 0], "misses a and wrongly finds c"),  # one class shares with nobody
        ([2, 2, 2, -2], [1, 1, 0, 0], "wrongly finds c"),  # nothing is missed
    ],
)
def test_of_the_softmax_they_say_what_its_true_classes_share(logits, y, says, tmp_path):
    found = telling_images({"softmax": a_run(tmp_path, np.array([logits]), np.array([y]))})
    assert found.says.tolist() == [says]


def test_beside_the_words_stand_probabilities_decisions_and_labels(tmp_path):
    logits, y = np.array([[2.0, 0.5, -1, 3], [0, 2, 2, -3]]), np.array([[1, 0, -1, 1], [0, 1, 0, 0]])
    found = telling_images(
        {"loop": a_run(tmp_path / "1", logits, y, cut=1), "probe": a_run(tmp_path / "2", -logits, y)}
    )
    assert found.columns.tolist() == ["image_path", "approach", "says", "p", "present", "y"]
    assert found.approach.tolist() == ["loop", "probe"] * 2
    for row in found.itertuples():
        image, sign, cut = int(row.image_path[4]), *((1, 1) if row.approach == "loop" else (-1, 0))
        np.testing.assert_allclose(row.p, 1 / (1 + np.exp(-sign * logits[image])), rtol=1e-6)
        assert row.p.dtype == np.float32 and row.present.dtype == bool
        cells = (sign * logits[image] >= cut)[logits[image] != cut]  # a tie is for others to test
        assert row.present[logits[image] != cut].tolist() == cells.tolist() and row.y.tolist() == y[image].tolist()


def test_of_another_split(tmp_path):
    y = np.zeros((1, 4), int)
    assert len(shown(telling_images(some_runs(tmp_path, np.ones((2, 1, 4), bool), y), number=99, split="val"))) == 40


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Four runs of 230 test images, what `predict` was asked for, and a clock that goes 4 s from look to look."""
    rng = np.random.default_rng(0)
    y = rng.choice([0, 1, -1], (230, 4), p=[0.6, 0.3, 0.1])
    runs, asked, clock = {}, [], count(0, 4)
    for i, name in enumerate(NAMES):
        logits = rng.normal(i * (y == 1), 1.5).round(1)
        runs[name] = a_run(tmp_path / name, logits, y, seconds=10.5 + i, cut=0.25 + i / 2)
    monkeypatch.setattr(Run, "predict", lambda run, paths, root: asked.append((run, list(paths), root)))
    monkeypatch.setattr(approaches, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    return runs, y, asked


def test_scores_of_the_comparison_are_those_of_scikit_learn(compared):
    runs, y, _ = compared
    table = comparison(runs)
    assert table.index.tolist() == NAMES and table.index.name == "approach" and table.attrs["split"] == "test"
    known = y >= 0
    for i, name in enumerate(NAMES):
        logits = pd.read_parquet(runs[name].folder / "predictions/test.parquet")[[f"logit_{c}" for c in CLASSES]]
        z = logits.to_numpy()
        decided = z >= 0.25 + i / 2  # the middle between present and absent on val
        columns = [(y[known[:, c], c], z[known[:, c], c], decided[known[:, c], c]) for c in range(4)]
        row = table.loc[name]
        assert row["mAP"] == pytest.approx(np.mean([oracle.average_precision_score(t, s) for t, s, _ in columns]))
        assert row["macro F1"] == pytest.approx(np.mean([oracle.f1_score(t, d) for t, _, d in columns]))
        whole = [((y[n] == 1) == decided[n])[known[n]].all() for n in range(230) if known[n].any()]
        assert row["whole set right"] == pytest.approx(np.mean(whole))


def test_the_interval_is_that_of_plain_resampling(compared):
    runs, y, _ = compared
    table, rng = comparison(runs), np.random.default_rng(1)
    draws = [rng.integers(0, 230, 230) for _ in range(300)]
    for name in ("probe",):
        z = runs[name].predictions("test").logits
        drawn = [
            np.mean(
                [oracle.average_precision_score(y[k, c], z[k, c]) for c in range(4) for k in [rows[y[rows, c] >= 0]]]
            )
            for rows in draws
        ]
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert table.low[name] == pytest.approx(low, abs=0.015) and table.high[name] == pytest.approx(high, abs=0.015)


def test_costs_of_the_comparison(compared):
    runs, _, asked = compared
    table = comparison(runs)
    assert table["seconds to train"].tolist() == [31.5, 34.5, 37.5, 40.5]
    assert table["lines of code"].tolist() == [2, 2, 2, 10]
    assert table["images/s"].tolist() == [200 / 4] * 4
    first = [f"test{i}.png" for i in range(200)]
    assert [(run.folder.name, paths, root) for run, paths, root in asked] == [
        (name, paths, runs[name].folder) for name in NAMES for paths in (first[:1], first)
    ]  # each reads its network before the clock starts


def test_the_comparison_of_another_split(compared):
    table = comparison(compared[0], split="val")
    assert table.attrs["split"] == "val" and table["mAP"].tolist() == [1] * 4 and table["images/s"].tolist() == [10] * 4


@pytest.fixture
def fitted(monkeypatch):
    """`fit` without training: it notes what it was asked for, warns, and leaves a run of the next status given."""
    noted = SimpleNamespace(calls=[], statuses=[])

    def fit(table, folder, overwrite, resume, **settings):
        logging.getLogger("mlworkbench").warning("of the images")
        say("what goes on")
        noted.calls.append((folder.name, "resume" if resume else "begin", settings))
        assert overwrite != resume
        status = noted.statuses.pop(0) if noted.statuses else "finished"
        Run(folder).write_state(
            format_version=1, class_names=[], status=status, settings=asdict(Settings.of(**settings))
        )
        if status == "failed":
            raise FloatingPointError
        return Run(folder)

    monkeypatch.setattr(approaches, "fit", fit)
    return noted


def begun(fitted):
    """What was begun anew and what taken up since the last look."""
    calls, fitted.calls = fitted.calls, []
    return [(name, how) for name, how, _ in calls]


def test_the_four_are_trained_in_order_each_with_its_own_settings(fitted, tmp_path):
    runs = train_all(None, tmp_path, epochs=3, image_size=64)
    assert list(runs) == NAMES == list(APPROACHES)
    assert [run.folder for run in runs.values()] == [tmp_path / name for name in NAMES]
    given = {"epochs": 3, "image_size": 64}
    assert fitted.calls == [
        ("loop", "begin", given | {"route": "loop"}),
        ("ultralytics", "begin", given | {"route": "ultralytics"}),
        ("probe", "begin", given | {"route": "probe"}),
        ("softmax", "begin", given | {"route": "ultralytics", "loss": "softmax"}),
    ]


@pytest.mark.parametrize(
    "before, then, how",
    [
        ({"epochs": 3}, {"epochs": 3}, "resume"),
        ({}, {"epochs": 15}, "resume"),  # what it is by default
        ({"epochs": 3, "workers": 0}, {"epochs": 3, "device": "cpu"}, "resume"),  # decides nothing but the time
        ({"epochs": 3}, {"epochs": 4}, "begin"),
        ({"epochs": 3}, {"epochs": 3, "flip": True}, "begin"),
        ({"epochs": 3, "flip": True}, {"epochs": 3}, "begin"),
    ],
)
def test_runs_of_the_same_settings_are_taken_up_and_others_begun_anew(before, then, how, fitted, tmp_path):
    train_all(None, tmp_path, **before)
    assert begun(fitted) == [(name, "begin") for name in NAMES]
    train_all(None, tmp_path, **then)
    assert begun(fitted) == [(name, how) for name in NAMES]


def test_a_failed_run_is_begun_anew_and_those_before_it_are_kept(fitted, tmp_path):
    fitted.statuses = ["finished", "failed"]
    with pytest.raises(FloatingPointError):
        train_all(None, tmp_path)
    assert begun(fitted) == [("loop", "begin"), ("ultralytics", "begin")]
    train_all(None, tmp_path)
    assert begun(fitted) == [("loop", "resume"), *((name, "begin") for name in NAMES[1:])]


def test_an_interrupt_ends_them_all_and_the_run_is_taken_up_next_time(fitted, tmp_path):
    fitted.statuses, told = ["finished", "interrupted"], []
    with pytest.raises(Interrupted, match="^ultralytics was stopped and is kept; run this again to take it up$"):
        train_all(None, tmp_path, on_run=lambda name, _: told.append(name))
    assert begun(fitted) == [("loop", "begin"), ("ultralytics", "begin")] and told == ["loop"]
    train_all(None, tmp_path)
    assert begun(fitted) == [("loop", "resume"), ("ultralytics", "resume"), ("probe", "begin"), ("softmax", "begin")]


def test_each_run_is_told_of_when_it_is_done(fitted, tmp_path):
    told = []
    runs = train_all(None, tmp_path, on_run=lambda name, run: told.append((name, run, len(fitted.calls))))
    assert told == [(name, runs[name], place) for place, name in enumerate(NAMES, 1)]


def test_what_the_images_give_rise_to_is_said_once(fitted, tmp_path, caplog, capsys):
    train_all(None, tmp_path)
    assert capsys.readouterr().out == "what goes on\n"
    assert caplog.messages == ["of the images"]
    logging.getLogger("mlworkbench").warning("heard")
    assert caplog.messages[1:] == ["heard"]


@pytest.mark.notebook
def test_the_four_in_earnest(demo_labels, tmp_path):
    table, told = read_labels(demo_labels), []
    settings = {"epochs": 1, "image_size": 32, "batch_size": 8, "precision": "fp32"}
    runs = train_all(table, tmp_path, on_run=lambda name, run: told.append((name, run.status)), **settings)
    assert told == [(name, "finished") for name in NAMES]
    saved = {name: (run.state["settings"]["route"], run.state["settings"]["loss"]) for name, run in runs.items()}
    assert saved == {
        "loop": ("loop", "bce"),
        "ultralytics": ("ultralytics", "bce"),
        "probe": ("probe", "bce"),
        "softmax": ("ultralytics", "softmax"),
    }
    paths = [list(run.predictions("test").paths) for run in runs.values()]
    assert all(its == paths[0] for its in paths)
    softmax = runs["softmax"].predict(paths[0], table.root).probabilities
    np.testing.assert_allclose(softmax.sum(1), 1, atol=1e-4)

    table_of_scores = comparison(runs)
    assert table_of_scores.index.tolist() == NAMES
    assert np.isfinite(table_of_scores.drop(columns=["low", "high"]).to_numpy()).all()  # too few for an interval
    assert shown(telling_images(runs, number=2)) == telling_images(runs, number=2).image_path[::4].tolist()

    written = {name: (run.folder / "run.json").stat().st_mtime_ns for name, run in runs.items()}
    train_all(table, tmp_path, **settings)  # all are there
    assert written == {name: (run.folder / "run.json").stat().st_mtime_ns for name, run in runs.items()}
