"""Every method on a ResNet and on a ViT: short clips, odd batches, and eight clips that it must overfit."""

from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from tests.training.small import drawn, opened, scenes, small_backbone, small_batch
from training.data.batches.batch import Batch
from training.data.views.augment import Augment
from training.methods.awcl import AWCL
from training.methods.clip_pair import ClipPair
from training.methods.hico import HiCo
from training.methods.ivpp import IVPP
from training.methods.meta_uscl import MetaUSCL
from training.methods.simclr import SimCLR
from training.methods.uscl import USCL

METHODS = {
    "simclr": SimCLR(),
    "clip_pair": ClipPair(),
    "ivpp": IVPP(),
    "uscl": USCL(),
    "meta_uscl": MetaUSCL(),
    "hico": HiCo(),
    "awcl": AWCL(),
}
ARCHS = ["resnet18", "vit_tiny_patch16_224"]
EVERY = [(name, arch) for name in METHODS for arch in ARCHS]
HIERARCHICAL = [(name, arch) for name in METHODS for arch in ("swin_tiny_patch4_window7_224", "convnext_atto")]


def mostly_slow(pairs, quick):
    """The pairs of a method and an architecture; all but those that are `quick` run in the slow line alone."""
    return [pytest.param(*pair, marks=() if quick(*pair) else pytest.mark.slow) for pair in pairs]


@lru_cache(maxsize=1)
def net_of(name, arch):
    """A method's network; tests neither step its optimizer nor change it otherwise."""
    return opened(METHODS[name].build(small_backbone(arch), classes=2))


def step_on(net, batch):
    """One step without the optimiser's: the losses, with gradients left on the parameters."""
    net.zero_grad()
    return net.step(batch, nullcontext, torch.optim.SGD(net.learner().parameters(), 0.1))


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_short_clips_give_pairs(name, frames):
    method = METHODS[name]
    clip = np.random.default_rng(0).integers(0, 256, (frames, 40, 40), dtype=np.uint8)
    rng, augment = np.random.default_rng(0), Augment(size=32)
    pairs = [drawn(method, clip, augment, rng)]
    if isinstance(method, MetaUSCL):
        pairs.append(method.meta_views(clip, augment, rng))
    for views in pairs:
        assert views.shape == (2, 32, 32) and views.dtype == np.float32
        assert views.min() >= 0 and views.max() <= 255


@pytest.mark.parametrize(("name", "arch"), EVERY + mostly_slow(HIERARCHICAL, lambda name, _: name in ("uscl", "hico")))
def test_every_parameter_learns_and_the_backbone_runs_once_a_view(name, arch):
    net, passes = net_of(name, arch), []
    meta = net.looks_ahead and arch in ARCHS  # the others have operators without forward mode
    first = next(module for module in net.backbone.modules() if isinstance(module, torch.nn.Conv2d))
    hook = first.register_forward_hook(lambda *_: passes.append(1))
    step_on(net, small_batch(meta=4 if meta else 0))
    hook.remove()
    assert len(passes) == 2 + 4 * meta  # and once a meta view, and once a view in forward mode
    learns = net if meta else net.learner()
    assert not [key for key, p in learns.named_parameters() if p.grad is None or not p.grad.abs().any()]


ODD_BATCHES = {
    "unlabelled": small_batch(labels=(-1, -1, -1, -1), meta=4),
    "one pair": small_batch(count=1, meta=4),
    "one pair, one meta pair": small_batch(count=1, meta=1),
    "all labels equal": small_batch(labels=(1, 1, 1, 1), meta=4),
    "one label": small_batch(labels=(-1, 1, -1, -1), meta=4),
    "constant image": replace(small_batch(), views=torch.zeros(2, 4, 1, 64, 64), meta=torch.zeros(2, 4, 1, 64, 64)),
}


@pytest.mark.parametrize("odd", ODD_BATCHES)
@pytest.mark.parametrize(("name", "arch"), mostly_slow(EVERY, lambda _, arch: arch == "resnet18"))
def test_odd_batches_have_finite_losses_and_gradients(name, arch, odd):
    net = net_of(name, arch)
    losses = step_on(net, ODD_BATCHES[odd])
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(p).all() for p in net.parameters())
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
    if odd.startswith("one pair") and name in ("simclr", "clip_pair", "ivpp", "awcl", "meta_uscl"):
        assert losses["loss"].abs() < 1e-6  # no negatives, nothing to learn


@pytest.mark.parametrize(
    ("name", "arch"), mostly_slow(EVERY, lambda name, arch: arch == "resnet18" and name in ("uscl", "hico", "awcl"))
)
def test_it_overfits_eight_clips(name, arch):
    rng, augment = np.random.default_rng(0), Augment(size=32, flip=0, brightness=0.1, contrast=0.1)
    method = replace(METHODS[name], temperature=0.5)

    def normalised(pairs):
        return (torch.from_numpy(np.stack(pairs, 1)).unsqueeze(2) / 255 - 0.5) / 0.25

    clips, anatomy = scenes(12), torch.arange(8) // 2
    batch = Batch(
        normalised([drawn(method, clip, augment, rng) for clip in clips[:8]]),
        torch.arange(8) % 2,
        torch.arange(8),
        anatomy=torch.stack([anatomy, anatomy]),
    )
    meta = torch.empty(0)
    if isinstance(method, MetaUSCL):
        meta = normalised([method.meta_views(clip, augment, rng) for clip in clips[8:]])
    net = method.build(small_backbone(arch, size=32), classes=2)
    optimizer = torch.optim.AdamW(net.learner().parameters(), 1e-3, fused=True)
    seen = []
    for step in range(24 if name == "hico" else 15):
        batch.meta = meta if step % 5 == 0 else torch.empty(0)
        optimizer.zero_grad()
        losses = net.step(batch, nullcontext, optimizer)
        optimizer.step()
        seen.append({name: float(value.detach()) for name, value in losses.items()})
    # Eight pairs, or four classes of four views, spread as far apart as they can be, at similarity -1/7 or -1/3.
    floor = np.log(np.exp(2) + 14 * np.exp(-2 / 7)) - 2
    if name == "awcl":
        floor = np.log(3 * np.exp(2) + 12 * np.exp(-2 / 3)) - 2
    if name == "hico":  # three levels and four crossings, each of weight a half, and the entropy of softened labels
        floor = 3.5 * floor + 0.2 * 2 * -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    if name == "uscl":
        assert seen[-1]["label"] < 0.3 * seen[0]["label"]
    key = "contrast" if "contrast" in seen[0] and name != "hico" else "loss"
    assert seen[0][key] > 1.3 * floor and seen[-1][key] < 1.12 * floor
