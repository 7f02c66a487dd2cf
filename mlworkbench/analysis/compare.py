"""Comparison of two models, or of two recipes by several each, on the same images: what of the difference is chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import pandas as pd
from scipy.signal import convolve
from scipy.stats import binom, false_discovery_control
from scipy.stats import t as student

from ..decisions.thresholds import Thresholds
from ..exceptions import WorkbenchError
from ..runs.run import Run
from ..scoring.groups import FEW, numbered, ratio
from ..scoring.metrics import average_precision, bootstrap, mean_defined, score
from ..scoring.predictions import Predictions
from ..settings import decisive
from ..text import short, shown

PARTS = 200  # of the images, left out one after the other; and resamples, where a variance is all that is asked
SCORES = {"map": "mAP", "f1_macro": "macro F1", "f1_micro": "micro F1", "exact_match": "whole set right"}
TWO_NETWORKS = (
    "This compares two networks, not two recipes: another seed may turn it round. Several runs of each recipe, which "
    "differ in their seed alone, tell recipes apart."
)


@dataclass(frozen=True)
class Paired:
    """What `compare` found; "before" is the first model, "better" is what only the second has right.

    It is about two networks, not the recipes that they were trained by: another seed may turn it round (see
    `compare_recipes`). As text it says so beneath its figures.

    Attributes
    ----------
    map : `before, after, difference` of the mean average precision, and of the difference `se, low, high` (95 %), see
        `compare`
    sets : `better, worse` images whose whole set of labels became right or wrong, and `p`
    classes : a row a class: `class, better, worse` labels, `p, q, ap_before, ap_after, difference, low, high` (the
        difference of average precision; NaN where fewer than `FEW` groups have a positive), worst first
    images : a row an image of which some label changed: `image_path, better, worse` labels, the worst first
    flips : a row a label that only one model has right: `image_path, split, class, label, change` ("better", "worse"),
        `probability_before, probability_after, threshold_before, threshold_after`, the worse first, and each kind by
        how far the probability moved
    relabelled : labels that the two hold otherwise; those of the second count, for both
    tuned_on : whether thresholds of either were tuned on these images
    """

    map: dict[str, float]
    sets: dict[str, float]
    classes: pd.DataFrame
    images: pd.DataFrame
    flips: pd.DataFrame
    relabelled: int
    tuned_on: bool

    def __str__(self) -> str:
        gain, sets = self.map, self.sets
        return (
            f"mAP {shown(gain['before'])} to {shown(gain['after'])}: {gain['difference']:+.4f} (95 % interval "
            f"{gain['low']:+.4f} to {gain['high']:+.4f})\n"
            f"images right in all labels: {sets['better']:,} gained, {sets['worse']:,} lost, p {sets['p']:.2g}\n"
            f"{TWO_NETWORKS}"
        )


def compare(
    before: Predictions, after: Predictions, thresholds_before: Thresholds, thresholds_after: Thresholds, seed: int = 0
) -> Paired:
    """Compare two models' predictions of the same images, each at its own thresholds.

    Every p is McNemar's exact test, two-sided: of the decisions that only one model has right, as many should be either
    one's (McNemar 1947). Where images come in groups, a group's balance as a whole could as well be the other model's
    (Fisher's sign flips, exact too). It is taken over images, for each class by itself (q adjusts for their number,
    Benjamini and Hochberg 1995) and for whole sets: the labels of one image are not independent of each other.

    Intervals of differences are Student's, with the standard error of a jackknife over groups and as many
    degrees of freedom as the groups with a positive give, of a mean over classes by Satterthwaite (1946).

    Raises
    ------
    WorkbenchError : the images or the classes are not the same
    """
    before, after = _aligned(thresholds_before.calibrated(before), thresholds_after.calibrated(after))
    y, names = after.labels, after.class_names
    relabelled = int((before.labels != y).sum())
    both = (replace(before, y=y), after)
    limits = [thresholds.aligned(names) for thresholds in (thresholds_before, thresholds_after)]
    present = [t.decide(p) for t, p in zip((thresholds_before, thresholds_after), both, strict=True)]
    wrong = [(y >= 0) & (decided != (y == 1)) for decided in present]
    better, worse = wrong[0] & ~wrong[1], wrong[1] & ~wrong[0]

    groups = numbered(after.groups, len(y))
    ap = np.array([average_precision(y, p.logits) for p in both])
    means, gap = mean_defined(ap, 1), ap[1] - ap[0]
    by_class, of_mean = _variances(both, groups, seed)
    positive = np.array([len(np.unique(groups[of_class == 1])) for of_class in y.T])
    enough = np.where(positive >= FEW, positive - 1.0, np.nan)
    ends = [_ends(*its) for its in zip(gap, np.sqrt(by_class), enough, strict=True)]
    p_values = np.array([_mcnemar(gained) for gained in _balance(better, worse, groups).T])
    classes = pd.DataFrame(
        {
            "class": np.array(names, dtype=object),
            "better": better.sum(0),
            "worse": worse.sum(0),
            "p": p_values,
            "q": false_discovery_control(p_values),
            "ap_before": ap[0],
            "ap_after": ap[1],
            "difference": gap,
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
        }
    )
    now, then = (~part.any(1) for part in (wrong[1], wrong[0]))
    gained = _balance((now & ~then)[:, None], (then & ~now)[:, None], groups)[:, 0]
    rows, columns = np.nonzero(better | worse)
    p, q = (part.probabilities[rows, columns] for part in both)
    flips = pd.DataFrame(
        {
            "image_path": after.paths[rows],
            "split": after.split,
            "class": classes["class"].to_numpy()[columns],
            "label": y[rows, columns],
            "change": np.where(better[rows, columns], "better", "worse"),
            "probability_before": p,
            "probability_after": q,
            "threshold_before": limits[0][columns],
            "threshold_after": limits[1][columns],
        }
    ).iloc[np.lexsort((-np.abs(q - p), better[rows, columns]))]
    images = pd.DataFrame({"image_path": after.paths, "better": better.sum(1), "worse": worse.sum(1)})
    images = images[(images.better > 0) | (images.worse > 0)]
    se = float(np.sqrt(of_mean))
    low, high = _ends(means[1] - means[0], se, _freedom(by_class, positive - 1))
    return Paired(
        map={"before": float(means[0]), "after": float(means[1]), "difference": float(means[1] - means[0])}
        | {"se": se, "low": low, "high": high},
        sets={"better": int((now & ~then).sum()), "worse": int((then & ~now).sum()), "p": _mcnemar(gained)},
        classes=classes.sort_values("difference", kind="stable", ignore_index=True),
        images=images.iloc[(images.better - images.worse).argsort(kind="stable")].reset_index(drop=True),
        flips=flips.reset_index(drop=True),
        relabelled=relabelled,
        tuned_on=thresholds_before.tuned_on(after) or thresholds_after.tuned_on(after),
    )


def _aligned(before: Predictions, after: Predictions) -> tuple[Predictions, Predictions]:
    """The first with the classes and images in the order of the second."""
    before = before.reorder(after.class_names)
    place = {path: row for row, path in enumerate(before.paths)}
    odd = set(place) ^ set(after.paths)
    if odd:
        raise WorkbenchError(
            f"image {min(odd)!r} and {len(odd) - 1} more stand in only one of the two; same split? Of runs with other "
            "seeds too, if they were trained with --splits FIRST_RUN/splits.csv"
        )
    order = np.array([place[path] for path in after.paths], int)
    return before.take(order), after


def _balance(better: np.ndarray, worse: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """What each group has better less what it has worse, int [groups, K]."""
    return pd.DataFrame(better.astype(int) - worse).groupby(groups).sum().to_numpy()


def _mcnemar(balance: np.ndarray) -> float:
    """Two-sided p of a sum of which every sign is a fair coin's, from the exact distribution; balance int [groups].

    Sums are told by how much of them is positive: of n groups with equal balances a binomial number are.
    """
    sizes, times = np.unique(np.abs(balance[balance != 0]), return_counts=True)
    chance = np.ones(1)
    for size, n in zip(sizes, times, strict=True):
        part = np.zeros(size * n + 1)
        part[::size] = binom.pmf(np.arange(n + 1), n, 0.5)
        chance = convolve(chance, part)
    fewer = min(balance[balance > 0].sum(), -balance[balance < 0].sum())
    return float(np.clip(2 * chance[: fewer + 1].sum(), 0, 1))


def _variances(both: Sequence[Predictions], groups: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Variance of the difference of each class's average precision [C], and of their mean, of two models.

    By the jackknife over groups (Tukey 1958), many of them put together at random to `PARTS`; the bootstrap's is too
    small where positives lie in few groups.
    """
    number = groups.max(initial=-1) + 1
    parts = min(number, PARTS)
    part_of = np.random.default_rng(seed).permutation(np.arange(number) % PARTS)[groups]
    weights = (part_of[:, None] != np.arange(parts)).astype(np.float32)
    before, after = (average_precision(p.labels, p.logits, weights) for p in both)
    left_out = np.vstack([after - before, mean_defined(after, 0) - mean_defined(before, 0)])
    variance = (parts - 1) * pd.DataFrame(left_out.T).var(ddof=0).to_numpy()
    return variance[:-1], float(variance[-1])


