"""Stratified splits that keep groups of images whole."""

import numpy as np

from .labels import SPLITS

FRACTIONS = (0.70, 0.15, 0.15)


def stratified_split(y: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Split rows 70/15/15 so that each class keeps its share, and no group is parted.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011) over groups instead of rows: the
    rarest class is served first, each of its groups going where that class is most wanted.

    Parameters
    ----------
    y : int8 [N, C] of 1, 0, -1
    groups : [N], rows with equal values stay together

    Returns
    -------
    object array [N] of "train", "val", "test"
    """
    rng = np.random.default_rng(seed)
    _, group_of = np.unique(groups, return_inverse=True)
    count = int(group_of.max()) + 1
    size = np.bincount(group_of, minlength=count)
    positives = np.zeros((count, y.shape[1]), np.int64)
    np.add.at(positives, group_of, y == 1)

    wanted_rows = np.array(FRACTIONS) * len(y)  # [3] rows that each split still wants
    wanted = np.outer(FRACTIONS, positives.sum(0))  # [3, C] positives, likewise
    split_of = np.full(count, -1)
    # Big groups first, since they fit in fewest places; ties in random order.
    order = np.lexsort((rng.random(count), -size))
    left = positives.sum(0).astype(float)
    while True:
        open_classes = np.flatnonzero(left > 0)
        rarest = open_classes[np.argmin(left[open_classes])] if len(open_classes) else None
        for group in order[split_of[order] < 0]:
            if rarest is not None and positives[group, rarest] == 0:
                continue
            need = wanted_rows if rarest is None else wanted[:, rarest]
            best = np.flatnonzero(need >= need.max() - 1e-9)
            if len(best) > 1:
                best = best[wanted_rows[best] >= wanted_rows[best].max() - 1e-9]
            chosen = rng.choice(best)
            split_of[group] = chosen
            wanted[chosen] -= positives[group]
            wanted_rows[chosen] -= size[group]
            left -= positives[group]
        if rarest is None:
            return np.array(SPLITS, dtype=object)[split_of[group_of]]
