"""Memory of decoders: threads share it, so that enormous images do not take it as many times as there are cores."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

TOGETHER = 100_000_000  # pixels that threads decode at once: as many as one image may have
_changed = threading.Condition()
_under_way = 0


@contextmanager
def decoding(pixels: int) -> Iterator[None]:
    """Wait until an image of so many pixels fits beside those that are being decoded, and count it among them."""
    global _under_way
    with _changed:
        _changed.wait_for(lambda: not _under_way or _under_way + pixels <= TOGETHER)
        _under_way += pixels
    try:
        yield
    finally:
        with _changed:
            _under_way -= pixels
            _changed.notify_all()
