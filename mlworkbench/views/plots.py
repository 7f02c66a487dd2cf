"""Plots: tables in, matplotlib figures out, made without pyplot: nothing to close, nothing shown twice."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.labels import SPLITS
from ..decisions.thresholds import Thresholds
from ..decisions.tuning import Curves
from ..runs.folder import best_place
from ..scoring.metrics import calibration_chance, calibration_error, reliability
from ..scoring.predictions import Predictions
from ..text import number, shortened
from .style import (
    _STYLE,
    BLUE,
    GREEN,
    GREY,
    LINES,
    MAP_MARKS,
    ORANGE,
    SHARES,
    SPLIT_COLOURS,
    _class_height,
    _figure,
    ink,
    plain,
)

MOST = 40  # classes that one can read in a figure
SIDE = 3.6  # inches that a plot beside the bars of classes is high


def _ends(order: np.ndarray, ends: str) -> tuple[np.ndarray, str]:
    """Of classes in an order those at its two ends where they are too many, and what a title says of that.

    Parameters
    ----------
    ends : what those are, such as "weakest and strongest"
    """
    if len(order) <= MOST:
        return order, ""
    first, last = ends.split(" and ")
    half = MOST // 2
    told = f"\nof {len(order):,} classes the {half} {first} and the {half} {last}"
    return np.concatenate([order[:half], order[-half:]]), told


def classes_down(ax: Axes, names: Sequence[str], broken: bool = False) -> None:
    """Class names down the axis, the first on top; a line where some are left out between."""
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    if broken:
        ax.axhline(len(names) / 2 - 0.5, color=GREY, ls=":", lw=1)


def _beside_classes(classes: int, widths: tuple[int, int], first: bool = True) -> tuple[Figure, Axes, Axes]:
    """A figure, its axes that are as high as the classes ask for, and those beside them, which are never high.

    Parameters
    ----------
    first : whether those of the classes stand left
    """
    height = max(SIDE, _class_height(classes))
    figure = Figure(figsize=(10, height), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=widths, height_ratios=(SIDE, height - SIDE + 1e-3))
    left = figure.add_subplot(grid[:, 0] if first else grid[0, 0])
    right = figure.add_subplot(grid[0, 1] if first else grid[:, 1])
    return (figure, left, right) if first else (figure, right, left)


@rc_context(_STYLE)
def class_counts(y: np.ndarray, split: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Positives of each class in each split, and how many labels an image has.

    Parameters
    ----------
    y : int8 [N, C]
    split : [N] of "train", "val", "test"
    """
    totals = (y == 1).sum(0)
    chosen = np.arange(len(class_names)) if len(class_names) <= MOST else np.argsort(totals, kind="stable")
    chosen, told = _ends(chosen, "rarest and most frequent")
    figure, left, right = _beside_classes(len(chosen), (3, 2))
    place, start = np.arange(len(chosen)), np.zeros(len(chosen))
    for name in SPLITS:
        positives = (y[split == name][:, chosen] == 1).sum(0)
        left.barh(place, positives, left=start, color=SPLIT_COLOURS[name], label=f"{name} ({(split == name).sum():,})")
        start += positives
    for c, total in enumerate(start):
        left.text(total, c, f" {total:,.0f}", va="center", color=GREY)
    classes_down(left, [class_names[c] for c in chosen.tolist()], bool(told))
    title = f"Images in which a class is present{told}"
    left.set(title=title, xlabel="images", xlim=(0, start.max() * 1.12 + 1))
    figure.legend(loc="outside lower left", ncols=3)

    sizes = np.bincount((y == 1).sum(1))
    right.bar(np.arange(len(sizes)), sizes, color=BLUE)
    ticks = np.arange(0, len(sizes), 1 + len(sizes) // 12)
    right.set(title="Labels an image", xlabel="labels", ylabel="images", xticks=ticks)
    right.grid(axis="x", visible=False)
    return figure


@rc_context(_STYLE)
def label_sets(y: np.ndarray, class_names: Sequence[str], most: int = 12) -> Figure:
    """The most frequent sets of present classes, and how many images have each; y int8 [N, C]."""
    sets, images = np.unique(y == 1, axis=0, return_counts=True)
    first = np.argsort(-images, kind="stable")[:most]
    names = [" + ".join(class_names[c] for c in np.flatnonzero(sets[i]).tolist()) or "(none)" for i in first]
    figure, ax = _figure(8, _class_height(len(first)))
    ax.barh(range(len(first)), images[first], color=BLUE)
    for place, count in enumerate(images[first]):
        ax.text(count, place, f" {count:,}", va="center", color=GREY)
    classes_down(ax, names)
    ax.set(title=f"The most frequent of {len(sets):,} label sets", xlabel="images", xlim=(0, images.max() * 1.1 + 1))
    return figure


@rc_context(_STYLE)
def image_sizes(sizes: np.ndarray) -> Figure:
    """Width against height, and the aspect ratios; sizes int64 [N, 2]."""
    figure, (left, right) = _figure(10, 3.2, 1, 2)
    pairs, images = np.unique(sizes, axis=0, return_counts=True)
    left.scatter(pairs[:, 0], pairs[:, 1], s=15 + 120 * images / images.max(), color=BLUE, alpha=0.5, lw=0)
    left.set(title="Image sizes", xlabel="width (px)", ylabel="height (px)")
    left.set(xlim=(0, 1.1 * sizes[:, 0].max()), ylim=(0, 1.1 * sizes[:, 1].max()))
    ratio = np.log2(sizes[:, 0] / sizes[:, 1])
    right.hist(np.clip(ratio, -2, 2), bins=np.arange(-2.125, 2.2, 0.25), color=BLUE)
    right.set(title="Aspect ratio, width to height", ylabel="images", xlabel="(wider to the right)")
    right.set_xticks([-2, -1, 0, 1, 2], ["≤ 1:4", "1:2", "1:1", "2:1", "≥ 4:1"])
    return figure


@rc_context(_STYLE)
def nothing() -> Figure:
    """A figure that says that there is nothing to show."""
    figure, ax = _figure(4, 0.8)
    ax.text(0.5, 0.5, "nothing to show", ha="center", va="center")
    ax.set_axis_off()
    return figure


@rc_context(_STYLE)
def history(rows: pd.DataFrame) -> Figure:
    """Losses, validation mAP and learning rate over the epochs of `history.csv`."""
    figure, (losses, scores, rates) = _figure(11, 3.1, 1, 3)
    losses.plot(rows.epoch, rows.train_loss, "o-", color=BLUE, label="train", ms=4)
    losses.plot(rows.epoch, rows.val_loss, "s--", color=ORANGE, label="val", ms=4)
    losses.set(title="Loss", xlabel="epoch")
    losses.legend()
    scores.plot(rows.epoch, rows.val_map, "s--", color=ORANGE, ms=4)
    if rows.val_map.notna().any():
        best = best_place(rows.to_dict("records"))
        scores.set_title(f"Validation mAP, best {rows.val_map.iloc[best]:.3f} in epoch {rows.epoch.iloc[best]:.0f}")
    scores.set(ylim=(0, 1), xlabel="epoch")
    rates.plot(rows.epoch, rows.lr, "o-", color=GREY, ms=4)
    rates.set(title="Learning rate at the epoch's end", xlabel="epoch", ylim=(0, None))
    for ax in (losses, scores, rates):
        ax.xaxis.get_major_locator().set_params(integer=True)
    return figure


@rc_context(_STYLE)
def histories(runs: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Validation mAP and loss of several runs over their epochs: their names and the rows of their `history.csv`."""
    figure, axes = _figure(10, 3.4, 1, 2)
    for place, (name, rows) in enumerate(runs):
        colour, mark = LINES[place % len(LINES)], "osD^vP*X"[place // len(LINES) % 8]
        for ax, column in zip(axes, ("val_map", "val_loss"), strict=True):
            ax.plot(rows.epoch, rows[column], f"{mark}-", color=colour, ms=4, label=plain(name))
    axes[0].set(title="Validation mAP", xlabel="epoch", ylim=(0, 1))
    axes[1].set(title="Validation loss", xlabel="epoch")
    for ax in axes:
        ax.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


@rc_context(_STYLE)
def average_precisions(scores: pd.DataFrame) -> Figure:
    """Average precision of each class beside its support, weakest first (see `metrics.class_table`)."""
    order = np.arange(len(scores)) if len(scores) <= MOST else np.flatnonzero(scores.ap.notna())
    chosen, told = _ends(order, "weakest and strongest")
    scores = scores.iloc[chosen]
    figure, ax = _figure(8, _class_height(len(scores)))
    defined = scores.ap.fillna(0)
    ax.barh(range(len(scores)), defined, color=BLUE)
    for place, (value, support) in enumerate(zip(scores.ap, scores.support, strict=True)):
        text = "–" if np.isnan(value) else f"{value:.3f}"
        ax.text(defined.iloc[place], place, f" {text}  ({support} positives)", va="center", fontsize=9)
    classes_down(ax, list(scores.index), bool(told))
    ax.set(title=f"Average precision by class{told}", xlim=(0, 1.3), xticks=np.linspace(0, 1, 6))
    return figure


@rc_context(_STYLE)
def label_budget(classes: pd.DataFrame) -> Figure:
    """More positives that bring a class's scores to ± .05, and what twice the training images would raise.

    Parameters
    ----------
    classes : see `budget.LabelBudget`; the neediest come first, of too many those that need most and least are shown
    """
    chosen, told = _ends(np.argsort(-classes["ap_more"].to_numpy(), kind="stable"), "neediest and best known")
    classes, place = classes.iloc[chosen], np.arange(len(chosen))
    figure, (left, right) = _figure(10, _class_height(len(classes)), 1, 2, sharey=True)
    left.plot(classes["ap_more"], place, "o", color=BLUE, label="average precision")
    left.plot(classes["f1_more"], place, "s", color=ORANGE, label="F1")
    left.set(title=f"More positives until ± .05{told}", xlabel="positives", xlim=(0, None))
    right.hlines(place, classes["low"], classes["high"], color=BLUE)
    right.plot(classes["gain"], place, "o", color=BLUE)
    right.set(title="What twice the training images add", xlabel="average precision, 95 % interval")
    for ax in (left, right):
        classes_down(ax, list(classes.index), bool(told))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


@rc_context(_STYLE)
def comparison(table: pd.DataFrame) -> Figure:
    """Mean average precision with its 95 % interval, and the seconds of training, for each approach."""
    figure, (left, right) = _figure(9, 0.9 + 0.5 * len(table), columns=2, sharey=True)
    places = np.arange(len(table))
    ends = (table["mAP"] - table["low"], table["high"] - table["mAP"])
    left.errorbar(table["mAP"], places, xerr=ends, fmt="o", color=BLUE, capsize=4)
    left.set_yticks(places, [plain(name) for name in table.index])
    without = f"; {undefined} classes undefined" if (undefined := table["classes undefined"].max()) else ""
    left.set(xlabel=f"mAP on the split {table.attrs['split']!r}, 95 % interval{without}")
    left.invert_yaxis()
    right.bar_label(right.barh(places, table["seconds to train"], color=GREY, height=0.55), fmt=" {:,.0f} s")
    right.set(xlabel="seconds to train", xmargin=0.2)
    return figure


@rc_context(_STYLE)
def telling_images(
    rows: pd.DataFrame, images: Sequence[np.ndarray], class_names: Sequence[str], most: int = 10
) -> Figure:
    """Images on which approaches differ: each beside the probabilities that they give, its true classes in bold.

    Parameters
    ----------
    rows : as `approaches.telling_images` gives them
    images : uint8 [H, W, 3], one for each image path
    """
    parts, widths = list(rows.groupby("image_path", sort=False)), {"width_ratios": [2, 3, 3]}
    figure, axes = _figure(10, 3 * len(parts), rows=len(parts), columns=3, squeeze=False, gridspec_kw=widths)
    for (left, middle, right), (path, said), image in zip(axes, parts, images, strict=True):
        left.imshow(image)
        left.set_axis_off()
        left.set_title(plain(path, 28), fontsize=8)
        y, p = said["y"].iloc[0], np.stack(list(said["p"]), 1)
        present = np.stack(list(said["present"]), 1)
        asked = np.flatnonzero((y == 1) | present.any(1))
        asked = asked if len(asked) else np.arange(len(y))
        chosen = np.sort(asked[np.argsort(-p[asked].max(1))][:most])
        middle.imshow(p[chosen], cmap=SHARES, vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(p[chosen]):
            mark = " ✓" if present[chosen[row], column] else ""
            middle.text(column, row, f"{value:.2f}{mark}", ha="center", va="center", color=ink(value), fontsize=8)
        middle.set(xticks=range(len(said)), yticks=range(len(chosen)))
        middle.set_xticklabels([plain(name, 14) for name in said.approach], fontsize=8)
        middle.set_yticklabels([plain(class_names[c], 22) for c in chosen.tolist()], fontsize=8)
        for label, c in zip(middle.get_yticklabels(), chosen, strict=True):
            label.set_fontweight("bold" if y[c] == 1 else "normal")
        middle.grid(False)
        middle.tick_params(length=0, labeltop=True, labelbottom=False)
        lines = [textwrap.fill(f"{row.approach}: {shortened(row.says, 140)}", 44) for row in said.itertuples()]
        right.text(0, 1, "\n\n".join(lines).replace("$", r"\$"), va="top", fontsize=8, transform=right.transAxes)
        right.set_axis_off()
    return figure


@rc_context(_STYLE)
def tuned_against_half(predictions: Predictions, thresholds: Thresholds) -> Figure:
    """F1 of each class at 0.5 and at its own threshold, and where that threshold lies, on these predictions."""
    predictions = thresholds.calibrated(predictions)
    curves = Curves(predictions.labels, predictions.probabilities)
    values, names = thresholds.aligned(predictions.class_names), predictions.class_names
    half = np.array([curves.at(c, 0.5)["f1"] for c in range(len(names))], float)
    own = np.array([curves.at(c, values[c])["f1"] for c in range(len(names))], float)
    order = np.arange(len(names))
    if len(names) > MOST:
        order = np.argsort(own, kind="stable")[: np.isfinite(own).sum()]
    chosen, told = _ends(order, "weakest and strongest")
    place = np.arange(len(chosen))
    figure, (left, right) = _figure(10, _class_height(len(chosen)), 1, 2, sharey=True)
    left.hlines(place, half[chosen], own[chosen], color=GREY, lw=1.5)
    left.plot(half[chosen], place, "o", mfc="none", color=ORANGE, label="at 0.5")
    left.plot(own[chosen], place, "o", color=BLUE, label="at its own threshold")
    left.set(title=f"F1 on the split {predictions.split!r}{thresholds.note(predictions)}{told}", xlim=(0, 1.02))
    figure.legend(loc="outside lower left", ncols=2)
    right.axvline(0.5, color=ORANGE, ls="--", lw=1)
    right.plot(values[chosen], place, "D", color=BLUE)
    right.set(title="Thresholds (dashed: 0.5)", xlim=(0, 1))
    for ax in (left, right):
        classes_down(ax, [names[c] for c in chosen.tolist()], bool(told))
    return figure


@rc_context(_STYLE)
def precision_recall(predictions: Predictions, thresholds: Thresholds, most: int = 12) -> Figure:
    """Precision-recall curves, each with its operating point; of too many classes those with the weakest F1."""
    predictions = thresholds.calibrated(predictions)
    curves = Curves(predictions.labels, predictions.probabilities)
    values, names = thresholds.aligned(predictions.class_names), predictions.class_names
    shown = [c for c in range(len(names)) if curves.positives[c] > 0]
    told = ""
    if len(shown) > most:
        told = f"; of {len(shown):,} classes the {most} with the weakest F1"
        shown = sorted(shown, key=lambda c: curves.at(c, values[c])["f1"])[:most]
    columns = min(4, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure, axes = _figure(2.6 * columns, 2.5 * rows, rows, columns, squeeze=False)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, c in zip(axes.flat, shown, strict=False):
        _precision_recall(ax, curves, c, float(values[c]))
        ax.set_title(plain(names[c], 24), pad=18)
    figure.supxlabel(f"recall{thresholds.note(predictions)}{told}", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    return figure


def _precision_recall(ax: Axes, curves: Curves, c: int, threshold: float) -> None:
    line, point = curves.at(c, np.unique(curves.scores[c])[::-1]), curves.at(c, threshold)
    ax.step(line["recall"], line["precision"], where="post", color=BLUE, lw=1.5)
    ax.plot(point["recall"], point["precision"], "o", color=ORANGE, ms=7)
    said = f"F1 {point['f1']:.2f} at threshold {number(threshold)}"
    ax.text(0, 1.03, said, transform=ax.transAxes, fontsize=8.5)  # above the curve, never on it
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05))
    for axis in (ax.xaxis, ax.yaxis):  # the same in every place, so that the gaps are even
        axis.set_ticks([0, 0.5, 1], ["0", "0.5", "1"])


@rc_context(_STYLE)
def calibration(predictions: Predictions, thresholds: Thresholds) -> Figure:
    """How often a class is there when its probability says so, before and after the thresholds' calibration.

    Left all classes together (see `metrics.reliability`), right the calibration error of each class, and what true
    probabilities like those after would have by chance.
    """
    after = thresholds.calibrated(predictions)
    y, names = after.labels, after.class_names
    both = [replace(after, calibration=None), after]
    errors = [calibration_error(y, its.probabilities) for its in both]
    chosen, told = np.arange(len(names)), ""
    if len(names) > MOST:
        chosen, told = np.argsort(-errors[1], kind="stable")[:MOST], f"\nof {len(names):,} classes the {MOST} largest"
    place = np.arange(len(chosen))
    figure, right, left = _beside_classes(len(chosen), (1, 1), first=False)
    left.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1)
    kinds = (("s--", ORANGE, "before"), ("o-", BLUE, "after"))
    for its, error, (mark, colour, label) in zip(both, errors, kinds, strict=True):
        p = its.probabilities
        predicted, present, _ = reliability(y[y >= 0], p[y >= 0])
        left.plot(predicted, present, mark, color=colour, ms=4, mfc="none" if colour == ORANGE else None, label=label)
        right.plot(error[chosen], place, mark[0], color=colour, mfc="none" if colour == ORANGE else None)
    right.hlines(place, errors[0][chosen], errors[1][chosen], color=GREY, lw=1, zorder=0)
    right.vlines(calibration_chance(y, after.probabilities)[chosen], place - 0.3, place + 0.3, color=GREEN, lw=2)
    title = f"Reliability on the split {after.split!r}{thresholds.note(after)}"
    left.set(title=title, xlabel="mean probability", ylabel="share present", xlim=(0, 1), ylim=(0, 1))
    classes_down(right, [names[c] for c in chosen.tolist()])
    right.set(title=f"Calibration error (line: by chance){told}", xlim=(0, None))
    figure.legend(loc="outside lower left", ncols=2)
    return figure


@rc_context(_STYLE)
def error_counts(errors: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """False positives and false negatives of each class (see `errors.disagreements`)."""
    counts = errors.groupby("kind")["class"].value_counts().unstack(0, fill_value=0)
    counts = counts.reindex(index=list(class_names), columns=["false negative", "false positive"], fill_value=0)
    told = ""
    if len(counts) > MOST:
        told = f"\nof {len(counts):,} classes the {MOST} with most errors"
        counts = counts.iloc[np.argsort(-counts.sum(axis=1).to_numpy(), kind="stable")[:MOST]]
    figure, ax = _figure(8, _class_height(len(counts)))
    for kind, colour, sign in (("false negative", ORANGE, -1), ("false positive", BLUE, 1)):
        ax.barh(range(len(counts)), sign * counts[kind].to_numpy(), color=colour, label=f"{kind}s")
    ax.axvline(0, color=GREY, lw=0.8)
    classes_down(ax, list(counts.index))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    note = " (tuned on these)" if errors.tuned_on.any() else ""
    ax.set(title=f"Missed (left) and falsely found (right){note}{told}", xlabel="images")
    figure.legend(loc="outside lower left", ncols=2)
    return figure


@rc_context(_STYLE)
def data_map(xy: np.ndarray, kinds: np.ndarray, pairs: np.ndarray, title: str = "Map of the images") -> Figure:
    """Images as points at xy float32 [N, 2] (see `datamap.project`), marked by kinds [N] of the keys of `MAP_MARKS`.

    Rows in pairs, int [M, 2], are ringed and joined: near duplicates across splits.
    """
    figure, ax = _figure(9, 5.2)
    ax.plot(*xy[pairs].transpose(2, 1, 0), color=GREY, lw=0.8, zorder=1)
    size, ringed = float(np.clip(12000 / max(1, len(xy)), 5, 26)), np.unique(pairs)
    for kind, (colour, mark, _) in MAP_MARKS.items():
        if (rows := kinds == kind).any():
            ax.scatter(*xy[rows].T, s=size, color=colour, marker=mark, alpha=0.75, label=f"{kind} ({rows.sum():,})")
    style: Any = {"facecolors": "none", "edgecolors": GREY, "s": 4 * size + 30}
    ax.scatter(*xy[ringed].T, **style, label=f"near duplicate across splits ({len(ringed):,})")
    ax.set(title=plain(title, 90), xticks=[], yticks=[])
    figure.legend(loc="outside lower left", ncols=6, columnspacing=1.2, handletextpad=0.2)
    return figure