def _freedom(variance: np.ndarray, of_each: np.ndarray) -> float:
    """Degrees of freedom of a sum's variance whose parts have so many each (Satterthwaite 1946); NaN without any."""
    told = (variance > 0) & (of_each > 0)
    return float(ratio(variance[told].sum() ** 2, (variance[told] ** 2 / of_each[told]).sum()))


def _ends(difference: float, se: float, of: float) -> tuple[float, float]:
    """95 % interval of a difference of scores by Student's t with so many degrees of freedom."""
    by = student.ppf(0.975, of) * se if se else se
    return float(max(difference - by, -1)), float(min(difference + by, 1))


@dataclass(frozen=True)
class Recipes:
    """What `compare_recipes` found; "before" is the first recipe.

    Attributes
    ----------
    scores : a row a score, by its name in `SCORES`: the means `before, after`, their `difference` and its 95 % interval
        `low, high` for new seeds and new images; and what makes that so wide, as standard deviations: `seed_before,
        seed_after` of one run's score from seed to seed, `test` of the difference by the images
    runs : how many of each
    images : how many they were compared on
    """

    scores: pd.DataFrame
    runs: tuple[int, int]
    images: int

    def __str__(self) -> str:
        lines = [
            f"{self.runs[0]} runs of the first recipe against {self.runs[1]} of the second, {self.images:,} images"
        ]
        for name, its in self.scores.to_dict("index").items():
            lines.append(
                f"{SCORES[str(name)]} {shown(its['before'])} to {shown(its['after'])}: {its['difference']:+.4f} (95 % "
                f"interval {its['low']:+.4f} to {its['high']:+.4f}); one run's standard deviation by its seed "
                f"{shown(its['seed_before'])} and {shown(its['seed_after'])}, the difference's by the images "
                f"{shown(its['test'])}"
            )
        return "\n".join(lines)


