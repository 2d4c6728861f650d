"""The contrastive loss against its slow obvious form, in float64."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from training.nn.contrastive_loss import (
    STREAM_ABOVE,
    STRIP,
    contrastive,
    labeled_cross_entropy,
    nt_xent,
    other_view,
    same_class,
    weighted_mean,
)


def slow_contrastive(z, positives, temperature):
    """The formula of training.nn.contrastive_loss, written as the loops it stands for."""
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


def pairs_of(count, width=5, **kwargs):
    return torch.randn(2, count, width, **kwargs).requires_grad_()


def test_nt_xent_is_the_masked_loss_whose_positives_are_the_other_views():
    z = pairs_of(6, dtype=torch.float64)
    torch.testing.assert_close(
        nt_xent(*z, 0.3), contrastive(z.flatten(0, 1), other_view(6), 0.3), rtol=1e-10, atol=1e-12
    )


def test_other_views_of_three():
    expected = torch.tensor([[True, False] * 3, [False, True] * 3] * 3)
    assert torch.equal(other_view(2, views=3), expected)


def test_classes_as_positives_and_the_unknown_match_nothing():
    z, labels = torch.randn(7, 4, dtype=torch.float64), torch.tensor([0, 1, -1, 0, -1, 1, 0])
    by_hand = torch.tensor([[a == b and a >= 0 for b in labels.tolist()] for a in labels.tolist()])
    assert torch.equal(same_class(labels), by_hand)
    losses = contrastive(z, same_class(labels), 0.2)
    torch.testing.assert_close(losses, slow_contrastive(z, by_hand, 0.2), rtol=1e-10, atol=1e-12)
    assert torch.equal(losses == 0, labels < 0)


def test_gradient_second_and_forward_derivatives_of_the_dense_form():
    z = pairs_of(4, 3, dtype=torch.float64)
    positives = torch.rand(8, 8) < 0.4
    for loss in (lambda z: nt_xent(*z, 0.5), lambda z: contrastive(z.flatten(0, 1), positives, 0.5)):
        assert torch.autograd.gradcheck(loss, z, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(loss, z)


def value_and_gradient(loss, z, anchor_weights):
    losses = loss(z)
    (gradient,) = torch.autograd.grad((losses * anchor_weights).sum(), z)
    return losses.detach(), gradient


@pytest.mark.parametrize("count", [1, 3, STRIP // 2, STRIP + 1, 2 * STRIP + 11])
@pytest.mark.parametrize("temperature", [0.5, 0.07, 0.005])
def test_streamed_is_the_dense_form(count, temperature):
    z, weights = pairs_of(count, dtype=torch.float64), torch.rand(2 * count, dtype=torch.float64)
    positives = torch.rand(2 * count, 2 * count) < 0.1
    for loss in (
        lambda z, streamed: nt_xent(*z, temperature, streamed),
        lambda z, streamed: contrastive(z.flatten(0, 1), positives, temperature, streamed),
    ):
        dense = value_and_gradient(lambda z, loss=loss: loss(z, False), z, weights)
        streamed = value_and_gradient(lambda z, loss=loss: loss(z, True), z, weights)
        torch.testing.assert_close(streamed, dense, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("temperature", [0.5, 0.05, 0.01])
def test_streamed_in_float32_is_as_good_as_dense(temperature):
    z, weights = torch.randn(2, 300, 16), torch.rand(600)
    z[1, :10] = z[0, :10]  # exp(1 / temperature) itself, which float32 does not hold for the lowest
    z.requires_grad_()
    exact = value_and_gradient(lambda z: nt_xent(*z.double(), temperature, False), z, weights)
    for streamed in (False, True):
        found = value_and_gradient(lambda z, s=streamed: nt_xent(*z, temperature, s), z, weights)
        assert found[0].dtype == found[1].dtype == torch.float32
        for value, truth in zip(found, exact, strict=True):
            assert (value - truth).norm() < 2e-6 * truth.norm()


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor that any operator gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("pairs_above", [0, 1])
def test_a_large_batch_is_streamed_by_itself(pairs_above):
    z = pairs_of(math.isqrt(STREAM_ABOVE) // 2 + pairs_above, 2)
    with LargestTensor() as largest:
        nt_xent(*z, 0.5).sum().backward()
    views = 2 * z.shape[1]
    assert largest.elements == (STRIP * views if pairs_above else views**2)


def test_a_streamed_loss_has_no_second_derivative_and_says_so():
    z = pairs_of(4)
    with pytest.raises(RuntimeError, match=r"no second derivative.*streamed=False"):
        torch.autograd.grad(nt_xent(*z, 0.5, streamed=True).sum(), z, create_graph=True)
    with pytest.raises(NotImplementedError), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(z.detach(), torch.ones_like(z))
        nt_xent(*dual, 0.5, streamed=True)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "z", [torch.ones(2, 3, 4), torch.zeros(2, 3, 4), torch.randn(2, 1, 4)], ids=["constant", "zero", "one pair"]
)
def test_degenerate_batches_have_finite_losses_and_gradients(z, streamed):
    z.requires_grad_()
    z.grad = None
    losses = nt_xent(*z, 0.1, streamed)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert z.grad.isfinite().all()
    if z.shape[1] == 1:  # a pair without negatives has nothing to learn
        assert losses.abs().max() < 1e-5
        assert z.grad.abs().max() < 1e-5


def test_low_precision_input_is_computed_in_float32():
    z = torch.randn(2, 6, 8)
    half = nt_xent(*z.bfloat16(), 0.5)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, nt_xent(*z.bfloat16().float(), 0.5))


@pytest.mark.parametrize("streamed", [False, True])
def test_autocast_changes_nothing(streamed):
    z, weights, positives = pairs_of(6, 8), torch.rand(12), other_view(6)
    for loss in (
        lambda z: nt_xent(*z, 0.1, streamed),
        lambda z: contrastive(z.flatten(0, 1), positives, 0.1, streamed),
    ):
        plain = value_and_gradient(loss, z, weights)
        with torch.autocast("cpu", torch.bfloat16):
            losses = loss(z)
        (gradient,) = torch.autograd.grad((losses * weights).sum(), z)
        assert torch.equal(losses, plain[0])
        assert torch.equal(gradient, plain[1])


def test_weighted_mean_of_pairs_and_of_anchors():
    losses, weights = torch.rand(8, dtype=torch.float64), torch.rand(4, dtype=torch.float64, requires_grad=True)
    slow = sum(weights[i % 4] * losses[i] for i in range(8)) / sum(weights[i % 4] for i in range(8))
    for given in (weights, weights.repeat(2)):
        torch.testing.assert_close(weighted_mean(losses, given), slow)
    assert torch.autograd.gradcheck(lambda w: weighted_mean(losses, w), weights)
    torch.testing.assert_close(weighted_mean(losses, torch.full((4,), 0.3)), losses.mean())
    assert weighted_mean(losses, torch.zeros(4)) == 0


@pytest.mark.parametrize("temperature", [0, -0.1])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=rf"temperature is {temperature}"):
        nt_xent(*pairs_of(3), temperature)


def test_a_temperature_too_low_to_stream_is_refused_with_the_remedy():
    z = pairs_of(3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"temperature is 0\.001;.* streamed=False"):
        nt_xent(*z, 0.001, streamed=True)
    assert nt_xent(*z, 0.001).isfinite().all()


def test_a_mask_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \[3, 3\]; 6 views on each of 1 processes need \[6, 6\]"):
        contrastive(torch.randn(6, 4), torch.ones(3, 3, dtype=torch.bool), 0.5)


def test_labels_average_over_the_labelled_only():
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, -1, 2, -1, 1])
    kept = [0, 2, 4]
    slow = sum(-torch.log_softmax(logits[i], 0)[labels[i]] for i in kept) / 3
    torch.testing.assert_close(labeled_cross_entropy(logits, labels), slow, rtol=1e-12, atol=0)


def test_without_labels_the_term_is_zero_and_not_nan():
    assert labeled_cross_entropy(torch.randn(4, 3), torch.full((4,), -1)) == 0
