"""The plain pair of a clip: two different frames, one augmentation each, NT-Xent. The control for mixing."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from training.data.batches.at_once import Draws, seen_at_once
from training.data.views.augment import Augment
from training.methods.simclr import SimCLR


@dataclass(frozen=True)
class ClipPair(SimCLR):
    """SimCLR whose views are of two different frames of the clip, any distance apart."""

    name: ClassVar = "clip_pair"

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]; a clip of one frame gives two views of it."""
        first, second = rng.choice(len(clip), 2, replace=False) if len(clip) > 1 else (0, 0)
        return np.stack([augment(clip[first], rng), augment(clip[second], rng)]).astype(np.float32)

    def draw_at_once(self, draws: Draws) -> tuple[np.ndarray, np.ndarray] | None:
        """See `PairsAtOnce`."""
        frames, several = np.zeros((len(draws.lanes), 2), np.int64), np.flatnonzero(draws.counts > 1)
        frames[several] = draws.streams.choice(several, draws.counts[several], 2)
        for slot in range(2):
            draws.view(slot, draws.lanes, frames[:, slot])
        return seen_at_once(draws, 2)
