"""Scores at another prevalence: what they would be where classes are more or less frequent than in these images.

The shift is one of labels (Saerens, Latinne and Decaestecker 2002): images with a class look as those with it do here,
and images without it as those without it, and only how many there are of each is another. So recall stays, and so does
the share of images without the class that are called present; each present label counts π'/π, each absent one
(1 − π')/(1 − π) times.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit
from scipy.stats import t

from ..exceptions import LabelFaults, WorkbenchError
from ..text import short, unmark_text
from .groups import design_effect, few_positives, numbered, ratio, resampled
from .metrics import _Curve, class_scores, mean_defined, outcomes, ratios
from .predictions import Predictions, probabilities

KEY = "at_prevalence"  # of these scores, among those of a split
MEANS = {"map": "ap", "precision_macro": "precision", "recall_macro": "recall", "f1_macro": "f1"}
SHOWN = ("precision", "recall", "f1", "ap")
SIDES = np.array([-1, 1]) * 1.959964  # of a 95 % interval, in standard errors
TINY = 1e-6  # from 0 and 1, where the logit is infinite


def read_prevalence(file: str | Path) -> dict[str, float]:
    """The prevalence of each class named in a CSV `class,prevalence`.

    Raises
    ------
    LabelFaults : all faults of the file at once, each with its line
    WorkbenchError : the file cannot be read
    """
    source, found, faults = Path(file), dict[str, float](), []
    try:
        with source.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            if [cell.strip() for cell in next(reader, [])] != ["class", "prevalence"]:
                raise LabelFaults(source, [(1, "expected the header class,prevalence")])
            for cells in filter(None, reader):
                fault = _fault(cells, found)
                if fault:
                    faults.append((reader.line_num, fault))
                else:
                    found[unmark_text(cells[0])] = float(cells[1])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkbenchError(f"{source} is no readable CSV: {getattr(error, 'strerror', None) or error}") from None
    if faults or not found:
        raise LabelFaults(source, faults or [(1, "no class; expected rows of class,prevalence")])
    return found


def _fault(cells: list[str], before: Mapping[str, float]) -> str:
    """What is wrong with a row, or nothing."""
    if len(cells) != 2:
        return f"{len(cells)} cells; expected a class and its prevalence"
    try:
        good = 0 < float(cells[1]) < 1
    except ValueError:
        good = False
    if not good:
        return f"prevalence {short(cells[1])}; expected a number above 0 and below 1, such as 0.01"
    return f"class {short(cells[0])} stands there twice; keep one" if unmark_text(cells[0]) in before else ""


def at_prevalence(
    predictions: Predictions,
    decisions: np.ndarray,
    prevalence: Mapping[str, float],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores as they would be at these prevalences; a class that is not named keeps the one that it has here.

    Parameters
    ----------
    decisions : bool [N, C]
    prevalence : class to share of images, above 0 and below 1

    Returns
    -------
    `map, precision_macro, recall_macro, f1_macro`, `left_out` (how many classes each of them leaves out as undefined),
    `classes: {NAME: {prevalence, here, precision, recall, f1, ap}}` (`here` is the prevalence in these images), and
    95 % `intervals`: of precision and F1 of each class with positives in at least 8 groups, from the two rates that
    make them (after Simel, Samsa and Matchar 1991), and of their means by the bootstrap over groups. The prevalence
    itself is taken as known. Average precision has none: at a prevalence far below that of the images it reads high,
    since few false alarms stand for many.

    Raises
    ------
    WorkbenchError : an unknown class, a prevalence outside 0..1, or a class without a positive or a negative here
    """
    y, names = predictions.labels, predictions.class_names
    table = class_scores(y, decisions)
    present, absent = table["support"], table["fp"] + table["tn"]
    for name, share in prevalence.items():
        if name not in names:
            raise WorkbenchError(f"prevalence of class {short(name)}, which is none of {', '.join(names)}")
        c = names.index(name)
        if not 0 < share < 1:
            raise WorkbenchError(f"prevalence of class {short(name)} is {share}; expected above 0 and below 1")
        if not present[c] or not absent[c]:
            raise WorkbenchError(
                f"class {short(name)} has no {'negative' if present[c] else 'positive'} here, so nobody knows how "
                "often one would be called present; leave it out of the prevalences"
            )
    here = ratio(present, present + absent)
    asked = np.array([prevalence.get(name, np.nan) for name in names])
    then = np.where(np.isnan(asked), here, asked)
    scores, much = scores_of_counts(table, asked), _weight(table, asked)
    curves = (_Curve(y[:, c], predictions.logits[:, c]) for c in range(len(names)))
    weights = (np.where(y[:, [c]] == 0, its, 1).astype(np.float32) for c, its in enumerate(much))
    scores["ap"] = np.array([its.average_precision(w)[0] for its, w in zip(curves, weights, strict=True)])
    where = {name: its.astype(np.float32) for name, its in outcomes(y, decisions).items()}
    blocks = [
        scores_of_counts({name: w.T @ its for name, its in where.items()}, asked)
        for w in resampled(predictions, resamples, seed)
    ]
    groups = numbered(predictions.groups, len(y))
    means = {name: float(mean_defined(scores[score])) for name, score in MEANS.items()}
    spread = {}
    for name, score in MEANS.items():
        if score != "ap":
            samples = mean_defined(np.concatenate([block[score] for block in blocks]), 1)
            spread[name] = _on_logits(means[name], samples, groups.max() + 1)
    ends = _from_rates(y, decisions, ratio(then, 1 - then), groups)
    few = few_positives(y, groups)
    return {
        **means,
        "left_out": {name: int(np.isnan(scores[score]).sum()) for name, score in MEANS.items()},
        "classes": {
            name: {"prevalence": float(then[c]), "here": float(here[c])} | {k: float(scores[k][c]) for k in SHOWN}
            for c, name in enumerate(names)
        },
        "intervals": {
            **{name: _held(means[name], *its) for name, its in spread.items()},
            "classes": {
                name: {
                    key: _held(float(scores[key][c]), *np.where(few[c], np.nan, its[:, c])) for key, its in ends.items()
                }
                for c, name in enumerate(names)
            },
        },
    }


