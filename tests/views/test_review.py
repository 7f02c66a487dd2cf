import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import HOSTILE_NAMES as NAMES

from mlworkbench import Run, Thresholds, WorkbenchError, tune_thresholds
from mlworkbench.analysis.errors import disagreements
from mlworkbench.analysis.suspects import Suspects, rank_labels
from mlworkbench.analysis.zone import zone_labels
from mlworkbench.data.corrections import Correction, correct, read_corrections, record
from mlworkbench.data.labels import LabelTable
from mlworkbench.decisions.zone import with_zones
from mlworkbench.deploy.predict import table_of
from mlworkbench.network.activation_maps import maps
from mlworkbench.network.batches import ImageDataset
from mlworkbench.views.galleries import error_gallery
from mlworkbench.views.review import LabelReview


@pytest.fixture
def run(handmade_run, tmp_path):
    """A run folder of one's own; the images stay where they are."""
    return Run(shutil.copytree(handmade_run.folder, tmp_path / "run"))


def opened(run):
    judge = run.predictions("val")
    return LabelReview(run, Suspects(rank_labels(judge), judge, "held out"))


def do(review, what, **more):
    """As the page would."""
    review._take({"do": what, "at": review.view["at"], **more})


def on_file(run):
    file = run.folder / "corrections.csv"
    return {(m.image_path, m.class_name): m for m in read_corrections(file)} if file.exists() else {}


def at(review):
    return review.view["path"], review.view["name"]


def test_an_answer_is_on_file_at_once_and_the_next_suspect_shown(run):
    review, judge = opened(run), run.predictions("val")
    first, second, third = (tuple(row) for row in rank_labels(judge)[["image_path", "class"]].to_numpy()[:3])
    assert at(review) == first and not (run.folder / "corrections.csv").exists()
    for label, mark, following in ((first, "wrong", second), (second, "right", third), (third, "unsure", None)):
        old = int(judge.labels[list(judge.paths).index(label[0]), NAMES.index(label[1])])
        do(review, mark)
        assert on_file(run)[label] == Correction(*label, old, 1 - old if mark == "wrong" else old, mark)
        assert following is None or at(review) == following
    assert review.view["answers"][:4] == ["wrong", "right", "unsure", "seen"]
    assert review.view["progress"].endswith("labels answered: 1 wrong, 1 right, 1 unsure.")
    do(review, "go", place=0)
    assert review.view["answer"] == "wrong" and ("Truth", "absent" if review.view["label"] == "present" else "present")\
        in review.view["facts"]  # fmt: skip
    do(review, "unsure")  # another answer takes its place, and goes on to what has none
    assert on_file(run)[first].mark == "unsure" and len(on_file(run)) == 3 and review.view["place"] == 3


def test_whatever_is_done_file_and_review_are_what_a_list_of_answers_says(run):
    rng, review, answers, undone = random.Random(0), opened(run), {}, []
    labels = [tuple(row) for row in rank_labels(run.predictions("val"))[["image_path", "class"]].to_numpy()]
    for _ in range(300):
        what = rng.choice(["wrong", "right", "unsure", "wrong", "undo", "undo", "go", "choose", "reopen", "stale"])
        if what in ("wrong", "right", "unsure") and review.view["of"]:
            label = at(review)
            undone.append((label, answers.get(label)))
            answers[label] = what
            do(review, what)
        elif what == "undo":
            do(review, what)
            if undone:
                label, before = undone.pop()
                answers |= {label: before}
                assert at(review) == label
        elif what == "go":
            do(review, what, place=rng.randrange(-2, 40))
        elif what == "choose":
            do(review, what, **{"class": rng.randrange(len(NAMES) + 1), "show": rng.randrange(5)})
        elif what == "stale":
            before = review.view
            review._take({"do": "wrong", "at": review.view["at"] - 1})
            assert review.view is before
        elif what == "reopen":
            review = opened(run)
            kept = sorted((label for label, mark in answers.items() if mark), key=list(on_file(run)).index)
            undone = [(label, None) for label in kept]
        kept = {label: mark for label, mark in answers.items() if mark}
        assert {label: mark.mark for label, mark in on_file(run).items()} == kept
        counts = [list(kept.values()).count(mark) for mark in ("wrong", "right", "unsure")]
        assert review.view["progress"].startswith(f"{sum(counts)} of {len(labels)} labels answered")
    assert len(answers) > 20


