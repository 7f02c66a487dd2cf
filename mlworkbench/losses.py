"""Losses on raw logits; unknown labels have no part in them."""

import torch
from torch.nn import functional as F


def bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy with logits, averaged over the known labels.

    Parameters
    ----------
    logits : float [B, C]
    targets : [B, C] of 1, 0, -1 (unknown: no loss, zero gradient)

    Returns
    -------
    scalar; 0 (with zero gradients) where nothing is known
    """
    known = targets >= 0
    each = F.binary_cross_entropy_with_logits(logits, targets.clamp(min=0).to(logits.dtype), reduction="none")
    return torch.where(known, each, 0).sum() / known.sum().clamp(min=1)
