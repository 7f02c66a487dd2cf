"""One decoder for checking, training and predicting, so that what passed the check can be trained on."""

import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .exceptions import WorkbenchError

MAX_PIXELS = 100_000_000
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".avif", ".tif", ".tiff", ".gif")
# Raster formats only: Pillow also reads some whose decoding starts other programs (EPS) or renders documents.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "TGA", "PCX", "ICO")
# Ultralytics replaces Image.open by one that tries to install packages for a file that is no image.
_open = vars(sys.modules.get("ultralytics.utils.patches", object)).get("_image_open", Image.open)


class ImageFault(WorkbenchError):
    """Why an image cannot be used; the text is the reason written to `quarantine.csv`."""


@dataclass(frozen=True)
class ImageInfo:
    """What a check found: size as shown (after EXIF orientation), and the digest of the file's bytes."""

    width: int
    height: int
    digest: str


def locate(image_path: str, root: Path) -> Path:
    """The regular file that a relative image path names, inside `root` after links are resolved.

    Raises
    ------
    ImageFault : a URL, outside the root, missing, or not a regular file
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", image_path):
        raise ImageFault("a URL; download it and name the file")
    try:
        file = (root / image_path).resolve()
        if not file.is_relative_to(root.resolve()):
            raise ImageFault(f"outside the image root {root}")
        mode = file.stat().st_mode
    except FileNotFoundError:
        raise ImageFault("missing") from None
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a null byte, a loop of links
        raise ImageFault(f"unreadable: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        raise ImageFault("not a regular file")
    return file


def load_image(image_path: str, root: Path, size: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one image to RGB.

    EXIF orientation is applied. With `size` the whole image is resized to a square (nothing is cropped away, so
    every labelled object stays in the picture); JPEGs are then decoded at reduced scale where that allows.

    Returns
    -------
    uint8 [H, W, 3], or [size, size, 3]

    Raises
    ------
    ImageFault : see `locate`; unreadable, truncated, not an image, or more than `max_pixels` by its header
    """
    file = locate(image_path, root)
    try:
        with _open(file, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageFault(f"{image.width}x{image.height} pixels, over the limit of {max_pixels:,}")
            if size is not None:
                image.draft("RGB", (size, size))
            image.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image), size))
    except ImageFault:
        raise
    except UnidentifiedImageError:
        raise ImageFault("not an image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise ImageFault(f"far more pixels by its header than the limit of {max_pixels:,}") from None
    except MemoryError:
        raise ImageFault("too large for the memory at hand") from None
    except Exception as error:  # decoders raise many kinds on damaged bytes (OSError, SyntaxError, struct.error …)
        raise ImageFault(f"truncated or damaged: {error}") from None


def _to_rgb(image: Image.Image, size: int | None) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Deeper than 8 bits: the range found is stretched to 0..255 (a plain convert() clips instead).
        values = np.asarray(image, dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        image = Image.fromarray(((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert("RGB")
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return image


def check_images(
    paths: Iterable[str], root: Path, max_pixels: int = MAX_PIXELS, progress: Callable[[int], object] | None = None
) -> list[ImageInfo | ImageFault]:
    """Decode every image fully, on all cores; a fault stands in the place of the image that has it.

    `progress` is called with 1 after each image.
    """

    def check(image_path: str) -> ImageInfo | ImageFault:
        try:
            pixels = load_image(image_path, root, max_pixels=max_pixels)
            digest = hashlib.blake2b(locate(image_path, root).read_bytes(), digest_size=16).hexdigest()
            return ImageInfo(pixels.shape[1], pixels.shape[0], digest)
        except ImageFault as fault:
            return fault

    found = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the interpreter lock
        for result in pool.map(check, paths):
            found.append(result)
            if progress is not None:
                progress(1)
    return found
