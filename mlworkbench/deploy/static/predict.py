"""Predictions of this model: every class's own probability and whether it is present, as CSV.

Needs onnxruntime, NumPy and Pillow alone:

python predict.py IMAGE_OR_FOLDER… > predictions.csv
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "TGA", "PCX", "ICO")
MAX_PIXELS = 100_000_000
BATCH = 32


class Model:
    """The network beside this file: images uint8 [B, 3, S, S] to probabilities float32 [B, C] of `names`."""

    def __init__(self, folder=Path(__file__).parent):
        labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        self.names = [row["name"] for row in labels["classes"]]
        self.thresholds = np.array([row["threshold"] for row in labels["classes"]], np.float32)
        self.zones = np.array([row["review"] for row in labels["classes"] if "review" in row], np.float32)
        self.input, self.size = labels["input"]["name"], labels["input"]["size"]
        self.session = onnxruntime.InferenceSession(folder / labels["file"], providers=["CPUExecutionProvider"])

    def __call__(self, pixels):
        return self.session.run(["probabilities"], {self.input: pixels})[0]

    def present(self, p):
        return p >= self.thresholds

    def review(self, p):
        """For which classes an image, p [C], goes to a person; nothing where the model has no zones for people."""
        return [low <= its < high for its, (low, high) in zip(p, self.zones, strict=False)]


def decode(file, size):
    """One image as uint8 [3, size, size]: whole, upright, transparency on white; of several frames the first."""
    with Image.open(file, formats=FORMATS) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError(f"{opened.width}x{opened.height} pixels, over the limit of {MAX_PIXELS:,}")
        opened.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a reduced scale
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):  # deeper than 8 bits: the range that occurs
        values = np.asarray(image, np.float64)
        values -= values.min()
        image = Image.fromarray((values * (255 / max(values.max(), 1e-12))).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return shrunk(np.array(image.convert("RGB")), size)


def shrunk(pixels, size):
    """uint8 [H, W, 3] as [3, size, size]: bilinear, antialiased, rounded to the bit as where the network was trained.

    Pillow's own resize differs by 1 in a fifth of the values, which can move a probability by some hundredths.
    """
    for _ in ("across", "down"):
        pixels = np.ascontiguousarray(pixels.swapaxes(0, 1))
        length = len(pixels)
        scale = length / size
        reach = max(scale, 1.0)
        middle = scale * (np.arange(size) + 0.5)
        first, end = (middle - reach + 0.5).astype(int).clip(0), (middle + reach + 0.5).astype(int).clip(max=length)
        seen = first[:, None] + np.arange(2 * int(np.ceil(reach)) + 1)
        weights = (1 - np.abs((seen - middle[:, None] + 0.5) / reach)).clip(0) * (seen < end[:, None])
        weights /= weights.sum(1, keepdims=True)
        bits = next(b for b in range(23) if b == 22 or int(0.5 + weights.max() * 2 ** (b + 1)) >= 2**15)
        whole = (0.5 + weights * 2**bits).astype(np.int32)  # of 16 bits
        total = np.int32(2 ** (bits - 1))
        for k in range(seen.shape[1]):
            total = total + pixels[seen[:, k].clip(max=length - 1)] * whole[:, k, None, None]
        pixels = (total >> bits).clip(0, 255).astype(np.uint8)
    return pixels.transpose(2, 0, 1)


def images_in(source):
    """The files of a folder that are called images, in order, or the file itself."""
    if not source.is_dir():
        return [source]
    known = {end for end, kind in Image.registered_extensions().items() if kind in (*FORMATS, "MPO")}
    return sorted(file for file in source.rglob("*") if file.suffix.lower() in known and file.name[:2] != "._")


def predictions(model, files):
    """(file, probabilities [C]) for every file that can be read; the others are told on standard error."""
    for start in range(0, len(files), BATCH):
        read = []
        for file in files[start : start + BATCH]:
            try:
                read.append((file, decode(file, model.size)))
            except Exception as fault:  # whatever decoders raise on damaged bytes
                print(f"set aside  {str(file)!r}: {fault}", file=sys.stderr)
        if read:
            yield from zip((file for file, _ in read), model(np.stack([pixels for _, pixels in read])), strict=True)


def main():
    parser = argparse.ArgumentParser(description="Predict images: a CSV of probabilities and decisions.")
    parser.add_argument("source", nargs="+", type=Path, help="images and folders")
    model, files = Model(), [file for source in parser.parse_args().source for file in images_in(source)]
    rows = 0
    # As bytes of UTF-8 with the ends of lines of CSV, whatever the screen has.
    with open(sys.stdout.fileno(), "w", encoding="utf-8", errors="surrogateescape", newline="") as out:  # noqa: PTH123
        table = csv.writer(out)
        kinds = ("p", "present", "review") if len(model.zones) else ("p", "present")
        table.writerow(["image_path", *(f"{kind}_{name}" for kind in kinds for name in model.names)])
        for file, p in predictions(model, files):
            path = f"./{file}" if str(file)[0] in "=+-@" else file  # which a spreadsheet would take for a formula
            table.writerow([path, *map(str, p), *model.present(p).astype(int), *model.review(p)])
            rows += 1
    if not rows:
        sys.exit("error: no image that can be read")


if __name__ == "__main__":
    main()
