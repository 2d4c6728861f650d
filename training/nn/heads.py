"""The small networks on top of a backbone; they are thrown away when the backbone is released."""

import torch
from torch import Tensor, nn


def projector(features: int, hidden: int, out: int) -> nn.Sequential:
    """Linear - ReLU - Linear, [N, features] -> [N, out]; the contrastive loss lives at its end."""
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))


def pooled_projector(channels: int, out: int, rectify: bool) -> nn.Sequential:
    """A map [N, channels, h, w] of any size -> [N, out].

    Args:
        channels: of the map.
        out: width of the embedding, and of the hidden layer.
        rectify: ReLU before the average. A pyramid is linear, so the average of its map would be a linear map of the
            backbone's averages, and the pyramid idle; tokens of a ViT need none.
    """
    average = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(channels)]
    return nn.Sequential(*[nn.ReLU()] * rectify, *average, *projector(channels, out, out))


def flatten_projector(channels: int, side: int, out: int) -> nn.Sequential:
    """A map [N, channels, side, side] -> [N, out], reading every cell; made for this one size of map."""
    return nn.Sequential(nn.Flatten(), *projector(channels * side**2, out, out))


class CMWNet(nn.Module):
    """Contrastive meta weight network: how much a positive pair should count, from its two representations.

    Args:
        features: width D of a representation.
        symmetric: average over both orders of the two views; otherwise the order matters.
    """

    def __init__(self, features: int, symmetric: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * features, 10), nn.ReLU(), nn.Linear(10, 1), nn.Sigmoid())
        self.symmetric = symmetric

    def forward(self, representations: Tensor) -> Tensor:
        """[2, N, D], in the network's own precision -> weights [N] in (0, 1)."""
        representations = representations.to(next(self.layers.parameters()).dtype)
        weights = self.layers(torch.cat([*representations], dim=1))
        if self.symmetric:
            weights = (weights + self.layers(torch.cat([*representations.flip(0)], dim=1))) / 2
        return weights.squeeze(1)
