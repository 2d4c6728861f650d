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

from training.data.batches.at_once import Draws, seen_at_once
from training.data.batches.batch import Batch, Known
from training.data.views.augment import Augment
from training.methods.base import Method, Paper
from training.methods.simclr import SimCLR, SimCLRNet


@dataclass(frozen=True)
class IVPP(SimCLR):
    """SimCLR on two frames that lie close in time, weighted by how close.

    The temperature is the original's. The projection head is that of the other methods here; the original's is 768 wide
    and has a BatchNorm.

    Attributes:
        max_seconds: largest time between the two frames, s. A clip of unknown frame rate gives two views of one frame.
        weighted: weigh the pairs; otherwise all weights are 1.
    """

    name: ClassVar = "ivpp"
    paper: ClassVar = Paper("IVPP (VanBerlo et al., Frontiers in Imaging 2024)", "https://arxiv.org/abs/2403.07715")

    temperature: float = 0.1
    max_seconds: float = 1.5
    weighted: bool = True

    def informed_views(
        self, clip: np.ndarray, known: Known, augment: Augment, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """float32 [2, S, S] from a clip uint8 [T, H, W], and the weight of the pair, in (0, 1]."""
        # A hair more, since 0.3 s are three frames of 0.1 s and 0.3 / 0.1 is below 3.
        reach = int(self.max_seconds / known.seconds_per_frame + 1e-6) if known.seconds_per_frame else 0
        first = int(rng.integers(len(clip)))
        second = int(rng.integers(max(0, first - reach), min(len(clip) - 1, first + reach) + 1))
        views = np.stack([augment(clip[first], rng), augment(clip[second], rng)]).astype(np.float32)
        return views, (reach - abs(first - second) + 1) / (reach + 1) if self.weighted else 1.0

    def draw_at_once(self, draws: Draws) -> tuple[np.ndarray, np.ndarray] | None:
        """See `PairsAtOnce`."""
        reach = np.nan_to_num(self.max_seconds / draws.seconds_per_frame + 1e-6).astype(np.int64)
        first = draws.streams.integers(draws.lanes, draws.counts)
        start = np.maximum(0, first - reach)
        end = np.minimum(draws.counts - 1, first + reach)
        second = start + draws.streams.integers(draws.lanes, end - start + 1)
        for slot, frames in enumerate((first, second)):
            draws.view(slot, draws.lanes, frames)
        mixture, ones = seen_at_once(draws, 2)
        return mixture, (reach - abs(first - second) + 1) / (reach + 1) if self.weighted else ones

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; IVPP has no use for classes."""
        return IVPPNet(backbone, self)


class IVPPNet(SimCLRNet):
    """Backbone -> projection head -> weighted NT-Xent."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`."""
        anchors = self.anchor_losses(batch.views)
        return {"loss": (batch.weights.tile(2) * anchors).mean(), "weight": batch.weights.mean()}
