"""Label budget: how many more labels make a class's score known, and what more of them would raise."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import boxcox
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from ..decisions.thresholds import scores_at
from ..exceptions import WorkbenchError
from ..files import read_json, write_json
from ..runs import folder as folder_of
from ..runs.run import Run
from ..scoring.groups import numbered, resampled
from ..scoring.metrics import _Curve, mean_defined
from ..scoring.predictions import Predictions
from ..text import shown
from .datamap import MappedImages
from .suspects import DIRECTIONS, PENALTIES

WIDTH = 0.05  # half of a 95 % interval from which on a score counts as known
FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the training groups, each within the next
ORDERS = 8  # in which they are taken
RESAMPLES = 200
POWERS = (0.0, 0.5, 1.0)  # of the number of images with which a score nears its best; 0: each doubling adds as much
MEAN = "mean of the classes"
FILE = "label_budget.json"


@dataclass(frozen=True)
class LabelBudget:
    """What a run's classes need.

    Attributes
    ----------
    split : of which the intervals are: test where it was evaluated, else val
    images : training images
    classes : a row a class: the columns of `positives_needed`, and `gain, low, high` of `learning_curve`
    curve : mean average precision of the classes at `FRACTIONS` of the training images, float64 [4]
    mean : `gain, low, high` of it, for twice the images
    """

    split: str
    images: int
    classes: pd.DataFrame
    curve: np.ndarray
    mean: dict[str, float]

    def __str__(self) -> str:
        parts = ", ".join(f"{ap:.3f} from {f:.0%}" for f, ap in zip(FRACTIONS, self.curve, strict=True))
        return (
            f"{self.images:,} training images: the last layer learns a validation mAP of {parts}. Twice as many "
            f"would change it by {self.mean['gain']:+.3f} (95 % interval {self.mean['low']:+.3f} to "
            f"{self.mean['high']:+.3f}), where the features stay as they are."
        )


def label_budget(run: Run) -> LabelBudget:
    """The label budget of a finished run, kept in its folder as `label_budget.json`, where the report finds it.

    The learning curve is that of the network's last layer: features come from the cache where they were computed
    before, heads take seconds. Where the network began with random weights its features have been learned from these
    very labels, so that more of them would raise more than this says.

    Raises
    ------
    ImageFault : an image cannot be read any more
    """
    images, known = MappedImages.of(run), run.groups()
    groups = np.array([known[path] for path in images.predictions.paths]) if known else np.arange(len(images.split))
    said = replace(images.predictions, groups=groups if known else None)
    train, val = (np.flatnonzero(images.split == name) for name in ("train", "val"))
    curve, gains = learning_curve(
        images.features[train], said.labels[train], groups[train], images.features[val], said.take(val)
    )
    split = "test" if (run.folder / folder_of.metrics_file("test")).exists() else "val"
    needed = positives_needed(scores_at(run.predictions(split), run.thresholds()))
    mean = dict(zip(gains.columns, gains.to_numpy()[-1].tolist(), strict=True))
    found = LabelBudget(split, len(train), needed.join(gains), curve[:, -1], mean)
    with folder_of.keeping(run.folder) as kept:
        told = {"classes": found.classes.to_dict("index"), "curve": found.curve.tolist()}
        if kept:
            write_json(run.folder / FILE, asdict(found) | told)
    return found


def kept_budget(run: Run) -> LabelBudget | None:
    """The label budget that the run folder keeps, None where nobody asked for one."""
    if not (run.folder / FILE).exists():
        return None
    told = read_json(run.folder / FILE)
    try:
        classes = pd.DataFrame.from_dict(told["classes"], orient="index").astype(float)
        mean = {name: np.nan if its is None else float(its) for name, its in told["mean"].items()}
        return LabelBudget(told["split"], told["images"], classes, np.array(told["curve"], float), mean)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise WorkbenchError(f"{run.folder / FILE} is damaged ({error!r}); notebook 04 makes it anew") from None


def budget_rows(classes: pd.DataFrame) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of what classes need, as people read them; see `positives_needed` and `LabelBudget`."""
    columns = ["class", "positives", "more for AP", "more for F1"]
    wanted = classes[["positives", "ap_more", "f1_more"]]
    rows = [[name, *(shown(n, 0) for n in row)] for name, row in zip(wanted.index, wanted.to_numpy(float), strict=True)]
    if "gain" in classes:
        columns.append("AP by twice the training images")
        for row, its in zip(rows, classes.to_dict("records"), strict=True):
            told = "{gain:+.3f} ({low:+.3f} to {high:+.3f})".format_map(its)
            row.append("–" if np.isnan(its["gain"]) else told)
    return columns, rows


