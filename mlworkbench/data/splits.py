"""Stratified splits that keep groups of images whole."""

from collections.abc import Sequence

import numpy as np

from .labels import SPLITS

FRACTIONS = (0.70, 0.15, 0.15)


def stratified_split(y: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Split rows 70/15/15 into "train", "val" and "test", object array [N]; see `stratified_parts`."""
    return np.array(SPLITS, dtype=object)[stratified_parts(y, groups, FRACTIONS, seed)]


def stratified_parts(y: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: int = 0) -> np.ndarray:
    """Part rows so that each class keeps its share in every part, and no group is parted.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011) over groups instead of rows: the
    rarest class is served first, each of its groups going where that class is most wanted.

    Parameters
    ----------
    y : int8 [N, C] of 1, 0, -1
    groups : [N], rows with equal values stay together
    shares : [P] of the rows, summing to 1

    Returns
    -------
    int [N] in 0..P-1
    """
    rng = np.random.default_rng(seed)
    _, group_of = np.unique(groups, return_inverse=True)
    count = int(group_of.max()) + 1
    size = np.bincount(group_of, minlength=count)
    positives = np.zeros((count, y.shape[1]), np.int64)
    np.add.at(positives, group_of, y == 1)

    wanted_rows = np.array(shares) * len(y)  # [P] rows that each part still wants
    wanted = np.outer(shares, positives.sum(0))  # [P, C] positives, likewise
    part_of = np.full(count, -1)
    # Big groups first, since they fit in fewest places; ties in random order.
    order = np.lexsort((rng.random(count), -size))
    left = positives.sum(0).astype(float)
    while True:
        open_classes = np.flatnonzero(left > 0)
        rarest = open_classes[np.argmin(left[open_classes])] if len(open_classes) else None
        for group in order[part_of[order] < 0]:
            if rarest is not None and positives[group, rarest] == 0:
                continue
            need = wanted_rows if rarest is None else wanted[:, rarest]
            best = np.flatnonzero(need >= need.max() - 1e-9)
            if len(best) > 1:
                best = best[wanted_rows[best] >= wanted_rows[best].max() - 1e-9]
            chosen = rng.choice(best)
            part_of[group] = chosen
            wanted[chosen] -= positives[group]
            wanted_rows[chosen] -= size[group]
            left -= positives[group]
        if rarest is None:
            return part_of[group_of]
