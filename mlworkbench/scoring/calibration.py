"""Calibration: one scale and one shift for each class's logit, fitted on validation, so that 0.7 means seven in ten.

Off unless asked for, or where the loss of a training bends probabilities. The scale is above 0, so a class's ranking
stays and with it every average precision; isotonic regression is left out because the ties it makes would change that.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_expit, logit

from ..exceptions import WorkbenchError
from .predictions import Predictions, refuse_others

METHODS = ("platt", "temperature", "shifts")
NOISE = 3e-6  # of a logit: what float32 leaves open after a network's many sums
LEAST = 1e-3  # of a scale, over logits of standard deviation 1: a ranking is not turned round
FEW = 15  # positives (or negatives) at which a class's own scale and shift and the drawn ones count the same
LEFT = 1e-12  # of the mean cross entropy, what a fit may leave to be gained
STEPS = 100  # of Newton's method, of which it takes some six


def bends(settings: Mapping[str, Any]) -> str:
    """What in a training's settings bends its probabilities, whose loss is then least elsewhere than at the truth.

    Returns
    -------
    "loss asl" or "positive_weight 10", or "" where nothing does
    """
    if settings.get("loss") == "asl":
        return "loss asl"
    weight = settings.get("positive_weight", 1)
    return f"positive_weight {weight:g}" if weight > 1 else ""


def calibrate(predictions: Predictions, method: str = "platt") -> Predictions:
    """The predictions with a calibration fitted on their own known labels, in place of any that they had.

    Parameters
    ----------
    method : "platt", a scale and a shift for each class (Platt 1999); "shifts", one scale for all and a shift for each
        class (Alexandari, Kundaje and Shrikumar, ICML 2020); "temperature", one scale for all (Guo et al., ICML 2017)

    All minimise the cross entropy to Platt's smoothed targets, (P + 1) / (P + 2) for a present and 1 / (N + 2) for an
    absent label of P and N, so that a perfectly separated class gets a finite scale. Where a fit would turn the ranking
    round, the scale stops just above 0.

    Classes with few positives are drawn to what all have in common. The scale of "shifts" is that of all labels
    together, and a class's shift lies between theirs and its own, nearer to theirs the less the classes' shifts differ
    beyond chance (random effects, DerSimonian and Laird 1986). By "platt" a class has its own fit with weight
    P / (P + 15), P its positives or negatives, whichever are fewer, and that of "shifts" for the rest. Where all labels
    together have nothing to fit, nothing is changed: no positive or no negative, or logits equal but for rounding.

    Raises
    ------
    WorkbenchError : another method, or a fit that does not reach its optimum
    """
    y, z = refuse_others(predictions).labels, predictions.logits.astype(float)
    if method not in METHODS:
        raise WorkbenchError(f"calibration {method!r}; expected one of {', '.join(METHODS)}")
    known = y >= 0
    if _fits(z[known], y[known]):
        one = method == "temperature"
        scale, shift = _fit(z[known], y[known], shifts=False) if one else _drawn(z, y, method == "platt")
    else:
        scale, shift = 1.0, 0.0
    calibration = np.stack([np.broadcast_to(its, y.shape[1]).astype(float) for its in (scale, shift)])
    return replace(predictions, calibration=calibration)


def _drawn(z: np.ndarray, y: np.ndarray, scales: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scale (by `scales` each class's own) and shift [C] of logits and labels [N, C], drawn to those of all labels."""
    known, classes = y >= 0, y.shape[1]
    scale, shift = _fit(z[known], y[known])
    own = np.repeat([[scale], [shift]], classes, axis=1)
    shifts, told, few = np.full(classes, shift), np.zeros(classes), np.zeros(classes)
    for c in np.flatnonzero(known.any(0)).tolist():
        its, labels = z[known[:, c], c], y[known[:, c], c]
        target = _targets(labels)
        shifts[c] = _shift(scale * its, target)
        told[c] = np.exp(_spread(scale * its + shifts[c])).sum()  # Fisher's information on the shift
        if scales and _fits(its, labels):
            own[:, c], few[c] = _fit(its, labels), min((labels == 1).sum(), (labels == 0).sum())
    # How much shifts vary from class to class beyond what their own error explains, and so what each says of its class.
    variance = max(0.0, float(told @ (shifts - shift) ** 2 - (told > 0).sum()) / float(told.sum()))
    near = shift + (shifts - shift) * variance * told / (variance * told + 1)
    weight = few / (few + FEW)
    return weight * own[0] + (1 - weight) * scale, weight * own[1] + (1 - weight) * near


def _fits(z: np.ndarray, y: np.ndarray) -> bool:
    """Whether logits [n] with labels [n] of 1 and 0 have something to fit.

    Logits that differ in what float32 rounds off alone tell nothing: stretched to a scale, they would be noise.
    """
    return bool((y == 1).any() and (y == 0).any() and np.ptp(z) > NOISE * np.abs(z).max(initial=1))


def _targets(y: np.ndarray) -> np.ndarray:
    positives, negatives = (y == 1).sum(), (y == 0).sum()
    return np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _fit(z: np.ndarray, y: np.ndarray, shifts: bool = True) -> tuple[float, float]:
    """The best scale, at least what is just above 0, and shift (or 0) for logits [n] with labels [n].

    By Newton's method with halved steps from scale 0 and the log odds (Lin, Lin and Weng, "A note on Platt's
    probabilistic outputs", Machine Learning 2007), over logits of mean 0 and standard deviation 1: so it reaches the
    optimum whatever their size, and however little they vary about a common level.
    """
    target = _targets(y)
    level, size = float(z.mean()) if shifts else 0.0, float(z.std())
    x = (z - level) / size
    scale, shift = 0.0, float(logit(target.mean())) if shifts else 0.0
    for _ in range(STEPS):
        bent = scale * x + shift
        missing, spread = target - np.exp(log_expit(bent)), np.exp(_spread(bent))
        # About the weighted middle of the logits, scale and shift have nothing to do with each other.
        middle = (spread @ x) / spread.sum() if shifts else 0.0
        up = (missing @ (x - middle)) / (spread @ (x - middle) ** 2)
        across = missing.sum() / spread.sum() if shifts else 0.0
        gain = (up * (missing @ (x - middle)) + across * missing.sum()) / len(x)
        if gain <= LEFT:
            break
        step, along = 1.0, np.array([up, across - middle * up])
        while _loss(x, target, *(scale, shift) + step * along) > _loss(x, target, scale, shift) - gain * step / 4:
            step /= 2
        scale, shift = (scale, shift) + step * along
    else:
        raise WorkbenchError(f"a calibration did not reach its optimum: a step would still gain {gain:.1g}")
    if scale < LEAST:
        scale, shift = LEAST, _shift(LEAST * x, target) if shifts else 0.0
    return scale / size, shift - scale * level / size


def _shift(logits: np.ndarray, target: np.ndarray) -> float:
    """The best shift of logits [n] for targets [n]: the mean probability is that of the targets."""
    mean = target.mean()
    ends = logit(mean) - logits.max() - 1, logit(mean) - logits.min() + 1
    return float(brentq(lambda shift: np.exp(log_expit(logits + shift)).mean() - mean, *ends))


def _spread(logits: np.ndarray) -> np.ndarray:
    """Logarithm of p (1 - p)."""
    return log_expit(logits) + log_expit(-logits)


def _loss(z: np.ndarray, target: np.ndarray, scale: float, shift: float) -> float:
    """Mean cross entropy."""
    bent = scale * z + shift
    return float(-np.mean(log_expit(-bent) + target * bent))
