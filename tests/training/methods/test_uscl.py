"""USCL's pairs and its loss against slow forms, and the cases that broke the original."""

import numpy as np
import pytest
import torch

from tests.training.small import slow_nt_xent, small_backbone, small_batch
from training.data.views.augment import Augment
from training.methods.uscl import USCL

SMALL = Augment(size=32)
CLIP = np.random.default_rng(0).integers(0, 256, (10, 40, 40), dtype=np.uint8)


class Recorder:
    """An augmentation that remembers what it returned."""

    def __init__(self):
        self.made = []

    def __call__(self, frame, rng):
        self.made.append(SMALL(frame, rng))
        return self.made[-1]


@pytest.mark.parametrize("lam", ["shared", "independent"])
def test_a_pair_is_two_mixtures_with_a_common_anchor(lam):
    for seed in range(20):
        augment = Recorder()
        first, second = USCL(lam=lam).views(CLIP, augment, np.random.default_rng(seed))
        start, anchor, end = (view.astype(np.float64) for view in augment.made)

        def coefficient(view, end_frame, anchor=anchor):
            difference = (end_frame - anchor).ravel()
            return (view - anchor).ravel() @ difference / (difference @ difference)

        lam1, lam2 = coefficient(first, start), coefficient(second, end)
        np.testing.assert_allclose(first, lam1 * start + (1 - lam1) * anchor, atol=1e-3)
        np.testing.assert_allclose(second, lam2 * end + (1 - lam2) * anchor, atol=1e-3)
        assert -1e-6 <= lam1 <= 1 + 1e-6 and -1e-6 <= lam2 <= 1 + 1e-6
        assert (abs(lam1 - lam2) < 1e-5) == (lam == "shared")


@pytest.mark.parametrize(("beta", "tail"), [(0.5, 0.144), (2.0, 0.00725)])
def test_coefficients_follow_the_beta_distribution(beta, tail):
    """Beta(1/2, 1/2) has 14.4 % below 0.05, which is why shared ones make so many pairs nearly identical."""
    rng, coefficients = np.random.default_rng(0), []
    for _ in range(4000):
        made = iter((0, 0, 1) if rng.random() < 0.5 else (1, 0, 0))  # one end lit, the anchor and the other dark
        views = USCL(beta=beta).views(CLIP, lambda frame, _, made=made: np.full((1, 1), next(made), np.uint8), rng)
        coefficients.append(views.max())
    assert abs(np.mean(coefficients) - 0.5) < 0.03
    assert abs(np.mean(np.array(coefficients) < 0.05) - tail) < 0.02


def test_the_three_frames_differ_and_come_in_any_order():
    constant = np.repeat(np.arange(10, dtype=np.uint8)[:, None, None], 4, axis=1).repeat(4, axis=2) * 20
    plain = Augment(size=4, area=(1, 1), aspect=(1, 1), jitter=0)
    orders = set()
    for seed in range(200):
        made = []
        USCL().views(
            constant, lambda f, r, made=made: made.append(plain(f, r)) or made[-1], np.random.default_rng(seed)
        )
        frames = tuple(int(view[0, 0]) for view in made)
        assert len(set(frames)) == 3
        orders.add(tuple(np.argsort(frames)))
    assert len(orders) == 6


def test_two_frames_are_the_two_views():
    clip = np.stack([np.full((8, 8), 10, np.uint8), np.full((8, 8), 200, np.uint8)])
    plain = Augment(size=8, jitter=0)
    views = USCL().views(clip, plain, np.random.default_rng(3))
    assert sorted(view[0, 0] for view in views) == [10, 200]


def slow_cross_entropy(logits, labels):
    """Mean over the labelled rows, one at a time."""
    terms = [
        -torch.log(row[y].exp() / row.exp().sum()) for row, y in zip(logits, labels.tolist(), strict=True) if y >= 0
    ]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("classify", ["representation", "projection"])
def test_the_loss_is_the_formula(classify):
    net = USCL(classify=classify, label_weight=0.3).build(small_backbone(), classes=3).double()
    batch = small_batch(dtype=torch.float64)
    representations = [net.backbone(view) for view in batch.views]
    projections = [net.projector(r) for r in representations]
    contrast = slow_nt_xent(*projections, 0.5).mean()
    seen = representations if classify == "representation" else projections
    label = sum(slow_cross_entropy(net.classifier(view), batch.labels) for view in seen)
    losses = net.losses(batch)
    for name, slow in (("contrast", contrast), ("label", label), ("loss", contrast + 0.3 * label)):
        torch.testing.assert_close(losses[name], slow, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("spec", "classes"), [(USCL(), 0), (USCL(label_weight=0), 3)])
def test_without_classes_or_weight_there_is_no_label_term(spec, classes):
    net = spec.build(small_backbone(), classes)
    assert net.classifier is None and net.losses(small_batch()).keys() == {"loss", "contrast"}


def test_an_unlabelled_batch_has_no_label_term():
    net = USCL().build(small_backbone(), classes=3)
    losses = net.losses(small_batch(labels=(-1, -1, -1, -1)))
    losses["loss"].backward()
    assert losses["loss"] == losses["contrast"] and losses["label"] == 0
    assert all(p.grad is None for p in net.classifier.parameters())


def test_concatenated_views_give_the_same_loss_without_batch_statistics():
    batch, net = small_batch(), USCL().build(small_backbone(), classes=3).eval()
    separate = net.losses(batch)["loss"]
    net.forward_views = "concat"
    torch.testing.assert_close(net.losses(batch)["loss"], separate, rtol=1e-4, atol=1e-5)
