import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import is_math_text
from matplotlib.colors import same_color, to_hex, to_rgb
from matplotlib.text import Text
from PIL import Image
from sklearn import metrics as oracle

from mlworkbench import Predictions, Thresholds, tune_thresholds
from mlworkbench.analysis.errors import disagreements
from mlworkbench.scoring import metrics
from mlworkbench.scoring.calibration import calibrate
from mlworkbench.views import plots
from mlworkbench.views.company import cooccurrence
from mlworkbench.views.style import BLUE, GREEN, MAP_MARKS, ORANGE, SHARES, ink, plain, png

HOSTILE = ["$x^$", "<b>bold</b>", r"\frac{", "=1+1", "$", "a" * 300]
SHORTENED = [*HOSTILE[:5], "a" * 39 + "…"]
NAN = float("nan")


def drawn(figure):
    """The figure, once it is sure that it can be drawn, takes no text for mathematics and cuts no data off."""
    FigureCanvasAgg(figure).draw()
    assert not [text for text in figure.findobj(Text) if is_math_text(text.get_text())]
    for ax in figure.axes:
        for (low, high), (first, last) in (
            (sorted(ax.get_xlim()), ax.dataLim.intervalx),
            (sorted(ax.get_ylim()), ax.dataLim.intervaly),
        ):
            assert low <= first or first > last, "data left of or below the axis"  # first > last: there are none
            assert last <= high or first > last, "data right of or above the axis"
    return figure


def seen(texts):
    """Texts as they are shown, in which a `$` needs no escape."""
    return [text.get_text().replace(r"\$", "$") for text in texts]


def title(ax):
    return ax.get_title(loc="left").replace(r"\$", "$")


def rows_of(ax):
    """Texts at the rows, from top to bottom."""
    labels = list(zip(ax.get_yticks(), seen(ax.get_yticklabels()), strict=True))
    assert ax.yaxis_inverted() and [place for place, _ in labels] == list(range(len(labels)))
    return [text for _, text in labels]


def legend(figure):
    return seen(figure.legends[0].get_texts())


def bars(container):
    """Row, left end and width of horizontal bars."""
    return [(bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width()) for bar in container]


def points(line):
    return line.get_xydata().tolist()


def written(ax):
    """What is written where inside the axes: (x, y) to text."""
    return {text.get_position(): text.get_text().strip() for text in ax.texts}


