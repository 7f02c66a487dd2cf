"""Losses on raw logits, label by label; unknown labels have no part in them.

Every loss returns its value for each label, 0 at unknown ones, so that a batch can be summed in pieces and over
processes and then divided by how many labels were known in all of them.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch.nn import functional as F

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_loss(name: str, y: torch.Tensor, positive_weight: float = 1.0) -> Loss:
    """The loss of that name, "bce" or "asl", for training labels `y` [N, C]; see `positive_weights`.

    With "softmax" Ultralytics trains by its own; it is measured by "bce", as the others are.
    """
    if name == "asl":
        return asymmetric
    if positive_weight == 1:
        return bce
    weights = positive_weights(y, positive_weight)
    there = cache(weights.to)  # once a device: a step that a card replays may copy nothing to it
    return lambda logits, targets: bce(logits, targets, there(logits.device))


def bce(logits: torch.Tensor, targets: torch.Tensor, positive_weights: torch.Tensor | None = None) -> torch.Tensor:
    """Binary cross entropy with logits.

    Parameters
    ----------
    logits : float [B, C]
    targets : [B, C] of 1, 0, -1 (unknown: no loss, zero gradient)
    positive_weights : [C], what a positive label of each class weighs

    Returns
    -------
    [B, C], 0 where unknown
    """
    y = targets.clamp(min=0).to(logits.dtype)
    each = F.binary_cross_entropy_with_logits(logits, y, reduction="none", pos_weight=positive_weights)
    return torch.where(targets >= 0, each, 0)


def asymmetric(
    logits: torch.Tensor, targets: torch.Tensor, gamma_pos: float = 1.0, gamma_neg: float = 4.0, clip: float = 0.05
) -> torch.Tensor:
    """Asymmetric loss: easy negatives, of which a label matrix mostly consists, hardly count.

    Each term of the cross entropy is weighed by (1 - p of the truth) to the power of gamma, and a negative's p is
    first lowered by `clip`. T. Ridnik et al., "Asymmetric Loss for Multi-Label Classification", ICCV 2021, with the
    paper's exponents and margin. Shapes as in `bce`.
    """
    known = targets >= 0
    safe = torch.where(known, logits, 0)  # an infinite logit of an unknown label may not touch the gradient
    log_p, not_p = F.logsigmoid(safe), F.logsigmoid(-safe).exp()
    absent = (not_p + clip).clamp(max=1)
    positive = -log_p * not_p**gamma_pos
    negative = -torch.log(absent) * (1 - absent) ** gamma_neg
    return torch.where(known, torch.where(targets == 1, positive, negative), 0)


def mean_known(each: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of a loss over the known labels; 0 where nothing is known."""
    return each.sum() / (targets >= 0).sum().clamp(min=1)


def positive_weights(y: torch.Tensor, most: float) -> torch.Tensor:
    """Negatives to a positive of each class, float32 [C], within 1 and `most` (which a class without one gets)."""
    negatives, positives = (y == 0).sum(0), (y == 1).sum(0)
    return (negatives / positives.clamp(min=1)).where(positives > 0, most).clamp(1, most).float()
