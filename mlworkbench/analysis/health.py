"""Health of a run on new images, which nobody has labelled: does what was found on validation still stand there?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import betabinom, chi2, norm, rankdata, t
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from ..data.duplicates import joined_groups, linked_rows
from ..data.images import ImageFault, ImageInfo, check_images, digest, images_hash
from ..decisions.thresholds import Thresholds
from ..decisions.tuning import learnt_classes
from ..exceptions import WorkbenchError
from ..files import read_json, write_json
from ..network.batches import ImageDataset
from ..network.device import choose_device
from ..network.infer import cached_features
from ..progress import progress_bar
from ..runs import folder as folder_of
from ..runs.run import Run
from ..scoring.calibration import calibrate
from ..scoring.groups import design_effect, few_positives, group_sums, numbered, ratio, resampled
from ..scoring.metrics import class_scores
from ..scoring.predictions import Predictions
from ..scoring.prevalence import scores_of_counts
from ..settings import Settings
from ..text import printable, shown

FILE = "health.json"
LEVEL = 0.05
COLUMNS = {
    "class": "{name}", "called present": "{share}", "expected": "{low} to {high}", "now": "{now}", "changed": "{mark}",
    "frequency": "{prevalence}", "estimated now": "{estimated} ({estimated_low} to {estimated_high})",
}  # fmt: skip
PERMUTATIONS = 1999
RESAMPLES = 200
HALVINGS = 30  # of the range in which a prevalence is sought
DIRECTIONS = 64  # of the features, in which a drift is sought
FOLDS = 5
LEAST = 20  # groups on either side from which on a drift can be found
BINS = 1000  # of equally many new images, by their logits
FITS = 400  # of the classifier to groups exchanged at random
TINY = 1e-6  # an estimate of 0 would leave no precision
HELD = {"recall": "The recall that thresholds hold", "guarantee": "The guarantee of a miss rate"}
SHIFTS = ("f1", "fbeta", "cost", "precision")  # objectives whose best threshold depends on how frequent a class is


@dataclass(frozen=True)
class Health:
    """New images compared with validation.

    Attributes
    ----------
    images, groups : how many new images there are, and how many are independent
    classes : a row a class: `share` of validation images called present and the range `low, high` in which the share of
        so many new images lies in 95 % of cases if nothing has changed, `now` what it is, `p` adjusted for the number
        of classes, `changed`; `prevalence` in validation, and as it is estimated for the new images with its 95 %
        interval `estimated, estimated_low, estimated_high`; `precision` on validation and `then`, at that estimate
    drift : `auc`, how well a classifier tells new images from validation by their features (0.5: not at all), and `p`;
        empty where features or images are too few or missing
    said : what follows, in sentences
    aside : (path, reason) of new images that cannot be read
    """

    images: int
    groups: int
    classes: pd.DataFrame
    drift: dict[str, float]
    said: list[str]
    aside: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        table = self.table().assign(**{"class": [printable(name) for name in self.classes.index]})
        return "\n".join([table.to_string(index=False), *self.said])

    def table(self) -> pd.DataFrame:
        """The classes as people read them, all text."""
        told = [
            {key: shown(its, 3) for key, its in row.items()} | {"name": name, "mark": "yes" if row["changed"] else ""}
            for name, row in self.classes.to_dict("index").items()
        ]
        return pd.DataFrame({name: [text.format_map(row) for row in told] for name, text in COLUMNS.items()})

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "images": self.images,
            "groups": self.groups,
            "classes": self.classes.to_dict("index"),
            "drift": self.drift,
            "said": self.said,
            "set_aside": [{"image_path": path, "reason": reason} for path, reason in self.aside],
        }


def check_health(run: Run, paths: Sequence[str], root: str | Path, groups: Mapping[str, str] | None = None) -> Health:
    """Compare new images, of which nobody knows the labels, with the run's validation images.

    Near duplicates among the new images count as one group. The drift of the features needs the validation images;
    where they are not here it is left out, and said. What was found is kept in the run folder as `health.json`, where
    the report finds it.

    Parameters
    ----------
    groups : path to name of those that belong together (frames of a video, photographs of a patient); "": to none

    Raises
    ------
    WorkbenchError : no image that can be read
    """
    root = Path(root)
    with progress_bar(len(paths), "checking images") as bar:
        infos = check_images(paths, root, progress=bar.update)
    told = zip(paths, infos, strict=True)
    aside = [(path, str(info)) for path, info in told if isinstance(info, ImageFault)]
    good = [info for info in infos if isinstance(info, ImageInfo)]
    names = np.array([p for p, info in zip(paths, infos, strict=True) if isinstance(info, ImageInfo)], object)
    if not good:
        raise WorkbenchError(f"no image to compare in {root}{f' ({aside[0][0]!r}: {aside[0][1]})' if aside else ''}")
    features = _features(run, names, root, [info.digest for info in good])
    named = np.array([(groups or {}).get(path, "") for path in names], object)
    together = joined_groups(linked_rows(good, named))
    new = Predictions(names, run.class_names, run.model.logits_of(features), groups=together)
    val, missing = run.predictions("val", raw=True), ""
    try:
        own = _features(run, val.paths, run.root, [digest(path, run.root) for path in val.paths])
        both: tuple[np.ndarray, np.ndarray] | None = (own, features)
    except ImageFault as fault:
        both, missing = None, f"Whether they look different was not asked: {fault}."
    found = compare_images(val, new, run.thresholds(), both)
    found = replace(found, said=[*found.said, *filter(None, [missing])], aside=aside)
    with folder_of.keeping(run.folder) as kept:
        if kept:
            write_json(run.folder / FILE, found.to_dict())
    return found


def compare_images(
    val: Predictions,
    new: Predictions,
    thresholds: Thresholds,
    features: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
) -> Health:
    """Compare new images with validation by what one network says of both.

    Parameters
    ----------
    val : with labels
    new : without; classes in the same order
    features : float [N, D] of both, or None
    """
    groups = [numbered(its.groups, len(its)) for its in (val, new)]
    decided = [thresholds.decide(its) for its in (val, new)]
    low, high = expected_shares(decided[0], *groups)
    p = changed_shares(decided[0], groups[0], decided[1], groups[1], seed)
    estimated, estimated_low, estimated_high = new_prevalence(val, new, seed)
    counts = class_scores(val.labels, decided[0])
    then = scores_of_counts(counts, np.maximum(estimated, TINY))["precision"]
    classes = pd.DataFrame(
        {
            "share": decided[0].mean(0), "low": low, "high": high, "now": decided[1].mean(0), "p": p,
            "changed": p <= LEVEL,
            "prevalence": ratio(counts["support"], (val.labels >= 0).sum(0)),
            "estimated": estimated, "estimated_low": estimated_low, "estimated_high": estimated_high,
            "precision": counts["precision"],
            "then": np.where(np.isnan(estimated), np.nan, then),
        },
        index=pd.Index(val.class_names, name="class"),
    )  # fmt: skip
    told = {} if features is None else drift(features[0], groups[0], features[1], groups[1], seed)
    number = int(groups[1].max()) + 1
    return Health(len(new), number, classes, told, list(_said(classes, told, thresholds, len(new), number)))


def _said(
    classes: pd.DataFrame, told: dict[str, float], thresholds: Thresholds, images: int, groups: int
) -> Iterator[str]:
    """What follows, in sentences."""
    alone = "" if groups == images else f" ({groups:,} independent: those that belong together count as one)"
    yield f"{images:,} new images{alone}, compared with the validation images."
    if groups < LEAST:
        yield (
            f"From fewer than {LEAST} independent images only gross changes can be told: that none is found says "
            "little, and whether they look different is not asked."
        )
    changed = classes[classes.changed]
    names = [f"{printable(str(row.Index))} {row.share:.3f} → {row.now:.3f}" for row in changed.itertuples()]
    yield (
        f"{len(changed)} of {len(classes)} classes are called present more or less often than chance explains: "
        f"{', '.join(names)}."
        if names
        else "No class is called present more or less often than chance explains (any at all is in 5 % of checks)."
    )
    differ = bool(told) and told["p"] <= LEVEL
    if told:
        yield (
            f"By its features a new image can be told from a validation image in {told['auc']:.0%} of pairs "
            f"(50 % is chance, p = {told['p']:.2g}): "
            + ("they look different." if differ else "no difference was found.")
        )
        if differ and names:
            yield "Other classes alone can make images look different; what else has changed is for an eye to see."
    moved = changed[changed.then.notna()]
    if thresholds.objective in SHIFTS and len(moved):
        ends = zip(moved.index, moved.precision, moved.then, strict=True)
        cells = (f"{printable(name)} {shown(before, 2)} → {shown(then, 2)}" for name, before, then in ends)
        yield (
            f"Thresholds were chosen ({thresholds.objective}) for classes as frequent as in validation, and no longer "
            f"stand for those that changed. Precision at the estimated prevalence: {', '.join(cells)}; mlworkbench "
            "evaluate RUN --prevalence FILE tells more."
        )
    if thresholds.objective in HELD:
        what = HELD[thresholds.objective]
        yield (
            f"{what} holds for images like validation: these are not, so it no longer stands."
            if differ
            else f"{what} does not depend on how frequent a class is; nothing here speaks against it."
        )
    if differ:
        yield "Scores on validation and test were measured on other images: label some of the new ones and evaluate."


def kept_health(run: Run) -> Health:
    """What the run folder keeps of the last comparison.

    Raises
    ------
    WorkbenchError : there was none, or its file is damaged
    """
    if not (run.folder / FILE).exists():
        raise WorkbenchError("No new images were compared with validation yet; mlworkbench health RUN SOURCE does.")
    told = read_json(run.folder / FILE)
    try:
        classes = pd.DataFrame.from_dict(told["classes"], orient="index").astype(float)
        return Health(told["images"], told["groups"], classes, told["drift"], [str(text) for text in told["said"]])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise WorkbenchError(f"{run.folder / FILE} is damaged ({error!r}); mlworkbench health makes it anew") from None


def _features(run: Run, paths: np.ndarray, root: Path, digests: Sequence[str]) -> np.ndarray:
    settings = Settings(**run.state["settings"])
    dataset = ImageDataset(paths, root, None, settings.image_size, digests)
    found = cached_features(run.model, dataset, images_hash(digests), settings, choose_device())
    assert found is not None  # nobody asks it to stop
    return found


def expected_shares(val: np.ndarray, val_groups: np.ndarray, new_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Range [C] each in which the share of new images called present lies in 95 % of cases if nothing has changed.

    Of a beta-binomial distribution (Jeffreys' prior, the counts of validation, so many new images), both counts divided
    by the design effects of their groups: images of a group share as much in both.

    Parameters
    ----------
    val : bool [N, C], decisions on validation
    val_groups, new_groups : int [N] and [M], see `groups.numbered`
    """
    effect = design_effect(val, np.ones(val.shape), val_groups)
    alike = (_mean_size(val_groups), _mean_size(new_groups))
    shared = (effect - 1) / (alike[0] - 1) if alike[0] > 1 else np.ones(val.shape[1])
    size, hits = len(val) / effect, val.sum(0) / effect
    drawn = np.maximum(np.round(len(new_groups) / np.maximum(1 + (alike[1] - 1) * shared, 1)), 1).astype(int)
    spread = betabinom(drawn, hits + 0.5, size - hits + 0.5)
    return spread.ppf(LEVEL / 2) / drawn, spread.ppf(1 - LEVEL / 2) / drawn


