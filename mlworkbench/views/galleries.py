"""Galleries of images, as figures and as widgets, and the thumbnails that pages hold in themselves."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import ipywidgets as w
import numpy as np
import pandas as pd
import PIL.Image
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL.ImageFilter import MaxFilter

from ..data.images import ImageFault, load_named
from ..data.labels import LabelTable
from ..scoring.predictions import decide
from ..text import number, shortened
from . import plots
from .style import _STYLE, BLUE, PALE, _figure, plain, png

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


def prediction_gallery(frame: pd.DataFrame, root: Path, top_k: int = 12) -> Figure:
    """The first images of what `predict` returns, with the classes that are present, the surest first."""
    first, classes = frame.head(top_k), (len(frame.columns) - 1) // 2
    names, captions = [name.removeprefix("p_") for name in frame.columns[1 : 1 + classes]], []
    for row in first.iloc[:, 1:].to_numpy(np.float64):
        there = [c for c in np.argsort(-row[:classes], kind="stable") if row[classes + c]]
        said = [f"{plain(names[c], 18)} {number(row[c])}" for c in there[:3]] or ["(no class present)"]
        captions.append("\n".join(said + ([f"and {len(there) - 3} more"] if len(there) > 3 else [])))
    return plots.gallery([thumbnail(path, root) for path in first.image_path], captions)


@rc_context(_STYLE)
def answer_figure(
    pixels: np.ndarray,
    found: np.ndarray,
    p: ArrayLike,
    thresholds: ArrayLike,
    names: Sequence[str],
    most: int = 12,
) -> Figure:
    """What a network says of one image: the image, where it sees the first class, and each class's probability.

    Parameters
    ----------
    pixels, found : uint8 [H, W, 3], the second as `outlined` makes it
    p, thresholds, names : of the classes to be shown, in this order; the first `most` are
    """
    figure, (image, map_of, bars) = _figure(11, 3.6, 1, 3)
    for ax, shown, title in ((image, pixels, ""), (map_of, found, f"where {plain(names[0], 24)} is seen")):
        ax.imshow(shown)
        ax.set_axis_off()
        ax.set_title(title)
    p, thresholds = (np.asarray(values, np.float32)[:most] for values in (p, thresholds))
    rows, present = np.arange(len(p)), decide(p, thresholds)
    bars.barh(rows, p, color=np.where(present, BLUE, PALE))
    bars.vlines(thresholds, rows - 0.45, rows + 0.45, color="black", lw=2)
    bars.set_yticks(rows, [f"{plain(name, 24)} {number(share)}" for name, share in zip(names, p, strict=False)])
    bars.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), title="Probability; the line is the threshold")
    bars.grid(axis="y", visible=False)
    return figure


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
    return (pixels * (0.25 + 0.75 * _share(pixels, found))[..., None]).astype(np.uint8)


def outlined(pixels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3] in grey, orange where a class activation map [h, w] speaks for the class, with a line
    around where it does so at least half as much as at its most; to be seen on dark and on bright images."""
    share = _share(pixels, found)
    grey = 60 + 0.65 * np.asarray(PIL.Image.fromarray(pixels).convert("L"), np.float32)  # neither black nor white
    cover = 0.6 * share[..., None]
    image = (1 - cover) * grey[..., None] + cover * np.array([255, 128, 0], np.float32)
    inside = PIL.Image.fromarray(np.uint8(255) * (share >= 0.5))
    grown = [np.asarray(inside.filter(MaxFilter(size))) > 0 for size in (1, 3, 5, 7)]
    image[grown[3] & ~grown[0]] = 0  # white between black
    image[grown[2] & ~grown[1]] = 255
    return image.astype(np.uint8)


def _share(pixels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """How much each pixel speaks for the class, float32 [H, W] in 0..1, where 1 is the most that one does."""
    height, width = pixels.shape[:2]
    share = np.maximum(found, 0) / max(found.max(), 1e-9)
    spread = PIL.Image.fromarray(share).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.clip(np.asarray(spread), 0, 1)


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
