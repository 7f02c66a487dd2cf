"""Slices: groups of images in which a model errs more often than elsewhere, beyond what chance explains."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, hypergeom

from ..exceptions import WorkbenchError
from ..scoring.metrics import outcomes, ratio, wilson
from ..scoring.predictions import Predictions
from ..scoring.thresholds import Thresholds

LEVEL = 0.05
PARTS = 4  # into which a number is cut: its quartiles
LEAST = 10  # images that a slice must have in a comparison: fewer could hardly be told from chance
COLUMNS = ["score", "slice", "images", "wrong", "rate", "rest", "difference", "low", "high", "p", "q", "significant"]


def weak_slices(
    predictions: Predictions, thresholds: Thresholds, traits: pd.DataFrame | None = None, level: float = LEVEL
) -> pd.DataFrame:
    """Compare every slice with the rest of the images, in every score.

    Slices are the quartiles of a number (or its values, where there are few), the values of a text, whether a class is
    present, and how many are. Scores are shares of images: "NAME missed" among those with the class, "NAME added" among
    those without it, and "any label wrong". The last is compared only over traits of the images themselves, since the
    more labels an image has, the more can be wrong; a class's mistakes are compared between equal labels.

    Each comparison is Fisher's exact test, one-sided: it holds its level however few and coarse the numbers are. For
    having looked at many, p is adjusted to q (Benjamini and Hochberg 1995), so that among those with q <= `level` that
    share is expected to be chance; where no slice is worse, there is anything at all at most that often.

    Parameters
    ----------
    traits : a row an image, named by its path, as `image_traits` gives them; None: slices by label only

    Returns
    -------
    Columns `score, slice, images` (of the slice in this score), `wrong, rate, rest` (the rate elsewhere), `difference`
    of the rates with its 95 % interval `low, high` (Newcombe 1998, method 10; each for itself), `p, q, significant`.
    Significant ones first, then by how much worse the slice surely is (`low`).

    Raises
    ------
    WorkbenchError : an image without traits
    """
    y, names = predictions.labels, predictions.class_names
    found = outcomes(y, thresholds.decide(predictions))
    given: list[tuple[str, np.ndarray]] = []
    if traits is not None:
        traits = traits[~traits.index.duplicated()]
        if missing := [path for path in predictions.paths if path not in traits.index]:
            raise WorkbenchError(f"no traits of the image {missing[0]!r} and {len(missing) - 1} more")
        for name, column in traits.loc[predictions.paths].items():
            given += _cut(str(name), column)
    own = [(f"{name} present", y[:, c] == 1) for c, name in enumerate(names)]
    own += _cut("labels present", pd.Series(np.where((y >= 0).all(1), (y == 1).sum(1), np.nan)))
    slices = np.array([name for name, _ in (*given, *own)], dtype=object)
    images = np.column_stack([held for _, held in (*given, *own)])  # bool [N, slices]

    # Each score is told by the images that count in it and those of them that are wrong, bool [N, 2 C + 1].
    counted = np.column_stack((y == 1, y == 0, (y >= 0).any(1)))
    failed = np.column_stack((found["fn"], found["fp"], (found["fn"] | found["fp"]).any(1)))
    scores = np.array([*(f"{n} missed" for n in names), *(f"{n} added" for n in names), "any label wrong"], object)
    size, hits = (part.T.astype(np.float32) @ images.astype(np.float32) for part in (counted, failed))
    all_size, all_hits = counted.sum(0)[:, None], failed.sum(0)[:, None]
    compared = (size >= LEAST) & (all_size - size >= LEAST)
    compared[-1, len(given) :] = False
    s, t = np.nonzero(compared)
    size, hits = size[s, t].astype(int), hits[s, t].astype(int)
    total, total_hits = all_size[s, 0], all_hits[s, 0]
    p = np.minimum(hypergeom.sf(hits - 1, total, total_hits, size), 1.0)
    q = false_discovery_control(p) if len(p) else p
    rate, rest = ratio(hits, size), ratio(total_hits - hits, total - size)
    low, high = _difference_interval(rate, size, rest, total - size)
    columns = (scores[s], slices[t], size, hits, rate, rest, rate - rest, low, high, p, q, q <= level)
    frame = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    return frame.sort_values(["significant", "low"], ascending=False, kind="stable", ignore_index=True)


def _cut(name: str, values: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    """Slices of the images by one trait: what they are called and which images they hold, bool [N]."""
    distinct = values.dropna().unique()
    if pd.api.types.is_numeric_dtype(values) and len(distinct) > PARTS:
        array = values.to_numpy(float)
        edges = np.unique(np.nanquantile(array, np.arange(1, PARTS) / PARTS))
        bounds = [-np.inf, *edges, np.inf]
        for low, high in pairwise(bounds):
            above = "" if low == -np.inf else f" above {low:.4g}"
            up_to = "" if high == np.inf else f" up to {high:.4g}"
            yield f"{name}{above}{up_to}", (array > low) & (array <= high)
    elif len(distinct) > 1:
        often = values.value_counts()
        for value in often.index[often >= LEAST]:
            text = f"{value:g}" if isinstance(value, float) else value
            yield f"{name} {text}", (values == value).to_numpy()


def _difference_interval(a: np.ndarray, m: np.ndarray, b: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a - b, shares of m and n: Newcombe's hybrid of two score intervals (Wilson 1927)."""
    (low_a, high_a), (low_b, high_b) = wilson(a * m, m), wilson(b * n, n)
    low = a - b - np.hypot(a - low_a, high_b - b)
    return low, a - b + np.hypot(high_a - a, b - low_b)
