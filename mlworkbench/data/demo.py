"""Built-in data set: "signs", pictographs on crops of photographs, with faults planted for each tool to find.

Two more labels are keywords, which say what no picture shows: they go with a sign, though not in each of its images.

Font and photographs ship with matplotlib and scikit-learn, so nothing is fetched. Between splits nothing is shared but
the shapes: place, size, angle, colour, light and ground are drawn anew for each image.
"""

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..exceptions import WorkbenchError
from ..files import write_csv, write_whole
from .duplicates import near_duplicates
from .images import ImageInfo, check_images
from .labels import SPLITS

# Each sign's glyph in DejaVu Sans, and the share of images with it: uneven on purpose.
SIGNS = {
    "sun": ("☀", 0.40),
    "cloud": ("☁", 0.30),
    "anchor": ("⚓", 0.26),
    "cup": ("☕", 0.22),
    "knight": ("♞", 0.19),
    "snowflake": ("❄", 0.16),  # the hard one: all thin strokes
    "scissors": ("✂", 0.13),
    "plane": ("✈", 0.12),
    "umbrella": ("☂", 0.12),  # and often with a cloud
    "gear": ("⚙", 0.09),
    "phone": ("☎", 0.08),
    "lightning": ("⚡", 0.07),
    "heart": ("♥", 0.07),
    "star": ("★", 0.035),
}
# What a keyword says beyond the picture: it goes with a sign in so many of its images, and nothing shows in which.
KEYWORDS = {"holiday": ("sun", 0.25), "winter": ("snowflake", 0.3)}
CLASSES = (*SIGNS, *KEYWORDS)
TOGETHER = (CLASSES.index("cloud"), CLASSES.index("umbrella"), 0.35)  # where the one is, the other often follows
MOST = 4  # signs in an image: more do not fit beside each other
SIDE = 192
HELD = 0.2  # share of images in val, and in test: enough wrong labels among them to find
TWINS = 6  # near duplicates in val or test of images in train
DARK = 0.1  # share of images taken in the dark: the slice on which a network does worse


