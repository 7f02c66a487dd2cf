"""Shares whose uncertainty counts groups of images, not images: what belongs together tells less than it seems."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix

from .predictions import Predictions

FEW = 8  # independent positives below which a class has no interval
BLOCK = 100  # resamples at once: bounds the memory


def numbered(groups: np.ndarray | None, images: int) -> np.ndarray:
    """The groups as numbers 0 to G - 1, int [N]; without groups each image is one."""
    return np.arange(images) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)


def effective(groups: np.ndarray) -> float:
    """Number of groups of equal size that tell as much as these (Kish 1965): 4 and 4 images are 2, 7 and 1 are 1.28.

    Parameters
    ----------
    groups : int [n], the group of each image, from 0; none: 0
    """
    sizes = np.bincount(groups)
    return float(sizes.sum()) ** 2 / max(1.0, float((sizes**2).sum()))


def independent_positives(y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Positives of each class that are independent of each other, float64 [C]: `effective` groups that hold one."""
    return np.array([effective(groups[y[:, c] == 1]) for c in range(y.shape[1])], float)


def few_positives(y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Classes with too few independent positives for an interval, bool [C], of labels y [N, C]."""
    return independent_positives(y, groups) < FEW


def group_sums(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums over the images of each group, float64 [G, C], of values [N, C]; groups as `numbered` gives them."""
    rows = csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))))
    return rows @ np.asarray(values, float)


def shares(hits: np.ndarray, counted: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of what is counted, and the standard errors of these ratios (Cochran, "Sampling Techniques", 1977, ch. 6).

    Parameters
    ----------
    hits, counted : numbers or bool [N, C]; a share is the sum of hits over the sum of counted
    groups : int [N], see `numbered`

    Returns
    -------
    float64 [C] each; NaN where nothing is counted
    """
    of_group, size = group_sums(groups, hits), group_sums(groups, counted)
    share = ratio(of_group.sum(0), size.sum(0))
    n = len(of_group)
    square = ((of_group - share * size) ** 2).sum(0) * n / max(n - 1, 1)
    return share, np.sqrt(ratio(square, size.sum(0) ** 2))


def design_effect(hits: np.ndarray, counted: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many times as large groups make the variance of each share, float64 [C] (Kish 1965), at least 1.

    No class's is taken to be less than that of all classes together, since of few hits it is hardly known.
    """
    grouped, single = (shares(hits, counted, its)[1] ** 2 for its in (groups, np.arange(len(groups))))
    all_of_them = ratio(np.nansum(grouped), np.nansum(single))
    return np.fmax(np.fmax(ratio(grouped, single), all_of_them), 1)


def resampled(predictions: Predictions, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image counts in bootstrap resamples over groups, float32 [N, at most 100] block by block."""
    groups = numbered(predictions.groups, len(predictions))
    count, rng = groups.max() + 1, np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(BLOCK, resamples - start))
        yield np.ascontiguousarray(drawn.T[groups], np.float32)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """Element-wise division; NaN where the denominator is zero."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
