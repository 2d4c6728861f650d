"""Extremes: what the brightest and the darkest values of each pixel over a clip say, in one pass."""

from dataclasses import dataclass

import numpy as np

_RUNS, _RUN = 8, 4  # a clip is cut into this many runs at most, of this many frames at least


@dataclass(frozen=True)
class Extremes:
    """The range of each pixel over a clip, uint8 [H, W] each; of a still all three are the still.

    Attributes:
        highest: the largest value. Nothing that was ever lit is missing from it.
        lowest: the smallest. What moves leaves little in it.
        held: the largest value that stayed for a whole run of frames: what was shown for a while, without speckle.
    """

    highest: np.ndarray
    lowest: np.ndarray
    held: np.ndarray

    @property
    def span(self) -> np.ndarray:
        """How far each pixel moved, uint8 [H, W]."""
        return self.highest - self.lowest


def extremes_of(frames: np.ndarray) -> Extremes:
    """The extremes of frames uint8 [T, H, W], T of at least 1."""
    runs = np.array_split(frames, max(1, min(_RUNS, len(frames) // _RUN)))
    lowest = np.stack([run.min(0) for run in runs])
    return Extremes(frames.max(0), lowest.min(0), lowest.max(0))
