"""Reading, importing, checking and splitting labelled data, as ratios in one run: `make bench` or `make bench-quick`.

Nothing here is a test: machines differ and are noisy. Each line says what is compared with what.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import imagehash
import numpy as np
from PIL import Image

from mlworkbench.data import images as decoder
from mlworkbench.data.duplicates import near_duplicates
from mlworkbench.data.images import check_images, load_image
from mlworkbench.data.splits import FRACTIONS, stratified_split
from mlworkbench.network.batches import squared

READ = """
import sys, time
from mlworkbench import read_labels
start = time.perf_counter()
table = read_labels(sys.argv[1])
seconds = time.perf_counter() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # getrusage would count the parent's peak
peak = int(status["VmHWM"].split()[0]) * 1024 / 1e9
print(f"{len(table):,} rows x {len(table.class_names)} classes: {seconds:.1f} s, peak memory {peak:.2f} GB")
"""


def reading(folder: Path, rows: int) -> None:
    y = (np.random.default_rng(0).random((rows, 20)) < 0.1).astype(int).tolist()
    paths = [f"images/{i // 1000:04d}/photo_{i:07d}.jpg" for i in range(rows)]
    files = {
        "list column": ("image_path,labels\n", (f'{p},"{row}"\n' for p, row in zip(paths, y, strict=True))),
        "one column per class": (
            "image_path," + ",".join(f"c{i}" for i in range(20)) + "\n",
            (f"{p},{','.join(map(str, row))}\n" for p, row in zip(paths, y, strict=True)),
        ),
        "JSON Lines": ("", (f'["{p}", {row}]\n' for p, row in zip(paths, y, strict=True))),
    }
    for name, (header, lines) in files.items():
        file = folder / "labels.csv"
        file.write_text(header + "".join(lines))
        print(f"reading, {name}: ", end="", flush=True)
        subprocess.run([sys.executable, "-c", READ, file], check=True)


IMPORT = """
import sys, time
from mlworkbench.imports.door import import_labels
start = time.perf_counter()
found = import_labels(sys.argv[1], sys.argv[2])
seconds = time.perf_counter() - start
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) * 1024 / 1e9
print(f"{len(found.table):,} images: {seconds:.1f} s, peak memory {peak:.2f} GB")
"""


def importing(folder: Path, rows: int) -> None:
    """Foreign tables through the door, found, written and read again; the images are empty files."""
    rng = np.random.default_rng(0)
    paths = [f"{i // 1000:04d}/photo_{i:07d}" for i in range(rows)]
    for start in range(0, rows, 1000):
        (folder / "photos" / paths[start][:4]).mkdir(parents=True)
        for path in paths[start : start + 1000]:
            (folder / "photos" / f"{path}.jpg").touch()
    y = (rng.random((rows, 20)) < 0.1).astype(int).tolist()
    files = {
        "one column per class": (
            "photo,age," + ",".join(f"c{i}" for i in range(20)) + "\n",
            (f"photos/{p}.jpg,33,{','.join(map(str, row))}\n" for p, row in zip(paths, y, strict=True)),
        ),
        "one row for each label": (
            "ImageID,LabelName,Confidence\n",
            (f"photos/{paths[i // 3]}.jpg,class {c},1\n" for i, c in enumerate(rng.integers(0, 50, rows).tolist())),
        ),
    }
    for name, (header, lines) in files.items():
        (folder / "table.csv").write_text(header + "".join(lines))
        for file in (folder / "out.csv", folder / "classes.txt"):
            file.unlink(missing_ok=True)
        print(f"importing {rows:,} rows, {name}: ", end="", flush=True)
        subprocess.run([sys.executable, "-c", IMPORT, folder / "table.csv", folder / "out.csv"], check=True)


def best(work: Callable[[], object], times: int) -> float:
    """Median of the seconds that it takes."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def decoding(folder: Path, times: int) -> None:
    """A 12-megapixel JPEG, to 224 px against Ultralytics' own way (OpenCV's decoder and its validation transform), and
    checked, against decoding and hashing the whole of it with Pillow.
    """
    import cv2
    from ultralytics.data.augment import classify_transforms

    rng = np.random.default_rng(0)
    base = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    grain = rng.normal(0, 6, (3000, 4000, 1))  # a camera's files are not smooth
    pixels = np.asarray(base.resize((4000, 3000), Image.Resampling.BICUBIC)) + grain
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "large.jpg", quality=92)
    transform = classify_transforms(224)

    def theirs() -> None:
        transform(Image.fromarray(cv2.cvtColor(cv2.imread(str(folder / "large.jpg")), cv2.COLOR_BGR2RGB)))

    def whole() -> None:
        with Image.open(folder / "large.jpg") as image:
            imagehash.phash(Image.fromarray(np.array(image)))

    ours, other = best(lambda: squared(load_image("large.jpg", folder, 224), 224), times), best(theirs, times)
    print(
        f"decoding 12 megapixels to 224 px: {ours * 1e3:.0f} ms, Ultralytics {other * 1e3:.0f} ms, "
        f"{other / ours:.1f} times as much"
    )
    data = (folder / "large.jpg").read_bytes()
    ours, other = best(lambda: decoder._describe(data, decoder.MAX_PIXELS), times), best(whole, times)
    print(
        f"checking 12 megapixels: {ours * 1e3:.0f} ms, decoding and hashing the whole {other * 1e3:.0f} ms, "
        f"{other / ours:.1f} times as much"
    )


