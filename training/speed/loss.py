"""NT-Xent, forward and backward, on the same embeddings: ours, and lightly's (`pip install lightly`)."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from training.nn.contrastive_loss import nt_xent

WIDTH = 256
TEMPERATURE = 0.5
Loss = Callable[[Tensor, Tensor], Tensor]


def ours(first: Tensor, second: Tensor) -> Tensor:
    """The mean over the anchors, dense or streamed as the size asks for."""
    return nt_xent(first, second, TEMPERATURE).mean()


@functools.cache
def _lightly() -> Loss:
    from lightly.loss import NTXentLoss

    return NTXentLoss(TEMPERATURE)


def lightly(first: Tensor, second: Tensor) -> Tensor:
    """The mean over the anchors, as lightly computes it."""
    return _lightly()(first, second)


def embeddings(pairs: int) -> tuple[Tensor, Tensor]:
    """Two views [pairs, WIDTH], leaves that want a gradient, the same in every process."""
    generator = torch.Generator().manual_seed(pairs)
    first, second = torch.randn(2, pairs, WIDTH, generator=generator)
    return first.requires_grad_(), second.requires_grad_()


def step(loss: Loss, first: Tensor, second: Tensor) -> float:
    """One forward and backward; the loss."""
    first.grad = second.grad = None
    value = loss(first, second)
    value.backward()
    return value.item()