def make_demo(
    folder: str | Path,
    images: int = 3800,
    seed: int = 0,
    label_noise: float = 0.03,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Make the signs in `folder`; the same seed gives the same bytes.

    Writes `images/*.jpg` (192x192), `classes.txt`, `labels.csv` (with its split), `truth.csv` (the same with every
    label right) and `signs.csv` (where each sign is: `image_path,class,left,top,size` in pixels). Planted are wrong
    labels, dark images, `TWINS` near duplicates across splits, an exact duplicate, and four files that cannot be read.

    Parameters
    ----------
    label_noise : share 0..0.5 of each class's present labels that are missing; half as many are there wrongly

    Returns
    -------
    Path of `labels.csv`, which is written last

    Raises
    ------
    WorkbenchError : too few images, a noise outside 0..0.5, or a folder that holds something else
    """
    folder = Path(folder)
    if images < 20:
        raise WorkbenchError(f"{images} images; expected at least 20")
    if seed < 0:
        raise WorkbenchError(f"seed {seed}; expected a whole number of at least 0")
    if not 0 <= label_noise <= 0.5:
        raise WorkbenchError(f"label noise {label_noise}; expected a share between 0 and 0.5")
    if folder.exists() and any(folder.iterdir()) and not (folder / "demo.json").exists():
        raise WorkbenchError(f"{folder} holds something else; choose an empty folder")
    for old in (folder / "labels.csv", folder / "truth.csv", folder / "signs.csv", *folder.glob("images/*.jpg")):
        old.unlink(missing_ok=True)  # labels first: half a data set must not look like a whole one
    write_whole(folder / "demo.json", json.dumps({"images": images, "seed": seed, "noise": label_noise}).encode())

    rng = np.random.default_rng(seed)
    held = round(images * HELD)
    split = list(rng.permutation(np.repeat(SPLITS, [images - 2 * held, held, held])))
    paths = [f"images/{i:05d}.jpg" for i in range(images)]
    y = np.stack([_draw_labels(rng) for _ in paths])
    painter, places = _Painter(), []
    with ThreadPoolExecutor() as pool:
        for its in pool.map(
            lambda i: painter.paint(np.random.default_rng([seed, i]), y[i], folder / paths[i]), range(images)
        ):
            places.append(its)
            if progress is not None:
                progress(1)
    for i in _lookalikes(folder, paths):
        places[i] = painter.paint(np.random.default_rng([seed, i, 1]), y[i], folder / paths[i])

    whole = (folder / paths[0]).read_bytes()
    for name, data in (
        ("duplicate.jpg", whole),
        ("truncated.jpg", whole[: len(whole) // 2]),
        ("not_an_image.jpg", b"This is a text with the wrong ending.\n"),
        ("empty.jpg", b""),
        ("missing.jpg", None),
    ):
        if data is not None:
            write_whole(folder / "images" / name, data)
        paths.append(f"images/{name}")
        split.append(split[0])
    truth = np.concatenate([y, y[[0] * 5]])
    learnt, number = np.flatnonzero(np.array(split[1:images]) == "train") + 1, min(TWINS, images // 10)
    twins: list[int] = []
    for i in (*rng.choice(learnt, number, False).tolist(), *learnt.tolist()):
        if len(twins) == number:
            break
        path = f"images/twin_{len(twins)}.jpg"
        write_whole(folder / path, _twin(folder / paths[i]))
        if _lookalikes(folder, [paths[i], path]):  # in the dark or in fog there may be too little to tell it by
            paths.append(path)
            split.append(SPLITS[1 + len(twins) % 2])
            twins.append(i)
    truth = np.concatenate([truth, y[twins]])
    labels = truth.copy()
    labels[1:images] = _mislabelled(rng, y[1:], label_noise)  # not the first, with which its duplicate agrees

    def rows(labels: np.ndarray) -> bytes:
        lines = zip(paths, (json.dumps(row.tolist()) for row in labels), split, strict=True)
        return write_csv(lines, ("image_path", "labels", "split"))

    found = [(path, *place) for path, its in zip(paths, places, strict=False) for place in its]
    write_whole(folder / "signs.csv", write_csv(found, ("image_path", "class", "left", "top", "size")))
    write_whole(folder / "truth.csv", rows(truth))
    write_whole(folder / "classes.txt", "\n".join(CLASSES).encode() + b"\n")
    write_whole(folder / "labels.csv", rows(labels))
    return folder / "labels.csv"


def _draw_labels(rng: np.random.Generator) -> np.ndarray:
    labels = rng.random(len(SIGNS)) < [share for _, share in SIGNS.values()]
    first, second, often = TOGETHER
    if labels[first] and rng.random() < often:
        labels[second] = True
    while labels.sum() > MOST:
        labels[rng.choice(np.flatnonzero(labels))] = False
    keywords = [labels[CLASSES.index(sign)] and rng.random() < often for sign, often in KEYWORDS.values()]
    return np.array([*labels, *keywords], np.int8)


def _mislabelled(rng: np.random.Generator, y: np.ndarray, share: float) -> np.ndarray:
    """Labels of which a share of each class's present ones is missing, and half as many others are there wrongly."""
    wrong = y.copy()
    for c in range(y.shape[1]):
        present = rng.permutation(np.flatnonzero(y[:, c] == 1))
        number = round(share * len(present))
        wrong[present[:number], c] = 0
        wrong[rng.permutation(np.flatnonzero(y[:, c] == 0))[: round(number / 2)], c] = 1
    return wrong


def _lookalikes(folder: Path, paths: list[str]) -> list[int]:
    """Which of these images look like an earlier one."""
    infos = [info for info in check_images(paths, folder) if isinstance(info, ImageInfo)]
    return np.unique(near_duplicates([its.phash for its in infos], [its.tiny for its in infos])[:, 1]).tolist()


def _twin(file: Path) -> bytes:
    """An image once more, as somebody would pass it on: smaller, a little brighter, saved anew."""
    with Image.open(file) as image:
        return _jpeg(image.resize((160, 160)).point(lambda value: round(value * 1.03)), 80)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


class _Painter:
    """Paints signs on crops of photographs."""

    def __init__(self) -> None:
        from sklearn.datasets import load_sample_images  # takes seconds to import

        self.photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
        font = sign_font(160)
        self.shapes = [_shape(glyph, font) for glyph, _ in SIGNS.values()]

    def paint(self, rng: np.random.Generator, labels: np.ndarray, file: Path) -> list[tuple[str, int, int, int]]:
        """Write one image with a sign of every present class; class, left, top and size of each, in pixels."""
        canvas, boxes = self._ground(rng), list[tuple[int, int, int]]()
        classes = rng.permutation(np.flatnonzero(labels[: len(SIGNS)])).tolist()
        for c in classes:
            boxes.append(_free_box(rng, boxes))
            _put(canvas, rng, self.shapes[c], *boxes[-1])
        if rng.random() < DARK:
            canvas *= rng.uniform(14, 32) / canvas.mean()
            canvas += rng.normal(0, 8, canvas.shape)
        image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
        write_whole(file, _jpeg(image, 88))
        return [(CLASSES[c], *box) for c, box in zip(classes, boxes, strict=True)]

    def _ground(self, rng: np.random.Generator) -> np.ndarray:
        """A crop of a photograph, in another light; float32 [SIDE, SIDE, 3]."""
        photograph = self.photographs[rng.integers(len(self.photographs))]
        side = int(rng.integers(100, 420))
        x, y = int(rng.integers(photograph.width - side)), int(rng.integers(photograph.height - side))
        crop = photograph.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
        canvas = np.asarray(crop, np.float32)[:, :: 1 - 2 * int(rng.integers(2))]
        contrast, tint = rng.uniform(0.5, 1), rng.uniform(0.7, 1.1, 3)
        mean = canvas.reshape(-1, 3).mean(0)
        return canvas * (contrast * tint).astype(np.float32) + ((1 - contrast) * mean * tint).astype(np.float32)


def sign_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of `SIGNS`, which matplotlib ships, in so many pixels."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _shape(glyph: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """A glyph's mask, centred in a square that it fills, with the room for its shadow."""
    left, top, right, bottom = font.getbbox(glyph)
    side = round(1.1 * max(right - left, bottom - top))
    mask = Image.new("L", (side, side))
    place = (side - left - right) / 2, (side - top - bottom) / 2
    ImageDraw.Draw(mask).text(place, glyph, font=font, fill=255)
    return mask


def _free_box(rng: np.random.Generator, taken: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """A box (left, top, size) that touches no other, perhaps over the edge; the longer the search, the smaller."""
    for attempt in range(1000):
        size = int(rng.integers(72, 107)) - attempt // 25
        left, top = (int((SIDE - 0.75 * size) * rng.random() - size / 8) for _ in range(2))
        if all(left + size <= x or x + other <= left or top + size <= y or y + other <= top for x, y, other in taken):
            break
    return left, top, size


def _put(canvas: np.ndarray, rng: np.random.Generator, shape: Image.Image, left: int, top: int, size: int) -> None:
    """Paint a sign into the canvas: turned, in a colour that stands off from the ground, shaded, with a shadow."""
    mask = shape.resize((size, size), Image.Resampling.BILINEAR).rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC)
    ink = np.asarray(mask, np.float32)[..., None] / 255
    blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(size / 24)), np.float32)[..., None] / 255
    shadow = np.roll(blurred, (size // 20,) * 2, (0, 1))
    x, y = max(left, 0), max(top, 0)
    inside = np.s_[y - top : SIDE - top, x - left : SIDE - left]
    ink, shadow = ink[inside], shadow[inside]
    place = canvas[y : y + ink.shape[0], x : x + ink.shape[1]]
    colour = _colour(rng, float(place.mean()))
    slope = np.linspace(25, -25, size, dtype=np.float32)[inside[0], None, None]  # lit from above
    place *= 1 - 0.45 * shadow
    place += ink * ((colour + slope).clip(0, 255) - place)


def _colour(rng: np.random.Generator, ground: float) -> np.ndarray:
    """A colour of any hue whose brightness lies 110 to 190 from the ground's, mostly on the side with more room."""
    hue, away = rng.random(), rng.uniform(110, 190)
    lighter = (ground < 128) != (rng.random() < 0.1)
    wheel = np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    tint = wheel.clip(0, 1) - wheel.clip(0, 1).mean()
    return (ground + (away if lighter else -away) + 110 * tint).clip(0, 255).astype(np.float32)
