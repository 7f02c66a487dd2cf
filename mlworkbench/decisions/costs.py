"""Costs of decisions, where a miss and a false alarm have a price."""

from typing import Any

import numpy as np
from scipy.stats import t

from ..scoring.groups import design_effect, few_positives, numbered, shares
from ..scoring.metrics import mean_defined, outcomes
from ..scoring.predictions import Predictions

KEY = "costs"  # of these, among the scores of a split


def decision_costs(predictions: Predictions, decisions: np.ndarray, price: float) -> dict[str, Any]:
    """What decisions cost and gain where a miss costs `price` false alarms.

    Parameters
    ----------
    decisions : bool [N, C]

    Returns
    -------
    `price`; `total`, the cost of all known labels in false alarms; `net_benefit`, the mean over the classes of what an
    image gains over calling nothing present, in found positives: tp / n − odds · fp / n (Vickers and Elkin 2006), with
    the odds 1 / price of the probability 1 / (1 + price) from which on calling a class present pays; and `classes:
    {NAME: {total, net_benefit}}`. Total and benefits are `{value, low, high}` with 95 % intervals by Student's t over
    groups; a class with positives in fewer than 8 groups has none.
    """
    n, names = outcomes(predictions.labels, decisions), predictions.class_names
    known, groups = predictions.labels >= 0, numbered(predictions.groups, len(predictions))
    cost, gain = price * n["fn"] + n["fp"], n["tp"] - n["fp"] / price
    reach = float(t.ppf(0.975, max(groups.max(), 1)))

    def spread(value: np.ndarray, error: np.ndarray) -> list[dict[str, float]]:
        ends = zip(value, value - reach * error, value + reach * error, strict=True)
        return [dict(zip(("value", "low", "high"), map(float, its), strict=True)) for its in ends]

    benefit, error = shares(gain, known, np.arange(len(known)))
    error = error * np.sqrt(design_effect(gain, known, groups))
    of_class = spread(benefit, np.where(few_positives(predictions.labels, groups), np.nan, error))
    # What each image adds to the mean of the classes' benefits, but for that mean.
    added = mean_defined((gain - benefit * known) / known.mean(0), 1)
    one = np.ones((len(known), 1))
    (mean,) = spread(mean_defined(benefit, 0)[None], shares(added[:, None], one, groups)[1])
    (total,) = spread(*(len(known) * its for its in shares(cost.sum(1)[:, None], one, groups)))
    return {
        "price": price,
        "total": total | {"low": max(total["low"], 0.0)},
        "net_benefit": mean,
        "classes": {
            name: {"total": float(cost[:, c].sum()), "net_benefit": of_class[c]} for c, name in enumerate(names)
        },
    }
