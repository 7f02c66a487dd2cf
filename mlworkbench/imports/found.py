"""Finding of a reader: what a source says of images and labels, before any image is looked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


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


@dataclass(frozen=True)
class Told:
    """What the options say where the source does not; None and empty are "not said".

    Attributes
    ----------
    image_column : column (or key) of the image paths
    image_suffix : extension of names that have none, such as ".jpg"
    images : folder in which the images lie
    columns : those that are classes, or the one that holds the labels
    negative : the value that means absent where it is not 0
    unknown : values that mean unknown
    blank : what an empty cell means, "absent" or "unknown"
    delimiter : what parts several labels in a cell
    strip_prefix : beginning of the paths that is to be left out
    min_confidence : least confidence of a label that counts as present
    split_column : column of the splits
    classes : names of the classes, in order, from a file
    """

    image_column: str | None = None
    image_suffix: str | None = None
    images: Path | None = None
    columns: tuple[str, ...] = ()
    negative: str | None = None
    unknown: tuple[str, ...] = ()
    blank: str | None = None
    delimiter: str | None = None
    strip_prefix: str | None = None
    min_confidence: float | None = None
    split_column: str | None = None
    classes: tuple[str, ...] = ()
