import base64
import io
import re
from html.parser import HTMLParser

import ipywidgets as w
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlworkbench import read_labels
from mlworkbench.views import galleries as widgets
from mlworkbench.views import live, plots
from mlworkbench.views.live import LivePlot, class_progress, show_table
from mlworkbench.views.parts import Choice


def test_a_table_without_rows_says_so():
    data = live.table_data(pd.DataFrame({"image_path": [], "reason": []}), index=False)
    assert "<td colspan='2' style='text-align: left'>none</td>" in data["text/html"]
    assert data["text/plain"] == "image, reason: none"


def test_tables_show_names_as_text_and_nan_as_a_dash(monkeypatch):
    shown = []
    monkeypatch.setattr(live, "display", lambda data, raw: shown.append(data))
    show_table(pd.DataFrame({"a": [0.12345, float("nan")]}, index=["<script>", "$x$"]))
    page = shown[0]["text/html"]
    assert "<script>" not in page and "tex2jax_ignore" in page and "0.123" in page and "–" in page


def test_a_widget_is_live_once_a_page_has_told_of_it(monkeypatch):
    shown = []
    monkeypatch.setattr(live, "display", shown.append)
    live.show_widget(w.Button(description="x"), plots.nothing())
    frame, picture = shown
    assert frame._dom_classes == () and picture.data[:4] == b"\x89PNG" and repr(frame) == repr(frame.children[0])
    frame._view_count = 1
    assert frame._dom_classes == ("mlw-live",)


def test_a_choice_is_made_by_value():
    choice = Choice("Class", [("a", 7), ("b", None)])
    assert choice.value == 7 and choice.names == ["a", "b"]
    choice.value = None
    assert choice.index == 1 and choice.value is None
    with pytest.raises(ValueError):
        choice.value = 8


def test_pairs_stand_side_by_side(picture, tmp_path, monkeypatch):
    images, captions = [], []
    monkeypatch.setattr(widgets, "gallery", lambda i, c, *_, **__: images.extend(i) or captions.extend(c))
    paths = [picture("a.png", seed=1), picture("$b$.png", seed=2)]
    sides = {"a": paths[:1], "split_a": ["train"], "b": paths[1:], "split_b": ["val"]}
    widgets.pair_gallery(pd.DataFrame(sides | {"similarity": [0.987]}), tmp_path)
    assert captions == ["a.png (train)\n$b$.png (val)\nsimilarity 0.99"]
    for path, side in zip(paths, (images[0][:, :192], images[0][:, -192:]), strict=True):
        np.testing.assert_array_equal(side, widgets.thumbnail(path, tmp_path))


def cells_of(frame, **options):
    """Heads and rows of a table as it is shown, and to which side each column stands."""
    page = live.table_data(frame, **options)["text/html"]
    found = re.findall(r"<(t[hd]) style='text-align: (\w+)'><bdi>(.*?)</bdi>", page)
    heads = [text for tag, _, text in found if tag == "th"]
    texts = [text for tag, _, text in found if tag == "td"]
    assert [side for _, side, _ in found] == [side for _, side, _ in found[: len(heads)]] * (len(frame) + 1)
    rows = [texts[i : i + len(heads)] for i in range(0, len(texts), len(heads))]
    return heads, rows, [side for _, side, _ in found[: len(heads)]]


def test_tables_speak_in_words_and_no_small_number_is_nothing():
    nan = float("nan")
    columns = {
        "roc_auc": [0.0, 1e-5], "change": [-7e-5, 0.5], "support": [12, 3456], "false_alarms": [nan, 24.0],
        "significant": [True, False], "image_path": ["<b>", None], "share": [1.0, 0.0],
    }  # fmt: skip
    heads, rows, sides = cells_of(pd.DataFrame(columns, pd.Index(["a", "b"], name="class")))
    assert heads == ["class", "ROC AUC", "change", "positives", "false alarms", "significant", "image", "share"]
    assert rows[0] == ["a", "0.000", "&gt;-0.001", "12", "–", "yes", "&lt;b&gt;", "1.000"]
    assert rows[1] == ["b", "&lt;0.001", "0.500", "3,456", "24", "no", "–", "0.000"]
    assert sides == ["left", *["right"] * 4, "left", "left", "right"]
    assert cells_of(pd.DataFrame(columns), index=False)[0] == heads[1:]
    text = live.table_data(pd.DataFrame(columns), index=False)["text/plain"]
    assert "false alarms" in text and "<0.001" in text


