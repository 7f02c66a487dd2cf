"""Galleries of images, as figures and as widgets, and the thumbnails that pages hold in themselves."""

import base64
import io
from collections.abc import Callable
from html import escape
from pathlib import Path

import ipywidgets as w
import numpy as np
import pandas as pd
import PIL.Image
from matplotlib.figure import Figure

from ..data.images import ImageFault, load_named
from ..data.labels import LabelTable
from ..text import shortened
from . import plots
from .style import plain, png

THUMBNAIL = 192


def sample_gallery(paths: np.ndarray, y: np.ndarray, class_names: list[str], root: Path, columns: int = 6) -> Figure:
    """Images with the names of their labels under them; y int8 [N, C]."""
    captions = []
    for row in y:
        present = [plain(class_names[c], 16) for c in np.flatnonzero(row == 1)]
        captions.append("\n".join([", ".join(present[i : i + 2]) for i in range(0, len(present), 2)][:3]) or "(none)")
    return plots.gallery([thumbnail(path, root) for path in paths], captions, columns)


def error_gallery(
    errors: pd.DataFrame, root: Path, top_k: int = 12, look: Callable[[str, str], np.ndarray] | None = None
) -> Figure:
    """The first errors (see `errors.disagreements`), every number named in words; with `look`, see `Run.look`, each
    image once more under itself, bright where the network sees the class."""
    first = errors.head(top_k)
    images = [thumbnail(path, root) for path in first.image_path]
    if look is not None:
        places = zip(images, first.image_path, first["class"], strict=True)
        images = [np.vstack((image, lit(image, look(path, name)))) for image, path, name in places]
    figure = plots.gallery(images, _captions(first, "p {probability:.2f}, threshold {threshold:.2f}"))
    if first.tuned_on.any():
        figure.suptitle("tuned on these", fontsize=9)
    return figure


def suspect_gallery(suspects: pd.DataFrame, root: Path, top_k: int = 12) -> Figure:
    """The first suspects (see `suspects.find_suspects`)."""
    return _gallery(suspects.head(top_k), root, "p {probability:.2g}, rank {rank}")


def flip_gallery(flips: pd.DataFrame, root: Path, top_k: int = 6) -> Figure:
    """The first labels that only the older run had right, then the first that only the newer has (see `Paired`)."""
    first = pd.concat([flips[flips.change == change].head(top_k) for change in ("worse", "better")])
    return _gallery(first, root, "p {probability_before:.2f} → {probability_after:.2f}: {change}")


def _gallery(rows: pd.DataFrame, root: Path, said: str) -> Figure:
    return plots.gallery([thumbnail(path, root) for path in rows.image_path], _captions(rows, said))


def _captions(rows: pd.DataFrame, said: str) -> list[str]:
    """Class, label and what is said of it, by the columns that the text names."""
    return [
        f"{plain(row['class'], 20)}: label {'present' if row['label'] == 1 else 'absent'}\n{said.format_map(row)}"
        for row in rows.to_dict("records")
    ]


def lit(pixels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3], dark but for where a class activation map [h, w] speaks for the class."""
    height, width = pixels.shape[:2]
    share = PIL.Image.fromarray(np.maximum(found, 0) / max(found.max(), 1e-9)).resize(
        (width, height), PIL.Image.Resampling.BILINEAR
    )
    return (pixels * (0.25 + 0.75 * np.clip(np.asarray(share), 0, 1))[..., None]).astype(np.uint8)


def thumbnail(image_path: str, root: Path) -> np.ndarray:
    pixels = PIL.Image.fromarray(load_named(image_path, root, THUMBNAIL))
    return np.asarray(pixels.resize((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.BILINEAR, reducing_gap=2.0))


def data_uri(pixels: np.ndarray) -> str:
    """uint8 [H, W, 3] as a JPEG that a page can hold in itself."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "jpeg", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def small(image_path: str, root: Path) -> str:
    """A thumbnail that a page can hold in itself; "" for an image that cannot be read."""
    try:
        return data_uri(thumbnail(image_path, root))
    except ImageFault:
        return ""


def image(uri: str, alt: str) -> str:
    """A thumbnail (see `small`) as HTML."""
    alt = escape(alt)
    if not uri:
        return f"<div role='img' aria-label='{alt}' title='{alt}'>cannot be read</div>"
    return f"<img alt='{alt}' title='{alt}' src='{uri}'>"


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
            (f"{shortened(name)} ({n:,})", c)
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
        data = base64.b64encode(png(figure)).decode()
        self._picture.value = f"<img alt='{alt}' src='data:image/png;base64,{data}'>"


def class_examples(table: LabelTable, columns: int = 6) -> Figure:
    """Images with the names of their labels over them."""
    return sample_gallery(table.paths, table.y, table.class_names, table.root, columns)
