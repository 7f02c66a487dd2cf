"""Slices: groups of images in which a model errs more often than elsewhere, beyond what chance explains."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import convolve
from scipy.sparse import csr_matrix
from scipy.stats import false_discovery_control, hypergeom, norm

from ..decisions.thresholds import Thresholds
from ..exceptions import WorkbenchError
from ..scoring.groups import numbered, ratio
from ..scoring.metrics import outcomes, wilson
from ..scoring.predictions import Predictions

LEVEL = 0.05
PARTS = 4  # into which a number is cut: its quartiles
LEAST = 10  # images that a slice must have in a comparison: fewer could hardly be told from chance
COLUMNS = ["score", "slice", "images", "wrong", "rate", "rest", "difference", "low", "high", "p", "q", "significant"]


def weak_slices(
    predictions: Predictions, thresholds: Thresholds, traits: pd.DataFrame | None = None, level: float = LEVEL
) -> pd.DataFrame:
    """Compare every slice with the rest of the images, in every score.

    Slices are the quartiles of a number (or its values, where there are few), the values of a text, whether a class is
    present, and how many are. Scores are shares of images: "NAME missed" among those with the class, "NAME found where
    it is not" among those without it, and "any label wrong". All are compared between equal labels, so that none is
    worse for having more of them: the last between images with equally many present (and known), over traits of the
    images alone.

    Each comparison is Fisher's exact test, one-sided, over several numbers of labels Cochran, Mantel and Haenszel's: it
    holds its level however few and coarse the numbers are. Where images come in groups, its standard score is divided
    by the root of the design effect (see `_design_effect`). For having looked at many, p is adjusted to q (Benjamini
    and Hochberg 1995), so that among those with q <= `level` that share is expected to be chance; where no slice is
    worse, there is anything at all at most that often.

    Parameters
    ----------
    traits : a row an image, named by its path, as `image_traits` gives them; None: slices by label only

    Returns
    -------
    Columns `score, slice, images` (of the slice in this score), `wrong, rate, rest` (the rate elsewhere, at as many
    labels), `difference` of the rates (Mantel and Haenszel's) with its 95 % interval `low, high` (Newcombe 1998, method
    10, of as many independent images as the groups are worth; each for itself), `p, q, significant`.
    Significant ones first, then by how much worse the slice surely is (`low`).

    Raises
    ------
    WorkbenchError : an image without traits
    """
    y = predictions.labels
    slices, images, of_images = _slices(predictions, traits)
    scores, counted, failed = _scores(predictions, thresholds)
    size, hits = (part.T.astype(np.float32) @ images.astype(np.float32) for part in (counted, failed))
    all_size, all_hits = counted.sum(0)[:, None], failed.sum(0)[:, None]
    compared = (size >= LEAST) & (all_size - size >= LEAST)
    compared[-1, of_images:] = False
    s, t = np.nonzero(compared)
    size, hits = size[s, t].astype(int), hits[s, t].astype(int)
    total, total_hits = all_size[s, 0], all_hits[s, 0]
    p = np.minimum(hypergeom.sf(hits - 1, total, total_hits, size), 1.0)
    rate, difference, worth = hits / size, hits / size - (total_hits - hits) / (total - size), np.ones(len(s))

    one = np.zeros(len(y), int)
    alike = np.unique(np.column_stack(((y == 1).sum(1), (y >= 0).sum(1))), axis=0, return_inverse=True)[1].ravel()
    last, rows = s == len(scores) - 1, counted[:, -1]
    if last.any():
        p[last], difference[last], worth[last] = _between_equals(
            images[rows][:, t[last]], failed[rows, -1], alike[rows]
        )
    if predictions.groups is not None:
        groups = numbered(predictions.groups, len(y))
        for score in np.unique(s):
            its, rows = s == score, counted[:, score]
            equals = (alike if score == len(scores) - 1 else one)[rows]
            effect = _design_effect(images[rows][:, t[its]], failed[rows, score], equals, groups[rows])
            p[its] = np.where(effect > 1, norm.sf(norm.isf(p[its]) / np.sqrt(effect)), p[its])
            worth[its] /= effect
    q = false_discovery_control(p) if len(p) else p
    rest = np.clip(rate - difference, 0, 1)
    low, high = _difference_interval(rate, size * worth, rest, (total - size) * worth)
    columns = (scores[s], slices[t], size, hits, rate, rest, rate - rest, low, high, p, q, q <= level)
    frame = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    return frame.sort_values(["significant", "low"], ascending=False, kind="stable", ignore_index=True)


def slice_images(
    predictions: Predictions, thresholds: Thresholds, row: Mapping[Any, Any], traits: pd.DataFrame | None = None
) -> np.ndarray:
    """Paths [n] of the images that are wrong in a row of `weak_slices`, which was asked of the same."""
    slices, images, _ = _slices(predictions, traits)
    scores, _, failed = _scores(predictions, thresholds)
    inside, wrong = images[:, slices == row["slice"]], failed[:, scores == row["score"]]
    return predictions.paths[inside.any(1) & wrong.any(1)]


def _slices(predictions: Predictions, traits: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Slices by name, which images they hold, bool [N, slices], and how many of the first are by traits of images."""
    y, given = predictions.labels, list[tuple[str, np.ndarray]]()
    if traits is not None:
        traits = traits[~traits.index.duplicated()]
        if missing := [path for path in predictions.paths if path not in traits.index]:
            raise WorkbenchError(f"no traits of the image {missing[0]!r} and {len(missing) - 1} more")
        for name, column in traits.loc[predictions.paths].items():
            given += _cut(str(name), column)
    own = [(f"{name} present", y[:, c] == 1) for c, name in enumerate(predictions.class_names)]
    own += _cut("labels present", pd.Series(np.where((y >= 0).all(1), (y == 1).sum(1), np.nan)))
    names = np.array([name for name, _ in (*given, *own)], dtype=object)
    return names, np.column_stack([held for _, held in (*given, *own)]), len(given)


