"""Cache of what is dear to compute, on disk by content: decoded images, mapped by every process, and features."""

import hashlib
import io
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import platformdirs

from ..cores import count_cores
from ..data.images import DECODER
from ..exceptions import WorkbenchError
from ..files import clear_left, replacing, write_whole

log = logging.getLogger("mlworkbench")
_SUM_BYTES = 4


def decoded_images(
    digests: Sequence[str],
    size: int,
    decode: Callable[[int], np.ndarray],
    budget: float,
    rows: Sequence[int],
    progress: Callable[[int], object] | None = None,
) -> np.ndarray | None:
    """All images of a data set at one size; those of `rows` that are not there yet are decoded first, on all cores.

    The file is named by the content of the images and lies in the user's cache folder, so a later training, another
    seed or a resumed run finds it. Beside each image stands its checksum: a row whose checksum does not fit, for
    whatever reason, is simply decoded anew, and so several processes may fill one file, or be killed while they do.
    Files that were used longest ago make room for a new one.

    Parameters
    ----------
    digests : [N], of the content of each image
    size : side of the square in pixels
    decode : row -> uint8 [3, size, size]
    budget : most bytes that all such files may take
    rows : those that this process fills
    progress : called with 1 after each of them

    Returns
    -------
    uint8 [N, 3, size, size], mapped from the file; None where the budget or the disk does not hold it
    """
    image_bytes = 3 * size * size
    key = f"{DECODER} {version('torch')} {size} {' '.join(digests)}"  # another torch may resize otherwise
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    total = len(digests) * (image_bytes + _SUM_BYTES)
    if total > budget:
        if budget > 0:
            log.warning("decoded images would take %.1f GB, more than cache_gb: decoding in each epoch", total / 1e9)
        return None
    try:
        folder = platformdirs.user_cache_path("mlworkbench", ensure_exists=True) / "decoded"
        file = folder / name
        if not file.exists() or file.stat().st_size != total:
            folder.mkdir(exist_ok=True)
            _make_room(folder, total, budget)
            _reserve(file, total)
        os.utime(file)
        pixels = np.memmap(file, np.uint8, "r+", shape=(len(digests), 3, size, size))
        sums = np.memmap(file, np.uint32, "r+", offset=pixels.nbytes, shape=len(digests))
    except (OSError, ValueError) as error:  # a ValueError where another process has put a new file there meanwhile
        log.warning("decoded images are not kept, each epoch decodes them again: %s", error)
        return None
    tick = progress or (lambda _: None)

    def fill(row: int) -> None:
        if zlib.crc32(pixels[row]) != sums[row]:
            pixels[row] = decode(row)
            sums[row] = zlib.crc32(pixels[row])

    with ThreadPoolExecutor(count_cores()) as pool:
        try:
            for _ in pool.map(fill, rows):
                tick(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return pixels


def cached_array(key: str, compute: Callable[[], np.ndarray | None], budget: float) -> np.ndarray | None:
    """What `compute` gave for this key, now or earlier; None is not kept.

    Parameters
    ----------
    key : names the content that the array was made of; versions of torch are added
    budget : most bytes that all such arrays may take
    """
    name = hashlib.blake2b(f"{key} {version('torch')} {version('ultralytics')}".encode(), digest_size=16).hexdigest()
    folder = platformdirs.user_cache_path("mlworkbench") / "arrays"
    file = folder / f"{name}.npy"
    try:
        found = np.load(file, allow_pickle=False)
        os.utime(file)
        return found
    except (OSError, ValueError, EOFError):  # not there, or not whole
        array = compute()
    if array is not None and array.nbytes <= budget:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _make_room(folder, array.nbytes, budget)
            write_whole(file, buffer.getvalue())
        except (OSError, WorkbenchError) as error:
            log.warning("%s is not kept: %s", file, error)
    return array


def _make_room(folder: Path, needed: int, budget: float) -> None:
    clear_left(folder)
    files = sorted((f for f in folder.iterdir() if f.is_file()), key=lambda f: f.stat().st_mtime)
    used = sum(f.stat().st_size for f in files)
    for file in files:
        if used + needed <= budget:
            return
        with suppress(PermissionError):  # Windows: whoever has it mapped keeps it there, elsewhere without its name
            size = file.stat().st_size
            file.unlink()
            used -= size


def _reserve(file: Path, size: int) -> None:
    """An empty file whose space is surely there: a full disk is told now, not by a signal in the middle of an epoch."""
    with replacing(file) as new:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(new.fileno(), 0, size)
        else:
            for start in range(0, size, 1 << 24):
                new.write(bytes(min(1 << 24, size - start)))
