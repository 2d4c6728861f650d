"""USCL's pairs and its loss against slow forms, and the cases that broke the original."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

from tests.training.test_losses import slow_contrastive
from training.data.augment import Augment
from training.data.sampling import Batch
from training.methods.simclr import SimCLR
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


def backbone(arch="resnet18"):
    torch.manual_seed(0)
    args = {"img_size": 32, "patch_size": 8, "global_pool": "avg"} if arch.startswith("vit") else {}
    return timm.create_model(arch, num_classes=0, in_chans=1, **args)


def random_batch(count=4, labels=(0, 1, -1, 2), dtype=torch.float32):
    torch.manual_seed(1)
    return Batch(torch.randn(2, count, 1, 32, 32, dtype=dtype), torch.tensor(labels[:count]), torch.arange(count))


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


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("method", [USCL(), SimCLR()])
def test_short_clips_give_a_pair(method, frames):
    views = method.views(CLIP[:frames], SMALL, np.random.default_rng(0))
    assert views.shape == (2, 32, 32) and views.dtype == np.float32
    assert views.min() >= 0 and views.max() <= 255


def test_two_frames_are_the_two_views():
    clip = np.stack([np.full((8, 8), 10, np.uint8), np.full((8, 8), 200, np.uint8)])
    plain = Augment(size=8, jitter=0)
    views = USCL().views(clip, plain, np.random.default_rng(3))
    assert sorted(view[0, 0] for view in views) == [10, 200]


@pytest.mark.parametrize("classify", ["representation", "projection"])
def test_the_loss_is_the_formula(classify):
    net = USCL(classify=classify, label_weight=0.3).build(backbone(), classes=3).double()
    batch = random_batch(dtype=torch.float64)
    losses = net.losses(batch)
    first, second = (net.backbone(view) for view in batch.views)
    z = [net.projector(r) for r in (first, second)]
    positives = torch.eye(4, dtype=torch.bool).tile(2, 2)
    expected = slow_contrastive(torch.cat(z), positives, 0.5).mean()
    known = [0, 1, 3]
    for r, p in zip((first, second), z, strict=True):
        logits = net.classifier(r if classify == "representation" else p)
        expected = expected + 0.3 * F.cross_entropy(logits[known].float(), batch.labels[known])
    torch.testing.assert_close(losses["loss"].double(), expected.double(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("method", [USCL(), SimCLR()])
def test_every_parameter_learns_and_the_backbone_runs_once_a_view(arch, method):
    net = method.build(backbone(arch), classes=3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm starts residual branches at zero, which hides them from one step
    passes = []
    net.backbone.register_forward_hook(lambda *_: passes.append(1))
    net.losses(random_batch())["loss"].backward()
    assert len(passes) == 2
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert not silent


def test_an_unlabelled_batch_has_a_finite_loss():
    net = USCL().build(backbone(), classes=3)
    losses = net.losses(random_batch(labels=(-1, -1, -1, -1)))
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"]) and losses["label"] == 0
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_concatenated_views_give_the_same_loss_without_batch_statistics():
    batch, net = random_batch(), USCL().build(backbone(), classes=3).eval()
    separate = net.losses(batch)["loss"]
    net.forward_views = "concat"
    torch.testing.assert_close(net.losses(batch)["loss"], separate, rtol=1e-4, atol=1e-5)


def test_it_overfits_eight_clips():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    clips = [np.clip(rng.normal(rng.integers(40, 200, (1, 6, 6)), 12, (6, 6, 6)), 0, 255) for _ in range(8)]
    clips = [c.astype(np.uint8).repeat(6, 1).repeat(6, 2) for c in clips]
    mild = replace(SMALL, flip=0, brightness=0.1, contrast=0.1)
    net = USCL().build(backbone(), classes=0)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    seen = []
    for step in range(100):
        views = np.stack([USCL().views(c, mild, np.random.default_rng([step, i])) for i, c in enumerate(clips)], 1)
        batch = Batch((torch.from_numpy(views).unsqueeze(2) / 255 - 0.5) / 0.25, torch.full((8,), -1), torch.arange(8))
        loss = net.losses(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(loss.detach()))
    floor = float(np.log(np.exp(2) + 14 * np.exp(2 * -1 / 7)) - 2)  # eight pairs spread as far apart as they can be
    assert np.mean(seen[:3]) > 2.0 and np.mean(seen[-5:]) < floor + 0.35
