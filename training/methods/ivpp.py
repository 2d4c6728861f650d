"""IVPP: intra-video positive pairs (VanBerlo et al., Frontiers in Imaging 2024, arXiv 2403.07715), with NT-Xent.

Two frames of a clip are a pair if they are at most D frames apart, and count the more the closer they are:

    i ~ U{0 .. T-1},  j ~ U{max(0, i-D) .. min(T-1, i+D)},  D = floor(max_seconds / seconds per frame)
    w = (D - |i - j| + 1) / (D + 1)
    L = mean over the anchors of w * NT-Xent, w being that of the anchor's pair
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from training.data.augment import Augment
from training.data.sampling import Batch
from training.losses import nt_xent
from training.methods.base import Method, Paper
from training.methods.simclr import SimCLR, SimCLRNet


@dataclass(frozen=True)
class IVPP(SimCLR):
    """SimCLR on two frames that lie close in time, weighted by how close.

    The projector is the one of the other methods here; the original's is wider and has a BatchNorm.

    Attributes:
        temperature: of NT-Xent; the original has 0.1.
        projection: width of the embedding; the original has 768.
        max_seconds: largest time between the two frames, s. A clip that tells no time gives two views of one frame.
        weighted: weigh the pairs; otherwise all weights are 1.
        forward_views: see `Method`.
    """

    name: ClassVar = "ivpp"
    paper: ClassVar = Paper("IVPP (VanBerlo et al., Frontiers in Imaging 2024)", "https://arxiv.org/abs/2403.07715")

    temperature: float = 0.1
    max_seconds: float = 1.5
    weighted: bool = True

    def timed_views(
        self, clip: np.ndarray, seconds_per_frame: float | None, augment: Augment, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """float32 [2, S, S] from a clip uint8 [T, H, W], and the weight of the pair, in (0, 1]."""
        reach = int(self.max_seconds / seconds_per_frame) if seconds_per_frame else 0
        first = int(rng.integers(len(clip)))
        second = int(rng.integers(max(0, first - reach), min(len(clip) - 1, first + reach) + 1))
        views = np.stack([augment(clip[first], rng), augment(clip[second], rng)]).astype(np.float32)
        return views, (reach - abs(first - second) + 1) / (reach + 1) if self.weighted else 1.0

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; IVPP has no use for classes."""
        return IVPPNet(backbone, self)


class IVPPNet(SimCLRNet):
    """Backbone -> projector -> weighted NT-Xent."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`."""
        first, second = self.projector(self.represent(batch.views))
        anchors = nt_xent(first, second, self.spec.temperature)
        return {"loss": (batch.weights.tile(2) * anchors).mean(), "weight": batch.weights.mean()}
