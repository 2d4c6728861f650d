"""Clips of the simulator, each simulated once a process: many tests ask for the same."""

from functools import lru_cache
from typing import Any

import numpy as np

from usbackbones.phantom import simulator


@lru_cache(maxsize=1024)
def _simulated(patient: int, frames: int, size: int, **how: Any) -> np.ndarray:
    return simulator.phantom_clip(patient, frames=frames, size=size, **how)


def phantom_clip(patient: int, *, frames: int, size: int, **how: Any) -> np.ndarray:
    """A clip uint8 [frames, size, size] by `usbackbones.phantom_clip`, the caller's own."""
    return _simulated(patient, frames, size, **how).copy()