def test_the_larger_numbers_are_the_fewer_decimals_they_have():
    columns = {"seconds": [147.1234, 0.02], "images/s": [12345.6, 0.5], "share": [0.1234, 9.9]}
    assert cells_of(pd.DataFrame(columns), index=False)[1] == [
        ["147.1", "12,346", "0.123"],
        ["&lt;0.1", "&lt;1", "9.900"],
    ]


def test_an_empty_table_has_its_heads():
    assert cells_of(pd.DataFrame({"line": [], "reason": []}), index=False)[:2] == (["line", "reason"], [])


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
    assert not set(shown[1].paths) & set(shown[2].paths) and tiles(gallery._picture.value)[0] == 4


def test_a_gallery_of_a_class_without_images_is_empty_and_no_error(demo_labels):
    table = read_labels(demo_labels)
    gallery = widgets.ClassGallery(table.take(np.flatnonzero(table.y[:, 0] != 1)))
    assert "nothing to show" in gallery._picture.value


class Tiles(HTMLParser):
    """What a gallery holds: tiles, pictures as arrays, what stands beside each for who cannot see, and lines."""

    def __init__(self):
        super().__init__()
        self.tiles, self.pictures, self.alt, self.lines, self.tags = 0, [], [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.tiles += tag == "details"
        if tag == "bdi":
            self.lines.append("")
        if tag == "img":
            told = dict(attributes)
            data = base64.b64decode(told["src"].removeprefix("data:image/jpeg;base64,"))
            self.pictures.append(np.asarray(Image.open(io.BytesIO(data))))
            self.alt.append(told["alt"])

    def handle_data(self, data):
        if self.lines and self.tags:
            self.lines[-1] += data


def tiles(page):
    found = Tiles()
    found.feed(page)
    assert found.tags <= {"style", "div", "p", "details", "summary", "img", "span", "bdi"}
    return found.tiles, found.pictures, found.alt, found.lines


def test_a_gallery_has_each_image_with_its_caption_in_order_and_names_are_text():
    images = [np.full((20, 30 + i, 3), 40 * i, np.uint8) for i in range(4)]
    names = ["$x^$", "<script>alert(1)</script>", "'quoted'", "&lt;"]
    page = widgets.gallery(images, [f"{name}\n{i}" for i, name in enumerate(names)], 3, note="<b>").data
    number, pictures, alt, lines = tiles(page)
    assert number == 4 and alt == [f"{name}, {i}" for i, name in enumerate(names)]
    assert lines == [text for i, name in enumerate(names) for text in (name, str(i))]
    assert [picture.shape for picture in pictures] == [image.shape for image in images]
    assert all(abs(int(picture.mean()) - 40 * i) < 3 for i, picture in enumerate(pictures))
    assert "--columns: 3" in page and "tex2jax_ignore mathjax_ignore" in page and "<p>&lt;b&gt;</p>" in page


def test_a_gallery_of_nothing_says_so():
    assert "nothing to show" in widgets.gallery([], []).data and not tiles(widgets.gallery([], []).data)[0]


@pytest.mark.parametrize("size, held", [((40, 20), (192, 96)), ((300, 200), (300, 200)), ((500, 1000), (224, 448))])
def test_an_image_keeps_its_shape_and_can_be_opened_large(picture, tmp_path, size, held):
    assert widgets.picture(picture("a.png", size), tmp_path).shape == (*held[::-1], 3)


def test_galleries_say_every_number_in_words_and_names_are_text(picture, tmp_path):
    paths = [picture("a.png", seed=1), picture("b.png", seed=2)]
    rows = {"image_path": paths, "class": ["$x$", "b"], "label": [1, 0]}
    suspects = pd.DataFrame(rows | {"probability": [0.002, 0.97], "rank": [1, 2]})
    number, _, _, lines = tiles(widgets.suspect_gallery(suspects, tmp_path, 1).data)
    assert number == 1 and lines == ["$x$: label present", "p <0.01, rank 1"]
    same = pd.DataFrame({name: [column[i] for i in (0, 1, 0, 0, 1)] for name, column in rows.items()})
    found = tiles(widgets.suspect_gallery(same.assign(probability=0.1, rank=range(1, 6)), tmp_path, 2).data)
    first = [line for rank in (1, 3) for line in ("$x$: label present", f"p 0.10, rank {rank}")]
    second = [line for rank in (2, 5) for line in ("b: label absent", f"p 0.10, rank {rank}")]
    assert found[0] == 2 and found[3] == [*first, "and 1 more", *second]
    flips = {"change": ["better", "worse"], "probability_before": [0.1, 0.2], "probability_after": [0.8, 0.9]}
    assert tiles(widgets.flip_gallery(pd.DataFrame(rows | flips), tmp_path).data)[3] == [
        "b: label absent", "p 0.20 → 0.90: worse", "$x$: label present", "p 0.10 → 0.80: better"
    ]  # fmt: skip


def test_an_error_stands_over_where_the_network_looked(picture, tmp_path):
    rows = {"image_path": [picture("a.png", (200, 200))], "class": ["b"], "label": [1], "tuned_on": [True]}
    errors = pd.DataFrame(rows | {"probability": [0.1], "threshold": [0.5]})
    found = np.array([[0.0, 0.0], [0.0, 2.0]], np.float32)
    page = widgets.error_gallery(errors, tmp_path, look=lambda *_: (found, -0.25)).data
    number, (image, seen), _, lines = tiles(page)
    assert number == 1 and lines == ["b: label present", "p 0.10, threshold 0.50", "map -0.25 off the logit"]
    assert np.ptp(image, 2).mean() > 20 and np.ptp(seen[:40, :40], 2).mean() < 20  # grey where it did not look
    assert seen[150, 150, 0].astype(int) - seen[150, 150, 2] > 60 and "<p>tuned on these</p>" in page


def test_many_labels_of_an_image_are_listed_and_the_rest_counted(picture, tmp_path):
    y, names = np.array([[1] * 8, [0] * 8], np.int8), [f"class {c}" for c in range(8)]
    lines = tiles(widgets.sample_gallery([picture("a.png")] * 2, y, names, tmp_path).data)[3]
    assert lines == [", ".join(names[:6]) + ", and 2 more", "(none)"]


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


def test_predictions_are_captioned_by_what_is_present_surest_first(picture, tmp_path):
    names, p = ["$x$", "b", "c", "d"], np.array([[0.1, 0.9, 0.2, 0.5], [0.9, 0.8, 0.95, 0.99], [0.9] * 4], np.float32)
    present = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0] * 4], np.int8)
    columns = {"image_path": [picture("a.png")] * 3} | {f"p_{name}": p[:, i] for i, name in enumerate(names)}
    columns |= {f"present_{name}": present[:, i] for i, name in enumerate(names)}
    assert tiles(widgets.prediction_gallery(pd.DataFrame(columns), tmp_path).data)[3] == [
        "b 0.90", "$x$ 0.10", "d 0.99", "c 0.95", "$x$ 0.90", "b 0.80", "(no class present)"
    ]  # fmt: skip


