"""Figures and tables shown in a notebook, and the live plot of a training."""

from typing import Any

import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure

from ..text import shown
from . import plots
from .style import STATIC, png

LONG = 15  # rows above which a table can be sorted and searched


def show(figure: Figure) -> None:
    """Show a figure as one picture, which every viewer of a saved notebook can draw."""
    display(Image(data=png(figure)))


def show_table(frame: pd.DataFrame, digits: int = 3, index: bool = True) -> None:
    """Show a table in which every name stays text: neither HTML nor mathematics comes alive; undefined is `–`."""
    display(table_data(frame, digits, index), raw=True)


def table_data(frame: pd.DataFrame, digits: int = 3, index: bool = True) -> dict[str, str]:
    """A table as a notebook keeps it, as HTML and as plain text; a long one can be sorted and searched."""
    options: Any = {"na_rep": "–", "float_format": f"{{:.{digits}f}}".format, "index": index}
    page = frame.to_html(classes=["tex2jax_ignore", "mathjax_ignore"], border=0, **options)
    if len(frame) > LONG:
        script = (STATIC / "table.js").read_text(encoding="utf-8")
        page = f'<div style="max-height: 30em; overflow: auto">{page}</div><script>{script}</script>'
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