def scores_of_counts(n: Mapping[str, np.ndarray], prevalence: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of counts (tp, fp, fn, tn), [..., C], at prevalences float [C]; NaN: as it is."""
    return ratios(n["tp"], _weight(n, prevalence) * n["fp"], n["fn"])


def _weight(n: Mapping[str, np.ndarray], prevalence: np.ndarray) -> np.ndarray:
    """How often an absent label counts where a present one counts once, so that the prevalence becomes another."""
    odds = ratio(n["tp"] + n["fn"], n["fp"] + n["tn"])
    return np.where(np.isnan(prevalence), 1, (1 - prevalence) / prevalence * odds)


def _held(value: float, low: float, high: float) -> dict[str, float]:
    """An interval that holds its estimate, undefined where that is."""
    return {"low": float(np.minimum(low, value)), "high": float(np.maximum(high, value))}


def _on_logits(value: float, samples: np.ndarray, groups: int) -> np.ndarray:
    """95 % interval [2] about a mean by the standard error of its resamples, both on the scale of the logit.

    What resampling adds to the mean is taken off its middle: few labels that count much raise it, and do so twice.
    """
    samples = logit(np.clip(samples[~np.isnan(samples)], TINY, 1 - TINY))
    if np.isnan(value) or len(samples) < 2:
        return np.array([np.nan, np.nan])
    reach = t.ppf(0.975, max(groups - 1, 1)) * samples.std(ddof=1)
    return probabilities(2 * logit(np.clip(value, TINY, 1 - TINY)) - samples.mean() + np.array([-reach, reach]))


def _from_rates(y: np.ndarray, decisions: np.ndarray, odds: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    """95 % intervals [2, C] of each class's precision and F1 at prevalences of these odds [C], by the delta method.

    Both follow from the rates at which present and absent labels are called present, each counted with half a label
    more on either side, so that a rate of 0 is not taken for certain.
    """
    odds, rates, errors = np.where(odds > 0, odds, np.nan), [], []
    for its in (y == 1, y == 0):
        size = its.sum(0)
        rate = ((its & decisions).sum(0) + 0.5) / (size + 1)
        rates.append(rate)
        errors.append(design_effect(its & decisions, its, groups) * rate * (1 - rate) / (size + 1))
    (found, false), (of_found, of_false) = rates, errors
    wrong = 1 - found + false / odds  # misses and false alarms, for each present label
    square = of_found / found**2 + of_false / false**2
    precision = probabilities(np.log(odds * found / false) + np.outer(SIDES, np.sqrt(square)))
    # Of all that is present or called so the share J is both; F1 is 2J / (1 + J).
    square = of_found * (1 / found + 1 / wrong) ** 2 + of_false / (odds * wrong) ** 2
    shared = probabilities(np.log(found / wrong) + np.outer(SIDES, np.sqrt(square)))
    return {"precision": precision, "f1": 2 * shared / (1 + shared)}
