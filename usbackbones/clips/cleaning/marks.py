"""Overlays: marks that stand still over tissue that moves, found from the clip's own motion."""

import cv2
import numpy as np

_STROKE = cv2.getStructuringElement(cv2.MORPH_RECT, (9, 9))  # marks are thinner than this, in pixels
_STILL = 12  # gray levels that a mark may flicker under a lossy codec
_MOVING = 24  # range of the pixels around a mark: twice that, or nothing tells it from still tissue
_CONTRAST = 50  # gray levels by which a mark stands out against the darkest that its surroundings become ...
_SIDES = 80  # ... in this percentage of them: on every side; the core of a bright fascia goes on in two directions
_LEAST, _LONGEST = 8, 40  # pixels that a mark has, and that it is long: a letter, a digit, a tick, a cross
_EDGE, _AROUND = np.ones((3, 3), np.uint8), np.ones((9, 9), np.uint8)  # smooth letters have a blurred edge, no help


def still_marks(highest: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """Thin bright marks that do not change while what surrounds them does: depth ticks, letters, calipers.

    Args:
        highest: uint8 [H, W], the largest value that each pixel has in the clip.
        lowest: uint8 [H, W], the smallest. For a still there is no motion, and no mark is found.

    Returns:
        bool [H, W], true on the marks.
    """
    span = highest - lowest
    still = (cv2.morphologyEx(lowest, cv2.MORPH_TOPHAT, _STROKE) >= _CONTRAST) & (span <= _STILL)
    count, pieces, facts, _ = cv2.connectedComponentsWithStats(still.astype(np.uint8), connectivity=8)
    edged = cv2.dilate(still.astype(np.uint8), _EDGE) > 0
    marks = np.zeros(still.shape, bool)
    for piece in range(1, count):
        left, top, width, height, area = facts[piece]
        if area < _LEAST or max(width, height) > _LONGEST:
            continue
        near = slice(max(top - 4, 0), top + height + 4), slice(max(left - 4, 0), left + width + 4)
        own = pieces[near] == piece
        around = (cv2.dilate(own.astype(np.uint8), _AROUND) > 0) & ~edged[near]
        if not around.any() or np.percentile(span[near][around], 100 - _SIDES) < _MOVING:
            continue
        if np.median(lowest[near][own]) - np.percentile(lowest[near][around], _SIDES) >= _CONTRAST:
            marks[near] |= own
    return marks
