import numpy as np
import pandas as pd
import pytest

from mlworkbench import read_labels
from mlworkbench.views import galleries as widgets
from mlworkbench.views import live
from mlworkbench.views.live import LivePlot, class_progress, show_table


def test_tables_show_names_as_text_and_nan_as_a_dash(monkeypatch):
    shown = []
    monkeypatch.setattr(live, "display", lambda data, raw: shown.append(data))
    show_table(pd.DataFrame({"a": [0.12345, float("nan")]}, index=["<script>", "$x$"]))
    page = shown[0]["text/html"]
    assert "<script>" not in page and "tex2jax_ignore" in page and "0.123" in page and "–" in page


def test_live_plot_draws_one_picture_and_one_line_an_epoch(monkeypatch, capsys):
    events = []

    class Handle:
        def update(self, picture, raw=False):
            events.append("update")

    monkeypatch.setattr(live, "display", lambda *_, **__: events.append("display") or Handle())
    plot = LivePlot()
    for epoch in (1, 2, 3):
        row = {"epoch": epoch, "lr": 1e-3, "train_loss": 0.5, "val_loss": 0.6, "val_map": 0.1 * epoch}
        plot.update(row | {"ap_$x$": 0.3 - 0.1 * epoch, "ap_b": float("nan"), "ap_c": -0.2})
    assert events == ["display"] * 2 + ["update"] * 4 and len(capsys.readouterr().out.splitlines()) == 3
    table = class_progress(pd.DataFrame(plot.rows))
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


def test_galleries_say_every_number_in_words_and_names_are_text(picture, tmp_path, monkeypatch):
    captions, images = [], []
    monkeypatch.setattr(widgets.plots, "gallery", lambda i, c, *_: images.extend(i) or captions.extend(c))
    paths = [picture("a.png", seed=1), picture("b.png", seed=2)]
    rows = {"image_path": paths, "class": ["$x$", "b"], "label": [1, 0]}
    widgets.suspect_gallery(pd.DataFrame(rows | {"probability": [0.02, 0.97], "rank": [1, 2]}), tmp_path, 1)
    assert captions == ["\\$x\\$: label present\np 0.02, rank 1"] and len(images) == 1
    captions.clear()
    flips = {"change": ["better", "worse"], "probability_before": [0.1, 0.2], "probability_after": [0.8, 0.9]}
    widgets.flip_gallery(pd.DataFrame(rows | flips), tmp_path)
    assert captions == ["b: label absent\np 0.20 → 0.90: worse", "\\$x\\$: label present\np 0.10 → 0.80: better"]


def test_an_image_is_lit_where_the_map_speaks_for_the_class():
    pixels = np.full((8, 8, 3), 200, np.uint8)
    seen = widgets.lit(pixels, np.array([[0.0, -3.0], [0.0, 2.0]], np.float32))
    assert seen[0, 0].tolist() == [50, 50, 50] and seen[7, 7].tolist() == [200, 200, 200] and seen[0, 7].max() == 50
    assert (widgets.lit(pixels, np.full((2, 2), -1.0, np.float32)) == 50).all()


@pytest.mark.parametrize("ground", [0, 255])
def test_what_speaks_for_a_class_is_seen_on_dark_and_on_bright_images(ground):
    found = np.full((8, 8), -1.0, np.float32)
    found[2, 5] = 3.0  # the middle of this cell lies at row 100, column 220
    seen = widgets.outlined(np.full((320, 320, 3), ground, np.uint8), found).astype(int)
    far, here = seen[280:, :100].reshape(-1, 3), seen[100, 220]
    assert (far == far[0]).all() and far[0].min() == far[0].max() and 40 <= far[0, 0] <= 230  # grey
    assert here[0] - here[2] > 100  # orange
    white, black = (np.argwhere((seen == value).all(2)) for value in (255, 0))
    for ring in (white, black):
        away = np.abs(ring - (100, 220)).max(1)
        assert len(ring) > 40 and away.min() >= 10 and away.max() <= 40
    np.testing.assert_array_equal(
        widgets.outlined(np.full((9, 7, 3), ground, np.uint8), np.full((2, 2), -1.0, np.float32)).std(2), 0
    )


def test_predictions_are_captioned_by_what_is_present_surest_first(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(widgets.plots, "gallery", lambda images, captions: drawn.extend(captions))
    monkeypatch.setattr(widgets, "thumbnail", lambda path, root: np.zeros((4, 4, 3), np.uint8))
    names, p = ["$x$", "b", "c", "d"], np.array([[0.1, 0.9, 0.2, 0.5], [0.9, 0.8, 0.95, 0.99], [0.9] * 4], np.float32)
    present = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0] * 4], np.int8)
    columns = {"image_path": ["1", "2", "3"]} | {f"p_{name}": p[:, i] for i, name in enumerate(names)}
    columns |= {f"present_{name}": present[:, i] for i, name in enumerate(names)}
    widgets.prediction_gallery(pd.DataFrame(columns), tmp_path)
    assert drawn == ["b 0.900\n\\$x\\$ 0.100", "d 0.990\nc 0.950\n\\$x\\$ 0.900\nand 1 more", "(no class present)"]


def test_an_answer_is_drawn_with_any_number_of_classes():
    pixels = np.zeros((20, 30, 3), np.uint8)
    for classes in (1, 600):
        names, limits = [f"<b>$x$ {i}" for i in range(classes)], np.full(classes, 0.5)
        figure = widgets.answer_figure(pixels, pixels, np.linspace(1, 0, classes), limits, names)
        assert len(figure.axes[2].patches) == min(classes, 12)
