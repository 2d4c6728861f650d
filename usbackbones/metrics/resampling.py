"""Resamples of whole groups (patients), and the 95 % intervals that rest on them."""

from collections.abc import Sequence

import numpy as np

Ids = Sequence[str] | np.ndarray
"""One name a row, of the clip or of the group that the row belongs to."""


def draw_groups(groups: Ids, resamples: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw as many groups as there are, with replacement, `resamples` times.

    The same groups and seed give the same draws, so that the difference of two metrics of one draw is paired.

    Returns:
        (int [N], the group of each row; float64 [R, G], how often each group was drawn).
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return group, np.full((resamples, len(names)), np.nan)
    share = np.full(len(names), 1 / len(names))
    return group, np.random.default_rng(seed).multinomial(len(names), share, resamples).astype(float)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap samples that are numbers; nan where none is."""
    if not np.isfinite(samples).any():
        return float("nan"), float("nan")
    low, high = np.nanquantile(samples, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return float(low), float(high)


def with_interval(value: float, samples: np.ndarray) -> dict[str, float]:
    """{"value", "low", "high"}: a metric and the 95 % interval of its resamples."""
    low, high = interval(samples)
    return {"value": value, "low": low, "high": high}
