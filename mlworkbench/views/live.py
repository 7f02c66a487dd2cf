"""Figures and tables shown in a notebook, and the live plot of a training."""

from collections.abc import Iterable
from html import escape
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
from IPython.display import HTML, Image, display
from matplotlib.figure import Figure
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from ..text import shown
from . import plots
from .style import STATIC, png

LONG = 15  # rows above which a table can be sorted and searched
# Headings of columns whose names are not plain; of all others `_` is a blank.
WORDS = {
    "ap": "average precision",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "brier": "Brier score",
    "calibration_chance": "the same by chance",
    "support": "positives",
    "image_path": "image",
    "predicted": "found instead",
    "rate": "share wrong",
    "rest": "elsewhere",
    "low": "95 % from",
    "high": "95 % to",
    "tuned_on": "tuned on these",
}


def show(what: Figure | HTML) -> None:
    """Show a figure as one picture, which every viewer of a saved notebook can draw, or a gallery."""
    display(_drawn(what))


def _drawn(what: Figure | HTML) -> Image | HTML:
    return Image(data=png(what)) if isinstance(what, Figure) else what


def show_widget(widget: w.DOMWidget, picture: Figure | HTML) -> None:
    """Show a widget, and under it what stands in its place in every page where no kernel answers."""
    drawn = _drawn(picture)  # now, so that no warning comes between the two
    display(_Frame(widget))
    display(drawn)


class _Frame(w.VBox):
    """A widget in a frame that is called live once a page has told the kernel that it shows it.

    By that name its looks hide what comes next; the saved notebook, and whatever is made of it, has it nevertheless.
    """

    LOOKS = "<style>.jp-OutputArea-child:has(.mlw-live) + .jp-OutputArea-child { display: none; }</style>"

    def __init__(self, widget: w.DOMWidget):
        looks = w.HTML(self.LOOKS, layout=w.Layout(display="none"))
        super().__init__([widget, looks], layout=w.Layout(overflow="visible"), _view_count=0)  # so pages tell it
        self.observe(lambda change: change["new"] and self.add_class("mlw-live"), "_view_count")

    def __repr__(self) -> str:
        return repr(self.children[0])


def show_table(frame: pd.DataFrame, digits: int = 3, index: bool = True) -> None:
    """Show a table for people: headings in words, numbers to the right, undefined as `–`, and no 0 that is none.

    Every name stays text: neither HTML nor mathematics comes alive.
    """
    display(table_data(frame, digits, index), raw=True)


def table_data(frame: pd.DataFrame, digits: int = 3, index: bool = True) -> dict[str, str]:
    """A table as a notebook keeps it, as HTML and as plain text; a long one can be sorted and searched."""
    columns = [*([(frame.index.name or "", frame.index.to_series())] if index else []), *frame.items()]
    heads = [WORDS.get(str(name), str(name).replace("_", " ")) for name, _ in columns]
    told = list(zip(*(_cells(values, digits) for _, values in columns), strict=True))
    sides = ["right" if _is_number(values) else "left" for _, values in columns]

    def line(tag: str, texts: Iterable[str]) -> str:
        cells = zip(sides, texts, strict=True)
        return "".join(f"<{tag} style='text-align: {side}'><bdi>{escape(text)}</bdi></{tag}>" for side, text in cells)

    rows = "".join(f"<tr>{line('td', row)}</tr>" for row in told)
    rows = rows or f"<tr><td colspan='{len(columns)}' style='text-align: left'>none</td></tr>"
    page = f"<thead><tr>{line('th', heads)}</tr></thead><tbody>{rows}</tbody>"
    page = f"<table class='tex2jax_ignore mathjax_ignore'>{page}</table>"
    long = len(frame) > LONG
    page = f"<div style='{'max-height: 30em; ' if long else ''}overflow: auto'>{page}</div>"
    if long:
        page += f"<script>{(STATIC / 'table.js').read_text(encoding='utf-8')}</script>"
    plain = pd.DataFrame(told, columns=heads).to_string(index=False) if told else f"{', '.join(heads)}: none"
    return {"text/html": page, "text/plain": plain}


def _is_number(values: pd.Series) -> bool:
    return is_numeric_dtype(values) and not is_bool_dtype(values)


def _cells(values: pd.Series, digits: int) -> list[str]:
    """The values of a column as people read them: the larger they are, the fewer decimals, and of counts none."""
    known = values.dropna()
    if _is_number(values) and (known % 1 == 0).all() and (is_integer_dtype(values) or known.max() > 1):
        digits = 0
    elif _is_number(values) and len(known) and (most := known.abs().max()) >= 10:
        digits = max(digits + 1 - len(f"{most:.0f}"), 0)
    return [_cell(value, digits) for value in values]


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return f"{number:,.0f}" if digits == 0 and abs(number) > 0.5 else shown(number, digits)
    return f"{value:,}" if isinstance(value, (int, np.integer)) else "–" if value is None else str(value)


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
        picture, table = Image(data=png(plots.history(rows))), table_data(class_progress(rows), index=False)
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
