"""The small networks on top of a backbone; they are thrown away when the backbone is released."""

from torch import nn


def projector(features: int, hidden: int, out: int) -> nn.Sequential:
    """Linear - ReLU - Linear, [N, features] -> [N, out]; the contrastive loss lives at its end."""
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
