"""SimCLR on frames (Chen et al., ICML 2020): the control. Two views of one frame, NT-Xent, nothing of the video."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from training.data.augment import Augment
from training.data.sampling import Batch
from training.heads import projector
from training.losses import nt_xent
from training.methods.base import Method, Paper


@dataclass(frozen=True)
class SimCLR:
    """Two augmentations of one random frame of each clip.

    Attributes:
        temperature: of NT-Xent.
        projection: width of the embedding.
        forward_views: see `Method`.
    """

    name: ClassVar = "simclr"
    paper: ClassVar = Paper("SimCLR (Chen et al., ICML 2020)", "https://arxiv.org/abs/2002.05709")

    temperature: float = 0.5
    projection: int = 256
    forward_views: Literal["separate", "concat"] = "separate"

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]."""
        frame = clip[rng.integers(len(clip))]
        return np.stack([augment(frame, rng), augment(frame, rng)]).astype(np.float32)

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; SimCLR has no use for classes."""
        return SimCLRNet(backbone, self)


class SimCLRNet(Method):
    """Backbone -> projector -> NT-Xent."""

    def __init__(self, backbone: nn.Module, spec: SimCLR) -> None:
        super().__init__(backbone, spec.forward_views)
        self.spec = spec
        self.projector = projector(self.width, self.width, spec.projection)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`."""
        first, second = self.projector(self.represent(batch.views))
        return {"loss": nt_xent(first, second, self.spec.temperature).mean()}