def positives_needed(scores: dict[str, Any]) -> pd.DataFrame:
    """How many more positives bring each class's intervals to ± .05, from those that it has.

    A standard error falls with the square root of the positives, so P of them with an interval of ± h become
    P (h / .05)². A class with too few for an interval is given what the median of the others needs.

    Parameters
    ----------
    scores : see `metrics.score`; the positives are those of its split

    Returns
    -------
    A row a class: `positives`, and for "ap" and "f1" the half of the interval `ap_half` (NaN: too few) and `ap_more`,
    how many more positives are needed, float64; NaN where no class tells
    """
    table = pd.DataFrame({"positives": {name: its["support"] for name, its in scores["classes"].items()}})
    for score in ("ap", "f1"):
        ends = pd.DataFrame({name: its[score] for name, its in scores["intervals"]["classes"].items()}).T
        half = (ends["high"] - ends["low"]).astype(float) / 2
        needed = table["positives"] * (half / WIDTH) ** 2
        table[f"{score}_half"] = half
        table[f"{score}_more"] = np.ceil((needed.fillna(needed.median()) - table["positives"]).clip(lower=0))
    return table


def learning_curve(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, new: np.ndarray, val: Predictions, seed: int = 0
) -> tuple[np.ndarray, pd.DataFrame]:
    """What a quarter to all of the training images teach a linear head, and what twice as many would.

    Scikit-learn's ridge regression on principal components, as `suspects.left_one_out` has it, fitted to nested parts
    of the groups in several random orders and scored on validation. Scores near their best with some power of the
    number of images (Hestness et al., arXiv 1712.00409); four points do not tell which. So the next doubling is the
    mean of what follows from powers 0 (each doubling adds as much), 1/2 and 1, and its 95 % interval comes from
    resamples of validation's groups, each with one order and one power.

    Parameters
    ----------
    x, y : float [N, D] features and int8 [N, C] labels of the training images; -1 stands at its class's mean
    groups : [N], equal where images belong together
    new : float [M, D], features of the validation images
    val : their labels and groups; the logits have no part

    Returns
    -------
    Average precision float64 [4, C + 1] at `FRACTIONS`, the mean over the orders, and a row a class: `gain, low, high`
    of twice the images, NaN where a class is undefined. The mean over the classes comes last in both.
    """
    few, size = PCA(min(DIRECTIONS, *x.shape), svd_solver="covariance_eigh"), max(float(x.std()), 1e-9)
    x, new = few.fit_transform(x / size), few.transform(new / size)
    groups, rng = numbered(groups, len(x)), np.random.default_rng(seed)
    known, present = y >= 0, y == 1
    target = np.where(known, present, present.sum(0) / np.maximum(known.sum(0), 1))
    weights = np.concatenate([np.ones((len(new), 1), np.float32), *resampled(val, RESAMPLES, seed)], 1)
    curve = np.empty((ORDERS, len(FRACTIONS), y.shape[1], weights.shape[1]))
    count = groups.max() + 1
    for order in range(ORDERS):
        place = rng.permutation(count)[groups]
        for f, fraction in enumerate(FRACTIONS):
            if fraction == 1 and order:
                curve[order, f] = curve[0, f]
                continue
            rows = place < max(2, round(fraction * count))
            head = RidgeCV(PENALTIES, alpha_per_target=True).fit(x[rows], target[rows])
            said = head.predict(new).reshape(len(new), -1)
            for c in range(y.shape[1]):
                curve[order, f, c] = _Curve(val.labels[:, c], said[:, c]).average_precision(weights)
    curve = np.concatenate([curve, mean_defined(curve, 2)[:, :, None]], 2)  # the mean over the classes last
    gains = np.concatenate([_next_doubling(curve, power) for power in POWERS])  # [orders x powers, C + 1, resamples]
    drawn = gains[rng.integers(len(gains), size=RESAMPLES), :, np.arange(1, 1 + RESAMPLES)]
    undefined = np.isnan(gains[0, :, 0])
    low, high = np.where(undefined, np.nan, np.nanquantile(np.where(undefined, 0, drawn), [0.025, 0.975], axis=0))
    gain = gains[..., 0].mean(0)
    ends = {"low": np.minimum(low, gain), "high": np.maximum(high, gain)}
    told = pd.DataFrame({"gain": gain} | ends, index=[*val.class_names, MEAN])
    return curve[:, :, :, 0].mean(0), told


def _next_doubling(curve: np.ndarray, power: float) -> np.ndarray:
    """What twice all images add to scores [orders, fractions, ...] that fall short of their best by a power of them."""
    x = boxcox(FRACTIONS, -power)  # its logarithm for a power of 0
    slope = np.tensordot((x - x.mean()) / ((x - x.mean()) ** 2).sum(), curve, (0, 1))
    return slope * boxcox(2, -power)
