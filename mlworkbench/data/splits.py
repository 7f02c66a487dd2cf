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
    size = np.bincount(group_of)
    left = np.array([np.count_nonzero(column == 1) for column in y.T], np.int64)  # [C] positives not yet in a part
    wanted_rows = (np.array(shares) * len(y)).tolist()  # [P] rows that each part still wants
    wanted = np.outer(shares, left)  # [P, C] positives, likewise
    part_of = np.full(len(size), -1)
    # Big groups first, since they fit in fewest places; ties in random order.
    order = np.lexsort((rng.random(len(size)), -size))
    while len(order):
        # Each group goes into its part once, and only the class that is served decides which: the wishes for the
        # others can wait until the class is done. So nothing is as large as groups times classes.
        if left.any():
            rarest = np.argmin(np.where(left > 0, left, np.inf))
            positives = np.bincount(group_of[y[:, rarest] == 1], minlength=len(size))
            served, need = order[positives[order] > 0], wanted[:, rarest].tolist()
        else:
            positives, served, need = size, order, wanted_rows
        parts = []
        for by, rows in zip(positives[served].tolist(), size[served].tolist(), strict=True):
            best = _most_wanted(need, range(len(need)))
            if len(best) > 1:
                best = _most_wanted(wanted_rows, best)
            chosen = best[rng.integers(len(best))] if len(best) > 1 else best[0]
            parts.append(chosen)
            need[chosen] -= by
            if need is not wanted_rows:
                wanted_rows[chosen] -= rows
        part_of[served] = parts
        order = order[part_of[order] < 0]
        rows = np.flatnonzero(np.isin(np.arange(len(size)), served)[group_of])
        for part in range(len(shares)):
            placed = (y[rows[part_of[group_of[rows]] == part]] == 1).sum(0)
            wanted[part] -= placed
            left -= placed
    return part_of[group_of]


def _most_wanted(need: list[float], parts: Sequence[int]) -> list[int]:
    """Those of these parts that want most, as far as rounding can tell."""
    most = max(need[part] for part in parts) - 1e-9
    return [part for part in parts if need[part] >= most]
