"""Company: which classes come together, as a figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from ..scoring.groups import ratio
from ..scoring.metrics import wilson
from ..text import shortened
from .plots import classes_down
from .style import _STYLE, BLUE, ORANGE, SHARES, _class_height, _figure, ink, plain

MATRIX = 25  # classes of which every pair can be read


@rc_context(_STYLE)
def cooccurrence(y: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Given one class, how often is another there too, in percent; y int8 [N, C].

    Up to `MATRIX` classes stand in rows and columns, those that come together side by side, so that blocks appear; of
    more the strongest pairs are bars.
    """
    present = (y == 1).astype(float)
    together = present.T @ present
    return (_matrix if len(class_names) <= MATRIX else _pairs)(together, len(y), class_names)


def _matrix(together: np.ndarray, images: int, class_names: Sequence[str]) -> Figure:
    """Given the class of the row, how often that of the column, as a matrix; nothing where they never meet."""
    order = _by_company(together) if images else np.arange(len(together))
    together, names = together[np.ix_(order, order)], [plain(class_names[c], 20) for c in order.tolist()]
    share = ratio(together, np.diag(together)[:, None])
    np.fill_diagonal(share, 0)
    share[~(share > 0)] = np.nan
    side = max(4.0, 1.6 + 0.45 * len(names))
    figure, ax = _figure(side + 1, side)
    top = np.nanmax(share) if np.isfinite(share).any() else 1.0
    image = ax.imshow(share, cmap=SHARES, vmin=0, vmax=top)
    for row, column in zip(*np.nonzero(np.isfinite(share)), strict=True):
        text, colour = f"{100 * share[row, column]:.0f}", ink(share[row, column] / top)
        ax.text(column, row, text if text != "0" else "<1", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.set(title="Given the row, how often the column (%)")
    ax.grid(visible=False)
    figure.colorbar(image, ax=ax, shrink=0.7, format=lambda value, _: f"{100 * value:.0f} %").outline.set_visible(False)
    return figure


def _pairs(together: np.ndarray, images: int, class_names: Sequence[str], most: int = 20) -> Figure:
    """The pairs of which one class is surest to bring the other, beyond how often that is there anyway."""
    alone = np.diag(together)
    usual = alone / max(images, 1)
    gain = np.nan_to_num(wilson(together, np.broadcast_to(alone[:, None], together.shape))[0] - usual, nan=-1)
    np.fill_diagonal(gain, -1)
    gain[(gain < gain.T) | ((gain == gain.T) & np.tri(len(gain), dtype=bool))] = -1  # each pair once
    order = np.argsort(-gain, axis=None, kind="stable")[:most]
    a, b = np.unravel_index(order[gain.ravel()[order] > 0], gain.shape)
    share, place = together[a, b] / alone[a], np.arange(len(a))
    figure, ax = _figure(9, _class_height(len(a)))
    ax.barh(place, share, color=BLUE)
    ax.vlines(usual[b], place - 0.4, place + 0.4, color=ORANGE, lw=2, label="in all images")
    for row, (both, of) in enumerate(zip(together[a, b], alone[a], strict=True)):
        ax.text(
            max(share[row], usual[b[row]]), row, f" {100 * both / of:.0f} % ({both:,.0f} of {of:,.0f})", va="center"
        )
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    classes_down(ax, [f"{shortened(class_names[i], 20)} → {shortened(class_names[j], 20)}" for i, j in pairs])
    told = f"the {len(a)} strongest pairs of {len(alone):,} classes"
    ax.set(title=f"Where the first class is, how often the second\n{told}", xlim=(0, 1.25))
    ax.set_xticks(np.linspace(0, 1, 6), [f"{tick} %" for tick in range(0, 101, 20)])
    if len(a):
        figure.legend(loc="outside lower left")
    return figure


def _by_company(both: np.ndarray) -> np.ndarray:
    """Classes in an order in which those that come together are neighbours (optimal leaf order of a clustering)."""
    if len(both) < 3:
        return np.arange(len(both))
    alone = np.diag(both)
    either = alone[:, None] + alone[None, :] - both
    apart = 1 - np.nan_to_num(ratio(both, either))
    np.fill_diagonal(apart, 0)
    return leaves_list(linkage(squareform(apart, checks=False), "average", optimal_ordering=True))
