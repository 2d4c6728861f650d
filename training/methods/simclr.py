"""SimCLR on frames (Chen et al., ICML 2020): the control. Two views of one frame, NT-Xent, nothing of the video."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from training.data.views.augment import Augment
from training.methods.base import Method, Paper
from training.methods.contrastive import Contrast, Options
from training.nn.heads import projector


@dataclass(frozen=True)
class SimCLR(Options):
    """Two augmentations of one random frame of each clip."""

    name: ClassVar = "simclr"
    paper: ClassVar = Paper("SimCLR (Chen et al., ICML 2020)", "https://arxiv.org/abs/2002.05709")

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]."""
        frame = clip[rng.integers(len(clip))]
        return np.stack([augment(frame, rng), augment(frame, rng)]).astype(np.float32)

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; SimCLR has no use for classes."""
        return SimCLRNet(backbone, self)


class SimCLRNet(Contrast):
    """Backbone -> projector -> NT-Xent."""

    def __init__(self, backbone: nn.Module, spec: SimCLR) -> None:
        super().__init__(backbone, spec.forward_views)
        self.spec = spec
        self.projector = projector(self.width, self.width, spec.projection)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """[2, N, C, H, W] -> representations [2, N, D], embeddings [2, N, E]."""
        representations = self.represent(views)
        return representations, self.projector(representations)

    def contrast(self, embeddings: Tensor, positives: Tensor | None = None) -> Tensor:
        """See `Contrast.contrast`."""
        first, second = embeddings
        return self.between(first, second, self.spec.temperature, positives)
