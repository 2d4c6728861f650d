"""The contrastive loss against its slow obvious form, in float64."""

import math

import pytest
import torch

from training.losses import contrastive, labelled_cross_entropy, nt_xent


def slow_contrastive(z, positives, temperature):
    """The formula of training.losses, written as the loops it stands for."""
    count, losses = len(z), []
    for i in range(count):
        similar = [float((z[i] @ z[k] / (z[i].norm() * z[k].norm())).detach()) / temperature for k in range(count)]
        total = sum(math.exp(similar[k]) for k in range(count) if k != i)
        mine = [p for p in range(count) if positives[i, p] and p != i]
        losses.append(-sum(math.log(math.exp(similar[p]) / total) for p in mine) / len(mine) if mine else 0.0)
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_the_two_view_formula(count, temperature):
    first, second = torch.randn(2, count, 5, dtype=torch.float64)
    other_view = torch.zeros(2 * count, 2 * count, dtype=torch.bool)
    for i in range(count):
        other_view[i, i + count] = other_view[i + count, i] = True
    slow = slow_contrastive(torch.cat([first, second]), other_view, temperature)
    torch.testing.assert_close(nt_xent(first, second, temperature), slow, rtol=1e-10, atol=1e-12)


def test_any_mask_of_positives():
    z = torch.randn(9, 4, dtype=torch.float64)
    positives = torch.rand(9, 9) < 0.3
    positives[4] = False
    fast = contrastive(z, positives, 0.2)
    torch.testing.assert_close(fast, slow_contrastive(z, positives, 0.2), rtol=1e-10, atol=1e-12)
    assert fast[4] == 0


def test_identical_orthogonal_pairs_have_the_known_loss():
    z = torch.eye(4, dtype=torch.float64)  # each pair alike, all else at similarity 0
    expected = math.log(math.exp(2) + 6) - 2
    torch.testing.assert_close(nt_xent(z, z, 0.5), torch.full((8,), expected, dtype=torch.float64))


def test_gradient():
    first, second = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), (first, second))


def test_low_precision_input_is_computed_in_float32():
    z = torch.randn(2, 6, 8)
    half = nt_xent(*z.bfloat16(), 0.5)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, nt_xent(*z.bfloat16().float(), 0.5))


def test_labels_average_over_the_labelled_only():
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, -1, 2, -1, 1])
    kept = [0, 2, 4]
    slow = sum(-torch.log_softmax(logits[i], 0)[labels[i]] for i in kept) / 3
    torch.testing.assert_close(labelled_cross_entropy(logits, labels).double(), slow, rtol=1e-6, atol=0)


def test_without_labels_the_term_is_zero_and_not_nan():
    assert labelled_cross_entropy(torch.randn(4, 3), torch.full((4,), -1)) == 0
