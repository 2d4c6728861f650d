"""Evenly spaced indices: which frames of a long clip stand for all of it."""

import numpy as np


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of the indices 0..count - 1, int, rising, evenly spaced, the first and the last among them."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)
