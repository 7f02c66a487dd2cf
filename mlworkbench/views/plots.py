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
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from ..data.labels import SPLITS
from ..runs.folder import best_place
from ..scoring.metrics import calibration_error, reliability
from ..scoring.predictions import Predictions
from ..scoring.thresholds import Curves, Thresholds
from ..text import shortened
from .style import _STYLE, BLUE, GREY, MAP_MARKS, ORANGE, SPLIT_COLOURS, _class_height, _figure, plain
from .style import _STYLE, BLUE, GREY, LINES, MAP_MARKS, ORANGE, SPLIT_COLOURS, _class_height, _figure, plain

MOST = 40  # classes that one can read in a figure


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


def _classes(ax: Axes, names: Sequence[str], broken: bool = False) -> None:
    """Class names down the axis, the first on top; a line where some are left out between."""
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    if broken:
        ax.axhline(len(names) / 2 - 0.5, color=GREY, ls=":", lw=1)


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
    figure, (left, right) = _figure(10, _class_height(len(chosen)), 1, 2, width_ratios=(3, 2))
    place, start = np.arange(len(chosen)), np.zeros(len(chosen))
    for name in SPLITS:
        positives = (y[split == name][:, chosen] == 1).sum(0)
        left.barh(place, positives, left=start, color=SPLIT_COLOURS[name], label=f"{name} ({(split == name).sum():,})")
        start += positives
    for c, total in enumerate(start):
        left.text(total, c, f" {total:,.0f}", va="center", color=GREY)
    _classes(left, [class_names[c] for c in chosen.tolist()], bool(told))
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
def cooccurrence(y: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Given the class of the row, how often is the class of the column there too, in percent.

    Classes that come together stand together, so that blocks appear; of too many those with most company are shown.
    """
    present = (y == 1).astype(np.float32)
    company = present.T @ present
    np.fill_diagonal(company, 0)
    most = np.sort(np.argsort(-company.max(0, initial=0), kind="stable")[:MOST])
    told = f"\nof {y.shape[1]:,} classes the {MOST} with most company" if len(most) < y.shape[1] else ""
    y, class_names = y[:, most], [class_names[c] for c in most.tolist()]
    order = _by_company(y)
    y, class_names = y[:, order], [class_names[c] for c in order.tolist()]
    present = (y == 1).astype(float)
    together = present.T @ present
    alone = np.diag(together).copy()
    share = np.divide(together, alone[:, None], out=np.full_like(together, np.nan), where=alone[:, None] > 0)
    np.fill_diagonal(share, np.nan)
    side = max(4.0, 1.6 + 0.45 * len(class_names))
    figure, ax = _figure(side + 1, side)
    top = np.nanmax(share) if np.nansum(share) > 0 else 1.0
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=top)
    if len(class_names) <= 25:
        for row, column in zip(*np.nonzero(np.isfinite(share)), strict=True):
            dark = share[row, column] > 0.6 * top
            ax.text(column, row, f"{100 * share[row, column]:.0f}", ha="center", va="center", fontsize=8,
                    color="white" if dark else "black")  # fmt: skip
    names = [plain(name, 20) for name in class_names]
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.set(title=f"Given the row, how often the column (%){told}")
    ax.grid(visible=False)
    figure.colorbar(image, ax=ax, shrink=0.7, format=lambda value, _: f"{100 * value:.0f} %")
    return figure


def _by_company(y: np.ndarray) -> np.ndarray:
    """Classes in an order in which those that come together are neighbours (optimal leaf order of a clustering)."""
    present = (y == 1).astype(float)
    if present.shape[1] < 3 or not len(present):
        return np.arange(present.shape[1])
    both = present.T @ present
    alone = np.diag(both)
    either = alone[:, None] + alone[None, :] - both
    apart = 1 - np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    np.fill_diagonal(apart, 0)
    return leaves_list(linkage(squareform(apart, checks=False), "average", optimal_ordering=True))


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
    _classes(ax, names)
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
def gallery(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6) -> Figure:
    """Thumbnails with captions.

    Parameters
    ----------
    images : uint8 [H, W, 3] each
    captions : one text an image, `\\n` for a new line; use `plain` on names
    """
    if not images:
        figure, ax = _figure(4, 0.8)
        ax.text(0.5, 0.5, "nothing to show", ha="center", va="center", color=GREY)
        ax.set_axis_off()
        return figure
    rows = -(-len(images) // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    tall = max(image.shape[0] / image.shape[1] for image in images)
    figure, axes = _figure(1.75 * columns, (1.75 * tall + 0.19 * lines) * rows, rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, caption in zip(axes.flat, images, captions, strict=False):
        ax.imshow(image)
        ax.set_title(caption, fontsize=8.5, loc="left")
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
    _classes(ax, list(scores.index), bool(told))
    ax.set(title=f"Average precision by class{told}", xlim=(0, 1.3), xticks=np.linspace(0, 1, 6))
    return figure


@rc_context(_STYLE)
def comparison(table: pd.DataFrame) -> Figure:
    """Mean average precision with its 95 % interval, and the seconds of training, for each approach."""
    figure, (left, right) = _figure(9, 0.9 + 0.5 * len(table), columns=2, sharey=True)
    places = np.arange(len(table))
    middle, half = (table["low"] + table["high"]) / 2, (table["high"] - table["low"]) / 2  # which need not hold the mAP
    left.errorbar(middle, places, xerr=half, fmt="none", color=BLUE, capsize=4)
    left.plot(table["mAP"], places, "o", color=BLUE)
    left.set_yticks(places, [plain(name) for name in table.index])
    left.set(xlabel=f"mAP on the split {table.attrs['split']!r}, 95 % interval")
    left.invert_yaxis()
    bars = right.barh(places, table["seconds to train"], color=GREY, height=0.55)
    right.bar_label(bars, fmt=" {:,.0f} s")
    right.set(xlabel="seconds to train")
    right.margins(x=0.2)
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
        middle.imshow(p[chosen], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(p[chosen]):
            mark = " ✓" if present[chosen[row], column] else ""
            colour = "white" if value > 0.6 else "black"
            middle.text(column, row, f"{value:.2f}{mark}", ha="center", va="center", color=colour, fontsize=8)
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
    left.plot(half[chosen], place, "o", mfc="white", color=ORANGE, label="at 0.5")
    left.plot(own[chosen], place, "o", color=BLUE, label="at its own threshold")
    left.set(title=f"F1 on the split {predictions.split!r}{thresholds.note(predictions)}{told}", xlim=(0, 1.02))
    figure.legend(loc="outside lower left", ncols=2)
    right.axvline(0.5, color=ORANGE, ls="--", lw=1)
    right.plot(values[chosen], place, "D", color=BLUE)
    right.set(title="Thresholds (dashed: 0.5)", xlim=(0, 1))
    for ax in (left, right):
        _classes(ax, [names[c] for c in chosen.tolist()], bool(told))
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
    figure, axes = _figure(2.7 * columns, 2.4 * rows, rows, columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, c in zip(axes.flat, shown, strict=False):
        _precision_recall(ax, curves, c, float(values[c]))
        ax.set_title(plain(names[c], 24))
    figure.supxlabel(f"recall{thresholds.note(predictions)}{told}", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    return figure


def _precision_recall(ax: Axes, curves: Curves, c: int, threshold: float) -> None:
    line, point = curves.at(c, np.unique(curves.scores[c])[::-1]), curves.at(c, threshold)
    ax.step(line["recall"], line["precision"], where="post", color=BLUE, lw=1.5)
    ax.plot(point["recall"], point["precision"], "o", color=ORANGE, ms=7)
    ax.annotate(f"F1 {point['f1']:.2f} at {threshold:.2f}", (0.04, 0.06), xycoords="axes fraction", fontsize=8.5)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05))


@rc_context(_STYLE)
def calibration(predictions: Predictions, thresholds: Thresholds) -> Figure:
    """How often a class is there when its probability says so, before and after the thresholds' calibration.

    Left all classes together (see `metrics.reliability`), right the calibration error of each class.
    """
    after = thresholds.calibrated(predictions)
    y, names = after.labels, after.class_names
    both = [replace(after, calibration=None), after]
    errors = [calibration_error(y, its.probabilities) for its in both]
    chosen, told = np.arange(len(names)), ""
    if len(names) > MOST:
        chosen, told = np.argsort(-errors[1], kind="stable")[:MOST], f"\nof {len(names):,} classes the {MOST} largest"
    place = np.arange(len(chosen))
    figure, (left, right) = _figure(10, max(3.6, _class_height(len(chosen))), 1, 2)
    left.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1)
    kinds = (("s--", ORANGE, "before"), ("o-", BLUE, "after"))
    for its, error, (mark, colour, label) in zip(both, errors, kinds, strict=True):
        p = its.probabilities
        predicted, present, _ = reliability(y[y >= 0], p[y >= 0])
        left.plot(predicted, present, mark, color=colour, ms=4, mfc="white" if colour == ORANGE else None, label=label)
        right.plot(error[chosen], place, mark[0], color=colour, mfc="white" if colour == ORANGE else None)
    right.hlines(place, *(error[chosen] for error in errors), color=GREY, lw=1, zorder=0)
    title = f"Reliability on the split {after.split!r}{thresholds.note(after)}"
    left.set(title=title, xlabel="mean probability", ylabel="share present", xlim=(0, 1), ylim=(0, 1))
    _classes(right, [names[c] for c in chosen.tolist()])
    right.set(title=f"Calibration error{told}", xlim=(0, None))
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
    ax.axvline(0, color="black", lw=0.8)
    _classes(ax, list(counts.index))
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
    ax.plot(*xy[pairs].transpose(2, 1, 0), color="black", lw=0.8, alpha=0.6, zorder=1)
    size, ringed = float(np.clip(12000 / max(1, len(xy)), 5, 26)), np.unique(pairs)
    for kind, (colour, mark, _) in MAP_MARKS.items():
        if (rows := kinds == kind).any():
            ax.scatter(*xy[rows].T, s=size, color=colour, marker=mark, alpha=0.75, label=f"{kind} ({rows.sum():,})")
    style: Any = {"facecolors": "none", "edgecolors": "black", "s": 4 * size + 30}
    ax.scatter(*xy[ringed].T, **style, label=f"near duplicate across splits ({len(ringed):,})")
    ax.set(title=plain(title, 90), xticks=[], yticks=[])
    figure.legend(loc="outside lower left", ncols=6, columnspacing=1.2, handletextpad=0.2)
    return figure