def _scores(predictions: Predictions, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores by name, the images that count in each and those of them that are wrong, bool [N, 2 C + 1]."""
    y, names = predictions.labels, predictions.class_names
    found = outcomes(y, thresholds.decide(predictions))
    counted = np.column_stack((y == 1, y == 0, (y >= 0).any(1)))
    failed = np.column_stack((found["fn"], found["fp"], (found["fn"] | found["fp"]).any(1)))
    told = (*(f"{n} missed" for n in names), *(f"{n} found where it is not" for n in names), "any label wrong")
    return np.array(told, object), counted, failed


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


def _between_equals(images: np.ndarray, failed: np.ndarray, alike: np.ndarray) -> tuple[np.ndarray, ...]:
    """Slices compared with the rest of the images that are alike, bool [N, T], [N] and numbers of what is alike [N].

    Returns
    -------
    p : of the exact test of Cochran, Mantel and Haenszel, one-sided (Birch 1964): how many are wrong in the slice, of
        those that are among all alike, is a sum of hypergeometric numbers
    difference : of the rates, each kind weighted by how much it tells (Mantel and Haenszel)
    worth : how much that tells, of what it would if all were alike
    """
    total, wrong = np.bincount(alike), np.bincount(alike, failed).astype(int)
    size, hits = _sums(images, alike).astype(int), images[failed].sum(0)
    weight = (size * (total[:, None] - size) / np.maximum(total, 1)[:, None]).sum(0)
    expected = (size * ratio(wrong, np.maximum(total, 1))[:, None]).sum(0)
    p = np.ones(len(hits))
    for i, mine in enumerate(size.T):
        chance, least = np.ones(1), 0
        for n, drawn, bad in zip(total, mine, wrong, strict=True):
            low, high = max(0, drawn + bad - n), min(drawn, bad)
            chance, least = convolve(chance, hypergeom.pmf(np.arange(low, high + 1), n, bad, drawn)), least + low
        p[i] = np.clip(chance[hits[i] - least :].sum(), 0, 1) if hits[i] > least else 1
    together, all_images = size.sum(0), len(failed)
    return p, ratio(hits - expected, weight), ratio(weight, together * (all_images - together) / max(all_images, 1))


def _design_effect(images: np.ndarray, failed: np.ndarray, alike: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many times as much the groups let a comparison vary as that many single images would, float [T], at least 1.

    The variance of its score over groups, by that over images (Rao and Scott 1992; both as if no slice were worse, so
    that a slice of few groups is not taken for a sure one). A standard score by its root is a test of groups; images by
    it are as many as are independent.
    """
    told = np.ones((len(alike), images.shape[1]), np.float32)
    for part in (images, failed[:, None]):
        told *= part - (_sums(part, alike) / np.maximum(np.bincount(alike), 1)[:, None])[alike]
    return np.fmax(ratio((_sums(told, groups) ** 2).sum(0), (told**2).sum(0)), 1)


def _sums(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Sums of the rows with equal numbers, float [numbers, T]."""
    rows = csr_matrix((np.ones(len(by), np.float32), by, np.arange(len(by) + 1)))
    return np.asarray(rows.T @ values.astype(np.float32))


def _difference_interval(a: np.ndarray, m: np.ndarray, b: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a - b, shares of m and n: Newcombe's hybrid of two score intervals (Wilson 1927)."""
    (low_a, high_a), (low_b, high_b) = wilson(a * m, m), wilson(b * n, n)
    low = a - b - np.hypot(a - low_a, high_b - b)
    return low, a - b + np.hypot(high_a - a, b - low_b)
