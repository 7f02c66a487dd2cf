import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_metrics import random_case

from mlworkbench import Thresholds, tune_thresholds
from mlworkbench.analysis.errors import disagreements
from mlworkbench.scoring import metrics
from mlworkbench.scoring.calibration import calibrate
from mlworkbench.views import plots
from mlworkbench.views.style import plain, png

HOSTILE = ["$x^$", "<b>bold</b>", r"\frac{", "=1+1", "$", "a" * 300]


def drawn(figure):
    image = np.asarray(Image.open(io.BytesIO(png(figure))).convert("L"))
    assert image.std() > 5  # something is there
    return [text.get_text() for ax in figure.axes for text in (*ax.get_yticklabels(), *ax.get_xticklabels())]


def hostile_case():
    predictions = random_case(np.random.default_rng(0), n=60, c=len(HOSTILE))
    return type(predictions)(predictions.paths, HOSTILE, predictions.logits, predictions.y, "val")


@pytest.mark.parametrize(
    "draw",
    [
        lambda p: plots.class_counts(p.labels, np.repeat(["train", "val", "test"], 20), p.class_names),
        lambda p: plots.cooccurrence(p.labels, p.class_names),
        lambda p: plots.label_sets(p.labels, p.class_names),
        lambda p: plots.average_precisions(metrics.class_table(metrics.score(p, np.full(6, 0.5), resamples=2))),
        lambda p: plots.tuned_against_half(p, tune_thresholds(p)),
        lambda p: plots.precision_recall(p, tune_thresholds(p)),
        lambda p: plots.calibration(p, tune_thresholds(calibrate(p))),
        lambda p: plots.error_counts(disagreements(p, Thresholds.default(p.class_names)), p.class_names),
    ],
)
def test_names_stay_text(draw):
    drawn(draw(hostile_case()))  # a `$` taken for mathematics would raise


def test_titles_say_where_scores_flatter_themselves():
    tuned, new = tune_thresholds(hostile_case()), hostile_case()
    new = replace(new, split="test", paths=new.paths + "x")
    for draw in (plots.tuned_against_half, plots.calibration):
        titles = [draw(predictions, tuned).axes[0].get_title(loc="left") for predictions in (hostile_case(), new)]
        assert ["tuned on these" in title for title in titles] == [True, False]


def test_reliability_before_and_after_by_hand():
    predictions = hostile_case()
    lines = plots.calibration(predictions, tune_thresholds(calibrate(predictions))).axes[0].lines
    p = predictions.probabilities.ravel()
    predicted, present, _ = metrics.reliability(predictions.y.ravel(), p)
    assert lines[1].get_label() == "before" and np.allclose(lines[1].get_xydata(), np.c_[predicted, present])
    assert lines[2].get_label() == "after" and not np.allclose(lines[2].get_xdata(), predicted)


def test_plain_escapes_and_shortens():
    assert plain("$x$") == r"\$x\$" and plain("a" * 50) == "a" * 39 + "…"


def test_history_with_one_epoch_and_without_a_score():
    rows = pd.DataFrame([{"epoch": 1, "lr": 1e-3, "train_loss": 0.5, "val_loss": 0.6, "val_map": float("nan")}])
    drawn(plots.history(rows))
    drawn(plots.history(pd.concat([rows, rows.assign(epoch=2, val_map=0.4)])))


def test_galleries_of_nothing_and_of_a_few():
    drawn(plots.gallery([], []))
    images = [np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)] * 7
    figure = plots.gallery(images, [f"{i}\n$".replace("$", r"\$") for i in range(7)])
    assert sum(len(ax.images) for ax in figure.axes) == 7


def test_cooccurrence_is_conditional_on_the_row():
    y = np.array([[1, 1], [1, 0], [1, 0], [1, 0]], np.int8)
    share = plots.cooccurrence(y, ["a", "b"]).axes[0].images[0].get_array()
    assert share[0, 1] == 0.25 and share[1, 0] == 1.0 and np.ma.is_masked(share[0, 0])


def test_classes_that_come_together_stand_together():
    rng = np.random.default_rng(0)
    one, two = rng.random((2, 300)) < 0.4
    y = np.stack([one, two, one ^ (rng.random(300) < 0.05), two ^ (rng.random(300) < 0.05)], axis=1).astype(np.int8)
    names = [label.get_text() for label in plots.cooccurrence(y, ["a1", "b1", "a2", "b2"]).axes[0].get_yticklabels()]
    assert [name[0] for name in names] in (["a", "a", "b", "b"], ["b", "b", "a", "a"])


def test_label_sets_count_the_empty_one_too():
    y = np.array([[1, 0]] * 3 + [[0, 0]] * 2 + [[1, 1]], np.int8)
    figure = plots.label_sets(y, ["a", "b"])
    assert drawn(figure)[:3] == ["a", "(none)", "a + b"]
    assert [round(patch.get_width()) for patch in figure.axes[0].patches] == [3, 2, 1]


def test_image_sizes_with_a_single_size():
    drawn(plots.image_sizes(np.array([[96, 96]] * 5)))
