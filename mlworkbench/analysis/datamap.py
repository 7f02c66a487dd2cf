"""Map of the data: images as points of a plane, near where their features are alike; near duplicates across splits."""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.images import ImageFault, ImageInfo, check_images, images_hash
from ..exceptions import WorkbenchError
from ..network.batches import ImageDataset
from ..network.device import choose_device
from ..network.infer import cached_features
from ..runs.run import Run
from ..scoring.metrics import outcomes
from ..scoring.predictions import Predictions
from ..settings import Settings

log = logging.getLogger("mlworkbench")
DIRECTIONS = 128  # of the features, in which near duplicates are sought
LIMIT = 0.7  # cosine from which on two images may be near duplicates; docs/decisions/019 has what it finds
NEXT = 5  # images besides the other one, the last of which each of the two must be this many times further from
APART = 5
SAME = 0.999  # cosine from which on two images are near duplicates whatever else is near them
BLOCK = 1000  # rows of a product at once
EXACT = 20_000  # images up to which each is compared with each
PROBES = 32  # cells of a larger map in which near duplicates of an image are sought
CROWD = 4  # images of a cell that are looked at, as a multiple of the mean


@dataclass(frozen=True)
class MappedImages:
    """Images with their features and what the run says of them.

    Attributes
    ----------
    predictions : with labels, calibrated as the run's thresholds are
    present : bool [N, C], the decisions at those thresholds
    split : [N] of "train", "val", "test"
    features : float32 [N, D]
    root : where the image paths start
    untaught : whether the network began with random weights, so that what is alike to it need not look alike
    """

    predictions: Predictions
    present: np.ndarray
    split: np.ndarray
    features: np.ndarray
    root: Path
    untaught: bool = False

    @classmethod
    def of(cls, run: Run) -> "MappedImages":
        """All images of a run; features come from the cache, or take an inference, and decisions from features.

        They are kept by the content of the images as they are now; that these are others than the run took is said.

        Raises
        ------
        ImageFault : an image cannot be read any more
        """
        table, settings = run.split_table(), Settings(**run.state["settings"])
        found = check_images(table.paths, table.root)
        for path, fault in zip(table.paths, found, strict=True):
            if isinstance(fault, ImageFault):
                raise ImageFault(f"image {path!r}: {fault}; has it changed since the run took it?")
        digests = [info.digest for info in found if isinstance(info, ImageInfo)]
        content = images_hash(digests)
        if content != run.state["images_hash"]:
            log.warning("images have changed since %s was trained: the map shows them as they are now", run.folder)
        dataset = ImageDataset(table.paths, table.root, None, settings.image_size, digests)
        values = cached_features(run.model, dataset, content, settings, choose_device())
        assert values is not None and table.split is not None  # nobody asks it to stop
        said = Predictions(table.paths, run.class_names, run.model.logits_of(values), table.y)
        thresholds = run.thresholds()
        return cls(
            thresholds.calibrated(said), thresholds.decide(said), table.split, values, table.root,
            Path(settings.model).suffix in (".yaml", ".yml"),
        )  # fmt: skip

    @cached_property
    def near(self) -> pd.DataFrame:
        """See `near_duplicates`."""
        return near_duplicates(self.features, self.split, self.predictions.paths)

    @property
    def pairs(self) -> np.ndarray:
        """The rows of `near`, int [M, 2]."""
        rows = pd.Index(self.predictions.paths)
        return np.stack([rows.get_indexer(self.near[side]) for side in ("a", "b")], axis=1)

    def kinds(self, what: str | int) -> np.ndarray:
        """What each image is, [N] of the keys of `style.MAP_MARKS`, by "split", by "errors", or in the class `what`."""
        if what == "split":
            return self.split
        y = self.predictions.labels
        if isinstance(what, int):
            return np.array(["unknown", "absent", "present"])[y[:, what] + 1]
        found = outcomes(y, self.present)
        kind = np.where((y >= 0).any(1), found["fp"].any(1) + 2 * found["fn"].any(1), 4)
        return np.array(["right", "false positive", "false negative", "both", "unknown"])[kind]