def threads(folder: Path, times: int) -> None:
    """Photographs of 500x375 to 224 px in two threads, against one, and against Pillow's decoder in two."""
    for i in range(64):
        base = np.random.default_rng(i).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(base).resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)

    def seconds(number: int) -> float:
        with ThreadPoolExecutor(number) as pool:
            return best(
                lambda: list(pool.map(lambda i: squared(load_image(f"{i}.jpg", folder, 224), 224), range(64))), times
            )

    one, two = seconds(1), seconds(2)
    with mock.patch.object(decoder, "_of_jpeg", lambda *_: None):
        pillow = seconds(2)
    print(
        f"decoding photographs of 500x375 to 224 px, 2 threads: {64 / two:.0f} images/s, {one / two:.2f} times one "
        f"thread, {pillow / two:.2f} times Pillow's decoder"
    )


def checking(folder: Path, images: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(images)]
    for name in names:
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / name, quality=90)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        check_images(names, folder)
        seconds.append(time.perf_counter() - start)
    print(
        f"checking {images:,} photographs of 500x375: first {seconds[0]:.2f} s, second {seconds[1]:.2f} s, "
        f"{seconds[1] / seconds[0]:.3f} of the first"
    )


def alike(images: int) -> None:
    """Near duplicates in a series that drifts, a picture at a time, against a quarter of it: linear is four times."""

    def seconds(images: int, shuffled: bool) -> float:
        rng = np.random.default_rng(0)
        first, last = rng.integers(40, 216, (2, 256))
        at = np.linspace(0, 1, images)[:, None]
        tiny = (first * (1 - at) + last * at + rng.normal(0, 1, (images, 256))).astype(np.uint8)
        tinies = [row.tobytes() for row in (rng.permutation(tiny) if shuffled else tiny)]
        start = time.perf_counter()
        near_duplicates([bytes(8)] * images, tinies)
        return time.perf_counter() - start

    for shuffled in (False, True):
        long, short = seconds(images, shuffled), seconds(images // 4, shuffled)
        print(
            f"near duplicates, {images:,} frames of one series{', shuffled' * shuffled}: {long:.2f} s, "
            f"{long / short:.1f} times a quarter of them"
        )


def splitting(seeds: int) -> None:
    """How far the rarest classes' shares lie from the wanted ones, against a random split of the same sizes."""

    def deviation(y: np.ndarray, split: np.ndarray) -> float:
        shares = np.array([y[split == name].sum(0) for name in ("train", "val", "test")]) / y.sum(0)
        return float(np.abs(shares - np.array(FRACTIONS)[:, None])[:, :3].mean())

    ours, by_chance = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        y = (rng.random((1000, 10)) < np.geomspace(0.015, 0.4, 10)).astype(np.int8)
        split = stratified_split(y, np.arange(1000), seed)
        ours.append(deviation(y, split))
        by_chance.append(deviation(y, rng.permutation(split)))
    ratio = np.mean(by_chance) / np.mean(ours)
    print(f"splitting, the three rarest of ten classes, {seeds} seeds: random deviates {ratio:.1f} times as much")


def splitting_many(rows: int) -> None:
    """Many rows of 80 classes, against a quarter of them: linear is four times."""

    def seconds(rows: int) -> float:
        rng = np.random.default_rng(0)
        y = np.stack([rng.random(rows) < share for share in np.geomspace(0.0005, 0.4, 80)], axis=1).astype(np.int8)
        start = time.perf_counter()
        stratified_split(y, np.arange(rows))
        return time.perf_counter() - start

    many, few = seconds(rows), seconds(rows // 4)
    print(f"splitting {rows:,} rows of 80 classes: {many:.1f} s, {many / few:.1f} times a quarter of them")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        folder = Path(name)
        reading(folder, 100_000 if quick else 1_000_000)
        importing(folder, 100_000 if quick else 1_000_000)
        decoding(folder, 5 if quick else 21)
        threads(folder, 5 if quick else 21)
        checking(folder, 100 if quick else 1000)
        alike(8000 if quick else 80_000)
        splitting(5 if quick else 20)
        splitting_many(100_000 if quick else 1_000_000)


if __name__ == "__main__":
    main()
