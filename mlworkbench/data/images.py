"""Image decoder, one for checking, training and predicting, so that what passed the check can be trained on."""

import contextlib
import hashlib
import io
import logging
import os
import re
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO

import imagehash
import numpy as np
import PIL
import platformdirs
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from ..cores import count_cores
from ..exceptions import WorkbenchError
from ..memory import decoding
from ..paths import is_foreign, is_inside

log = logging.getLogger("mlworkbench")
MAX_PIXELS = 100_000_000
HASHED = 32  # side in pixels of what perceptual hashes are made of
# Who decodes, and how: part of the name of all that is kept of pixels.
DECODER = f"2-{PIL.__version__}-{simplejpeg.__version__}"
# Raster formats only: Pillow also reads some whose decoding starts other programs (EPS) or renders documents.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "TGA", "PCX", "ICO")
# What files in these formats are called, as Pillow has it; whoever looks for images in a folder looks for these.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs", ".bmp", ".dib", ".gif",
    ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c",
    ".tga", ".icb", ".vda", ".vst", ".pcx", ".ico",
)  # fmt: skip
OUTSIDE = "outside the image root"  # begins the reason of an image that is there, but elsewhere
# What a file begins with that is given as an image and is none, and what to do about it.
OTHERS = [
    (re.compile(start, re.DOTALL | re.IGNORECASE), told)
    for start, told in (
        (rb"\Z", "an empty file"),
        (rb".{4}ftyp(hei|hev|mif1|msf1)", "HEIC, as phones write it; save it as JPEG"),
        (rb".{4}ftypcrx|FUJIFILMCCD-RAW|IIU\0|IIRO", "a camera's raw file; save it as JPEG"),
        (rb".{4}ftyp|RIFF.{4}AVI|\x1aE\xdf\xa3|\0\0\x01[\xba\xb3]", "a film; save its frames as images"),
        (rb"\xff\x0a|\0{3}\x0cJXL ", "JPEG XL; save it as JPEG or PNG"),
        (rb"\0\x05\x16\x07", "what a Mac keeps beside a file, not the file itself"),
        (rb"version https://git-lfs", "a pointer of Git LFS; get the file itself by git lfs pull"),
        (rb"\s*<(!doctype html|html)", "a web page; download the image itself"),
        (rb"\s*<(svg|\?xml)", "SVG or other XML; save it as PNG"),
        (rb"%PDF", "PDF; save its pages as images"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript; save it as PNG"),
        (rb"8BPS", "a Photoshop document; save it as PNG"),
        (rb".{128}DICM", "DICOM; save it as PNG"),
        (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive or a workbook of Excel; unpack it, or save it as CSV"),
        (rb"\x93NUMPY|\x89HDF", "an array; save its images as PNG"),
    )
]
# Quarter turns to the left that bring an image upright, and whether it is mirrored after them, by EXIF's orientation.
UPRIGHT = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
# Ultralytics replaces Image.open by one that tries to install packages for a file that is no image.
_open = vars(sys.modules.get("ultralytics.utils.patches", object)).get("_image_open", Image.open)


class ImageFault(WorkbenchError):
    """Why an image cannot be used; the text is the reason written to `quarantine.csv`."""

    def __init__(self, reason: str):
        # A worker process of torch's loader hands on its whole traceback as the reason: its last line is ours.
        super().__init__(reason.strip().rpartition("ImageFault: ")[2])


@dataclass(frozen=True)
class ImageInfo:
    """What a check found.

    Attributes
    ----------
    width, height : pixels as shown, after EXIF orientation
    digest : of the file's bytes, in hexadecimal
    phash : 8 bytes, the perceptual hash (imagehash's `phash`); images that look alike differ in few bits
    tiny : 256 bytes, the image as 16x16 grey values
    """

    width: int
    height: int
    digest: str
    phash: bytes
    tiny: bytes


def locate(image_path: str, root: Path) -> Path:
    """The regular file that a relative image path names, inside `root` after links are resolved.

    Raises
    ------
    ImageFault : a URL, outside the root, missing, or not a regular file
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", image_path):
        raise ImageFault("a URL; download it and name the file")
    if is_foreign(image_path, root):
        raise ImageFault("on a network share outside the image root, and not opened; copy it, or give that as --root")
    try:
        inside = os.path.realpath(root)
        file = os.path.realpath(os.path.join(inside, image_path), strict=True)  # noqa: PTH118 (many times faster)
        mode = os.stat(file).st_mode  # noqa: PTH116
    except FileNotFoundError:
        raise ImageFault("missing") from None
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a null byte, a loop of links
        raise ImageFault(f"unreadable: {getattr(error, 'strerror', None) or error}") from None
    if not is_inside(file, inside):
        raise ImageFault(f"{OUTSIDE} {root}")
    if not stat.S_ISREG(mode):
        raise ImageFault("not a regular file")
    return Path(file)


def load_image(image_path: str, root: Path, side: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode one image to RGB.

    EXIF orientation is applied; of an animation the first frame is taken. Palette, grey, 1-bit and CMYK images are
    converted by Pillow; transparency is laid on white; images deeper than 8 bits have the range that occurs in them
    stretched to 0..255. Where it will be shrunk to `side` pixels anyway, a JPEG is decoded at a reduced scale that
    leaves both of its sides at least twice as long, so that the shrinking itself stays the caller's.

    Returns
    -------
    uint8 [H, W, 3]

    Raises
    ------
    ImageFault : see `locate`; unreadable, truncated, not an image, or more than `max_pixels` by its header
    """
    return decode(locate(image_path, root), side, max_pixels)


def decode(source: Path | bytes, side: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`load_image` for a file that was located, or for the bytes of one."""
    return _decoded(source, side, max_pixels)[0]


def _decoded(source: Path | bytes, side: int | None, max_pixels: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels as `load_image` gives them; width and height of the whole image as shown."""
    try:
        with _stream(source) as stream, _open(stream, formats=FORMATS) as image:
            size = image.size
            if image.width * image.height > max_pixels:
                raise ImageFault(f"{image.width}x{image.height} pixels, over the limit of {max_pixels:,}")
            if side is not None:
                image.draft("RGB", (2 * side, 2 * side))
            with decoding(image.width * image.height):
                pixels = _of_jpeg(image, stream)
                if pixels is None:
                    image.load()
                    pixels = np.array(_to_rgb(image))
                turns, mirrored = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation), (0, False))
                pixels = np.rot90(pixels, turns)[:, :: -1 if mirrored else 1]
                return np.ascontiguousarray(pixels), size[::-1] if turns % 2 else size
    except ImageFault:
        raise
    except UnidentifiedImageError:
        other = kind_of(source)
        raise ImageFault(f"not an image that Pillow can read{f': {other}' if other else ''}") from None
    except Image.DecompressionBombError:
        raise ImageFault(f"far more pixels by its header than the limit of {max_pixels:,}") from None
    except MemoryError:
        raise ImageFault("too large for the memory at hand") from None
    except Exception as error:  # decoders raise many kinds on damaged bytes (OSError, SyntaxError, struct.error …)
        raise ImageFault(f"truncated or damaged: {error}") from None


def _of_jpeg(image: Image.Image, stream: BinaryIO) -> np.ndarray | None:
    """Pixels of a JPEG, decoded without the interpreter lock at the size that Pillow's `draft` has chosen.

    None is for Pillow to decode or to refuse: other formats and colours, and whatever libjpeg only warns of, such as
    bytes that are missing. Where both decode, the pixels are the same.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    stream.seek(0)
    data, size = stream.read(), {"min_height": image.height, "min_width": image.width}
    try:
        # Two readers of a header might read two sizes: what is decoded is what was held against the limit.
        same = simplejpeg.decode_jpeg_header(data, **size)[:2] == (image.height, image.width)
        return simplejpeg.decode_jpeg(data, **size) if same else None
    except ValueError:
        return None


def _stream(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def is_image(file: Path) -> bool:
    """Whether a file begins as an image that can be read, whatever its name."""
    try:
        with _open(file, formats=FORMATS):
            return True
    except Exception:  # whatever decoders raise on other bytes
        return False


def kind_of(source: Path | bytes) -> str:
    """What a file is that is no image, by its first bytes, and what to do about it; "" for what is not known."""
    with _stream(source) as stream:
        start = stream.read(132)
    return next((told for pattern, told in OTHERS if pattern.match(start)), "")


def load_named(image_path: str, root: Path, side: int, checked: str | None = None) -> np.ndarray:
    """`load_image` for images that were checked before: a fault names the image.

    With the digest that the check found, other bytes are a fault too.
    """
    try:
        data = _read(image_path, root)
        if checked not in (None, _digest(data)):
            raise ImageFault("not the bytes that were checked")
        return decode(data, side)
    except ImageFault as fault:
        raise ImageFault(f"image {image_path!r}: {fault}; has it changed since it was checked?") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Deeper than 8 bits: the range found is stretched to 0..255 (a plain convert() clips instead).
        values = np.asarray(image, dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        image = Image.fromarray(((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def digest(image_path: str, root: Path) -> str:
    """Digest of an image file's bytes, in hexadecimal; a fault as in `locate`."""
    return _digest(_read(image_path, root))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _read(image_path: str, root: Path) -> bytes:
    file = locate(image_path, root)
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImageFault(f"unreadable: {error.strerror or error}") from None


def check_images(
    paths: Iterable[str], root: Path, max_pixels: int = MAX_PIXELS, progress: Callable[[int], object] | None = None
) -> list[ImageInfo | ImageFault]:
    """Decode every image to its last byte, on all cores; a fault stands in the place of the image that has it.

    What was verified is remembered by content in the user's cache folder, so that a second check only reads the
    files. `progress` is called with 1 after each image.
    """
    names, tick = list(paths), progress or (lambda _: None)

    def content_of(name: str) -> str | ImageFault:
        try:
            return digest(name, root)
        except ImageFault as fault:
            return fault

    def check(name: str) -> ImageInfo | ImageFault:
        try:
            return _describe(_read(name, root), max_pixels)  # by now perhaps of another digest
        except ImageFault as fault:
            return fault

    found: list[ImageInfo | ImageFault] = []
    with ThreadPoolExecutor(count_cores()) as pool:
        contents = list(pool.map(content_of, names))
        known = _Memory.read({content for content in contents if isinstance(content, str)})
        known = {content: info for content, info in known.items() if info.width * info.height <= max_pixels}
        tasks = {
            place: pool.submit(check, names[place])
            for place, content in enumerate(contents)
            if isinstance(content, str) and content not in known
        }
        try:
            for place, content in enumerate(contents):
                if isinstance(content, ImageFault):
                    found.append(content)
                else:
                    found.append(tasks[place].result() if place in tasks else known[content])
                tick(1)
        finally:
            pool.shutdown(cancel_futures=True)
            done = [task.result() for task in tasks.values() if task.done() and not task.cancelled()]
            if new := [info for info in done if isinstance(info, ImageInfo)]:
                _Memory.write(new)
    return found


def _describe(data: bytes, max_pixels: int) -> ImageInfo:
    pixels, (width, height) = _decoded(data, 2 * HASHED, max_pixels)
    grey = Image.fromarray(pixels).convert("L")
    # Lanczos, since boxes would depend on the scale that was decoded at.
    small = grey.resize((HASHED, HASHED), Image.Resampling.LANCZOS, reducing_gap=4.0)
    bits = imagehash.phash(small).hash.flatten()
    tiny = small.resize((16, 16), Image.Resampling.BOX).tobytes()
    return ImageInfo(width, height, _digest(data), np.packbits(bits).tobytes(), tiny)


def images_hash(digests: Iterable[str]) -> str:
    """Of the content of all these images, in order."""
    return hashlib.blake2b(" ".join(digests).encode(), digest_size=16).hexdigest()


class _NoMemory(Exception):
    """The cache cannot be used; said already."""


class _Memory:
    """What earlier checks found, by content; a cache that cannot be used is said once a check and done without."""

    @classmethod
    def read(cls, contents: set[str]) -> dict[str, ImageInfo]:
        found: dict[str, ImageInfo] = {}
        wanted = list(contents)
        with contextlib.suppress(_NoMemory), cls._opened() as database:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                query = f"SELECT * FROM images WHERE digest IN ({','.join('?' * len(part))})"
                found |= {row[2]: ImageInfo(*row) for row in database.execute(query, part)}
        return found

    @classmethod
    def write(cls, infos: list[ImageInfo]) -> None:
        with contextlib.suppress(_NoMemory), cls._opened() as database, database:
            database.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)", map(astuple, infos))

    @staticmethod
    @contextlib.contextmanager
    def _opened() -> Iterator[sqlite3.Connection]:
        try:
            folder = platformdirs.user_cache_path("mlworkbench", ensure_exists=True)
            with contextlib.closing(sqlite3.connect(folder / f"images-{DECODER}.sqlite")) as database:
                columns = "width INTEGER, height INTEGER, digest TEXT PRIMARY KEY, phash BLOB, tiny BLOB"
                database.execute(f"CREATE TABLE IF NOT EXISTS images ({columns})")
                yield database
        except (sqlite3.Error, OSError) as error:
            log.warning("what was checked is not remembered: %s", error)
            raise _NoMemory from error
