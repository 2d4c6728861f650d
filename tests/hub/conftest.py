"""What several tests of the hub share."""

import numpy as np
import pytest


@pytest.fixture
def clustered():
    """Sixty groups of three classes with two clips each of one to six frames; classes overlap."""
    rng = np.random.default_rng(1)
    x, y, clip, group = [], [], [], []
    for g in range(60):
        center = rng.normal(size=8) + 1.2 * np.eye(8)[g % 3]
        for c in range(2):
            for _ in range(rng.integers(1, 7)):
                x.append(center + 0.3 * rng.normal(size=8))
                y.append(g % 3)
                clip.append(f"g{g}c{c}")
                group.append(f"g{g}")
    return np.array(x), np.array(y), np.array(clip), np.array(group)
