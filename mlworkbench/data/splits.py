"""Stratified splits that keep groups of images whole."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..exceptions import WorkbenchError
from .labels import SPLITS, LabelTable, read_splits

FRACTIONS = (0.70, 0.15, 0.15)


def origin(table: LabelTable, seed: int) -> str:
    """Where the splits of a table come from, and what else could give them: a file beside the labels file."""
    file = table.given.get("splits")
    if file is not None or table.split is not None:
        return f"splits from {'the column split' if file is None else file}"
    shares = "/".join(f"{100 * share:.0f}" for share in FRACTIONS)
    beside = [file for file in sorted(table.source.parent.glob("splits*.csv")) if _gives(file, table)]
    others = "".join(f"; --splits {shlex.quote(str(file))} takes those of that file" for file in beside[:1])
    return f"splits drawn ({shares}, seed {seed}){others}"


def _gives(file: Path, table: LabelTable) -> bool:
    try:
        return bool(len(read_splits(file, table.paths)))
    except WorkbenchError:
        return False


def stratified_split(y: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Split rows 70/15/15 into "train", "val" and "test", object array [N]; see `stratified_parts`."""
    return np.array(SPLITS, dtype=object)[stratified_parts(y, groups, FRACTIONS, seed)]


def completed_split(
    split: np.ndarray, missing: Sequence[str], y: np.ndarray, groups: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Splits [N] with those that are missing ("val", "test") held out of "train", each at its share of these."""
    names, rows, split = [SPLITS[0], *missing], np.flatnonzero(split == SPLITS[0]), split.copy()
    if missing and len(np.unique(groups[rows])) >= len(names):
        shares = np.array([FRACTIONS[SPLITS.index(name)] for name in names])
        parts = stratified_parts(y[rows], groups[rows], (shares / shares.sum()).tolist(), seed)
        split[rows] = np.array(names, dtype=object)[parts]
    return split


def stratified_parts(y: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: int = 0) -> np.ndarray:
    """Part rows so that each class keeps its share in every part, and no group is parted.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011) over groups instead of rows: the
    rarest class is served first, each of its groups going where that class is most wanted. Of a class so rare that
    some part's share of it is less than an image, what is left over goes where rows are most wanted for that part's
    share, so that such classes keep the shares together. No part stays empty while there are as many groups.

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
    few = left * min(shares) < 1 - 1e-9  # [C]
    wanted_rows = (np.array(shares) * len(y)).tolist()  # [P] rows that each part still wants
    wanted = np.outer(shares, left)  # [P, C] positives, likewise
    part_of = np.full(len(size), -1)
    # Big groups first, since they fit in fewest places; ties in random order.
    order = np.lexsort((rng.random(len(size)), -size))
    while len(order):
        # Each group goes into its part once, and only the class that is served decides which: the wishes for the
        # others can wait until the class is done. So nothing is as large as groups times classes.
        by_class = left.any()
        if by_class:
            rarest = np.argmin(np.where(left > 0, left, np.inf))
            positives = np.bincount(group_of[y[:, rarest] == 1], minlength=len(size))
            served, need = order[positives[order] > 0], wanted[:, rarest].tolist()
        else:
            positives, served, need = size, order, [0.0] * len(shares)
        parts = []
        for by, rows in zip(positives[served].tolist(), size[served].tolist(), strict=True):
            best = _wanting(need, wanted_rows, shares, not by_class or few[rarest])
            chosen = best[rng.integers(len(best))] if len(best) > 1 else best[0]
            parts.append(chosen)
            need[chosen] -= by if by_class else 0
            wanted_rows[chosen] -= rows
        part_of[served] = parts
        order = order[part_of[order] < 0]
        rows = np.flatnonzero(np.isin(np.arange(len(size)), served)[group_of])
        for part in range(len(shares)):
            placed = (y[rows[part_of[group_of[rows]] == part]] == 1).sum(0)
            wanted[part] -= placed
            left -= placed
    return _none_empty(part_of, size, len(shares))[group_of]


def _wanting(need: list[float], wanted_rows: list[float], shares: Sequence[float], few: bool) -> list[int]:
    """The parts that want a class most; of one that is `few`, where none wants a whole image, by their rows."""
    most = max(need)
    if not few or most >= 1 - 1e-9:
        best = [part for part, wish in enumerate(need) if wish >= most - 1e-9]
    else:
        best = [part for part, wish in enumerate(need) if wish > 1e-9] or list(range(len(need)))
    fill = [wanted_rows[part] / shares[part] for part in best]
    return [part for part, rows in zip(best, fill, strict=True) if rows >= max(fill) - 1e-9]


def _none_empty(part_of: np.ndarray, size: np.ndarray, parts: int) -> np.ndarray:
    """The part of each group, with a small group for each part that has none, from one that has several."""
    part_of = part_of.copy()
    for empty in set(range(parts)) - set(part_of.tolist()):
        groups = np.bincount(part_of, minlength=parts)
        rows = np.bincount(part_of, weights=size, minlength=parts)
        if groups.max() < 2:
            break
        largest = np.argmax(np.where(groups > 1, rows, -1))
        own = np.flatnonzero(part_of == largest)
        part_of[own[np.argmin(size[own])]] = empty
    return part_of
