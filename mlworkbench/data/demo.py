"""Built-in data set: "digit scenes", handwritten digits pasted on crops of photographs.

Digits and photographs ship with scikit-learn, so nothing is fetched. Every digit image serves one split only:
otherwise a network scores by having seen the very same strokes (.995 instead of about .9).
"""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from ..exceptions import WorkbenchError
from ..files import write_csv, write_whole
from .labels import SPLITS
from .splits import FRACTIONS

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 96
# Uneven on purpose: the rarest class has about a sixth of the positives of the commonest.
FREQUENCY = np.array([0.07, 0.34, 0.25, 0.26, 0.13, 0.27, 0.10, 0.13, 0.28, 0.29])
TOGETHER = (2, 7)  # where there is a two, a seven often follows
CONTRAST = 160  # how far a digit's brightness lies from the ground's, of 255


def make_demo(
    folder: str | Path,
    images: int = 3000,
    seed: int = 0,
    label_noise: float = 0.0,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Make the digit scenes in `folder`; the same seed gives the same bytes.

    Writes `images/*.jpg` (96x96), `classes.txt`, `labels.csv` (with its split) and three files that inspection
    should find: one truncated, one that is no image, one exact duplicate. With `label_noise` that share of the
    labels is flipped, and `truth.csv` keeps them as they were.

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
    for old in (folder / "labels.csv", folder / "truth.csv", *folder.glob("images/*.jpg")):
        old.unlink(missing_ok=True)  # labels first: half a data set must not look like a whole one
    write_whole(folder / "demo.json", json.dumps({"images": images, "seed": seed, "noise": label_noise}).encode())

    rng = np.random.default_rng(seed)
    split_of_scene = rng.permutation(np.repeat(SPLITS, _shares(images)))
    photographs = [Image.fromarray(photo) for photo in load_sample_images().images]
    strokes = _digits_by_split(np.random.default_rng([seed, 1]))
    paths, y = [], np.zeros((images, 10), np.int8)
    for i in range(images):
        y[i] = _draw_labels(rng)
        scene = _draw_scene(rng, y[i], photographs, strokes[split_of_scene[i]])
        paths.append(f"images/{i:05d}.jpg")
        write_whole(folder / paths[-1], scene)
        if progress is not None:
            progress(1)
    split = list(split_of_scene)

    whole = (folder / paths[0]).read_bytes()
    for name, data in (
        ("truncated.jpg", whole[: len(whole) // 2]),
        ("not_an_image.jpg", b"This is a text with the wrong ending.\n"),
        ("duplicate.jpg", whole),
    ):
        write_whole(folder / "images" / name, data)
        paths.append(f"images/{name}")
        split.append(split[0])
    truth = np.concatenate([y, y[[0, 0, 0]]])
    noisy = truth.copy()
    flipped = rng.random(y.shape) < label_noise
    noisy[:images][flipped] ^= 1
    noisy[-1] = noisy[0]  # the duplicate agrees with its original: conflicts are another matter

    def rows(labels: np.ndarray) -> bytes:
        lines = zip(paths, (json.dumps(row.tolist()) for row in labels), split, strict=True)
        return write_csv(lines, ("image_path", "labels", "split"))

    if label_noise:
        write_whole(folder / "truth.csv", rows(truth))
    write_whole(folder / "classes.txt", "\n".join(CLASSES).encode() + b"\n")
    write_whole(folder / "labels.csv", rows(noisy))
    return folder / "labels.csv"


def _shares(n: int) -> list[int]:
    val, test = (round(n * share) for share in FRACTIONS[1:])
    return [n - val - test, val, test]


def _digits_by_split(rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """scikit-learn's 8x8 digits [n, 8, 8] in 0..1 for each class, parted between the splits."""
    digits = load_digits()
    parted: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for c in range(10):
        own = rng.permutation(np.flatnonzero(digits.target == c))
        ends = np.cumsum(_shares(len(own)))
        for name, rows in zip(SPLITS, np.split(own, ends[:2]), strict=True):
            parted[name].append(digits.images[rows] / 16)
    return parted


def _draw_labels(rng: np.random.Generator) -> np.ndarray:
    labels = rng.random(10) < FREQUENCY
    if labels[TOGETHER[0]] and rng.random() < 0.6:
        labels[TOGETHER[1]] = True
    while labels.sum() > 4:  # more do not fit without overlapping
        labels[rng.choice(np.flatnonzero(labels))] = False
    return labels.astype(np.int8)


def _draw_scene(
    rng: np.random.Generator, labels: np.ndarray, photographs: list[Image.Image], strokes: list[np.ndarray]
) -> bytes:
    """One JPEG: a crop of a photograph with a digit for every present class, none over another."""
    photo = photographs[rng.integers(len(photographs))]
    side = int(rng.integers(120, 300))
    x, y = int(rng.integers(photo.width - side)), int(rng.integers(photo.height - side))
    ground = photo.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    canvas = np.asarray(ground, np.float32).copy()
    boxes: list[tuple[int, int, int]] = []
    for c in rng.permutation(np.flatnonzero(labels)):
        size, left, top = _free_place(rng, boxes)
        boxes.append((size, left, top))
        digit = Image.fromarray((strokes[c][rng.integers(len(strokes[c]))] * 255).astype(np.uint8))
        turned = digit.resize((size, size), Image.Resampling.BICUBIC).rotate(
            rng.uniform(-5, 5), Image.Resampling.BICUBIC
        )
        ink = np.asarray(turned, np.float32)[..., None] / 255
        place = canvas[top : top + size, left : left + size]
        place += ink * (_ink_colour(rng, place) - place)
    buffer = io.BytesIO()
    Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _free_place(rng: np.random.Generator, boxes: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """A place (size, left, top) that touches no other; the longer the search, the smaller the digit."""
    for attempt in range(1000):
        size = int(rng.integers(36, 49)) - attempt // 50
        left, top = (int(v) for v in rng.integers(0, SIDE - size + 1, 2))
        if all(left + size <= x or x + other <= left or top + size <= y or y + other <= top for other, x, y in boxes):
            break
    return size, left, top


def _ink_colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A random colour whose brightness lies `CONTRAST` from the ground's, on the side with more room."""
    brightness = float(ground.mean())
    target = brightness - CONTRAST if brightness > 127 else brightness + CONTRAST
    colour = rng.uniform(0, 255, 3)
    return np.clip(colour + target - colour.mean(), 0, 255).astype(np.float32)
