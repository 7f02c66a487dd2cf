"""What deserves a thought before training: each finding says what it means and what to do."""

import numpy as np

from .cells import short
from .duplicates import rows_together
from .labels import SPLITS, LabelTable

FEW = 5  # positives in a split under which a score says next to nothing
ALWAYS = 0.95  # share of the images from which a class tells little
IMPLIES = 0.98  # share of one class's images that show the other too
Finding = tuple[str, str]  # kind, message


def linked_images(table: LabelTable, links: dict[str, np.ndarray]) -> list[Finding]:
    """Images that belong together (see `duplicates.linked_rows`): conflicting labels, and what given splits part."""
    found = []
    for kind, what in (("identical", "the same image"), ("near", "nearly the same image"), ("group", "one group")):
        for rows in rows_together(links[kind]):
            names = ", ".join(short(path) for path in table.paths[rows[:4]])
            more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
            where = f"{names}{more} (lines {', '.join(str(line) for line in table.lines[rows[:4]])})"
            conflict = kind == "identical" and (table.y[rows] != table.y[rows[0]]).any()
            if conflict:
                found.append(("conflict", f"the same image with different labels: {where}; one of them is wrong"))
            if table.split is not None and len(set(table.split[rows])) > 1:
                found.append(("leak", f"{what} in several splits: {where}; keep it in one, or scores flatter"))
            elif kind != "group" and not conflict:
                found.append(("duplicate", f"{what} more than once: {where}; kept in one split"))
    return found


def label_balance(table: LabelTable, split: np.ndarray) -> list[Finding]:
    """Classes that are absent or rare in a split, that are nearly always on, or that imply each other.

    Parameters
    ----------
    split : object array [N] of "train", "val", "test"
    """
    names, y, found = [short(name) for name in table.class_names], table.y, []
    for part in SPLITS:
        for c, positives in enumerate((y[split == part] == 1).sum(0).tolist()):
            has = f"class {names[c]} has {positives or 'no'} positive{'s' * (positives > 1)} in {part}: "
            if positives == 0:
                means = "nothing to learn it from" if part == "train" else "it has no score there"
                found.append(("no positive", f"{has}{means}; add images"))
            elif positives < FEW:
                found.append(("rare", f"{has}one image more or less changes everything; add images"))
    known = (y >= 0).sum(0)
    for c in np.flatnonzero((y == 1).sum(0) > ALWAYS * np.maximum(known, 1)).tolist():
        share = f"class {names[c]} is present in {(y[:, c] == 1).sum() / known[c]:.0%} of the images: "
        found.append(("always on", f"{share}who always guesses yes scores well; add images without it"))
    if unknown := int((y < 0).all(1).sum()):
        found.append(("unknown", f"{unknown:,} images have no known label: they teach nothing; label or remove them"))
    return found + _implications(names, y)


def _implications(names: list[str], y: np.ndarray) -> list[Finding]:
    present, absent = (y == 1).astype(np.int64), (y == 0).astype(np.int64)
    both, without = present.T @ present, present.T @ absent
    often = present.sum(0) > ALWAYS * np.maximum((y >= 0).sum(0), 1)
    found = []
    for a, b in zip(*np.nonzero((both >= 2 * FEW) & (both >= IMPLIES * (both + without))), strict=True):
        # A class that is nearly always on is implied by all: that is said once, above.
        if a != b and not often[b]:
            share = (
                f"{both[a, b] / (both[a, b] + without[a, b]):.0%} of the images with {names[a]} show {names[b]} too: "
            )
            found.append(("implies", f"{share}the network may learn the company; add images of one without the other"))
    return found
