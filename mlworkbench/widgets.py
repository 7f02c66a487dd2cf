"""What moves in a notebook: figures as pictures, a live training plot, and galleries."""

import base64
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
from .metrics import shown

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
