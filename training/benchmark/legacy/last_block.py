"""A network cut before its last block: what goes in is computed once, and the block is trained with a head."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from usbackbones.features.extract import embed


def into_last_block(model: nn.Module, frames: np.ndarray) -> Tensor:
    """What the last block of a ResNet or ViT is given, float [N, C, h, w] or [N, tokens, C], of uint8 [N, H, W]."""
    rows: list[Tensor] = []
    hook = last_block(model).register_forward_pre_hook(lambda _, given: rows.append(given[0].float().cpu().clone()))
    try:
        embed(model, frames)
    finally:
        hook.remove()
    return torch.cat(rows)


def last_block(model: nn.Module) -> nn.Module:
    """The last residual block of a timm ResNet, or the last block of a ViT.

    Raises:
        ValueError: if the model is neither.
    """
    network: Any = model
    for stage in ("layer4", "blocks"):
        if isinstance(getattr(model, stage, None), nn.Sequential):
            return getattr(network, stage)[-1]
    raise ValueError(f"{type(model).__name__} has no last block that is known: train its head alone, --train head")


class Tail(nn.Module):
    """The last block, what follows it, and a linear layer that is drawn from the seed."""

    def __init__(self, model: nn.Module, classes: int, seed: int = 0) -> None:
        super().__init__()
        network: Any = model
        self.block = copy.deepcopy(last_block(model))
        self.norm = copy.deepcopy(network.norm) if hasattr(network, "blocks") else nn.Identity()
        self.pool = network.forward_head  # a method: the network itself is no part of this module, and stays as it is
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(network.num_features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes]."""
        return self.head(self.pool(self.norm(self.block(x)), pre_logits=True))
