"""Small networks and batches that the tests of the methods share, and NT-Xent as the loops it stands for."""

import numpy as np
import timm
import torch

from training.data.batches.batch import Batch, InformedPairs, Known

SMALL_ARGS = {
    "vit_tiny_patch16_224": {"patch_size": 16, "depth": 6, "global_pool": "avg"},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)},
}


def small_backbone(arch="resnet18", size=64):
    torch.manual_seed(0)
    args = SMALL_ARGS.get(arch, {}) | ({"img_size": size} if arch in SMALL_ARGS else {})
    return timm.create_model(arch, num_classes=0, in_chans=1, **args)


def opened(net):
    """The network with its residual branches open; timm starts them at zero, which hides them from one step."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    return net


def small_batch(count=4, size=64, labels=(0, 1, -1, 1), dtype=torch.float32, meta=0):
    generator = torch.Generator().manual_seed(1)
    views, held = (
        torch.randn(2, clips, 1, size, size, generator=generator, dtype=dtype) for clips in (count, max(meta, 1))
    )
    known = torch.tensor(labels[:count])
    anatomy = torch.stack([known, known])
    return Batch(views, known, torch.arange(count), anatomy=anatomy, meta=held if meta else torch.empty(0))


def drawn(method, clip, augment, rng, known=None):
    """The views of a clip, in the way in which the loader asks the method for them."""
    if isinstance(method, InformedPairs):
        return method.informed_views(clip, known or Known(), augment, rng)[0]
    return method.views(clip, augment, rng)


def scenes(count):
    """Clips uint8 [count, 6, 36, 36] that look unlike one another, of six noisy frames each."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(rng.integers(40, 200, (count, 1, 6, 6)), 12, (count, 6, 6, 6)).clip(0, 255)
    return coarse.astype(np.uint8).repeat(6, 2).repeat(6, 3)


def slow_nt_xent(first, second, temperature):
    """NT-Xent per anchor, [2N], an anchor and a key at a time; differentiable."""
    z = torch.cat([first, second])
    z = z / z.norm(dim=1, keepdim=True)
    losses = []
    for i in range(len(z)):
        similar = torch.stack([z[i] @ z[k] for k in range(len(z)) if k != i]) / temperature
        positive = z[i] @ z[(i + len(first)) % len(z)] / temperature
        losses.append(-torch.log(positive.exp() / similar.exp().sum()))
    return torch.stack(losses)