def compare_recipes(
    before: Sequence[Predictions],
    after: Sequence[Predictions],
    thresholds_before: Sequence[Thresholds],
    thresholds_after: Sequence[Thresholds],
    seed: int = 0,
) -> Recipes:
    """Compare two recipes by what several runs of each say of the same images, each run at its own thresholds.

    The difference of the means varies by the seeds, as the runs of each recipe scatter, and by the images, as a paired
    bootstrap over their groups tells, less what is each network's own in that: it is in the scatter already. Student's
    interval, its degrees of freedom by Satterthwaite (1946), as in Welch's test (1947). The labels of the last count.

    Raises
    ------
    WorkbenchError : a recipe of one run, or not the same images and classes
    """
    if min(len(before), len(after)) < 2:
        raise WorkbenchError(
            f"{len(before)} and {len(after)} runs; a recipe needs 2 or more that differ in nothing but their seed"
        )
    last, values, samples = after[-1], [], []
    for side, thresholds in ((before, thresholds_before), (after, thresholds_after)):
        same = [_aligned(its.calibrated(p), last)[0] for p, its in zip(side, thresholds, strict=True)]
        pairs = [(replace(p, y=last.labels, groups=last.groups), its) for p, its in zip(same, thresholds, strict=True)]
        found = [score(p, its.aligned(p.class_names), resamples=0) for p, its in pairs]
        drawn = [bootstrap(p, its.decide(p), PARTS, seed) for p, its in pairs]
        values.append(np.array([[each[name] for name in SCORES] for each in found]))  # [runs, scores]
        samples.append(np.array([[each[name] for name in SCORES] for each in drawn]))  # [runs, scores, resamples]
    runs = np.array([len(before), len(after)])
    means, seeds = (np.array([f(its) for its in values]) for f in (lambda v: v.mean(0), lambda v: v.var(0, ddof=1)))
    own = [(its - its.mean(0)).var(2, ddof=1).sum(0) / (len(its) - 1) for its in samples]
    by_images = (samples[1].mean(0) - samples[0].mean(0)).var(1, ddof=1)
    test = np.maximum(by_images - (np.array(own) / runs[:, None]).sum(0), 0)
    parts, gap = np.vstack([seeds / runs[:, None], test]), means[1] - means[0]
    groups = len(last) if last.groups is None else len(np.unique(last.groups))
    of_each = np.append(runs - 1, groups - 1)
    freedom = (_freedom(part, of_each) for part in parts.T)
    ends = [_ends(*its) for its in zip(gap, np.sqrt(parts.sum(0)), freedom, strict=True)]
    columns = {"before": means[0], "after": means[1], "difference": gap}
    columns |= {"low": np.array(ends)[:, 0], "high": np.array(ends)[:, 1]}
    columns |= {"seed_before": np.sqrt(seeds[0]), "seed_after": np.sqrt(seeds[1]), "test": np.sqrt(test)}
    return Recipes(pd.DataFrame(columns, list(SCORES)), (len(before), len(after)), len(last))


