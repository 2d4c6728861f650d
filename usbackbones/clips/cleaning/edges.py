"""Edges of a sector: the straight side, the arc or the level line along which tissue ends.

An edge is what the tissue itself shows: it ends there in many places and goes on beyond hardly anywhere. Where an
edge would lie in shadow nothing touches it, and it is not found rather than guessed. All lengths here are pixels of
the reduced frame (`tissue.SIDE`).
"""

import numpy as np

from usbackbones._evenly import evenly

Line = tuple[float, float]
"""(a, b): x = a + b y, in pixels."""

NEAR = 2.0
"""Tissue that ends within this of an edge touches it; speckle is about as large."""

_BORDER = 1.0  # tissue that ends within this of the frame's border was cut off there, and shows no edge
_STRAY = 3.0  # tissue beyond an edge weighs this many times what touches it
_LINES = 64  # pairs of this many rows are tried as a side
_APART = 0.15  # of the tissue's height: closer rows say little of a direction
_SIDE_TOUCH, _SIDE_SHARE, _SIDE_STRAY = 0.25, 0.4, 0.03  # of the tissue's height, of the side within the frame; beyond
_ANGLES = 64  # bins across a fan, in each of which the first and the last tissue count
_ARC_BINS, _ARC_SHARE, _ARC_STRAY = 8, 0.3, 0.05  # bins at least, of those where the arc is in the frame; beyond
_LEVEL_SHARE = 0.5  # of the tissue's width; of an arc no more than a fifth is near a tangent


def side_of(first: np.ndarray, rows: np.ndarray, width: int) -> Line | None:
    """The straight left side: most rows of tissue begin on it, hardly any before it.

    Args:
        first: column of the first tissue in each of the rows.
        rows: the rows that have tissue.
        width: of the reduced frame.
    """
    whole = first > _BORDER  # not cut off by the frame's edge
    y, x = rows[whole], first[whole]
    if len(y) < _ARC_BINS:
        return None
    pick = evenly(len(y), _LINES)
    i, j = (pick[index] for index in np.triu_indices(len(pick), 1))
    apart = y[j] - y[i] >= _APART * len(rows)
    i, j = i[apart], j[apart]
    if not len(i):
        return None
    slope = (x[j] - x[i]) / (y[j] - y[i])
    line = (x[i] - slope * y[i])[:, None] + slope[:, None] * rows
    gap = first - line
    touching = (np.abs(gap) <= NEAR) & whole
    stray = (gap < -NEAR).sum(1)
    best = int(np.argmax(touching.sum(1) - _STRAY * stray))
    touched = touching[best].sum()
    within = ((line[best] > _BORDER) & (line[best] < width - 1 - _BORDER)).sum()
    if touched < max(_SIDE_TOUCH * len(rows), _SIDE_SHARE * within) or stray[best] > _SIDE_STRAY * len(rows):
        return None
    b, a = np.polyfit(rows[touching[best]], first[touching[best]], 1)
    return float(a), float(b)


def arcs_of(where: np.ndarray, left: Line, right: Line, apex: tuple[float, float]) -> tuple[float | None, float | None]:
    """The radii of the probe's arc and of the last echoes, each None where tissue does not end along it."""
    height, width = where.shape
    y, x = np.nonzero(where)
    turn = 1 if y.mean() > apex[1] else -1  # a fan that opens upwards is looked at upside down
    edges = sorted((turn * np.arctan(left[1]), turn * np.arctan(right[1])))
    angle = (np.arange(_ANGLES) + 0.5) / _ANGLES * (edges[1] - edges[0]) + edges[0]
    radius = np.hypot(x - apex[0], y - apex[1])
    bins = ((np.arctan2(x - apex[0], turn * (y - apex[1])) - edges[0]) / (edges[1] - edges[0]) * _ANGLES).astype(int)
    inside = (bins >= 0) & (bins < _ANGLES)
    first, last = np.full(_ANGLES, np.inf), np.full(_ANGLES, -np.inf)
    np.minimum.at(first, bins[inside], radius[inside])
    np.maximum.at(last, bins[inside], radius[inside])
    # Where each ray enters the frame and leaves it.
    along = np.arange(0, 2 * (height + width) + np.hypot(*apex))
    ray_x, ray_y = apex[0] + np.sin(angle)[:, None] * along, apex[1] + turn * np.cos(angle)[:, None] * along
    crossing = (ray_x >= 0) & (ray_x <= width - 1) & (ray_y >= 0) & (ray_y <= height - 1)
    enters, leaves = crossing.argmax(1), len(along) - 1 - crossing[:, ::-1].argmax(1)
    met = np.isfinite(first) & crossing.any(1)
    near = _level(-first[met], -enters[met].astype(float), _ARC_SHARE, _ARC_BINS, _ARC_STRAY)
    far = _level(last[met], leaves[met].astype(float), _ARC_SHARE, _ARC_BINS, _ARC_STRAY)
    return -near if near is not None else None, far


def levels_of(where: np.ndarray) -> tuple[float | None, float | None]:
    """The y of the level edges above and below, each None where tissue does not end along it."""
    columns = np.flatnonzero(where.any(0))
    first = where[:, columns].argmax(0).astype(float)
    last = len(where) - 1 - where[::-1, columns].argmax(0).astype(float)
    top = _level(-first, np.zeros(len(columns)), _LEVEL_SHARE, 1, _SIDE_STRAY)
    bottom = _level(last, np.full(len(columns), len(where) - 1.0), _LEVEL_SHARE, 1, _SIDE_STRAY)
    return -top if top is not None else None, bottom


def _level(last: np.ndarray, limit: np.ndarray, share: float, least: int, beyond: float) -> float | None:
    """The level at which tissue ends in most bins and which it passes in hardly any.

    Args:
        last: where tissue ends in each bin, outwards.
        limit: where the frame ends.
        share: of the bins in which the level lies within the frame, so many must touch it.
        least: at least this many bins must touch it.
        beyond: of all bins, at most so many may pass it.
    """
    whole = last < limit - _BORDER
    best: tuple[float, float, int, int] | None = None
    for level in np.unique(last[whole].round()):
        touch = int((whole & (np.abs(last - level) <= NEAR)).sum())
        stray = int((last > level + NEAR).sum())
        if best is None or touch - _STRAY * stray > best[0]:
            best = (touch - _STRAY * stray, float(level), touch, stray)
    if best is None:
        return None
    _, level, touch, stray = best
    possible = int((limit > level).sum())
    return level if touch >= max(least, share * possible) and stray <= beyond * len(last) else None
