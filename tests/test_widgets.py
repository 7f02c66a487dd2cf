import numpy as np
import pandas as pd

from mlworkbench import read_labels, widgets


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
