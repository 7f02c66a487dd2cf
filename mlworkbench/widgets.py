"""What moves in a notebook: figures as pictures, a live training plot, galleries, and the threshold tuner."""

import base64
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import PIL.Image
from IPython.display import Image, display
from matplotlib.figure import Figure

from . import plots
from .images import load_named
from .labels import LabelTable
from .metrics import mean_defined, shown
from .predictions import Predictions
from .thresholds import Curves, Thresholds, tune_thresholds

THUMBNAIL = 192


def show(figure: Figure) -> None:
    """Show a figure as one picture, which every viewer of a saved notebook can draw."""
    display(Image(data=plots.png(figure)))


def show_table(frame: pd.DataFrame, digits: int = 3, index: bool = True) -> None:
    """Show a table in which every name stays text: neither HTML nor mathematics comes alive; undefined is `–`."""
    display(table_data(frame, digits, index), raw=True)


def table_data(frame: pd.DataFrame, digits: int = 3, index: bool = True) -> dict[str, str]:
    """A table as a notebook keeps it, as HTML and as plain text."""
    options: Any = {"na_rep": "–", "float_format": f"{{:.{digits}f}}".format, "index": index}
    page = frame.to_html(classes=["tex2jax_ignore", "mathjax_ignore"], border=0, **options)
    return {"text/html": page, "text/plain": frame.to_string(**options)}