def test_views_hold_what_they_say_and_outlive_no_answer(run):
    review, ranked = opened(run), rank_labels(run.predictions("val"))
    do(review, "wrong")
    do(review, "choose", **{"class": 2, "show": 0})
    names = [tile["name"] for tile in review.page["tiles"]]
    assert names == ["dog"] * len(names) and review.view["of"] == (ranked["class"] == "dog").sum()
    do(review, "right")
    do(review, "choose", **{"class": 0, "show": 1})
    assert review.view["of"] == len(ranked) - 2 and "wrong" not in review.view["answers"]
    do(review, "choose", **{"class": 0, "show": 2})
    assert review.view["of"] == 1 and review.view["answer"] == "wrong"
    do(review, "choose", **{"class": 0, "show": 4})
    assert review.view["of"] == 0 and review.view["picture"] == "" and review.page["tiles"] == []
    do(review, "wrong")
    assert review.view["message"] == "There is no image to answer for." and len(on_file(run)) == 2
    do(review, "undo")  # though its suspect stands in another view
    assert review.view["name"] == "dog" and review.view["answer"] == "" and len(on_file(run)) == 1


def test_right_upholds_a_correction_that_the_run_was_trained_with(run):
    judge = run.predictions("val")
    ranked = rank_labels(judge)
    (path, name), shown = ranked[["image_path", "class"]].to_numpy()[0], int(ranked.label[0])
    run.write_state(corrections=[(path, name, 1 - shown, shown)])  # as trained: the file says otherwise
    review, label = opened(run), (path, name)
    assert on_file(run) == {label: Correction(path, name, 1 - shown, shown, "wrong")}  # for the next training
    assert review.view["answers"][0] == "right" and ("Label", f"{review._said(0)['label']}, by a correction") in \
        review._said(0)["facts"]  # fmt: skip
    do(review, "go", place=0)
    y = np.array([[1 - shown]], np.int8)
    table = LabelTable(np.array([path], object), [name], y, np.array([1]), run.root, run.folder, "")
    for answer, meant in (("right", shown), ("wrong", 1 - shown), ("unsure", 1 - shown)):
        do(review, "go", place=0)
        do(review, answer)
        assert int(correct(table, on_file(run).values()).y[0, 0]) == meant
        assert not [note for note in correct(table, on_file(run).values()).notes if "not applied" in note[1]]


def test_an_answer_about_a_label_that_has_changed_since_counts_for_nothing(run):
    ranked = rank_labels(run.predictions("val"))
    path, name, shown = ranked.image_path[0], ranked["class"][0], int(ranked.label[0])
    record(run.folder / "corrections.csv", Correction(path, name, 1 - shown, shown, "wrong"))
    record(run.folder / "corrections.csv", Correction("elsewhere.jpg", name, 1, 0, "wrong"))
    review = opened(run)
    assert review.view["place"] == 0 and review.view["answer"] == ""
    do(review, "undo")
    assert review.view["message"] == "Nothing to undo." and len(on_file(run)) == 2


def test_an_image_that_is_gone_is_said_and_takes_no_answer(run, handmade_run, tmp_path):
    run.write_state(image_root=str(tmp_path / "nowhere"))
    assert "its images were in" in opened(run).view["fault"] and "--root DIR" in opened(run).view["fault"]
    (tmp_path / "nowhere").mkdir()
    review = opened(run)
    assert "cannot be shown: missing" in review.view["fault"] and review.page["tiles"][0]["picture"] == ""
    do(review, "wrong")
    assert on_file(run) == {}
    do(review, "go", place=1)
    assert review.view["place"] == 1


