"""Letterbox: plain bars along the edges of a frame, which a video player or a slide put around the picture."""

import numpy as np

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels; bottom and right are the first that lie outside."""

TOLERANCE = 8
"""Gray levels by which a bar may waver: what H.264 and JPEG at low quality leave of a plain area."""
_STEP = 0.02  # of the side: within this far behind a bar the picture must begin ...
_FILLED = 0.5  # ... over this share of the bar's length; a sector touches the bar at its tip only, and keeps it


def content_box(highest: np.ndarray, lowest: np.ndarray) -> Box:
    """The frame without its bars.

    A bar is a run of whole lines of one gray level in every frame, of any level, that ends abruptly along at least
    half of its length. The black that a sector stands in is therefore no bar, nor is a shadow that fades to black.

    Args:
        highest: uint8 [H, W], the largest value that each pixel has in the clip.
        lowest: uint8 [H, W], the smallest.

    Returns:
        The box of what is left; the whole frame if nothing is a bar.
    """
    height, width = highest.shape
    top, below = _bar(highest, lowest), _bar(highest[::-1], lowest[::-1])
    kept = slice(top, height - below)
    highest, lowest = highest[kept].T, lowest[kept].T
    left, beside = _bar(highest, lowest), _bar(highest[::-1], lowest[::-1])
    return top, left, height - below, width - beside


def _bar(highest: np.ndarray, lowest: np.ndarray) -> int:
    """How many of the first rows are a bar."""
    level = int(np.median(highest[0]))
    other = (highest > level + TOLERANCE) | (lowest < level - TOLERANCE)
    rows = np.flatnonzero(other.any(1))
    if not len(rows) or rows[0] == 0:
        return 0
    first = int(rows[0])
    # Bars on the other two sides are no part of the length along which the picture must begin.
    columns = np.flatnonzero(other.any(0))
    begin = other[first : first + max(2, round(_STEP * len(other))), columns[0] : columns[-1] + 1].any(0)
    return first if begin.mean() >= _FILLED else 0