class LivePlot:
    """A training while it runs: losses, mAP and learning rate in one picture, and the average precision of each class.

    Both are drawn anew after each epoch, in the same place, and stay in the saved notebook.

    >>> fit(table, run_dir, on_epoch_end=LivePlot().update)      # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._places: Any = None

    def update(self, row: dict[str, float]) -> None:
        """Take one row of `history.csv`: draw it, and print its numbers as one line."""
        self.rows.append(row)
        rows = pd.DataFrame(self.rows)
        picture, table = Image(data=plots.png(plots.history(rows))), table_data(class_progress(rows), index=False)
        if self._places is None:
            self._places = display(picture, display_id=True), display(table, raw=True, display_id=True)
        else:
            self._places[0].update(picture)
            self._places[1].update(table, raw=True)
        print(
            f"epoch {row['epoch']:3.0f}   train loss {row['train_loss']:.4f}   "
            f"val loss {row['val_loss']:.4f}   val mAP {shown(row['val_map'])}",
            flush=True,
        )


def class_progress(rows: pd.DataFrame, most: int = 20) -> pd.DataFrame:
    """Average precision of the classes that need most attention, from rows of `history.csv`, weakest first."""
    names = [column for column in rows.columns if column.startswith("ap_")]
    ap = rows[names].astype(float)
    columns = {
        "class": [name.removeprefix("ap_") for name in names],
        "AP now": ap.iloc[-1].to_numpy(),
        "change": ap.diff().iloc[-1].to_numpy(),
        "best so far": ap.max().to_numpy(),
    }
    return pd.DataFrame(columns).sort_values("AP now").head(most)


def sample_gallery(paths: np.ndarray, y: np.ndarray, class_names: list[str], root: Path, columns: int = 6) -> Figure:
    """Images with the names of their labels under them; y int8 [N, C]."""
    captions = []
    for row in y:
        present = [plots.plain(class_names[c], 16) for c in np.flatnonzero(row == 1)]
        captions.append("\n".join([", ".join(present[i : i + 2]) for i in range(0, len(present), 2)][:3]) or "(none)")
    return plots.gallery([thumbnail(path, root) for path in paths], captions, columns)


def error_gallery(errors: pd.DataFrame, root: Path, top_k: int = 12) -> Figure:
    """The first errors (see `errors.disagreements`), every number named in words."""
    first = errors.head(top_k)
    captions = [
        f"{plots.plain(row['class'], 20)}: label {'present' if row['label'] == 1 else 'absent'}\n"
        f"p {row['probability']:.2f}, threshold {row['threshold']:.2f}"
        for _, row in first.iterrows()
    ]
    figure = plots.gallery([thumbnail(path, root) for path in first.image_path], captions)
    if first.tuned_on.any():
        figure.suptitle("tuned on these", fontsize=9)
    return figure


def thumbnail(image_path: str, root: Path) -> np.ndarray:
    pixels = PIL.Image.fromarray(load_named(image_path, root, THUMBNAIL))
    return np.asarray(pixels.resize((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.BILINEAR, reducing_gap=2.0))


class ClassGallery(w.VBox):
    """Images of the class chosen in a list, drawn anew with every choice and with the button.

    Parameters
    ----------
    table : labelled images
    shown : how many at a time
    """

    def __init__(self, table: LabelTable, shown: int = 12):
        self._table, self._shown, self._page = table, shown, 0
        positives = (table.y == 1).sum(0)
        options = [
            (f"{plots.shortened(name)} ({n:,})", c)
            for c, (name, n) in enumerate(zip(table.class_names, positives, strict=True))
        ]
        self.choice = w.Dropdown(options=options, description="Class", style={"description_width": "initial"})
        self.more = w.Button(description="Others")
        self._picture = w.HTML()
        self.choice.observe(lambda _: self._draw(0), "value")
        self.more.on_click(lambda _: self._draw(self._page + 1))
        super().__init__([w.HBox([self.choice, self.more]), self._picture])
        self._draw(0)

    def _draw(self, page: int) -> None:
        c = self.choice.value
        rows = np.flatnonzero(self._table.y[:, c] == 1)
        start = (page * self._shown) % max(1, len(rows))
        self._page = page
        figure = class_examples(self._table.take(rows[start : start + self._shown]))
        alt = escape(f"images of the class {self._table.class_names[c]}", quote=True)
        data = base64.b64encode(plots.png(figure)).decode()
        self._picture.value = f"<img alt='{alt}' src='data:image/png;base64,{data}'>"


def class_examples(table: LabelTable, columns: int = 6) -> Figure:
    """Images with the names of their labels over them."""
    return sample_gallery(table.paths, table.y, table.class_names, table.root, columns)


class ThresholdTuner(w.VBox):
    """A slider for each class; precision, recall, F1 and the counts follow, and a button saves.

    Curves are sorted once, so a move of a slider costs one lookup and one line of HTML.

    Parameters
    ----------
    predictions : labelled predictions of the split to tune on
    thresholds : where to begin
    save : called with the Thresholds when the button is pressed; what it returns is shown as the place
    """

    def __init__(self, predictions: Predictions, thresholds: Thresholds, save: Callable[[Thresholds], object]):
        self._predictions = predictions = thresholds.calibrated(predictions)
        self._save = save
        self._names = predictions.class_names
        self._curves = Curves(predictions.labels, predictions.probabilities)
        self._best = tune_thresholds(predictions)
        self.values = thresholds.aligned(self._names).copy()
        self._objective = thresholds.objective
        self._status = w.HTML()
        self._numbers = [w.HTML(layout=w.Layout(width="330px")) for _ in self._names]
        self.sliders, rows = [], []
        for c, name in enumerate(self._names):
            slider = w.FloatSlider(
                float(self.values[c]), min=0, max=1, step=0.001, readout=False, layout=w.Layout(width="300px")
            )
            field = w.BoundedFloatText(
                float(self.values[c]), min=0, max=1, step=0.001, layout=w.Layout(width="90px"),
                tooltip=f"Threshold of {name}",
            )  # fmt: skip
            w.jslink((slider, "value"), (field, "value"))
            slider.observe(lambda change, c=c: self._moved(c, change["new"]), "value")
            label = w.HTML(f"<b class='tex2jax_ignore'>{escape(name)}</b>", layout=w.Layout(width="130px"))
            rows.append(w.HBox([label, slider, field, self._numbers[c]], layout=w.Layout(align_items="center")))
            self.sliders.append(slider)
            self._show(c)
        buttons = []
        for text, action in (
            ("Best F1 for all", lambda _: self.set_all(self._best.values, "f1")),
            ("0.5 for all", lambda _: self.set_all(np.full(len(self._names), 0.5), "default")),
            ("Save", lambda _: self.save()),
        ):
            button = w.Button(description=text, button_style="primary" if text == "Save" else "")
            button.on_click(action)
            buttons.append(button)
        self._say("")
        body = w.VBox(rows, layout=w.Layout(max_height="520px", overflow="auto"))
        super().__init__([w.HBox(buttons), self._status, body])

    @property
    def thresholds(self) -> Thresholds:
        """What the sliders say now."""
        return self._best.with_values(self.values, self._objective)

    def set_all(self, values: np.ndarray, objective: str) -> None:
        """Move every slider."""
        self.values, self._objective = np.asarray(values, np.float32).copy(), objective
        for c, slider in enumerate(self.sliders):
            slider.value = float(self.values[c])
            self._show(c)
        self._say("")

    def save(self) -> None:
        """Hand the thresholds to the `save` callable and say where they went."""
        self._say(f"saved to {escape(str(self._save(self.thresholds)))}")

    def _moved(self, c: int, value: float) -> None:
        if abs(value - self.values[c]) < 5e-4:  # the page rounds to its step: no move of a person's
            return
        self.values[c], self._objective = value, "by hand"
        self._show(c)
        self._say("not saved")

    def _show(self, c: int) -> None:
        n = self._curves.at(c, self.values[c])
        ratios = " ".join(
            f"{name}&nbsp;<b>{shown(float(n[key]), 3)}</b>"
            for name, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
        )
        self._numbers[c].value = f"{ratios}<br><small>{n['tp']} found, {n['fn']} missed, {n['fp']} false alarms</small>"

    def _say(self, message: str) -> None:
        f1 = np.array([float(self._curves.at(c, self.values[c])["f1"]) for c in range(len(self._names))])
        macro = mean_defined(f1)
        split = escape(self._predictions.split)
        self._status.value = f"<p role='status' aria-live='polite'>macro F1 on {split} <b>{macro:.4f}</b> {message}</p>"
