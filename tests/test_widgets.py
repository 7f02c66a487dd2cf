import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from test_metrics import random_case

from mlworkbench import Thresholds, read_labels, tune_thresholds, widgets


@pytest.fixture
def tuner():
    predictions, saved = random_case(np.random.default_rng(0), c=3), []
    tuner = widgets.ThresholdTuner(
        predictions, tune_thresholds(predictions), lambda t: saved.append(t) or "thresholds.json"
    )
    tuner.predictions, tuner.saved = predictions, saved
    return tuner


def test_a_move_recomputes_that_class_alone(tuner):
    before = [numbers.value for numbers in tuner._numbers]
    tuner.sliders[1].value = 0.25
    after = [numbers.value for numbers in tuner._numbers]
    truth, p = tuner.predictions.labels[:, 1], tuner.predictions.probabilities[:, 1]
    assert f"F1&nbsp;<b>{f1_score(truth, p >= 0.25):.3f}</b>" in after[1] != before[1]
    assert [after[0], after[2]] == [before[0], before[2]]
    assert "not saved" in tuner._status.value and tuner.thresholds.objective == "by hand"


def test_save_hands_over_what_the_sliders_say(tuner):
    tuner.sliders[0].value = 0.75
    tuner.save()
    (saved,) = tuner.saved
    assert saved.values[0] == 0.75 and saved.split == "test" and len(saved.tuned_paths) == 200
    assert "saved to thresholds.json" in tuner._status.value


def test_values_are_kept_exactly_though_the_page_rounds(tuner):
    exact = tuner.values.copy()
    for slider in tuner.sliders:
        slider.value = round(slider.value, 3)  # as the page sends back what it shows
    assert (tuner.values == exact).all()
    tuner.set_all(np.full(3, 0.5), "default")
    assert (tuner.thresholds.values == 0.5).all() and tuner.thresholds.objective == "default"


def test_names_stay_text():
    predictions = random_case(np.random.default_rng(0), c=1)
    predictions = type(predictions)(predictions.paths, ["<img src=x> $x$"], predictions.logits, predictions.y, "val")
    tuner = widgets.ThresholdTuner(predictions, Thresholds.default(predictions.class_names), print)
    label = tuner.children[2].children[0].children[0].value
    assert "<img" not in label and "tex2jax_ignore" in label


def test_tables_show_names_as_text_and_nan_as_a_dash(monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "display", lambda data, raw: shown.append(data))
    widgets.show_table(pd.DataFrame({"a": [0.12345, float("nan")]}, index=["<script>", "$x$"]))
    page = shown[0]["text/html"]
    assert "<script>" not in page and "tex2jax_ignore" in page and "0.123" in page and "–" in page


def test_live_plot_draws_one_picture_and_one_line_an_epoch(monkeypatch, capsys):
    events = []

    class Handle:
        def update(self, picture, raw=False):
            events.append("update")

    monkeypatch.setattr(widgets, "display", lambda *_, **__: events.append("display") or Handle())
    plot = widgets.LivePlot()
    for epoch in (1, 2, 3):
        row = {"epoch": epoch, "lr": 1e-3, "train_loss": 0.5, "val_loss": 0.6, "val_map": 0.1 * epoch}
        plot.update(row | {"ap_$x$": 0.3 - 0.1 * epoch, "ap_b": float("nan"), "ap_c": -0.2})
    assert events == ["display"] * 2 + ["update"] * 4 and len(capsys.readouterr().out.splitlines()) == 3
    table = widgets.class_progress(pd.DataFrame(plot.rows))
    assert table["class"].tolist() == ["c", "$x$", "b"] and np.isnan(table["AP now"].iloc[2])
    np.testing.assert_allclose(table.iloc[1, 1:].tolist(), [0.0, -0.1, 0.2], atol=1e-9)


def test_the_gallery_shows_the_class_that_is_chosen_and_pages_through_it(demo_labels, monkeypatch):
    table, shown = read_labels(demo_labels).take(slice(0, 60)), []
    draw = widgets.class_examples
    monkeypatch.setattr(widgets, "class_examples", lambda t: shown.append(t) or draw(t))
    gallery = widgets.ClassGallery(table, shown=4)
    gallery.choice.value = 1
    gallery.more.click()
    assert all((t.y[:, c] == 1).all() for t, c in zip(shown, (0, 1, 1), strict=True))
    assert not set(shown[1].paths) & set(shown[2].paths) and "alt='images of the class one'" in gallery._picture.value


def test_a_gallery_of_a_class_without_images_is_empty_and_no_error(demo_labels):
    table = read_labels(demo_labels)
    gallery = widgets.ClassGallery(table.take(np.flatnonzero(table.y[:, 0] != 1)))
    assert "data:image/png" in gallery._picture.value
