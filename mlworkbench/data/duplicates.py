"""Duplicates: images that belong together, by bytes, as nearly the same picture, or by a given group."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, count

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .images import ImageInfo

MAX_BITS = 4  # of the 64 of a perceptual hash
MAX_DIFFERENCE = 6.0  # mean over 16x16 grey values of 0..255
PARTS = 6  # of a hash: two that differ in at most `MAX_BITS` bits agree in at least two of them
SMALL = 1000  # images that share two parts, up to which each is compared with each
MOST = 5000  # comparisons an image in a larger set; then the search is given up, which is told
CELLS = 1 << 16  # comparisons at once: bounds the memory


def linked_rows(infos: Sequence[ImageInfo], group: np.ndarray | None) -> dict[str, np.ndarray]:
    """Links between rows that belong together, by kind, int [M, 2]: chains of them join each group.

    "identical", "near", "group" (the user's; a row without one, an empty text, is in none), "self" (every row), and
    "unsearched": rows some of whose near duplicates may be missing, each linked to itself.
    """
    digests, unsearched = np.array([info.digest for info in infos]), [np.arange(0)]
    near = near_duplicates([info.phash for info in infos], [info.tiny for info in infos], unsearched.append)
    differ = near[digests[near[:, 0]] != digests[near[:, 1]]]
    named = np.arange(0) if group is None else np.flatnonzero(group != "")
    return {
        "identical": _with_first(digests),
        "near": near[np.isin(near, differ).any(1)],  # without sets that are identical and nothing else
        "group": named[_with_first(group[named].astype(str))] if group is not None else np.zeros((0, 2), np.int64),
        "self": np.stack([np.arange(len(infos))] * 2, axis=1),
        "unsearched": np.stack([np.unique(np.concatenate(unsearched))] * 2, axis=1),
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


def near_duplicates(
    phashes: list[bytes], tinies: list[bytes], unsearched: Callable[[np.ndarray], object] = lambda rows: None
) -> np.ndarray:
    """Links between images that look the same: enough to join each group by chains of them, not all of its pairs.

    How unlike two images are is a metric, by which near duplicates are at most 1 apart: the bits in which their hashes
    differ by `MAX_BITS`, or the mean difference of their tiny images by `MAX_DIFFERENCE`, whichever is more, since
    flat pictures have accidental hashes. Only images whose hashes share two parts are compared (multi-index hashing,
    Norouzi, Punjani and Fleet, CVPR 2012), and only those that no chain joins yet, so that the time grows with the
    number of images and not with the pairs among them.

    Parameters
    ----------
    phashes, tinies : N times 8 and 256 bytes, see `images.ImageInfo`
    unsearched : called with rows, int64 [n], some of whose near duplicates may be missing: they share two parts of the
        hash with so many and so different images that `MOST` comparisons for each were not enough

    Returns
    -------
    int64 [M, 2], first < second, sorted
    """
    if len(phashes) < 2:
        return np.zeros((0, 2), np.int64)
    seen: dict[bytes, int] = {}  # of copies only the first takes part in the search
    keys = (phash + tiny for phash, tiny in zip(phashes, tinies, strict=True))
    first = np.array([seen.setdefault(key, row) for row, key in enumerate(keys)])
    rows = np.array(list(seen.values()))
    packed = b"".join(phashes[row] for row in rows), b"".join(tinies[row] for row in rows)
    search = _Search(np.frombuffer(packed[0], np.uint64), np.frombuffer(packed[1], np.uint8).reshape(-1, 256))
    for left in search.run():
        unsearched(rows[left])
    links = np.concatenate([np.stack([first, np.arange(len(first))], axis=1), *(rows[pair] for pair in search.links)])
    return np.unique(np.sort(links[links[:, 0] != links[:, 1]], axis=1), axis=0)


class _Search:
    """Images, no two of them equal, the links found among them so far, and the group that these put each image in."""

    def __init__(self, hashes: np.ndarray, tiny: np.ndarray):
        blocks = tiny.reshape(-1, 4, 4, 4, 4).sum((2, 4), dtype=np.int16).reshape(-1, 16)
        # Images differ at least as much as their sums over blocks do, so these are compared before.
        self.hashes, self.greys = hashes, (blocks.sum(1, dtype=np.int32, keepdims=True), blocks, tiny)
        self.links = [np.zeros((0, 2), np.int64)]
        self.group, self._new = np.arange(len(hashes)), 0

    def run(self) -> Iterator[np.ndarray]:
        """Find the links; yields the rows that a search which was given up had not come to."""
        bits = np.arange(64) * PARTS // 64 == np.arange(PARTS)[:, None]
        parts = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
        searched: list[np.ndarray] = []  # by two parts: the large set that each image was in, or -1
        for one, other in combinations(range(PARTS), 2):
            keys = self.hashes & (parts[one] | parts[other])
            order = np.argsort(keys, kind="stable")  # as in the file, where frames of one series are neighbours
            _, sizes = np.unique(keys, return_counts=True)
            order, sizes = order[np.repeat(sizes > 1, sizes)], sizes[sizes > 1]
            # A pair that agrees in an earlier part as well was compared there.
            self._in_small_sets(order, sizes, np.delete(parts[:other], one))
            large = np.full(len(keys), -1, np.int32)
            for i in np.flatnonzero(self._open(order, sizes) & (sizes > SMALL)):
                rows = order[sizes[:i].sum() :][: sizes[i]]
                if not any(its[rows[0]] >= 0 and np.ptp(its[rows]) == 0 for its in searched):
                    large[rows] = i
                    yield from self._in_balls(rows)
            searched += [large] if large.max() >= 0 else []

    def _open(self, order: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Which of these sets, one after the other in `order`, are not one group yet, bool."""
        if self._new < len(self.links):  # the groups are to be brought up to date
            ends = self.group[np.concatenate(self.links[self._new :])].T
            graph = coo_array((np.ones(ends.shape[1], np.int8), tuple(ends)), shape=(len(self.group),) * 2)
            self.group = connected_components(graph, directed=False)[1][self.group]
            self._new = len(self.links)
        group, starts = self.group[order], np.cumsum(sizes) - sizes
        return np.minimum.reduceat(group, starts) < np.maximum.reduceat(group, starts) if len(sizes) else sizes > 0

    def _in_small_sets(self, order: np.ndarray, sizes: np.ndarray, earlier: np.ndarray) -> None:
        """Compare each with each in sets of up to `SMALL` images, and in larger ones each with the next."""
        at, ends = np.arange(len(order)), np.repeat(np.cumsum(sizes), sizes)
        for step in count(1):
            if step & (step - 1) == 0:  # now and then
                going_on = self._open(order, sizes) & ((sizes <= SMALL) | (step == 1))
                at = at[np.repeat(going_on, sizes)[at]]
            at = at[at + step < ends[at]]
            if not len(at):
                return
            a, b = order[at], order[at + step]
            fresh = self.group[a] != self.group[b]
            for part in earlier:
                fresh &= ((self.hashes[a] ^ self.hashes[b]) & part) != 0
            a, b = a[fresh], b[fresh]
            near = self._unlike(a, b) <= 1
            self._link(a[near], b[near])

    def _in_balls(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Search one large set breadth first, a ball at a time; yields what is left where that takes too long.

        All images within 1 of a leader are linked to it. What else is near to one of them, at a distance d from the
        leader, is within d + 1 of it (the metric's triangle inequality): only these two are compared.
        """
        unreached, reached, budget = rows, rows[:0], MOST * len(rows)
        while len(unreached):
            if not len(reached):
                reached, unreached = unreached[:1], unreached[1:]
            if budget < 0:
                yield np.concatenate([reached, unreached])
                return
            own, far = self._unlike(reached[:1], reached), self._unlike(reached[:1], unreached, 2)
            budget -= len(own) + len(far)
            self._link(np.repeat(reached[:1], (far <= 1).sum()), unreached[far <= 1])
            ball, at = np.concatenate([reached[own <= 1], unreached[far <= 1]]), np.concatenate([own, far])
            at = at[at <= 1]
            outwards = np.argsort(-at, kind="stable")
            ball, at = ball[outwards], at[outwards]  # the outmost first, who reach most
            reached, unreached, far = reached[own > 1], unreached[far > 1], far[far > 1]
            start = 0
            while start < len(ball) and len(ring := np.flatnonzero(far <= at[start] + 1)):
                some = ball[start : start + max(1, CELLS // len(ring))]
                start, budget = start + len(some), budget - len(some) * len(ring)
                like = self._unlike(some[:, None], unreached[ring]) <= 1
                hit = like.any(0)
                self._link(some[like[:, hit].argmax(0)], unreached[ring[hit]])
                reached = np.append(reached, unreached[ring[hit]])
                unreached, far = np.delete(unreached, ring[hit]), np.delete(far, ring[hit])

    def _link(self, a: np.ndarray, b: np.ndarray) -> None:
        self.links.append(np.stack([a, b], axis=1))

    def _unlike(self, a: np.ndarray, b: np.ndarray, most: int = 1) -> np.ndarray:
        """How unlike images are to others, of the broadcast shape; infinite where that is more than `most`."""
        bits = np.bitwise_count(self.hashes[a] ^ self.hashes[b])
        found, limit = np.full(bits.shape, np.inf), MAX_DIFFERENCE * self.greys[-1].shape[1]
        cells = np.flatnonzero(bits <= most * MAX_BITS)
        a, b = (rows.ravel()[cells] for rows in np.broadcast_arrays(a, b))
        for grey in self.greys:
            total = np.zeros(len(cells), np.int32)
            for start in range(0, len(cells), CELLS):
                x, y = grey[a[start : start + CELLS]], grey[b[start : start + CELLS]]
                (np.maximum(x, y) - np.minimum(x, y)).sum(1, dtype=np.int32, out=total[start : start + CELLS])
            kept = total <= most * limit
            cells, a, b, total = cells[kept], a[kept], b[kept], total[kept]
        found.ravel()[cells] = np.maximum(bits.ravel()[cells] / MAX_BITS, total / limit)
        return found
