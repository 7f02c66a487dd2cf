import math

import torch

from mlworkbench.losses import bce


def test_hand_computed():
    logits = torch.tensor([[0.0, math.log(3)], [-math.log(3), 2.0]])
    targets = torch.tensor([[1, 0], [0, -1]], dtype=torch.int8)
    # -log(1/2), -log(1 - 3/4), -log(1 - 1/4); the unknown one is no part of the mean
    expected = (math.log(2) + math.log(4) + math.log(4 / 3)) / 3
    assert torch.isclose(bce(logits, targets), torch.tensor(expected))


def test_unknown_labels_have_no_gradient_whatever_the_logit():
    logits = torch.tensor([[5.0, float("inf"), -80.0], [1.0, 2.0, 3.0]], requires_grad=True)
    targets = torch.tensor([[1, -1, -1], [0, 1, -1]], dtype=torch.int8)
    bce(logits, targets).backward()
    assert (logits.grad[targets < 0] == 0).all() and (logits.grad[targets >= 0] != 0).all()


def test_nothing_known_is_zero_loss():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = bce(logits, torch.full((2, 3), -1, dtype=torch.int8))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()
