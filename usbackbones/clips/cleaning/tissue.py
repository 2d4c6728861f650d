"""Tissue: which parts of a screen are ultrasound, told from the plain ground and from what is printed on it."""

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 256
"""Longest side, in pixels, at which the geometry is looked for: a pixel is then 0.4 % of the frame."""

_WAVER = 3  # gray levels that a plain ground differs from itself at least, after a codec; faint noise is above it
_PLAIN = 15  # gray levels: an outline that wavers by more is tissue; plain grounds of real screens stay below 13
_PEAK = 6  # half the width, in gray levels, of the peak that a ground makes in the outline's histogram
_GROUND = 0.05  # of the frame's outline: less than this at one level, and the picture fills the frame
# Print covers a third of the pixels of its line at most, a curve or a tick far fewer; speckle in a clip's brightest
# values fills its area, and in a still most of it.
_FILLED, _TOUCHED = 0.5, 0.25
_PIECE = 0.02  # of the largest piece: smaller ones do not count
# A further piece counts if it is as alive as the largest or nearly so: in a clip by the range of its pixels, in a
# still by how pixels and their neighbours differ (medians over the piece). A logo or a color bar has little of both.
_ALIVE = 0.5
_OPENING = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))  # cuts off ticks, curves and letters


@dataclass(frozen=True)
class Tissue:
    """Where a clip shows ultrasound.

    Attributes:
        where: bool [h, w], at reduced size.
        scale: reduced pixels per pixel of the frame, at most 1.
    """

    where: np.ndarray
    scale: float


def find_tissue(highest: np.ndarray, lowest: np.ndarray) -> Tissue | None:
    """Find the ultrasound on a screen.

    The ground is the most frequent gray level along the frame's outline. What differs from it densely, in pieces of
    some size, is tissue: the largest piece, and those others that are as alive as it is, unlike a logo.

    Args:
        highest: uint8 [H, W], the largest value that each pixel has in the clip.
        lowest: uint8 [H, W], the smallest; of a still the same as `highest`.

    Returns:
        The tissue, or None if the picture fills the frame or shows nothing of any size.
    """
    scale = min(1.0, SIDE / max(highest.shape))
    light, light_waver, share = _ground(highest)
    dark, dark_waver, _ = _ground(lowest)
    if share < _GROUND or light_waver > _PLAIN:
        return None
    other = (highest > light + light_waver) | (lowest < dark - dark_waver)
    filled = _reduced(other, scale)
    core = cv2.morphologyEx((filled > _FILLED).astype(np.uint8), cv2.MORPH_OPEN, _OPENING)
    count, pieces, facts, _ = cv2.connectedComponentsWithStats(core)
    if count < 2:
        return None
    area = facts[:, cv2.CC_STAT_AREA]
    largest = 1 + int(area[1:].argmax())
    grain = cv2.morphologyEx(highest, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    life = _reduced(highest - lowest if (highest != lowest).any() else grain, scale)
    least = _ALIVE * np.median(life[pieces == largest])
    chosen = [
        piece
        for piece in range(1, count)
        if area[piece] >= _PIECE * area[largest] and np.median(life[pieces == piece]) >= least
    ]
    core = np.isin(pieces, chosen)  # type: ignore[assignment]
    # Sparse speckle that hangs together with the dense belongs to it.
    _, pieces = cv2.connectedComponents(np.logical_or(filled > _TOUCHED, core).astype(np.uint8))
    where = np.isin(pieces, np.unique(pieces[core])).astype(np.uint8)
    return Tissue(cv2.morphologyEx(where, cv2.MORPH_OPEN, _OPENING) > 0, scale)


def _ground(values: np.ndarray) -> tuple[float, float, float]:
    """Of the frame's outline: its most frequent level, by how much that wavers, and which share of it is near."""
    outline = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    counts = np.convolve(np.bincount(outline, minlength=256), np.ones(2 * _PEAK + 1), "same")
    near = outline[np.abs(outline.astype(int) - int(counts.argmax())) <= 2 * _PEAK]
    level = float(np.median(near))
    # Four standard deviations, by medians so that tissue at nearly the same level does not count; where half of the
    # noise is clipped to black, only the differences of neighbours show it.
    steps = np.abs(np.diff(outline.astype(int)))[np.abs(outline[1:] - level) <= 2 * _PEAK]
    waver = 4 * 1.48 * max(float(np.median(np.abs(near - level))), float(np.median(steps)) / 2**0.5)
    return level, max(_WAVER, waver), float(counts.max() / len(outline))


def _reduced(values: np.ndarray, scale: float) -> np.ndarray:
    """Means of the pixels that a reduced pixel covers, float32."""
    height, width = values.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)
