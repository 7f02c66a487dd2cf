"""Finding of a reader: what a source says of images and labels, before any image is looked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..tables.columns import Told

__all__ = ["Found", "Told"]


@dataclass
class Found:
    """What a source says.

    Attributes
    ----------
    what : the kind of source, for people: "COCO annotations", "table, one column per class"
    class_names : list of C str
    images : [N], each once: the image as the source names it, relative to one of `places` or absolute
    y : int8 [N, C]; 1 present, 0 absent, -1 unknown
    places : folders in which the images may lie, the likeliest first
    split, group : [N] of str as the source writes them ("" where it gives none), or None
    notes : (kind, message) pairs of what was passed over or is worth knowing, one for each cause
    """

    what: str
    class_names: list[str]
    images: Sequence[str]
    y: np.ndarray
    places: Sequence[Path]
    split: Sequence[str] | None = None
    group: Sequence[str] | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)