def recipe(run: Run) -> dict[str, Any]:
    """All that decides what a run becomes but for its seed: settings and labels."""
    state = run.state
    settings = {name: its for name, its in decisive(state["settings"]).items() if name != "seed"}
    return settings | {"labels_sha256": state["labels_sha256"], "corrections": state.get("corrections", [])}


@overload
def compare_runs(a: Run, b: Run, split: str = "test") -> Paired: ...
@overload
def compare_runs(a: Sequence[Run], b: Sequence[Run], split: str = "test") -> Recipes: ...
def compare_runs(a: Run | Sequence[Run], b: Run | Sequence[Run], split: str = "test") -> Paired | Recipes:
    """What run `b` does better and worse than `a` on the same images of a split, see `compare`.

    That compares two networks. Two recipes are compared by a list of runs for each, which differ in nothing but their
    seed, see `compare_recipes`; they need the same splits (`splits_file`, `--splits`), which a seed else draws too.

    Raises
    ------
    WorkbenchError : other images or classes, or a list of runs that are no runs of one recipe

    >>> compare_runs(Run("runs/first"), Run("runs/mended")).classes      # doctest: +SKIP
    >>> print(compare_runs([Run("runs/a0"), Run("runs/a1")], [Run("runs/b0"), Run("runs/b1")]))      # doctest: +SKIP
    """
    if isinstance(a, Run) and isinstance(b, Run):
        return compare(a.predictions(split), b.predictions(split), a.thresholds(), b.thresholds())
    sides = [_of_one_recipe([its] if isinstance(its, Run) else its) for its in (a, b)]
    before, after = ([run.predictions(split) for run in side] for side in sides)
    thresholds_before, thresholds_after = ([run.thresholds() for run in side] for side in sides)
    return compare_recipes(before, after, thresholds_before, thresholds_after)


def _of_one_recipe(runs: Sequence[Run]) -> Sequence[Run]:
    """The runs, which must differ in their seed and in nothing else."""
    for i, run in enumerate(runs[1:], 1):
        first, its = recipe(runs[0]), recipe(run)
        if odd := [name for name in its if its[name] != first.get(name)]:
            raise WorkbenchError(
                f"{odd[0]} is {short(its[odd[0]])} in {run.folder} and {short(first.get(odd[0]))} in {runs[0].folder}; "
                "expected runs of one recipe, which differ in nothing but their seed"
            )
        seeds = [other.state["settings"]["seed"] for other in runs[: i + 1]]
        if seeds[-1] in seeds[:-1]:
            raise WorkbenchError(f"{run.folder} has the seed {seeds[-1]} of another run; expected one of its own")
    return runs