def test_what_cannot_be_kept_is_said_and_the_suspect_stays(run, monkeypatch):
    from mlworkbench.views import review as module

    review = opened(run)
    first = at(review)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "record", full)
    do(review, "wrong")
    assert "Not done: [Errno 28] No space left" in review.view["message"] and at(review) == first
    assert review.view["answer"] == "" and review.view["answers"][0] == "seen"
    monkeypatch.setattr(run, "look", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        do(review, "map")
    assert "Not done: division by zero" in review.view["message"] and review.view["picture"] and not review.view["map"]
    (run.folder / "corrections.csv").write_text("not,what,is,expected\n")
    with pytest.raises(WorkbenchError, match="expected the header"):
        opened(run)


def test_it_tells_how_many_of_the_last_answers_were_wrong(run):
    review = opened(run)
    for mark in ["wrong"] * 10 + ["right"] * 14:
        do(review, mark)
    assert review.view["progress"].endswith("10 wrong, 14 right, 0 unsure. Of the last 20, 6 were wrong.")
    do(review, "undo")
    assert review.view["progress"].endswith("10 wrong, 13 right, 0 unsure. Of the last 20, 7 were wrong.")


def test_the_map_is_that_of_the_network_and_lights_the_picture(tiny_run):
    judge = tiny_run.predictions("val")
    review = LabelReview(
        tiny_run, Suspects(rank_labels(judge), judge, "held out"), file=tiny_run.folder.parent / "untouched.csv"
    )
    path, name = at(review)
    (found, off), c = tiny_run.look(path, name), judge.class_names.index(name)
    assert found.shape == (4, 4)  # 32 pixels: one cell of the network's, four times as fine
    plain = review.view["picture"]
    do(review, "map")
    assert review.view["map"] and review.view["picture"] != plain and at(review) == (path, name)
    do(review, "map")
    assert review.view["picture"] == plain
    image = ImageDataset(np.array([path], object), tiny_run.root, None, 32).decode(0)
    wanted = maps(tiny_run.model, torch.from_numpy(image)[None] / 255, fine=4)[0, c]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    bias, row = tiny_run.model.head.bias[c].item(), list(judge.paths).index(path)
    assert off == pytest.approx(wanted.mean() + bias - judge.logits[row, c], abs=1e-3)
    first = disagreements(judge, Thresholds.default(judge.class_names)).head(1)
    told = tiny_run.look(first.image_path.item(), first["class"].item())[1]
    assert f"map {told:+.2f} off the logit" in error_gallery(first, tiny_run.root, 1, tiny_run.look).data


@pytest.fixture
def zoned(run):
    """The run with zones around its thresholds, which send a fifth of the images to a person."""
    judge = run.predictions("val")
    run.save_thresholds(with_zones(judge, tune_thresholds(judge), 0.2))
    return run


def test_the_zone_of_a_split_is_asked_about_from_the_threshold_outwards(zoned):
    judge, thresholds, found = zoned.predictions("val"), zoned.thresholds(), zone_labels(zoned)
    rows, classes = np.nonzero(thresholds.asks(judge))
    assert set(map(tuple, found.ranking[["image_path", "class"]].to_numpy())) == {
        (judge.paths[row], NAMES[c]) for row, c in zip(rows, classes, strict=True)
    }
    assert found.ranking.score.is_monotonic_increasing and found.ranking.score.between(0, 1).all()
    assert str(found).startswith(f"{len(rows)} labels: the run is not sure")
    first = found.ranking.iloc[0]
    c, row = NAMES.index(first["class"]), list(judge.paths).index(first.image_path)
    assert first.label == judge.labels[row, c] and first.probability == judge.probabilities[row, c]
    review = LabelReview(zoned, found)
    assert at(review) == (first.image_path, first["class"]) and review.view["word"] == "label"
    do(review, "right")
    assert on_file(zoned)[(first.image_path, first["class"])].mark == "right"


@pytest.mark.parametrize("written", [".csv", ".parquet", ""])
def test_new_images_have_no_labels_and_are_asked_whether_the_run_is_right(zoned, tmp_path, monkeypatch, written):
    judge, thresholds = zoned.predictions("test", raw=True), zoned.thresholds()
    monkeypatch.setattr(  # of whose network nobody has weights
        Run,
        "predict",
        lambda self, paths, root: replace(judge.take([list(judge.paths).index(p) for p in paths]), y=None, split=""),
    )
    frame = table_of(judge, thresholds)
    if written:
        file = tmp_path / f"p{written}"
        frame.to_csv(file, index=False) if written == ".csv" else frame.to_parquet(file)
    zone = zone_labels(Run(zoned.folder, root=zoned.root), file if written else frame)
    assert len(zone.ranking) == thresholds.asks(judge).sum()
    review = LabelReview(zoned, zone)
    path, name = at(review)
    called = int(frame.loc[frame.image_path == path, f"present_{name}"].iloc[0])
    assert review.view["word"] == "called" and review.view["label"] == ("present" if called else "absent")
    assert ("Called", review.view["label"]) in review.view["facts"]
    do(review, "wrong")
    (mark,) = read_corrections(zoned.folder / "answers.csv")
    assert mark == Correction(path, name, called, 1 - called, "wrong") and on_file(zoned) == {}
    assert LabelReview(zoned, zone).view["answers"][0] == "wrong"  # another day


def test_what_has_no_zone_is_told(run, zoned, tmp_path):
    with pytest.raises(WorkbenchError, match="have no columns review_…; predict again"):
        zone_labels(zoned, table_of(zoned.predictions("test"), run.thresholds().with_values(np.full(4, 0.5))))
    (tmp_path / "other.parquet").write_text("nothing")
    for file in ("none.csv", "none.parquet", "other.parquet"):
        with pytest.raises(WorkbenchError, match=f"{file}: .*; expected a file that mlworkbench predict wrote"):
            zone_labels(zoned, tmp_path / file)
    run.save_thresholds(0.5)
    with pytest.raises(WorkbenchError, match="have no zones: mlworkbench tune RUN --review-share F"):
        zone_labels(run)
