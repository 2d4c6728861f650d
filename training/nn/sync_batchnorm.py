"""BatchNorm over the images of all processes, on any device, differentiable backwards and forwards.

Off, each process normalises by the statistics of its own images: cheaper, and nothing passes between processes before
the loss, but the network that is trained depends on how many there are. On, n processes train the network of one
(with forward_views = "separate" a view at a time, with "concat" all views together, as a single process does). With

    m_r, v_r = mean and variance of a channel in process r,    m = mean_r m_r,    v = mean_r (v_r + (m_r - m)**2)

the statistics are those of all images. torch's own SyncBatchNorm needs a GPU and has no forward mode, which the
look-ahead of Meta-USCL takes; this one is made of elementwise operators, so it is slower than the fused kernels.
"""

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.errors import TrainingError
from training.nn.distributed import gather, world_size


def normalize(norm: _BatchNorm, x: Tensor) -> Tensor:
    """[N, C, H, W] by the statistics of all processes, in at least float32; updates the running ones."""
    wide = x if x.dtype.itemsize >= 4 else x.float()
    count = world_size() * x.numel() // x.shape[1]
    means, variances = gather(_statistics(wide)[None]).unbind(1)
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.detach().to(norm.running_mean.dtype), share)
        unbiased = variance.detach() * (count / max(count - 1, 1))
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    out = (wide - mean[:, None, None]) * scale[:, None, None]
    return (out + norm.bias[:, None, None] if norm.affine else out).to(x.dtype)


def _statistics(x: Tensor) -> Tensor:
    """Mean and variance of each channel, [2, C]."""
    mean = x.mean((0, 2, 3))
    return torch.stack([mean, (x - mean[:, None, None]).square().mean((0, 2, 3))])


class SyncBatchNorm2d(nn.BatchNorm2d):
    """torch's, over all processes while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        return normalize(self, x) if self.training else super().forward(x)


class SyncBatchNormAct2d(BatchNormAct2d):
    """timm's norm with its activation, over all processes while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        return self.act(self.drop(normalize(self, x))) if self.training else super().forward(x)


SYNCHRONIZED = {nn.BatchNorm2d: SyncBatchNorm2d, BatchNormAct2d: SyncBatchNormAct2d}


def synchronize(network: nn.Module) -> None:
    """Make every BatchNorm of a network one over all processes; parameters, buffers and names stay.

    Raises:
        TrainingError: if it has a kind of BatchNorm that is not known here.
    """
    for name, module in network.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        kind = SYNCHRONIZED.get(type(module))
        if kind is None:
            raise TrainingError(
                f"{name} is a {type(module).__name__}, whose statistics cannot be shared between processes: "
                "set --no-sync-batchnorm, or choose another --arch"
            )
        module.__class__ = kind
