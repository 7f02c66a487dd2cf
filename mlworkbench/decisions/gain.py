"""Does tuning pay? What it gains over 0.5 on new images, told by the split that is tuned on, and what follows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import t

from ..scoring.groups import numbered
from ..scoring.metrics import LARGE, outcomes
from ..scoring.predictions import Predictions, decide
from ..text import printable, shortened
from .thresholds import Gain, Thresholds
from .tuning import DRAWN, FEW, Curves, drawn_thresholds, served, tune_thresholds

FOLDS, REPEATS = 10, 4
SPREAD = 3 / 2  # of the variance: what the jackknife does not see, that thresholds vary with the images (decision 038)
NAMED = 10  # classes that a remark names
MORE = "More epochs, more images, or trained weights to begin with (--model NAME.pt) may help."
FEWEST = "F1 takes false alarms for found positives of rare classes; the objective cost at 1 makes the fewest mistakes."


def tuning_gain(
    predictions: Predictions,
    objective: str = "f1",
    target: float | None = None,
    one_for_all: bool = False,
    classes: Sequence[int] | None = None,
) -> Gain:
    """What tuning for "f1", "fbeta" or "cost" gains over 0.5 on new images, with its 95 % interval.

    By tenfold cross-validation, four times (once of very many labels): the thresholds that nine tenths of the images
    choose decide on the other tenth. A group stays in one part. The interval is that of the jackknife over the groups
    (Quenouille 1956, Tukey 1958), made wider by decision 038.

    Parameters
    ----------
    classes : places of those that are tuned; None: those that have a positive

    Returns
    -------
    Gain : of the mean F1 or F-beta over these classes; for "cost" of the cost of a label. NaN where nothing can be told
    """
    y, p = predictions.labels, predictions.probabilities
    chosen = np.flatnonzero((y == 1).any(0)) if classes is None else np.asarray(classes, int)
    y, p = y[:, chosen], p[:, chosen]
    of = numbered(predictions.groups, len(y))
    groups = int(of.max(initial=-1)) + 1
    if groups < 2 or not len(chosen):
        return Gain(objective, target, *[float("nan")] * 3)
    summed = csr_matrix((np.ones(len(y), np.float32), (of, np.arange(len(y)))))
    rounds = REPEATS if y.size < LARGE else 1
    found = np.zeros(groups + 1)
    for seed in range(rounds):
        fold = np.random.default_rng(seed).permutation(np.arange(groups) % FOLDS)[of]
        decided = np.zeros(y.shape, bool)
        for k in range(min(FOLDS, groups)):
            curves = Curves(y[fold != k], p[fold != k])
            values = [its for its, _ in drawn_thresholds(curves, range(len(chosen)), objective, target, one_for_all)]
            decided[fold == k] = decide(p[fold == k], np.array(values))
        found += _worth(y, decided, objective, target, summed) / rounds
    found -= _worth(y, decide(p, np.full(len(chosen), 0.5)), objective, target, summed)
    value, without = float(found[0]), found[1:]
    variance = SPREAD * ((without - without.mean()) ** 2).sum() * (groups - 1) / groups
    half = float(t.ppf(0.975, groups - 1) * np.sqrt(variance))
    return Gain(objective, target, value, value - half, value + half)


def _worth(y: np.ndarray, decided: np.ndarray, objective: str, target: float | None, summed: csr_matrix) -> np.ndarray:
    """Mean over the classes of what an objective serves, then the same without each group in turn [1 + groups]."""
    n = {name: (summed @ where.astype(np.float32)).astype(float) for name, where in outcomes(y, decided).items()}
    n = {name: its.sum(0) - np.vstack([np.zeros_like(its[:1]), its]) for name, its in n.items()}
    with np.errstate(invalid="ignore"):  # of a class whose positives lie in one group nothing is left without it
        worth = served(n, objective, 1.0 if target is None else target)
        worth = worth / sum(n.values()) if objective == "cost" else worth
    return np.nan_to_num(worth).mean(1)


def choose_thresholds(
    predictions: Predictions, objective: str = "f1", target: float | None = None, anyway: bool = False, **how: Any
) -> Thresholds:
    """The tuned thresholds of `tune_thresholds` with what they gain, where that can be told from nothing; else 0.5.

    An objective that promises something (precision, recall, guarantee) is tuned as it is.

    Parameters
    ----------
    anyway : keep the tuned thresholds whatever they gain, those of classes that are not learnt, too
    how : `one_for_all`, `confidence`, `jointly` of `tune_thresholds`
    """
    tuned = tune_thresholds(predictions, objective, target, anyway=anyway, **how)
    if objective not in DRAWN:
        return tuned
    met = np.asarray(tuned.met)
    gain = tuning_gain(predictions, objective, target, how.get("one_for_all", False), np.flatnonzero(met).tolist())
    if anyway or gain.pays:
        return replace(tuned, gain=gain)
    # Where 0.5 would call present what nobody learnt, nothing is called present.
    return replace(tuned.with_values(np.where((tuned.values == 1) & ~met, 1, 0.5), "default"), gain=gain)


def remarks(predictions: Predictions, thresholds: Thresholds) -> list[str]:
    """What to know of thresholds beside their values, a sentence each, by the predictions that they were tuned on."""
    its, found = thresholds, [learning_remark(thresholds), _of_gain(thresholds.gain, thresholds.objective)]
    y, known = predictions.labels, predictions.labels >= 0
    decided, plain = (
        its.decide(predictions),
        decide(its.calibrated(predictions).probabilities, np.full(y.shape[1], 0.5)),
    )
    changed = int((known & (decided != plain)).sum())
    wrong, before = (int((known & (where != (y == 1))).sum()) for where in (decided, plain))
    than = "more than" if wrong > before else "fewer than" if wrong < before else "as many as"
    if changed:
        found.append(
            f"Against 0.5 these thresholds change {changed:,} of {int(known.sum()):,} decisions on {its.split}: "
            f"{wrong:,} are wrong, {than} the {before:,} at 0.5."
            + (f" {FEWEST}" if wrong > before and its.objective in ("f1", "fbeta") else "")
        )
    if its.confidence is not None:
        whose = f"all {len(its.class_names)} classes at once" if its.jointly else "each class by itself"
        found.append(
            f"Where it is met, it holds on new images like these with confidence {its.confidence:g} for {whose}; "
            "images of a group count as one."
        )
    elif its.objective in ("precision", "recall"):
        found.append(
            f"That is so on {its.split}. On new images such a threshold holds its {its.objective} about every second "
            "time or less: with a confidence, such as 0.9, it holds in nine of ten."
        )
    if its.objective == "precision" and its.met is not None:
        hits = ((y == 1) & decided).sum(0)
        few = [f"{name} {n}" for name, n, met in zip(its.class_names, hits, its.met, strict=True) if met and n < FEW]
        if few:
            found.append(f"It rests on fewer than {FEW} images that are rightly called present: {_listed(few)}.")
    return [sentence for sentence in found if sentence]


def learning_remark(its: Thresholds) -> str:
    """Which classes are not learnt, in a sentence; "" where all are, or nobody looked."""
    names, classes = its.not_learnt, len(its.class_names)
    if not names:
        return ""
    so = ", so nothing is called present unless it is there more often than not" if its.objective == "default" else ""
    if True not in (its.learnt or ()):
        return (
            f"None of the {classes} classes is learnt: the network ranks the images of {its.split} no better than "
            f"chance would{so}. {MORE}"
        )
    rows = its.to_dict()["classes"].items()
    asked = any(row["met"] for _, row in rows if row["learnt"] is False)
    never = [name for name, row in rows if row["learnt"] is False and row["threshold"] >= 1]
    done = "tuned all the same, as asked" if asked else "left out where thresholds are tuned, and stay at 0.5"
    if never:
        done += f", or at 1, never called present, where that is not right more often than not: {_listed(never)}"
    return (
        f"{len(names)} of {classes} classes are not learnt, the ranking of {its.split} cannot be told from chance: "
        f"{_listed(names)}. They are {done}. {MORE}"
    )


def _of_gain(gain: Gain | None, objective: str) -> str:
    if gain is None or np.isnan(gain.value):
        return "" if gain is None else "No class can be tuned, so 0.5 stays."
    size = f"{gain.value:+.4f}, 95 % interval {gain.low:+.4f} to {gain.high:+.4f}"
    if gain.pays:
        what = {"cost": "less cost of a label", "f1": "mean F1"}.get(gain.objective, "mean F-beta")
        return f"Tuning pays: against 0.5 it gains {what} on new images ({size})."
    stays = "so 0.5 stays" if objective == "default" else "and is used as asked"
    return f"What tuning gains on new images cannot be told from nothing ({size}), {stays}."


def _listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(shortened(printable(name)) for name in names[:NAMED])
    return shown + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
