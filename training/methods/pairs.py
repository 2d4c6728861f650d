"""Draw positive pairs from a clip: as SimCLR and AWCL, as USCL and HiCo, and as Meta-USCL.

    FramePair           two augmentations of one random frame
    MixedPair           v1 = lam1 t1 + (1 - lam1) t2,   v2 = lam2 t3 + (1 - lam2) t2,   t1, t2, t3 = augmented frames
    InterpolatedPair    x1 = (1 - a) f1 + a f2,         x2 = b f2 + (1 - b) f3,         each augmented after mixing

A method inherits its draw together with the draw's options, see `Pairs` in `training.data.batches.sampling`. Frames of
one clip are nearly the same, so a clip gives exactly one pair a step and its frames are never negatives of one another.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.data.batches.at_once import Draws, seen_at_once
from training.data.views.augment import Augment


def two_views(frame: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """float32 [2, S, S]: two augmentations of a frame uint8 [H, W]."""
    return np.stack([augment(frame, rng), augment(frame, rng)]).astype(np.float32)


@dataclass(frozen=True)
class FramePair:
    """Two augmentations of one random frame: nothing of the video."""

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]."""
        return two_views(clip[rng.integers(len(clip))], augment, rng)

    def draw_at_once(self, draws: Draws) -> tuple[np.ndarray, np.ndarray] | None:
        """See `PairsAtOnce`."""
        frames = draws.streams.integers(draws.lanes, draws.counts)
        for slot in range(2):
            draws.view(slot, draws.lanes, frames)
        return seen_at_once(draws, 2)


@dataclass(frozen=True)
class MixedPair:
    """Two mixtures of augmented frames that share an anchor frame, in any order of time.

    Attributes:
        lam: "independent" draws a coefficient a view, as the paper's formula has it; "shared" draws one for both, as
            the released code does. Shared makes one pair in seven nearly identical (lam below 0.05), so it is not
            the default.
        beta: parameter a of the coefficients' Beta(a, a) distribution, above 0; 1 is uniform, less favors one frame.
    """

    lam: Literal["independent", "shared"] = "independent"
    beta: float = 0.5

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]: mixed if T >= 3, two frames if T = 2, one twice if T = 1."""
        if len(clip) < 3:
            frames = clip[rng.permutation(2)] if len(clip) == 2 else clip[[0, 0]]
            return np.stack([augment(frame, rng) for frame in frames]).astype(np.float32)
        chosen = rng.choice(len(clip), 3, replace=False)
        start, anchor, end = (augment(clip[index], rng).astype(np.float32) for index in chosen)
        lam1, lam2 = rng.beta(self.beta, self.beta, 2).astype(np.float32)
        if self.lam == "shared":
            lam2 = lam1
        return np.stack([lam1 * start + (1 - lam1) * anchor, lam2 * end + (1 - lam2) * anchor])

    def draw_at_once(self, draws: Draws) -> tuple[np.ndarray, np.ndarray] | None:
        """See `PairsAtOnce`."""
        if self.beta > 1:
            return None
        mixture = np.zeros((2, len(draws.lanes), 3), np.float32)
        few, many = (np.flatnonzero(chosen) for chosen in (draws.counts < 3, draws.counts >= 3))
        frames = np.zeros((len(draws.lanes), 3), np.int64)
        two = few[draws.counts[few] == 2]
        frames[two, :2] = draws.streams.permutation(two, 2)
        frames[many] = draws.streams.choice(many, draws.counts[many], 3)
        for slot, lanes in enumerate((draws.lanes, draws.lanes, many)):
            draws.view(slot, lanes, frames[lanes, slot])
        mixture[0, few, 0] = mixture[1, few, 1] = 1
        lam1, lam2 = (draws.streams.beta(many, self.beta).astype(np.float32) for _ in range(2))
        if self.lam == "shared":
            lam2 = lam1
        mixture[:, many] = np.stack([np.stack([lam1, 1 - lam1, 0 * lam1], 1), np.stack([0 * lam2, 1 - lam2, lam2], 1)])
        return mixture, np.ones(len(draws.lanes))


@dataclass(frozen=True)
class InterpolatedPair:
    """Positive pair interpolation: frames mixed in the order of time, before augmentation.

    Attributes:
        interpolate: "standard" mixes the middle one of three frames into each of the others; "inner" mixes `frames`
            frames with weights uniform on the simplex, drawn for each view.
        frames: number of frames of "inner", at least 3.
        max_dist: largest distance in frames from the first to another frame of a pair; None is no limit.
        beta: parameters of the Beta distribution of the middle frame's share; (3, 5) has mean 0.375.
    """

    interpolate: Literal["standard", "inner"] = "standard"
    frames: int = 3
    max_dist: int | None = None
    beta: tuple[float, float] = (3.0, 5.0)

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]: mixed if T >= 3, two frames if T = 2, one twice if T = 1."""
        frames = clip[self.draw_frames(len(clip), rng)]
        if len(frames) >= 3:
            shares = rng.dirichlet(np.ones(len(frames)), 2) if self.interpolate == "inner" else self._shares(rng)
            frames = np.tensordot(shares, frames, axes=1).astype(np.uint8)  # rounds down, as the released code does
        return np.stack([augment(frame, rng) for frame in frames[[0, -1]]]).astype(np.float32)

    def draw_frames(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of the frames of a pair in the order of time: a first one and others at different distances."""
        furthest = count - 1 if self.max_dist is None else min(count - 1, self.max_dist)
        others = min(self.frames - 1 if self.interpolate == "inner" else 2, furthest)
        distances = np.sort(1 + rng.choice(furthest, others, replace=False)) if others else np.array([0])
        first = rng.integers(count - distances[-1])
        return np.concatenate([[first], first + distances])

    def _shares(self, rng: np.random.Generator) -> np.ndarray:
        """[2, 3]: the share of each of three frames in each view."""
        a, b = rng.beta(*self.beta, 2)
        return np.array([[1 - a, a, 0], [0, b, 1 - b]])