def _mean_size(groups: np.ndarray) -> float:
    """Size of the group of the average image: what a design effect grows with (Kish 1965)."""
    return float((np.bincount(groups) ** 2).sum() / len(groups))


def changed_shares(
    val: np.ndarray, val_groups: np.ndarray, new: np.ndarray, new_groups: np.ndarray, seed: int = 0
) -> np.ndarray:
    """p of each class, float64 [C]: its share called present is as on validation, adjusted for the number of classes.

    Groups are exchanged between the two at random, and a class's difference, in its standard errors over groups, is
    compared with the largest difference of any class (Westfall and Young 1993, "maxT"). So where nothing has changed,
    any class at all has p <= .05 in at most 5 % of checks, however the classes depend on each other.
    """
    groups = np.concatenate([val_groups, new_groups + val_groups.max() + 1])
    hits = np.concatenate([val, new]).astype(float)
    rest = group_sums(groups, hits - hits.mean(0))
    sizes = np.bincount(groups).astype(float)
    told = np.column_stack((sizes, rest, rest**2))
    is_new = np.arange(len(sizes)) > val_groups.max()
    rng, most, classes = np.random.default_rng(seed), [], val.shape[1]

    def differences(members: np.ndarray) -> np.ndarray:
        ours = members @ told
        theirs = told.sum(0) - ours
        sides = [np.split(its, [1, 1 + classes], axis=1) for its in (ours, theirs)]
        (n, sums, squares), (m, others, other_squares) = sides
        spread = np.sqrt(squares / n**2 + other_squares / m**2)
        return np.abs(ratio(sums / n - others / m, spread))

    found = np.nan_to_num(differences(is_new[None].astype(float))[0])
    for _ in range(-(-PERMUTATIONS // 100)):
        members = rng.permuted(np.tile(is_new, (100, 1)), axis=1).astype(float)
        most.append(np.nan_to_num(differences(members)).max(1))
    beyond = (np.concatenate(most)[:PERMUTATIONS, None] >= found * (1 - 1e-9)).sum(0)
    return (1 + beyond) / (1 + PERMUTATIONS)


def new_prevalence(val: Predictions, new: Predictions, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prevalence of each class in new images, and its 95 % interval, float64 [C] each.

    NaN where too few positives are known, and for classes that are not learnt (see `learnt_classes`).

    The prevalence at which the new images' calibrated probabilities are most likely, to which the EM algorithm of
    Saerens, Latinne and Decaestecker (Neural Computation 2002) climbs, found by halving since its slope only falls. If
    images with a class look as they did, and only their number has changed, it is right. The interval is a bootstrap
    over the groups of both sides, in which the calibration moves by one step of its scores (Kline and Santos 2012). It
    holds that of the likelihood ratio, a group counting as one image: a class that no image shows has the same estimate
    in every resample, and yet nobody knows that it is nowhere.

    Parameters
    ----------
    val : with labels, as they come from the network; a calibration is fitted here
    new : likewise, without labels
    """
    calibrated = calibrate(val)
    assert calibrated.calibration is not None
    p, names = calibrated.probabilities.astype(float), val.class_names
    drawn = [np.concatenate(list(resampled(its, RESAMPLES, seed + i)), 1) for i, its in enumerate((val, new))]
    weights = [np.column_stack((np.ones(len(its), np.float32), w)) for its, w in zip((val, new), drawn, strict=True)]
    few = few_positives(val.labels, groups := numbered(val.groups, len(val)))
    few |= [its is False for its in learnt_classes(val)]  # probabilities that tell nothing are likeliest at 0 or 1
    independent = numbered(new.groups, len(new)).max() + 1
    fewest = min(groups.max() + 1, independent)
    # Of few groups percentiles lie too near: Hesterberg (The American Statistician 2015), "expanded percentile".
    tail = norm.cdf(t.ppf(LEVEL / 2, max(fewest - 1, 1)) * np.sqrt(fewest / max(fewest - 1, 1)))
    found = np.full((3, len(names)), np.nan)
    for c in np.flatnonzero(~few).tolist():
        known, present = val.labels[:, c] >= 0, val.labels[:, c] == 1
        positives, negatives = present.sum(), (known & ~present).sum()
        target = np.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2))  # as calibration has them
        x = np.column_stack((val.logits[:, c], np.ones(len(val))))
        slope = (x[known].T * (p[known, c] * (1 - p[known, c]))) @ x[known]
        score = (x * ((target - p[:, c]) * known)[:, None]).T @ weights[0]
        moved = np.linalg.pinv(slope) @ (score - score[:, :1])
        scale, shift = calibrated.calibration[:, c, None] + moved
        here = ((present @ weights[0]) + 0.5) / ((known @ weights[0]) + 1)
        # New images in order of their logits, of very many some together.
        order, starts = np.argsort(new.logits[:, c]), np.unique(np.linspace(0, len(new), BINS + 1).astype(int)[:-1])
        counts = np.diff(starts, append=len(new))
        logits = np.add.reduceat(new.logits[order, c].astype(float), starts) / counts
        odds = np.exp(np.clip(np.outer(logits, scale) + shift - logit(here), -50, 50))
        counted = np.add.reduceat(weights[1][order], starts)
        found[:, c] = _most_likely(odds, counted, tail)
        low, high = _likely(odds[:, 0], counted[:, 0] * independent / len(new), found[0, c])
        found[1:, c] = min(found[1, c], low), max(found[2, c], high)
    return found[0], found[1], found[2]


def _most_likely(odds: np.ndarray, weights: np.ndarray, tail: float) -> np.ndarray:
    """Most likely prevalence by the first column, and its interval by the others but for these tails, [3].

    Parameters
    ----------
    odds : [M, B], how much likelier an image is with the class than without
    weights : [M, B], how often it counts
    """
    low, high = np.zeros(odds.shape[1]), np.ones(odds.shape[1])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rising = (weights * (odds - 1) / (1 + middle * (odds - 1))).sum(0) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    ends = np.quantile(middle[1:], [tail, 1 - tail])
    return np.array([middle[0], min(ends[0], middle[0]), max(ends[1], middle[0])])


def _likely(odds: np.ndarray, weights: np.ndarray, top: float) -> tuple[float, float]:
    """The 95 % interval of the likelihood ratio for a prevalence most likely `top`; the rest as `_most_likely`."""

    def log_likelihood(prevalence: float) -> float:
        with np.errstate(divide="ignore"):
            return float(weights @ np.log(1 + prevalence * (odds - 1)))

    least = log_likelihood(top) - chi2.ppf(1 - LEVEL, 1) / 2
    ends = []
    for inside, outside in ((top, 0.0), (top, 1.0)):
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if log_likelihood(middle) >= least else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def drift(
    val: np.ndarray, val_groups: np.ndarray, new: np.ndarray, new_groups: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """Classifier two-sample test of features (Lopez-Paz and Oquab, ICLR 2017).

    A linear discriminant, fitted by ridge regression on principal components, tells new images from validation; `auc`
    is how often it gives a new image the higher score in folds that it was not fitted on, and `p` how often it does at
    least as well where groups are exchanged between the two at random, with everything fitted anew.

    Parameters
    ----------
    val, new : float [N, D] and [M, D]
    val_groups, new_groups : int [N] and [M], see `groups.numbered`

    Returns
    -------
    `auc` in 0..1 and `p`; empty with fewer than 20 groups on either side
    """
    count = val_groups.max() + 1
    groups, x = np.concatenate([val_groups, new_groups + count]), np.concatenate([val, new])
    is_new, rng = np.arange(groups.max() + 1) >= count, np.random.default_rng(seed)
    if min(count, len(is_new) - count) < LEAST:
        return {}
    few = PCA(min(DIRECTIONS, len(x) // 8, x.shape[1]), whiten=True, svd_solver="randomized", random_state=seed)
    x, fold = few.fit_transform(x), (rng.permutation(len(is_new)) % FOLDS)[groups]
    found: list[np.ndarray] = []
    for _ in range(FITS // 100):
        members = rng.permuted(np.tile(is_new, (100, 1)), axis=1)
        members = np.concatenate([is_new[None], members]).T[groups]
        won, pairs = np.zeros((2, members.shape[1]))
        for k in range(FOLDS):
            fitted = Ridge(0.1 * len(x)).fit(x[fold != k], members[fold != k].astype(float))
            ours = members[fold == k]
            ranks, size = rankdata(fitted.predict(x[fold == k]), axis=0), ours.sum(0)
            won += (ranks * ours).sum(0) - size * (size + 1) / 2
            pairs += size * (len(ours) - size)
        found.append(won / pairs)
    chance = np.concatenate([its[1:] for its in found])
    beyond = (chance >= found[0][0] - 1e-9).sum()
    return {"auc": float(found[0][0]), "p": float((1 + beyond) / (1 + len(chance)))}