def test_an_answer_is_drawn_with_any_number_of_classes():
    pixels = np.zeros((20, 30, 3), np.uint8)
    for classes in (1, 600):
        names, limits = [f"<b>$x$ {i}" for i in range(classes)], np.full(classes, 0.5)
        figure = widgets.answer_figure(pixels, pixels, np.linspace(1, 0, classes), limits, names)
        assert len(figure.axes[2].patches) == min(classes, 12)


def test_a_row_that_is_chosen_shows_its_images(picture, tmp_path):
    paths = [picture(f"{i}.png", seed=i) for i in range(14)]
    table = pd.DataFrame({"class": ["$x$", "b"], "images": [14, 1]})
    of = {"$x$": np.array(paths, object), "b": np.array(paths[3:4], object)}
    view = widgets.ImagesOf(table, "{class}: {images}", "images", lambda row: of[row["class"]], tmp_path)
    assert view.choice.names == ["$x$: 14", "b: 1"] and view.choice.shares == [1, 1 / 14]
    number, _, _, lines = tiles(view.images.value)
    assert number == 12 and lines == paths[:12] and "<p>12 of 14 images</p>" in view.images.value
    view.choice.value = 1
    assert tiles(view.images.value)[3] == paths[3:4] and "<p>1 of 1 images</p>" in view.images.value
    none = widgets.ImagesOf(table.head(0), "{class}", "images", of.get, tmp_path)
    assert "nothing to show" in none.images.value
