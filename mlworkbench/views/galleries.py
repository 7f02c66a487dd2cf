"""Galleries of images, as figures and as widgets, and the thumbnails that pages hold in themselves."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
import PIL.Image
from IPython.display import HTML
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL.ImageFilter import MaxFilter

from ..data.images import ImageFault, load_named
from ..data.labels import LabelTable
from ..scoring.predictions import decide
from ..text import number, shortened, shown
from .parts import Choice, Rows
from .style import _STYLE, BLUE, ORANGE, PALE, STATIC, _figure, plain

THUMBNAIL, LARGE = 192, 448  # pixels of the longer side


def gallery(
    images: Sequence[np.ndarray | Sequence[np.ndarray]],
    captions: Sequence[str],
    columns: int = 6,
    note: str = "",
    shape: float = 1,
) -> HTML:
    """Images with captions as a page that needs neither kernel nor script: a click, or Enter, opens one large.

    Parameters
    ----------
    images : uint8 [H, W, 3] each, or several that share a tile, the first on top
    captions : one text a tile, `\\n` for a new line; names stay text
    note : what is said over all of them
    shape : width of a tile over its height
    """
    tiles = [f"<p>{escape(note)}</p>"] if note else []
    for tile, caption in zip(images, captions, strict=True):
        alt = escape(caption.replace("\n", ", "))
        uris = [data_uri(pixels) for pixels in ([tile] if isinstance(tile, np.ndarray) else tile)]
        pictures = "".join(f"<img alt='{'' if place else alt}' src='{uri}'>" for place, uri in enumerate(uris))
        said = "".join(f"<bdi>{escape(text)}</bdi>" for text in caption.split("\n"))
        tiles.append(f"<details><summary>{pictures}<span>{said}</span></summary></details>")
    style = (STATIC / "gallery.css").read_text(encoding="utf-8")
    grid = f"class='mlw-gallery tex2jax_ignore mathjax_ignore' style='--columns: {columns}; --shape: {shape}'"
    return HTML(f"<style>{style}</style><div {grid}>{''.join(tiles) or 'nothing to show'}</div>")


def sample_gallery(paths: np.ndarray, y: np.ndarray, class_names: list[str], root: Path, columns: int = 6) -> HTML:
    """Images with the names of their labels under them; y int8 [N, C]."""
    captions = [_listed([shortened(class_names[c]) for c in np.flatnonzero(row == 1)], ", ") or "(none)" for row in y]
    return gallery([picture(path, root) for path in paths], captions, columns)


def error_gallery(
    errors: pd.DataFrame,
    root: Path,
    top_k: int = 12,
    look: Callable[[str, str], tuple[np.ndarray, float]] | None = None,
) -> HTML:
    """The first errors (see `errors.disagreements`), every number named in words.

    Parameters
    ----------
    look : see `Run.look`; each image once more under itself, see `outlined`, and how far that map is from the logit
    """
    first, said = errors.head(top_k), "p {probability}, threshold {threshold}"
    images: list[Any] = [picture(path, root) for path in first.image_path]
    if look is not None:
        seen = [look(*at) for at in zip(first.image_path, first["class"], strict=True)]
        images = [(image, outlined(image, found)) for image, (found, _) in zip(images, seen, strict=True)]
        first, said = first.assign(off=[f"{off:+.2f}" for _, off in seen]), said + "\nmap {off} off the logit"
    return gallery(images, _captions(first, said), note="tuned on these" if first.tuned_on.any() else "")


def suspect_gallery(suspects: pd.DataFrame, root: Path, top_k: int = 12) -> HTML:
    """The images of the first suspects (see `suspects.find_suspects`), each once with all of its labels up to there."""
    first = suspects[(~suspects.image_path.duplicated()).cumsum() <= top_k]
    images, captions = [], []
    for path, its in first.groupby("image_path", sort=False):
        more = f"\nand {len(its) - 2} more" if len(its) > 2 else ""
        images.append(picture(str(path), root))
        captions.append("\n".join(_captions(its.head(2), "p {probability}, rank {rank}")) + more)
    return gallery(images, captions)


def flip_gallery(flips: pd.DataFrame, root: Path, top_k: int = 6) -> HTML:
    """The first labels that only the older run had right, then the first that only the newer has (see `Paired`)."""
    first = pd.concat([flips[flips.change == change].head(top_k) for change in ("worse", "better")])
    captions = _captions(first, "p {probability_before} → {probability_after}: {change}")
    return gallery([picture(path, root) for path in first.image_path], captions)


def pair_gallery(near: pd.DataFrame, root: Path, top_k: int = 9) -> HTML:
    """The first pairs of near duplicates (see `datamap.near_duplicates`), each side by side."""
    images, captions, gap = [], [], np.full((THUMBNAIL, THUMBNAIL // 24, 3), 255, np.uint8)
    for pair in near.head(top_k).to_dict("records"):
        images.append(np.hstack((thumbnail(pair["a"], root), gap, thumbnail(pair["b"], root))))
        sides = (f"{shortened(Path(pair[side]).name)} ({pair[f'split_{side}']})" for side in "ab")
        captions.append("\n".join((*sides, f"similarity {pair['similarity']:.2f}")))
    return gallery(images, captions, 3, shape=2)


def prediction_gallery(frame: pd.DataFrame, root: Path, top_k: int = 12) -> HTML:
    """The first images of what `predict` returns, with the classes that are present, the surest first."""
    first, captions = frame.head(top_k), []
    names = [name.removeprefix("p_") for name in frame.columns if name.startswith("p_")]
    classes = len(names)
    for row in first.iloc[:, 1:].to_numpy(np.float64):
        there = [c for c in np.argsort(-row[:classes], kind="stable") if row[classes + c]]
        captions.append(_listed([f"{shortened(names[c])} {row[c]:.2f}" for c in there], "\n") or "(no class present)")
    return gallery([picture(path, root) for path in first.image_path], captions)


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
    for ax, seen, title in ((image, pixels, ""), (map_of, found, f"where {plain(names[0], 24)} is seen")):
        ax.imshow(seen)
        ax.set_axis_off()
        ax.set_title(title)
    p, thresholds = (np.asarray(values, np.float32)[:most] for values in (p, thresholds))
    rows, present = np.arange(len(p)), decide(p, thresholds)
    bars.barh(rows, p, color=np.where(present, BLUE, PALE))
    bars.vlines(thresholds, rows - 0.45, rows + 0.45, color=ORANGE, lw=3)
    bars.set_yticks(rows, [f"{plain(name, 24)} {number(share)}" for name, share in zip(names, p, strict=False)])
    bars.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), title="Probability; the line is the threshold")
    bars.grid(axis="y", visible=False)
    return figure


def _captions(rows: pd.DataFrame, said: str) -> list[str]:
    """Class, label and what is said of it, by the columns that the text names."""
    return [
        f"{shortened(row['class'])}: label {'present' if row['label'] == 1 else 'absent'}\n{captioned(row, said)}"
        for row in rows.to_dict("records")
    ]


def captioned(row: dict[Any, Any], said: str) -> str:
    """A text with the values of a row that it names, numbers in two decimals."""
    return said.format_map({key: shown(its, 2) if isinstance(its, float) else its for key, its in row.items()})


def _listed(texts: list[str], sign: str, most: int = 6) -> str:
    """The first few of the texts, and how many more there are."""
    return sign.join([*texts[:most], *([f"and {len(texts) - most} more"] if texts[most:] else [])])


def outlined(pixels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3] in grey, orange where a class activation map [h, w] speaks for the class, with a line
    around where it does so at least half as much as at its most; to be seen on dark and on bright images."""
    height, width = pixels.shape[:2]
    most = PIL.Image.fromarray(np.maximum(found, 0) / max(found.max(), 1e-9))
    share = np.clip(np.asarray(most.resize((width, height), PIL.Image.Resampling.BILINEAR)), 0, 1)  # of the most
    grey = 60 + 0.65 * np.asarray(PIL.Image.fromarray(pixels).convert("L"), np.float32)  # neither black nor white
    cover = 0.6 * share[..., None]
    image = (1 - cover) * grey[..., None] + cover * np.array([255, 128, 0], np.float32)
    inside = PIL.Image.fromarray(np.uint8(255) * (share >= 0.5))
    grown = [np.asarray(inside.filter(MaxFilter(size))) > 0 for size in (1, 3, 5, 7)]
    image[grown[3] & ~grown[0]] = 0  # white between black
    image[grown[2] & ~grown[1]] = 255
    return image.astype(np.uint8)


