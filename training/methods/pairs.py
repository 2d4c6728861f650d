"""Positive pair interpolation, the pairs of Meta-USCL (Chen et al., IEEE TMI, arXiv 2212.04097).

A pair is two mixtures of frames in the order of time, made before augmentation, so that both views stay within what the
clip shows:

    x1 = (1 - a) f1 + a f2,   x2 = b f2 + (1 - b) f3,   a, b ~ Beta(3, 5),   f1 before f2 before f3
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.data.views.augment import Augment


@dataclass(frozen=True)
class Interpolation:
    """Pairs of interpolated frames.

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