def project(features: np.ndarray, method: str = "pca", seed: int = 0) -> np.ndarray:
    """Features in two dimensions, by scikit-learn.

    Parameters
    ----------
    features : float32 [N, D]
    method : "pca", the first two principal components; or "tsne" (van der Maaten and Hinton, JMLR 2008; Barnes and
        Hut's approximation) of the first 50, which keeps neighbours together but neither distances nor densities

    Returns
    -------
    float32 [N, 2], the same for the same seed

    Raises
    ------
    WorkbenchError : another method, or fewer than three images
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method not in ("pca", "tsne") or len(features) < 3:
        raise WorkbenchError(f"a map by {method!r} of {len(features)} images; expected pca or tsne, of three or more")
    first = PCA(min(50 if method == "tsne" else 2, *features.shape), random_state=seed).fit_transform(features)
    if method == "pca":
        return first.astype(np.float32)
    perplexity = min(30, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, random_state=seed).fit_transform(first).astype(np.float32)


def near_duplicates(features: np.ndarray, split: np.ndarray, paths: np.ndarray) -> pd.DataFrame:
    """Images that look much like one of another split: each with the most similar one there, if both stand apart.

    What cosine is much depends on the network and on the place: where it tells little apart all are alike. So the two
    must be `APART` times closer to each other than to the `NEXT`-th most similar of all other images.

    The similarity is the cosine of whitened features: a network's features differ mostly by what it has learnt to tell
    apart, and only in equal scales do the directions count by which two pictures of one class differ (Jégou and Chum,
    ECCV 2012). They are at most about a fifth of the images: in as many as there are images all are equally far apart.

    Of more than `EXACT` images each is compared with some of its neighbourhood only (see `_most_similar`), which is
    said by a warning.

    Parameters
    ----------
    features : float32 [N, D]
    split, paths : [N]

    Returns
    -------
    Columns `a, split_a, b, split_b` (a and b are paths) and `similarity` (up to 1), each pair once, most similar first
    """
    from sklearn.decomposition import PCA

    most = min(DIRECTIONS, max(len(features) // 5, min(32, len(features) // 2)), features.shape[1])
    found = np.zeros((0, 3))
    if len(np.unique(split)) > 1:
        whole = PCA(most, random_state=0).fit(features)
        variance = whole.explained_variance_
        values = whole.transform(features) / np.sqrt(variance + 1e-6 * variance[0] + 1e-12)  # some have next to none
        values = (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)).astype(np.float32)
        best, similarity = _most_similar(values, np.unique(split, return_inverse=True)[1])
        rows = np.flatnonzero(best >= 0)
        best = best[rows]
        found = np.stack([np.minimum(rows, best), np.maximum(rows, best), similarity[rows]], axis=1)
    pairs = pd.DataFrame(found, columns=["a", "b", "similarity"])
    pairs = pairs[pairs.similarity >= LIMIT].drop_duplicates(["a", "b"])
    if len(pairs):
        around = np.maximum(*(_neighbourhood(values, pairs[side].to_numpy(int)) for side in ("a", "b")))
        alike = pairs.similarity.to_numpy()
        pairs = pairs[(APART * (1 - alike) <= 1 - around) | (alike >= SAME)]
    pairs = pairs.sort_values(["similarity", "a", "b"], ascending=[False, True, True], ignore_index=True)
    a, b = pairs.a.to_numpy(int), pairs.b.to_numpy(int)
    sides = {"a": paths[a], "split_a": split[a], "b": paths[b], "split_b": split[b]}
    return pd.DataFrame({**sides, "similarity": pairs.similarity.clip(upper=1)})


def _neighbourhood(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The cosine of rows with the `NEXT`-th most similar image besides the most similar one, float32 [M].

    Of more than `EXACT` images that many are asked, and correspondingly fewer of them are passed over.
    """
    some = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), EXACT)).astype(int))]
    place = min(2 + max(1, round(NEXT * len(some) / len(values))), len(some))  # the first is the image itself
    parts = np.split(rows, range(BLOCK, len(rows), BLOCK))
    return np.concatenate([np.partition(values[part] @ some.T, -place, axis=1)[:, -place] for part in parts])


def _most_similar(values: np.ndarray, split: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row of another split most similar to each, int [N], -1 where none was met, and its cosine, float32 [N].

    Many images lie in cells, each around one of √N of them, and an image is compared with those in the `PROBES` cells
    that it is nearest to (an inverted file: Jégou, Douze and Schmid, TPAMI 2011): N√N comparisons instead of N².

    Parameters
    ----------
    values : float32 [N, D], of length 1
    split : int [N]
    """
    cells = 1 if len(values) <= EXACT else round(len(values) ** 0.5)
    probes, most = min(PROBES, cells), len(values) if cells == 1 else CROWD * len(values) // cells
    if cells > 1:
        log.warning(
            "near duplicates of %s images: each is compared with the up to %s nearest to it by cells, not with all; "
            "some may be missing", f"{len(values):,}", f"{probes * most:,}",
        )  # fmt: skip
    centres = values[np.linspace(0, len(values) - 1, cells).astype(int)]
    nearest = np.empty((len(values), probes), np.int32)
    for start in range(0, len(values), BLOCK):
        like = values[start : start + BLOCK] @ centres.T
        near = np.argpartition(-like, probes - 1, axis=1)[:, :probes]
        nearest[start : start + BLOCK] = np.take_along_axis(
            near, np.argsort(-np.take_along_axis(like, near, 1), axis=1, kind="stable"), 1
        )
    best, similarity = np.full(len(values), -1), np.full(len(values), -np.inf, np.float32)
    asking = np.split(
        np.argsort(nearest, axis=None, kind="stable") // probes,
        np.cumsum(np.bincount(nearest.ravel(), minlength=cells))[:-1],
    )
    for cell, rows in enumerate(asking):
        inside = np.flatnonzero(nearest[:, 0] == cell)
        inside = inside[np.unique(np.linspace(0, len(inside) - 1, min(most, len(inside))).astype(int))]
        for some in np.split(rows, range(BLOCK, len(rows), BLOCK)) if len(inside) else ():
            like = values[some] @ values[inside].T
            like[split[some, None] == split[inside]] = -np.inf
            at = like.argmax(1)
            its = like[np.arange(len(some)), at]
            better = its > similarity[some]
            best[some[better]], similarity[some[better]] = inside[at[better]], its[better]
    return best, similarity
