"""Networks before any training, by one rule for every place that compares a weight with them."""

from typing import Any

import timm
import torch
from torch import nn

RANDOM = "random:"
"""What the name of an untrained network begins with, as in random:resnet18."""
PLAIN_MEAN, PLAIN_STD = (0.5,) * 3, (0.25,) * 3
"""How gray levels reach a network that has no weights to say so."""


def untrained(arch: str, seed: int = 0, **arguments: Any) -> nn.Module:
    """A network of seeded random weights; the caller's generator is left as it was.

    timm starts a ResNet with every residual branch scaled by zero, which leaves little more than its stem and is easy
    to beat. Here such norms are set to one, so that the whole untrained network takes part.

    Args:
        arch: timm's name.
        seed: of the weights.
        arguments: of `timm.create_model`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = timm.create_model(arch, pretrained=False, num_classes=0, **arguments)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
    return network