def picture(image_path: str, root: Path) -> np.ndarray:
    """An image as a gallery holds it, uint8 [H, W, 3], its longer side brought to between `THUMBNAIL` and `LARGE`."""
    pixels = PIL.Image.fromarray(load_named(image_path, root, LARGE))
    longer = max(pixels.size)
    width, height = (max(1, round(side * np.clip(longer, THUMBNAIL, LARGE) / longer)) for side in pixels.size)
    return np.asarray(pixels.resize((width, height), PIL.Image.Resampling.BILINEAR, reducing_gap=2.0))


def thumbnail(image_path: str, root: Path) -> np.ndarray:
    """An image as a square of `THUMBNAIL` pixels, uint8 [H, W, 3]."""
    pixels = PIL.Image.fromarray(load_named(image_path, root, THUMBNAIL))
    return np.asarray(pixels.resize((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.BILINEAR, reducing_gap=2.0))


def data_uri(pixels: np.ndarray) -> str:
    """uint8 [H, W, 3] as a JPEG that a page can hold in itself."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "jpeg", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def small(image_path: str, root: Path, drawn: Callable[[str, Path], np.ndarray] = thumbnail) -> str:
    """A thumbnail, or what else is drawn of an image, that a page can hold; "" for an image that cannot be read."""
    try:
        return data_uri(drawn(image_path, root))
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
        self.choice = Choice("Class", options)
        self.more = w.Button(description="Others")
        self._picture = w.HTML()
        self.choice.observe(lambda _: self._draw(0), "index")
        self.more.on_click(lambda _: self._draw(self._page + 1))
        row = w.HBox([self.choice, self.more], layout=w.Layout(align_items="center"))
        super().__init__([row, self._picture])
        self._draw(0)

    def _draw(self, page: int) -> None:
        c = self.choice.value
        rows = np.flatnonzero(self._table.y[:, c] == 1)
        start = (page * self._shown) % max(1, len(rows))
        self._page = page
        self._picture.value = class_examples(self._table.take(rows[start : start + self._shown])).data


def class_examples(table: LabelTable, columns: int = 6) -> HTML:
    """Images with the names of their labels under them."""
    return sample_gallery(table.paths, table.y, table.class_names, table.root, columns)


class ImagesOf(w.HBox):
    """Rows of a table in a list, and beside it images of the row that is chosen.

    Parameters
    ----------
    table : a row each
    said : what stands in the list, with names of columns in braces
    sized : the column, of numbers above 0, that the bars behind the rows show
    images_of : gives the image paths of a row, such as `analysis.confused_images`
    root : where the paths start

    >>> of_pair = partial(confused_images, predictions, limits)
    >>> ImagesOf(pairs, "{missed}: {images}", "images", of_pair, root)  # doctest: +SKIP
    """

    def __init__(
        self,
        table: pd.DataFrame,
        said: str,
        sized: str,
        images_of: Callable[[Mapping[Any, Any]], Sequence[str]],
        root: Path,
    ):
        self._rows, self._images_of, self._root = table.to_dict("records"), images_of, root
        options = [(captioned(row, said), place) for place, row in enumerate(self._rows)]
        self.choice = Rows("Rows", options, (table[sized] / table[sized].max()).tolist())
        self.images = w.HTML(layout=w.Layout(margin="0 0 0 12px", flex="1"))
        self.choice.observe(lambda _: self._draw(), "index")
        super().__init__([self.choice, self.images])
        self._draw()

    def __repr__(self) -> str:
        return "Images of the rows: run in a live Jupyter; the table below stands in their place."

    def _draw(self, most: int = 12) -> None:
        paths = self._images_of(self._rows[self.choice.value]) if self._rows else []
        first, note = paths[:most], f"{min(len(paths), most):,} of {len(paths):,} images" if len(paths) else ""
        tiles, names = [picture(path, self._root) for path in first], [shortened(path, 60) for path in first]
        self.images.value = gallery(tiles, names, 4, note).data
