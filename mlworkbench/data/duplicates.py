"""Images that belong together: the same bytes, nearly the same picture, or a group that the user gives."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .images import ImageInfo

MAX_BITS = 4  # of the 64 of a perceptual hash
MAX_DIFFERENCE = 6.0  # mean over 16x16 grey values of 0..255
MAX_BUCKET = 2000  # a hash part that more images share says nothing: flat or blank pictures


def linked_rows(infos: Sequence[ImageInfo], group: np.ndarray | None) -> dict[str, np.ndarray]:
    """Pairs of rows [M, 2] that belong together, by kind: "identical", "near", "group", and "self" (every row).

    A row without a group (an empty text) is in none.
    """
    digests = np.array([info.digest for info in infos])
    near = near_duplicates([info.phash for info in infos], [info.tiny for info in infos])
    named = np.arange(0) if group is None else np.flatnonzero(group != "")
    return {
        "identical": _with_first(digests),
        "near": near[digests[near[:, 0]] != digests[near[:, 1]]],
        "group": named[_with_first(group[named].astype(str))] if group is not None else np.zeros((0, 2), np.int64),
        "self": np.stack([np.arange(len(infos))] * 2, axis=1),
    }


def _with_first(keys: np.ndarray) -> np.ndarray:
    """Each row paired with the first that has the same key, [M, 2]."""
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.stack([first[place], np.arange(len(keys))], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def joined_groups(links: dict[str, np.ndarray]) -> np.ndarray:
    """A number for each row, equal where rows belong together by any chain of links; int [N]."""
    rows, others = np.concatenate(list(links.values())).T
    size = len(links["self"])
    graph = coo_array((np.ones(len(rows), np.int8), (rows, others)), shape=(size, size))
    return connected_components(graph, directed=False)[1]


def rows_together(pairs: np.ndarray) -> list[np.ndarray]:
    """The sets of at least two rows that these pairs join, each sorted."""
    rows, compact = np.unique(pairs, return_inverse=True)
    graph = coo_array((np.ones(len(pairs), np.int8), tuple(compact.reshape(-1, 2).T)), shape=(len(rows),) * 2)
    part = connected_components(graph, directed=False)[1] if len(rows) else np.zeros(0, int)
    order = np.argsort(part, kind="stable")
    return [rows[place] for place in np.split(order, np.flatnonzero(np.diff(part[order])) + 1) if len(place)]


def near_duplicates(phashes: list[bytes], tinies: list[bytes]) -> np.ndarray:
    """Pairs of images that look the same.

    Two hashes that differ in at most `MAX_BITS` bits agree in at least one of `MAX_BITS` + 1 parts, so only images
    that share a part are compared (multi-index hashing, Norouzi, Punjani and Fleet, CVPR 2012). What the hash finds
    is confirmed on the tiny images, since flat pictures have accidental hashes.

    Parameters
    ----------
    phashes, tinies : N times 8 and 256 bytes, see `images.ImageInfo`

    Returns
    -------
    int64 [M, 2], first < second, sorted
    """
    if len(phashes) < 2:
        return np.zeros((0, 2), np.int64)
    packed = np.frombuffer(b"".join(phashes), np.uint8).reshape(-1, 8)
    hashes = packed.view(np.uint64)[:, 0]
    tiny = np.frombuffer(b"".join(tinies), np.uint8).reshape(-1, 256)
    bits = np.unpackbits(packed, axis=1)
    found = []
    for part in np.array_split(np.arange(64), MAX_BITS + 1):
        keys = np.packbits(bits[:, part], axis=1)
        _, bucket = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(bucket, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(bucket[order])) + 1):
            if 2 <= len(rows) <= MAX_BUCKET:
                distance = np.bitwise_count(hashes[rows, None] ^ hashes[None, rows])
                first, second = np.nonzero(np.triu(distance <= MAX_BITS, 1))
                found.append(np.stack([rows[first], rows[second]], axis=1))
    pairs = np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), np.int64)
    difference = np.abs(tiny[pairs[:, 0]].astype(np.int16) - tiny[pairs[:, 1]]).mean(1)
    return pairs[difference <= MAX_DIFFERENCE]
