import math

import numpy as np
import pytest
import torch

from mlworkbench.training.losses import asymmetric, bce, make_loss, mean_known, positive_weights

LOSSES = {
    "bce": bce,
    "weighted": lambda logits, targets: bce(logits, targets, torch.tensor([2.0, 5.0, 1.0])),
    "asl": asymmetric,
}


def test_bce_by_hand():
    logits = torch.tensor([[0.0, math.log(3)], [-math.log(3), 2.0]])
    targets = torch.tensor([[1, 0], [0, -1]], dtype=torch.int8)
    # -log(1/2), -log(1 - 3/4), -log(1 - 1/4); the unknown one is no part of the mean
    expected = torch.tensor([[math.log(2), math.log(4)], [math.log(4 / 3), 0.0]])
    assert torch.allclose(bce(logits, targets), expected)
    assert torch.isclose(mean_known(bce(logits, targets), targets), expected.sum() / 3)


def test_asymmetric_by_hand():
    # p = 3/4. A positive: (1/4) * -log(3/4). A negative: p lowered to .7, so .7^4 * -log(.3). p = 1/2 lowered to .45.
    logits = torch.tensor([[math.log(3), math.log(3), 0.0]])
    expected = [0.25 * math.log(4 / 3), 0.7**4 * -math.log(0.3), 0.45**4 * -math.log(0.55)]
    got = asymmetric(logits, torch.tensor([[1, 0, 0]], dtype=torch.int8))
    assert torch.allclose(got, torch.tensor([expected]), rtol=1e-5)
    # A negative with p below the margin costs nothing at all.
    assert asymmetric(torch.tensor([[-4.0]]), torch.tensor([[0]])) == 0


@pytest.mark.parametrize("seed", range(5))
def test_against_timm(seed):
    from timm.loss import AsymmetricLossMultiLabel

    torch.manual_seed(seed)
    logits, targets = 3 * torch.randn(16, 7), torch.randint(0, 2, (16, 7))
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    mine, other = asymmetric(ours, targets), AsymmetricLossMultiLabel(reduction="none")(theirs, targets.float())
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    mine.sum().backward()
    other.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_labels_have_no_gradient_whatever_the_logit(name):
    logits = torch.tensor([[5.0, float("inf"), -float("inf")], [1.0, 2.0, 3.0]], requires_grad=True)
    targets = torch.tensor([[1, -1, -1], [0, 1, -1]], dtype=torch.int8)
    each = LOSSES[name](logits, targets)
    each.sum().backward()
    assert (each[targets < 0] == 0).all() and (logits.grad[targets < 0] == 0).all()
    assert (logits.grad[targets >= 0] != 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_huge_logits_give_finite_losses_and_gradients(name):
    logits = torch.tensor([[-1e4, 1e4, 80.0], [1e4, -1e4, -80.0]], requires_grad=True)
    each = LOSSES[name](logits, torch.tensor([[1, 0, 0], [1, 0, 1]], dtype=torch.int8))
    each.sum().backward()
    assert each.isfinite().all() and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_known_is_zero_loss(name):
    logits, targets = torch.randn(2, 3, requires_grad=True), torch.full((2, 3), -1, dtype=torch.int8)
    loss = mean_known(LOSSES[name](logits, targets), targets)
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_positive_weights_are_negatives_to_a_positive_capped_and_of_known_labels():
    y = torch.tensor(np.array([[1, 1, 0, 0, -1], [0, 1, 0, 0, 1], [0, 1, 0, 1, 0], [0, -1, 0, 0, 0]]), dtype=torch.int8)
    assert positive_weights(y, 2.5).tolist() == [2.5, 1.0, 2.5, 2.5, 2.0]
    assert positive_weights(y, 50).tolist() == [3.0, 1.0, 50.0, 3.0, 2.0]
    logits = torch.zeros(4, 5)
    weighted, plain = make_loss("bce", y, 50)(logits, y), make_loss("bce", y)(logits, y)
    ratio = torch.where(y == 1, torch.tensor([3.0, 1, 50, 3, 2]), torch.where(y == 0, 1.0, 0.0))
    torch.testing.assert_close(weighted, math.log(2) * ratio)
    torch.testing.assert_close(plain, math.log(2) * (y >= 0))
    assert make_loss("asl", y) is asymmetric
