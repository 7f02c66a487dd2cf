"""Calibration: one scale and one shift for each class's logit, fitted on validation, so that 0.7 means seven in ten.

Off unless asked for. The scale is above 0, so a class's ranking stays and with it every average precision; isotonic
regression is left out because the ties it makes would change that.
"""

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_expit

from ..exceptions import WorkbenchError
from .predictions import Predictions, refuse_others

METHODS = ("platt", "temperature")
NOISE = 1e-5  # of a logit: what float32 leaves open after a network's many sums


def calibrate(predictions: Predictions, method: str = "platt") -> Predictions:
    """The predictions with a calibration fitted on their own known labels, in place of any that they had.

    Parameters
    ----------
    method : "platt", a scale and a shift for each class (Platt 1999), or "temperature", one scale for all (Guo et al.,
        ICML 2017)

    Both minimise the cross entropy to Platt's smoothed targets, (P + 1) / (P + 2) for a present and 1 / (N + 2) for an
    absent label of P and N, so that a perfectly separated class gets a finite scale. A class without a positive or a
    negative, or whose logits are equal but for rounding, has nothing to fit and keeps scale 1 and shift 0. Where a fit
    would turn the ranking round, the scale stops just above 0.
    """
    y, z, classes = refuse_others(predictions).labels, predictions.logits.astype(float), len(predictions.class_names)
    if method not in METHODS:
        raise WorkbenchError(f"calibration {method!r}; expected one of {', '.join(METHODS)}")
    if method == "temperature":
        scale, _ = _fit(z[y >= 0], y[y >= 0], shifts=False)
        calibration = np.repeat([[scale], [0.0]], classes, axis=1)
    else:
        known = y >= 0
        calibration = np.array([_fit(z[known[:, c], c], y[known[:, c], c]) for c in range(classes)]).T
    return replace(predictions, calibration=calibration)


def _fit(z: np.ndarray, y: np.ndarray, shifts: bool = True) -> tuple[float, float]:
    """Scale and shift for logits [n] with labels [n] of 1 and 0."""
    positives = int((y == 1).sum())
    negatives = len(y) - positives
    # Logits that differ in what float32 rounds off alone tell nothing: stretched to a scale, they would be noise.
    if not positives or not negatives or np.ptp(z) <= NOISE * max(1, np.abs(z).max()):
        return 1.0, 0.0
    target = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, spread = (z.mean() if shifts else 0.0), z.std()
    x = (z - centre) / spread  # for the optimiser's sake

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logit = parameters[0] * x + parameters[1]
        log_p, log_not_p = log_expit(logit), log_expit(-logit)
        error = np.exp(log_p) - target
        gradient = np.array([np.mean(error * x), np.mean(error) if shifts else 0.0])
        return -float(np.mean(target * log_p + (1 - target) * log_not_p)), gradient

    best = minimize(
        loss,
        [spread, centre],  # the logits as they are
        jac=True,
        bounds=[(1e-3 * spread, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    scale = best.x[0] / spread
    return float(scale), float(best.x[1] - scale * centre)