def luminance(colour):
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def contrast(one, other):
    """Contrast of two colours as the web's guidelines count it, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def predictions_of(y, p, names=None, split="test"):
    y, p = np.array(y, np.int8), np.array(p, float)
    names = names or [f"c{c}" for c in range(y.shape[1])]
    paths = np.array([f"{i}.jpg" for i in range(len(y))], object)
    return Predictions(paths, names, np.log(p / (1 - p)).astype(np.float32), y, split)


def noisy_case(n=60, names=HOSTILE, unknown=0.1, split="val"):
    rng = np.random.default_rng(0)
    y = (rng.random((n, len(names))) < 0.3).astype(np.int8)
    logits = rng.normal(2 * y - 1, 1.5).astype(np.float32)
    y[rng.random(y.shape) < unknown] = -1
    return Predictions(np.array([f"{i}.jpg" for i in range(n)], object), list(names), logits, y, split)


def without_labels(predictions, label):
    y = predictions.y.copy()
    y[:, 0] = label
    return replace(predictions, y=y)


OF_CLASSES = {
    "class_counts": lambda p: plots.class_counts(p.y, np.resize(["train", "val", "test"], len(p)), p.class_names),
    "cooccurrence": lambda p: cooccurrence(p.y, p.class_names),
    "average_precisions": lambda p: plots.average_precisions(
        metrics.class_table(metrics.score(p, np.full(len(p.class_names), 0.5), resamples=0))
    ),
    "tuned_against_half": lambda p: plots.tuned_against_half(p, tune_thresholds(p)),
    "calibration": lambda p: plots.calibration(p, tune_thresholds(calibrate(p))),
    "error_counts": lambda p: plots.error_counts(disagreements(p, Thresholds.default(p.class_names)), p.class_names),
}
OTHERS = {
    "label_sets": lambda p: plots.label_sets(p.y, p.class_names),
    "precision_recall": lambda p: plots.precision_recall(p, tune_thresholds(p)),
}
ODD = {
    "one class": noisy_case(names=["$one$"]),
    "two classes": noisy_case(names=["a", "b"]),
    "one image": noisy_case(n=1, unknown=0),
    "a class without positives": without_labels(noisy_case(), 0),
    "a class without negatives": without_labels(noisy_case(), 1),
    "a class that is unknown": without_labels(noisy_case(), -1),
    "one class without positives": without_labels(noisy_case(names=["a"]), 0),
    "one class that is unknown": without_labels(noisy_case(names=["a"]), -1),
}


def names_in(name, figure):
    """The classes at the rows of one of these plots."""
    return seen(figure.axes[1 if name == "calibration" else 0].get_yticklabels())


@pytest.mark.parametrize("name", OF_CLASSES)
def test_names_stay_text_and_have_a_row_each(name):
    found = names_in(name, drawn(OF_CLASSES[name](noisy_case())))
    most = 20 if name == "cooccurrence" else 40
    expected = [text if len(text) < most else text[: most - 1] + "…" for text in SHORTENED]
    assert sorted(found) == sorted(expected) and (found == expected or name in ("cooccurrence", "average_precisions"))


def test_names_stay_text_in_label_sets_and_titles():
    one_each = np.eye(6, dtype=np.int8)
    assert sorted(rows_of(drawn(plots.label_sets(one_each, HOSTILE)).axes[0])) == sorted(SHORTENED)
    figure = drawn(plots.precision_recall(noisy_case(), tune_thresholds(noisy_case())))
    assert [title(ax) for ax in figure.axes if ax.axison] == [*HOSTILE[:5], "a" * 23 + "…"]


@pytest.mark.parametrize("name", OF_CLASSES | OTHERS)
def test_a_figure_can_be_read_on_white_and_on_black(name):
    figure = (OF_CLASSES | OTHERS)[name](noisy_case(names=["a", "b", "c"]))
    pixels = np.asarray(Image.open(io.BytesIO(png(figure))))
    assert pixels.shape[2] == 4 and not pixels[[0, 0, -1, -1], [0, -1, 0, -1], 3].any()  # the ground is the page's
    words = [text for text in figure.findobj(Text) if text.get_text() and text not in figure.axes[0].texts]
    for page in ("#FFFFFF", "#111111"):
        assert min(contrast(text.get_color(), page) for text in words) > 4.1
        for colour in (BLUE, ORANGE, GREEN):  # of bars and lines
            assert contrast(colour, page) > 3.3
    dark = (pixels[..., 3] == 255) & (pixels[..., :3].max(2) < 60)
    assert name == "cooccurrence" or not dark.any()  # nor is a tick that is only made while it is drawn


def test_what_stands_on_a_share_can_be_read():
    assert min(contrast(ink(share), SHARES(share)) for share in np.linspace(0, 1, 99)) > 4.2


def test_a_plot_beside_many_classes_is_not_high():
    val = noisy_case(names=[f"class {c}" for c in range(80)])
    for figure, place in ((OF_CLASSES["class_counts"](val), 1), (OF_CLASSES["calibration"](val), 0)):
        FigureCanvasAgg(figure).draw()
        inches = [ax.get_window_extent().height / figure.dpi for ax in figure.axes]
        assert inches[place] < 4 and inches[1 - place] > 8


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", OF_CLASSES | OTHERS)
def test_odd_classes_can_be_drawn(name, case):
    figure = drawn((OF_CLASSES | OTHERS)[name](ODD[case]))
    if name in OF_CLASSES:
        assert len(names_in(name, figure)) == len(ODD[case].class_names)


def test_plain_escapes_and_shortens():
    assert plain("$x$") == r"\$x\$" and plain("a" * 50) == "a" * 39 + "…"


def test_class_counts_stack_the_splits_and_tell_the_total():
    y = np.array([[1, 0, 0], [1, -1, 0], [1, 1, 0], [0, 1, 0], [1, 1, -1], [0, 0, 0]], np.int8)
    split = np.array(["test", "train", "train", "val", "train", "test"], object)
    figure = drawn(plots.class_counts(y, split, ["a", "b", "c"]))
    left, right = figure.axes
    assert rows_of(left) == ["a", "b", "c"]
    train, val, test = (bars(container) for container in left.containers)
    assert train == [(0, 0, 3), (1, 0, 2), (2, 0, 0)]
    assert val == [(0, 3, 0), (1, 2, 1), (2, 0, 0)]
    assert test == [(0, 3, 1), (1, 3, 0), (2, 0, 0)]
    assert written(left) == {(4, 0): "4", (3, 1): "3", (0, 2): "0"}
    assert legend(figure) == ["train (3)", "val (1)", "test (2)"]
    assert [to_hex(container[0].get_facecolor()).upper() for container in left.containers] == [BLUE, ORANGE, GREEN]
    assert title(left) == "Images in which a class is present"
    # How many images have no label, one, two: the rows hold 1, 1, 2, 1, 2, 0.
    heights = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in right.patches]
    assert heights == [(0, 1), (1, 3), (2, 2)] and right.get_xticks().tolist() == [0, 1, 2]


def test_large_counts_have_commas_and_room():
    figure = drawn(plots.class_counts(np.ones((1234, 1), np.int8), np.full(1234, "val"), ["a"]))
    (text,) = figure.axes[0].texts
    assert text.get_text() == " 1,234" and legend(figure)[1] == "val (1,234)"
    assert text.get_window_extent().x1 <= figure.axes[0].get_window_extent().x1


def test_cooccurrence_is_conditional_on_the_row():
    y = np.array([[1, 1], [1, 0], [1, 0], [1, 0]], np.int8)
    share = cooccurrence(y, ["a", "b"]).axes[0].images[0].get_array()
    assert share[0, 1] == 0.25 and share[1, 0] == 1.0 and np.ma.is_masked(share[0, 0])


def test_every_cell_of_cooccurrence_by_counting():
    rng = np.random.default_rng(1)
    y = rng.choice([0, 1, -1], (50, 5), p=[0.5, 0.4, 0.1]).astype(np.int8)
    y[:, 3] = 0
    figure = drawn(cooccurrence(y, list("abcde")))
    ax, bar = figure.axes
    order = [label.get_text() for label in ax.get_yticklabels()]
    assert order == [label.get_text() for label in ax.get_xticklabels()] and sorted(order) == list("abcde")
    cells, texts, shares = ax.images[0].get_array(), written(ax), {}
    for row, one in enumerate(order):
        for column, other in enumerate(order):
            of = [image for image in y if image["abcde".index(one)] == 1]
            both = sum(image["abcde".index(other)] == 1 for image in of)
            if one == other or not both:
                assert np.ma.is_masked(cells[row, column]) and (column, row) not in texts
            else:
                shares[column, row] = both / len(of)
                assert cells[row, column] == pytest.approx(both / len(of))
                assert texts[column, row] == f"{100 * both / len(of):.0f}"
    assert len(texts) == len(shares) == 12 and ax.images[0].get_clim() == (0, max(shares.values()))
    for text in ax.texts:  # readable on its ground
        assert contrast(text.get_color(), SHARES(shares[text.get_position()] / max(shares.values()))) > 4.2
    assert all(label.get_text().endswith(" %") for label in bar.get_yticklabels())


def test_no_share_is_below_zero_where_no_two_classes_come_together():
    ax, bar = drawn(cooccurrence(np.eye(2, dtype=np.int8), ["a", "b"])).axes
    assert ax.images[0].get_clim() == (0, 1) and not ax.texts
    assert bar.get_ylim() == (0, 1) and not [text for text in seen(bar.get_yticklabels()) if text[0] in "-−"]


def test_a_share_that_rounds_to_nothing_is_told_from_nothing():
    y = np.ones((300, 2), np.int8)
    y[1:, 1] = 0
    assert written(drawn(cooccurrence(y, ["a", "b"])).axes[0]) == {(1, 0): "<1", (0, 1): "100"}


def test_of_more_classes_than_a_matrix_can_show_the_strongest_pairs_are_bars():
    rng = np.random.default_rng(0)
    y = (rng.random((400, 30)) < 0.1).astype(np.int8)
    y[:, 7] = rng.random(400) < 0.9  # there nearly always: no class tells of it
    y[:, 3] = y[:, 4] & (rng.random(400) < 0.5)  # 3 is never without 4
    names = [f"class {c}" for c in range(30)]
    figure = drawn(cooccurrence(y, names))
    ax, of = figure.axes[0], int((y[:, 3] == 1).sum())
    pairs = rows_of(ax)
    assert pairs[0] == "class 3 → class 4" and sum(pair.endswith("class 7") for pair in pairs) < 3  # those by chance
    assert len(pairs) == len({frozenset(pair.split(" → ")) for pair in pairs}) <= 20
    assert bars(ax.containers[0])[0] == (0, 0, 1) and ax.texts[0].get_text() == f" 100 % ({of} of {of})"
    (line, *_) = ax.collections[0].get_segments()
    np.testing.assert_allclose(line[:, 0], (y[:, 4] == 1).mean())
    for pair, (_, _, share) in zip(pairs, bars(ax.containers[0]), strict=True):
        one, other = (y[:, names.index(name)] == 1 for name in pair.split(" → "))
        assert share == pytest.approx(other[one].mean())
    assert not drawn(cooccurrence(np.zeros((3, 30), np.int8), names)).axes[0].texts


def test_classes_that_come_together_stand_together():
    rng = np.random.default_rng(0)
    one, two = rng.random((2, 300)) < 0.4
    y = np.stack([one, two, one ^ (rng.random(300) < 0.05), two ^ (rng.random(300) < 0.05)], axis=1).astype(np.int8)
    names = [label.get_text() for label in cooccurrence(y, ["a1", "b1", "a2", "b2"]).axes[0].get_yticklabels()]
    assert [name[0] for name in names] in (["a", "a", "b", "b"], ["b", "b", "a", "a"])


def test_label_sets_count_the_empty_one_too():
    y = np.array([[1, 0]] * 3 + [[0, 0]] * 2 + [[1, 1]], np.int8)
    ax = drawn(plots.label_sets(y, ["a", "b"])).axes[0]
    assert rows_of(ax) == ["a", "(none)", "a + b"]
    assert bars(ax.containers[0]) == [(0, 0, 3), (1, 0, 2), (2, 0, 1)]
    assert written(ax) == {(3, 0): "3", (2, 1): "2", (1, 2): "1"}


@pytest.mark.parametrize("most", [3, 12, 40])
def test_label_sets_are_the_most_frequent(most):
    rng = np.random.default_rng(2)
    y = rng.choice([0, 1, -1], (2000, 4), p=[0.6, 0.3, 0.1]).astype(np.int8)
    sets = Counter(" + ".join(np.array(list("abcd"))[row == 1]) or "(none)" for row in y)
    assert len(sets) == 16
    ax = drawn(plots.label_sets(y, list("abcd"), most)).axes[0]
    names = rows_of(ax)
    widths = [width for *_, width in bars(ax.containers[0])]
    assert widths == sorted(sets.values(), reverse=True)[:most] == [sets[name] for name in names]
    assert len(set(names)) == min(most, 16) and [text.get_text().strip() for text in ax.texts] == [
        f"{count:,}" for count in widths
    ]
    assert title(ax) == "The most frequent of 16 label sets"


def test_image_sizes_have_a_point_each_that_grows_with_the_number_of_images():
    sizes = np.array([[100, 50]] * 4 + [[30, 30]] + [[20, 60]] * 2)
    left, _ = drawn(plots.image_sizes(sizes)).axes
    (cloud,) = left.collections
    area = dict(zip(map(tuple, cloud.get_offsets().tolist()), cloud.get_sizes(), strict=True))
    assert set(area) == {(100, 50), (30, 30), (20, 60)}
    assert area[100, 50] > area[20, 60] > area[30, 30] > 0
    assert left.get_xlim()[0] == left.get_ylim()[0] == 0
    assert (left.get_xlabel(), left.get_ylabel()) == ("width (px)", "height (px)")


def test_aspect_ratios_count_every_image_also_the_very_wide():
    sizes = np.array([[10, 10]] * 3 + [[200, 100]] * 2 + [[100, 200]] + [[1000, 10]] * 4 + [[10, 1000]] * 5)
    right = drawn(plots.image_sizes(sizes)).axes[1]
    found = {}
    for bar in right.patches:
        if bar.get_height():
            found[round(bar.get_x() + bar.get_width() / 2, 6)] = bar.get_height()
    assert found == {0: 3, 1: 2, -1: 1, 2: 4, -2: 5}
    ticks = dict(zip(right.get_xticks().tolist(), seen(right.get_xticklabels()), strict=True))
    assert ticks == {-2: "≤ 1:4", -1: "1:2", 0: "1:1", 1: "2:1", 2: "≥ 4:1"}


def test_image_sizes_with_a_single_size():
    left, right = drawn(plots.image_sizes(np.array([[96, 96]] * 5))).axes
    assert left.collections[0].get_offsets().tolist() == [[96, 96]]
    assert sum(bar.get_height() for bar in right.patches) == 5


def test_nothing_is_said():
    (ax,) = drawn(plots.nothing()).axes
    assert seen(ax.texts) == ["nothing to show"] and not ax.axison


def epochs(**columns):
    number = len(next(iter(columns.values())))
    usual = {"epoch": range(1, number + 1), "lr": 1e-3, "train_loss": 0.5, "val_loss": 0.6, "val_map": NAN}
    return pd.DataFrame({**usual, **columns})


def test_history_draws_losses_scores_and_rates_over_the_epochs():
    rows = epochs(
        epoch=[1, 2, 3, 4],
        lr=[1e-3, 8e-4, 3e-4, 0],
        train_loss=[0.9, 0.5, 0.4, 0.3],
        val_loss=[1.5, 0.7, 0.6, NAN],
        val_map=[NAN, 0.3, 0.7, 0.65],
    )
    losses, scores, rates = drawn(plots.history(rows)).axes
    train, val = losses.lines
    assert points(train) == [[1, 0.9], [2, 0.5], [3, 0.4], [4, 0.3]]
    np.testing.assert_array_equal(val.get_xydata(), [[1, 1.5], [2, 0.7], [3, 0.6], [4, NAN]])
    assert seen(losses.get_legend().get_texts()) == ["train", "val"] == [line.get_label() for line in losses.lines]
    assert [line.get_color() for line in losses.lines] == [BLUE, ORANGE]
    np.testing.assert_array_equal(scores.lines[0].get_xydata(), [[1, NAN], [2, 0.3], [3, 0.7], [4, 0.65]])
    assert title(scores) == "Validation mAP, best 0.700 in epoch 3" and scores.get_ylim() == (0, 1)
    assert points(rates.lines[0]) == [[1, 1e-3], [2, 8e-4], [3, 3e-4], [4, 0]] and rates.get_ylim()[0] == 0
    for ax in (losses, scores, rates):
        assert ax.get_xlabel() == "epoch" and all(tick == int(tick) for tick in ax.get_xticks())


def test_history_names_the_epoch_whose_weights_are_kept_also_among_equals():
    rows = epochs(val_map=[0.4, 0.8, 0.8, 0.8], val_loss=[0.1, 0.6, 0.5, 0.5])
    assert title(plots.history(rows).axes[1]) == "Validation mAP, best 0.800 in epoch 3"


def test_history_with_one_epoch_and_without_a_score():
    figure = drawn(plots.history(epochs(epoch=[1])))
    assert points(figure.axes[0].lines[0]) == [[1, 0.5]] and points(figure.axes[0].lines[1]) == [[1, 0.6]]
    assert title(figure.axes[1]) == ""


def test_histories_of_several_runs_are_told_apart():
    runs = [(f"${i}$", epochs(val_map=[0.1, i / 10], val_loss=[1, i], epoch=[1, 2])) for i in range(7)]
    figure = drawn(plots.histories(runs))
    for ax, first in zip(figure.axes, (0.1, 1), strict=True):
        last = [i / 10 if first == 0.1 else i for i in range(7)]
        assert [points(line) for line in ax.lines] == [[[1, first], [2, its]] for its in last]
        assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 7
    assert legend(figure) == [name for name, _ in runs] and figure.axes[0].get_ylim() == (0, 1)


def test_average_precisions_stand_in_the_order_given_beside_their_support():
    scores = pd.DataFrame({"ap": [0.25, 1.0, NAN], "support": [7, 1200, 0]}, index=["weak", "$strong$", "absent"])
    (ax,) = drawn(plots.average_precisions(scores)).axes
    assert rows_of(ax) == ["weak", "$strong$", "absent"]
    assert bars(ax.containers[0]) == [(0, 0, 0.25), (1, 0, 1), (2, 0, 0)]
    assert written(ax) == {
        (0.25, 0): "0.250  (7 positives)",
        (1, 1): "1.000  (1200 positives)",
        (0, 2): "–  (0 positives)",
    }
    assert ax.get_xticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert all(text.get_window_extent().x1 <= ax.get_window_extent().x1 for text in ax.texts)


def approaches_table(**columns):
    usual = {"mAP": [0.5, 0.8], "low": [0.4, 0.75], "high": [0.7, 0.81], "seconds to train": [1234.4, 7.0]}
    usual["classes undefined"] = 0
    table = pd.DataFrame({**usual, **columns}, index=["loop", "$x^$"])
    table.attrs["split"] = "val"
    return table


def whiskers(ax):
    """Where the intervals end: row, low and high."""
    lines = [segment for segment in ax.collections[0].get_segments() if len(segment)]  # none where it is undefined
    return [[y, x0, x1] for (x0, y), (x1, same) in lines if y == same]


def test_comparison_has_score_interval_and_seconds_in_one_row():
    left, right = drawn(plots.comparison(approaches_table())).axes
    assert rows_of(left) == ["loop", "$x^$"] and left.get_ylim() == right.get_ylim()
    np.testing.assert_allclose(whiskers(left), [[0, 0.4, 0.7], [1, 0.75, 0.81]])
    assert [points(line) for line in left.lines if line.get_marker() == "o"] == [[[0.5, 0], [0.8, 1]]]
    assert [width for *_, width in bars(right.containers[0])] == [1234.4, 7]
    assert seen(right.texts) == [" 1,234 s", " 7 s"]
    assert left.get_xlabel() == "mAP on the split 'val', 95 % interval" and right.get_xlabel() == "seconds to train"


def test_a_score_without_an_interval_is_a_point_and_undefined_classes_are_counted():
    table = approaches_table(high=[0.7, NAN], low=[0.4, NAN], **{"classes undefined": 3})
    left, _ = drawn(plots.comparison(table)).axes
    np.testing.assert_allclose(whiskers(left), [[0, 0.4, 0.7]])
    assert [points(line) for line in left.lines if line.get_marker() == "o"] == [[[0.5, 0], [0.8, 1]]]
    assert left.get_xlabel().endswith("; 3 classes undefined")


def said(path, y, **ps):
    """Rows of an image as `approaches.telling_images` makes them; present is what is at least 0.5."""
    return [
        {"image_path": path, "approach": name, "says": f"{name} says $x^$ (really)", "y": np.array(y),
         "p": np.array(p, np.float32), "present": np.array(p) >= 0.5}
        for name, p in ps.items()
    ]  # fmt: skip


def test_telling_images_show_each_image_beside_what_each_approach_says():
    rows = said("z.jpg", [0, 1, 0, -1, 1], one=[0.1, 0.2, 0.3, 0.4, 0.95], two=[0.5, 0.61, 0.3, 0.4, 0.05])
    rows += said("$a^$.jpg", [0, 0, 0, 0, 0], one=[0.1, 0.1, 0.1, 0.1, 0.1], two=[0.1, 0.1, 0.1, 0.7, 0.1])
    images = [np.full((4, 6, 3), shade, np.uint8) for shade in (10, 200)]
    figure = drawn(plots.telling_images(pd.DataFrame(rows), images, ["$q^$", "w" * 24, "c", "d", "e"]))
    assert len(figure.axes) == 6
    pictures, tables, words = (figure.axes[place::3] for place in range(3))
    assert [ax.images[0].get_array().max() for ax in pictures] == [10, 200]
    assert [title(ax) for ax in pictures] == ["z.jpg", "$a^$.jpg"]
    first, second = tables
    # Class c is neither there nor found, d is unknown and not found; in the second image only d is found.
    assert seen(first.get_yticklabels()) == ["$q^$", "w" * 21 + "…", "e"] and seen(second.get_yticklabels()) == ["d"]
    assert [label.get_fontweight() for label in first.get_yticklabels()] == ["normal", "bold", "bold"]
    assert [label.get_fontweight() for label in second.get_yticklabels()] == ["normal"]
    np.testing.assert_allclose(first.images[0].get_array(), [[0.1, 0.5], [0.2, 0.61], [0.95, 0.05]], rtol=1e-6)
    assert written(first) == {
        (0, 0): "0.10", (0, 1): "0.20", (0, 2): "0.95 ✓", (1, 0): "0.50 ✓", (1, 1): "0.61 ✓", (1, 2): "0.05"
    }  # fmt: skip
    assert [text.get_position() for text in first.texts if text.get_color() == "white"] == [(0, 2)]
    assert written(second) == {(0, 0): "0.10", (1, 0): "0.70 ✓"}
    for ax, words_of in zip(tables, words, strict=True):
        assert seen(ax.get_xticklabels()) == ["one", "two"]
        assert ax.images[0].get_clim() == (0, 1) and ax.yaxis_inverted()
        assert seen(words_of.texts) == ["one: one says $x^$ (really)\n\ntwo: two says $x^$ (really)"]


def test_telling_images_show_the_most_probable_of_many_classes_in_their_order():
    p = [0.9, 0.1, 0.8, 0.2, 0.7]
    _, ax, _ = drawn(
        plots.telling_images(
            pd.DataFrame(said("a", [1] * 5, one=p, two=[0.0, 0.75, 0, 0, 0])),
            [np.zeros((2, 2, 3), np.uint8)],
            "abcde",
            3,
        )
    ).axes
    assert seen(ax.get_yticklabels()) == ["a", "b", "c"]


@pytest.mark.filterwarnings("error")
def test_telling_images_on_which_nothing_is_there_or_found_or_known():
    rows = said("a", [0, -1], **{"$x^$": [0.1, 0.2], "two": [0.3, NAN]})
    _, ax, _ = drawn(plots.telling_images(pd.DataFrame(rows), [np.zeros((2, 2, 3), np.uint8)], ["A", "B"])).axes
    assert seen(ax.get_yticklabels()) == ["A", "B"]
    assert written(ax) == {(0, 0): "0.10", (0, 1): "0.20", (1, 0): "0.30", (1, 1): "nan"}
    assert seen(ax.get_xticklabels()) == ["$x^$", "two"]


def test_f1_at_half_and_at_its_own_threshold_is_that_of_scikit_learn():
    new = replace(without_labels(noisy_case(), 0), split="test", paths=noisy_case().paths + "x")
    thresholds = Thresholds(HOSTILE[::-1], np.float32([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])[::-1], split="val")
    figure = drawn(plots.tuned_against_half(new, thresholds))
    left, right = figure.axes
    own = [0.1, 0.2, 0.3, 0.6, 0.7, 0.8]
    expected = {"at 0.5": [], "at its own threshold": []}
    for c in range(6):
        known = new.y[:, c] >= 0
        for label, limit in (("at 0.5", 0.5), ("at its own threshold", own[c])):
            f1 = oracle.f1_score(new.y[known, c], new.probabilities[known, c] >= limit, zero_division=np.nan)
            expected[label].append(f1 if c else NAN)  # the first class has no positive
    ends = {line.get_label(): line.get_xdata() for line in left.lines}
    assert list(ends) == legend(figure) == list(expected)
    for label in expected:
        np.testing.assert_allclose(ends[label], expected[label])
    assert [line.get_ydata().tolist() for line in left.lines] == [list(range(6))] * 2
    undefined, *joined = left.collections[0].get_segments()
    assert not len(undefined)
    for c, segment in enumerate(joined, 1):
        np.testing.assert_allclose(segment, [[its[c], c] for its in expected.values()])
    dashed, marks = right.lines
    assert set(dashed.get_xdata()) == {0.5} and dashed.get_linestyle() == "--"
    np.testing.assert_allclose(marks.get_xydata(), np.c_[own, range(6)], rtol=1e-6)
    assert rows_of(left) == SHORTENED and right.get_ylim() == left.get_ylim()


def test_titles_say_where_scores_flatter_themselves():
    tuned, new = tune_thresholds(noisy_case()), noisy_case()
    new = replace(new, split="test", paths=new.paths + "x")
    for draw in (plots.tuned_against_half, plots.calibration):
        titles = [title(draw(predictions, tuned).axes[0]) for predictions in (noisy_case(), new)]
        assert ["tuned on these" in title for title in titles] == [True, False]
        assert ["split 'val'" in titles[0], "split 'test'" in titles[1]] == [True, True]
    notes = [plots.precision_recall(predictions, tuned).get_supxlabel() for predictions in (noisy_case(), new)]
    assert notes == ["recall (tuned on these)", "recall"]
    errors = [plots.error_counts(disagreements(p, tuned), p.class_names).axes[0] for p in (noisy_case(), new)]
    assert [title(ax) for ax in errors] == [
        "Missed (left) and falsely found (right) (tuned on these)", "Missed (left) and falsely found (right)"
    ]  # fmt: skip


def test_precision_recall_curves_and_operating_points_are_those_of_scikit_learn():
    predictions = noisy_case(split="test")
    predictions.y[:, 1] = 0  # no curve
    limits = np.float32([0.3, 0.5, 0.4, 0.6, 0.9, 0.2])
    figure = drawn(plots.precision_recall(predictions, Thresholds(HOSTILE, limits, split="val")))
    shown = [0, 2, 3, 4, 5]
    assert len(figure.axes) == 8 and [ax.axison for ax in figure.axes] == [True] * 5 + [False] * 3
    assert not [ax for ax in figure.axes[5:] if ax.lines]
    assert figure.get_supylabel() == "precision"
    for ax, c in zip(figure.axes, shown, strict=False):
        known = predictions.y[:, c] >= 0
        y, p = predictions.y[known, c], predictions.probabilities[known, c]
        precision, recall, _ = oracle.precision_recall_curve(y, p)
        line, point = ax.lines
        np.testing.assert_allclose(line.get_xydata(), np.c_[recall, precision][-2::-1])  # but the end at recall 0
        found = p >= limits[c]
        expected = [oracle.recall_score(y, found), oracle.precision_score(y, found)]
        np.testing.assert_allclose(point.get_xydata(), [expected])
        assert seen(ax.texts) == [f"F1 {oracle.f1_score(y, found):.2f} at threshold {limits[c]:.3f}"]
        assert ax.get_xticks().tolist() == ax.get_yticks().tolist() == [0, 0.5, 1]  # and all are labelled
        assert seen(ax.get_xticklabels()) == seen(ax.get_yticklabels()) == ["0", "0.5", "1"]
        assert line.get_drawstyle() == "steps-post" and (line.get_color(), point.get_color()) == (BLUE, ORANGE)


def test_precision_recall_shows_classes_that_have_a_curve():
    predictions = noisy_case(names=[f"c{i}" for i in range(6)])
    predictions.y[:, 0] = 0
    figure = plots.precision_recall(predictions, Thresholds.default(predictions.class_names))
    assert [title(ax) for ax in figure.axes if ax.axison] == ["c1", "c2", "c3", "c4", "c5"]
    predictions.y[:] = 0
    (ax,) = drawn(plots.precision_recall(predictions, Thresholds.default(predictions.class_names))).axes
    assert not ax.axison and not ax.lines


def test_reliability_and_calibration_errors_before_and_after_by_hand():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (30, 2))
    y = (rng.random((30, 2)) < 0.4).astype(np.int8)
    predictions = Predictions(
        np.array([f"{i}" for i in range(30)], object), ["a", "$b^$"], np.float32(logits), y, "test"
    )
    thresholds = replace(Thresholds.default(["a", "$b^$"]), calibration=np.array([[0.5, 2.0], [-1.0, 0.25]]))
    figure = drawn(plots.calibration(predictions, thresholds))
    left, right = figure.axes
    diagonal, *curves = left.lines
    assert points(diagonal) == [[0, 0], [1, 1]] and legend(figure) == ["before", "after"]
    errors = []
    for z, line, marks in zip((logits, [0.5, 2] * logits + [-1, 0.25]), curves, right.lines, strict=True):
        p = 1 / (1 + np.exp(-z))

        def bins(p, y, each):  # 15 of equally many
            order = np.argsort(p)
            return np.stack([values[order].reshape(15, each).mean(1) for values in (p, y)], axis=1)

        np.testing.assert_allclose(line.get_xydata(), bins(p.ravel(), y.ravel(), 4), rtol=1e-5)
        errors.append([np.abs(np.subtract(*bins(p[:, c], y[:, c], 2).T)).mean() for c in range(2)])
        np.testing.assert_allclose(marks.get_xydata(), np.c_[errors[-1], [0, 1]], rtol=1e-5)
        assert line.get_color() == marks.get_color() == (ORANGE, BLUE)[len(errors) - 1]
    for c, segment in enumerate(right.collections[0].get_segments()):
        np.testing.assert_allclose(segment, [[errors[0][c], c], [errors[1][c], c]], rtol=1e-5)
    chance = metrics.calibration_chance(y, 1 / (1 + np.exp(-([0.5, 2] * logits + [-1, 0.25]))))
    lines = np.array(right.collections[1].get_segments())
    np.testing.assert_allclose(lines[:, :, 0], np.c_[chance, chance], rtol=1e-5)
    assert rows_of(right) == ["a", "$b^$"] and left.get_xlim() == left.get_ylim() == (0, 1)


def test_error_counts_go_left_for_misses_and_right_for_false_alarms():
    y = [[1, 1, 0], [1, 0, 0], [1, -1, 0], [0, 1, 0]]
    p = [[0.1, 0.9, 0.2], [0.3, 0.8, 0.2], [0.9, 0.9, 0.2], [0.9, 0.1, 0.2]]
    predictions = predictions_of(y, p, ["a", "$b$", "none"])
    errors = disagreements(predictions, Thresholds.default(predictions.class_names))
    figure = drawn(plots.error_counts(errors, predictions.class_names))
    (ax,) = figure.axes
    misses, alarms = (bars(container) for container in ax.containers)
    assert misses == [(0, 0, -2), (1, 0, -1), (2, 0, 0)] and alarms == [(0, 0, 1), (1, 0, 1), (2, 0, 0)]
    assert rows_of(ax) == ["a", "$b$", "none"] and legend(figure) == ["false negatives", "false positives"]
    assert [to_hex(container[0].get_facecolor()).upper() for container in ax.containers] == [ORANGE, BLUE]
    counts = [label.get_text() for label in ax.get_xticklabels()]
    assert counts and all(text.isdigit() for text in counts)  # no count has a sign
    assert counts == [f"{abs(place):g}" for place in ax.get_xticks()]  # and none is rounded


def test_error_counts_without_an_error():
    right = predictions_of([[1, 0]], [[0.9, 0.1]])
    (ax,) = drawn(plots.error_counts(disagreements(right, Thresholds.default(right.class_names)), ["c0", "c1"])).axes
    assert [width for container in ax.containers for *_, width in bars(container)] == [0] * 4


def test_the_map_has_each_point_in_the_colour_and_mark_of_its_kind():
    rng = np.random.default_rng(0)
    xy, kinds = rng.normal(size=(40, 2)).astype(np.float32), np.resize(list(MAP_MARKS)[2::2], 40)
    figure = drawn(plots.data_map(xy, kinds, np.array([[0, 5], [5, 7], [2, 9]]), "$x^$ " + "t" * 200))
    (ax,) = figure.axes
    *clouds, rings = ax.collections
    order = [kind for kind in MAP_MARKS if kind in kinds]
    assert len(clouds) == len(order) == 4
    for kind, cloud in zip(order, clouds, strict=True):
        np.testing.assert_array_equal(cloud.get_offsets(), xy[kinds == kind])
        colour = cloud.get_facecolor() if len(cloud.get_facecolor()) else cloud.get_edgecolor()
        assert same_color(colour[0, :3], MAP_MARKS[kind][0])
        assert cloud.get_label() == f"{kind} ({sum(kinds == kind)})"
    assert legend(figure) == [*(cloud.get_label() for cloud in clouds), "near duplicate across splits (5)"]
    np.testing.assert_array_equal(rings.get_offsets(), xy[[0, 2, 5, 7, 9]])
    assert not len(rings.get_facecolor()) and rings.get_sizes()[0] > clouds[0].get_sizes()[0]
    assert [points(line) for line in ax.lines] == [xy[[a, b]].tolist() for a, b in ((0, 5), (5, 7), (2, 9))]
    assert not len(ax.get_xticks()) and not len(ax.get_yticks())
    assert title(ax) == "$x^$ " + "t" * 84 + "…"


def test_points_of_the_map_shrink_with_their_number():
    def size(images):
        rng = np.random.default_rng(0)
        xy, none = rng.normal(size=(images, 2)), np.zeros((0, 2), int)
        return plots.data_map(xy, np.full(images, "train"), none).axes[0].collections[0].get_sizes()[0]

    assert size(1) == size(100) > size(1000) > size(5000) > 0


@pytest.mark.parametrize("number", [1, 2])
def test_a_map_of_hardly_anything(number):
    xy = np.arange(2.0 * number).reshape(number, 2)
    figure = drawn(plots.data_map(xy, np.full(number, "val"), np.zeros((0, 2), int)))
    assert figure.axes[0].collections[0].get_offsets().tolist() == xy.tolist() and not figure.axes[0].lines
    assert legend(figure) == [f"val ({number})", "near duplicate across splits (0)"]


@pytest.fixture(scope="module")
def hundred():
    """Predictions for a hundred classes on two splits, of which the last has no positive."""
    rng = np.random.default_rng(3)
    names = [f"class {i}" for i in range(100)]
    y = (rng.random((200, 100)) < np.linspace(0.4, 0.02, 100)).astype(np.int8)
    y[:, 99] = 0
    logits = rng.normal(2 * y - 1.0, 1).astype(np.float32)
    paths = np.array([f"{i}.jpg" for i in range(200)], object)
    halves = (slice(0, 100), slice(100, 200))
    return [
        Predictions(paths[h], names, logits[h], y[h], split) for h, split in zip(halves, ("val", "test"), strict=True)
    ]


def test_of_a_hundred_classes_the_rarest_and_the_most_frequent_are_counted(hundred):
    val, _ = hundred
    figure = drawn(plots.class_counts(val.labels, np.full(100, "train"), val.class_names))
    ax = figure.axes[0]
    totals = (val.labels == 1).sum(0)
    order = np.argsort(totals, kind="stable")
    assert seen(ax.get_yticklabels()) == [f"class {c}" for c in [*order[:20], *order[-20:]]]
    assert title(ax).endswith("of 100 classes the 20 rarest and the 20 most frequent")
    assert [round(bar.get_width()) for bar in ax.patches[:40]] == totals[[*order[:20], *order[-20:]]].tolist()


def test_of_a_hundred_classes_the_weakest_and_the_strongest_are_scored(hundred):
    val, test = hundred
    thresholds = tune_thresholds(val)
    table = metrics.class_table(metrics.score(test, thresholds.values, resamples=0))
    by_ap = table[table.ap.notna()].sort_values("ap")
    ax = drawn(plots.average_precisions(table)).axes[0]
    assert seen(ax.get_yticklabels()) == [*by_ap.index[:20], *by_ap.index[-20:]] and "of 99 classes" in title(ax)

    f1 = pd.Series(
        [
            oracle.f1_score(y, p >= t)
            for y, p, t in zip(test.labels.T, test.probabilities.T, thresholds.values, strict=True)
        ],
        test.class_names,
    )[:99].sort_values(kind="stable")
    ax = drawn(plots.tuned_against_half(test, thresholds)).axes[0]
    shown = seen(ax.get_yticklabels())
    np.testing.assert_allclose(f1[shown], [*f1[:20], *f1[-20:]])
    shown = [title(ax) for ax in drawn(plots.precision_recall(test, thresholds)).axes if ax.lines]
    np.testing.assert_allclose(f1[shown], f1[:12])


def test_of_a_hundred_classes_the_largest_errors_and_the_most_company_are_shown(hundred):
    val, test = hundred
    thresholds = tune_thresholds(val)
    right = drawn(plots.calibration(test, thresholds)).axes[1]
    errors = pd.Series(metrics.calibration_error(test.labels, test.probabilities), test.class_names)
    assert set(seen(right.get_yticklabels())) == set(errors.nlargest(40).index)

    found = disagreements(test, thresholds)
    ax = drawn(plots.error_counts(found, test.class_names)).axes[0]
    wrong = found["class"].value_counts()
    assert [wrong[name] for name in seen(ax.get_yticklabels())] == wrong.nlargest(40).tolist()
