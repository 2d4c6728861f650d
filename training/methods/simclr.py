"""SimCLR on frames (Chen et al., ICML 2020): the control. Two views of one frame, NT-Xent, nothing of the video."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from training.data.batches.batch import Batch
from training.methods.base import Method, Paper
from training.methods.contrastive import Options, Projected
from training.methods.pairs import FramePair
from training.nn.contrastive_loss import nt_xent


@dataclass(frozen=True)
class SimCLR(FramePair, Options):
    """Two augmentations of one random frame of each clip."""

    name: ClassVar = "simclr"
    paper: ClassVar = Paper("SimCLR (Chen et al., ICML 2020)", "https://arxiv.org/abs/2002.05709")

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; SimCLR has no use for classes."""
        return SimCLRNet(backbone, self)


class SimCLRNet(Projected):
    """Backbone -> projection head -> NT-Xent."""

    def __init__(self, backbone: nn.Module, spec: SimCLR) -> None:
        super().__init__(backbone, spec)
        self.spec = spec

    def anchor_losses(self, views: Tensor) -> Tensor:
        """NT-Xent per anchor [2N] of views [2, N, C, H, W]."""
        _, (first, second) = self(views)
        return nt_xent(first, second, self.spec.temperature)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`."""
        return {"loss": self.anchor_losses(batch.views).mean()}
