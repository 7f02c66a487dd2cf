"""Style of the figures: colours, sizes, text, and their bytes."""

import io
import warnings
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..data.labels import SPLITS
from ..text import shortened
from .fonts import with_all_letters

# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE, ORANGE, GREEN, PURPLE, GREY, PALE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#757575", "#BDBDBD"
LINES = (BLUE, ORANGE, GREEN, PURPLE, GREY)
SPLIT_COLOURS = dict(zip(SPLITS, (BLUE, ORANGE, GREEN), strict=True))
# What a point of the map may be, in the order of drawing: colour, and mark for matplotlib and for plotly.
MAP_MARKS = {
    "train": (BLUE, "o", "circle"),
    "val": (ORANGE, "s", "square"),
    "test": (GREEN, "D", "diamond"),
    "absent": (PALE, "o", "circle"),
    "present": (BLUE, "D", "diamond"),
    "right": (PALE, "o", "circle"),
    "unknown": (GREY, "x", "x-thin-open"),
    "false positive": (BLUE, "^", "triangle-up"),
    "false negative": (ORANGE, "v", "triangle-down"),
    "both": (PURPLE, "D", "diamond"),
}
STATIC = Path(__file__).with_name("static")  # pages and their looks
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
}


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG bytes, names in any script as far as a font for them is installed."""
    buffer = io.BytesIO()
    with with_all_letters(figure), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # one line says so already
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def plain(text: object, most: int = 40) -> str:
    """Text as matplotlib shows it letter by letter: a `$` starts no mathematics, and a long name is shortened."""
    return shortened(text, most).replace("$", r"\$")


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def _class_height(classes: int) -> float:
    return max(2.5, 0.8 + 0.28 * classes)
