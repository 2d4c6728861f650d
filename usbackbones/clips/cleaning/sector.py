"""Sector: the outline of the ultrasound on a screen, a fan or a rectangle, found by the edges that tissue touches.

The outline is up to six boundaries: two straight sides, an arc or a level line above, an arc or a level line below.
Each stands on its own evidence, tissue that ends along it; where there is not enough, the frame's edge stays the
boundary. A side that lies in shadow is so not guessed, and an outline that would cut off more than 1 % of the tissue is
not used at all.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from usbackbones.clips.cleaning.edges import NEAR, Line, arcs_of, levels_of, side_of
from usbackbones.clips.cleaning.tissue import find_tissue

SMALLEST = 48
"""Pixels: in a frame with a shorter side than this no outline is looked for."""

_CONVERGING, _LEAN = 6.0, 5.0  # degrees: sides closer than this are parallel; a fan leans no more than this
_LOST = 0.01  # of the tissue: more than this outside, and the outline is wrong as a whole


@dataclass(frozen=True)
class Sector:
    """The outline in pixels of the frame; a boundary that was not seen is None.

    Attributes:
        left: x = a + b y along the left side.
        right: the same of the right side.
        apex: (x, y) where the sides of a fan meet.
        near: distance from the apex to the arc of the probe.
        far: distance from the apex to the last echoes.
        top: y of a level upper edge.
        bottom: y of a level lower edge.
    """

    left: Line | None = None
    right: Line | None = None
    apex: tuple[float, float] | None = None
    near: float | None = None
    far: float | None = None
    top: float | None = None
    bottom: float | None = None

    @property
    def seen(self) -> tuple[str, ...]:
        """The names of the boundaries that were seen."""
        names = ("left", "right", "near", "far", "top", "bottom")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def kind(self) -> str:
        """What the edges seen make: a "fan" whose sides meet, a "rectangle" of two sides, or only "parts"."""
        if self.apex:
            return "fan"
        return "rectangle" if self.left and self.right else "parts"

    def mask(self, height: int, width: int) -> np.ndarray:
        """True inside the outline, bool [height, width]."""
        y, x = np.ogrid[:height, :width]
        inside = np.ones((height, width), bool)
        if self.left:
            inside &= x >= self.left[0] + self.left[1] * y
        if self.right:
            inside &= x <= self.right[0] + self.right[1] * y
        if self.top is not None:
            inside &= y >= self.top
        if self.bottom is not None:
            inside &= y <= self.bottom
        if self.apex and (self.near is not None or self.far is not None):
            square = (x - self.apex[0]) ** 2 + (y - self.apex[1]) ** 2
            if self.near is not None:
                inside &= square >= max(self.near, 0) ** 2
            if self.far is not None:
                inside &= square <= self.far**2
        return inside

    def enlarged(self, factor: float) -> "Sector":
        """The outline in a frame `factor` times as large, moved outwards by NEAR, so that no tissue is cut."""

        def pixels(value: float) -> float:
            return (value + 0.5) * factor - 0.5  # the center of the first pixel is 0 at either size

        def side(line: Line | None, outwards: float) -> Line | None:
            if line is None:
                return None
            a, b = line
            return pixels(a + outwards * float(np.hypot(1, b))) + b * (0.5 - 0.5 * factor), b

        return Sector(
            left=side(self.left, -NEAR),
            right=side(self.right, NEAR),
            apex=(pixels(self.apex[0]), pixels(self.apex[1])) if self.apex else None,
            near=(self.near - NEAR) * factor if self.near is not None else None,
            far=(self.far + NEAR) * factor if self.far is not None else None,
            top=pixels(self.top - NEAR) if self.top is not None else None,
            bottom=pixels(self.bottom + NEAR) if self.bottom is not None else None,
        )


def find_sector(highest: np.ndarray, lowest: np.ndarray) -> tuple[Sector, str]:
    """Find the outline of the ultrasound.

    Args:
        highest: uint8 [H, W], the largest value that each pixel has in the clip.
        lowest: uint8 [H, W], the smallest; of a still the same as `highest`.

    Returns:
        The outline, just outside the tissue, and why it has no boundary at all, or "".
    """
    if min(highest.shape) < SMALLEST:
        return Sector(), f"a frame of {highest.shape[1]} x {highest.shape[0]} pixels is too small to find a sector in"
    tissue = find_tissue(highest, lowest)
    if tissue is None:
        return Sector(), "the picture fills the frame"
    where = tissue.where
    width = where.shape[1]
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    if len(rows) < SMALLEST // 4 or len(columns) < SMALLEST // 4:
        return Sector(), "no tissue of any size was found"
    left = side_of(where[rows].argmax(1), rows, width)
    mirrored = side_of(where[rows, ::-1].argmax(1), rows, width)
    right = (width - 1 - mirrored[0], -mirrored[1]) if mirrored else None
    left, right, apex = _paired(left, right)
    near, far = arcs_of(where, left, right, apex) if left and right and apex else (None, None)
    top, bottom = levels_of(where)
    top, bottom = (top if near is None else None), (bottom if far is None else None)
    sector = Sector(left, right, apex, near, far, top, bottom).enlarged(1 / tissue.scale)
    if not sector.seen:
        return sector, "no edge of the sector is seen clearly enough"
    full = cv2.resize(where.astype(np.uint8), highest.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    lost = (full & ~sector.mask(*highest.shape)).sum() / full.sum()
    if lost > _LOST:
        return Sector(), f"the outline would cut off {lost:.0%} of the tissue"
    return sector, ""


def _paired(left: Line | None, right: Line | None) -> tuple[Line | None, Line | None, tuple[float, float] | None]:
    """Two sides and where they meet. Of a fan that leans too much, the side that opens less is a shadow's edge."""
    if not left or not right:
        return left, right, None
    opens = np.degrees(np.arctan(-left[1])), np.degrees(np.arctan(right[1]))  # away from the vertical, either side
    if abs(opens[0] + opens[1]) < _CONVERGING:
        return left, right, None
    if abs(opens[0] - opens[1]) > 2 * _LEAN:
        return (left, None, None) if abs(opens[0]) > abs(opens[1]) else (None, right, None)
    y = (right[0] - left[0]) / (left[1] - right[1])
    return left, right, (left[0] + left[1] * y, y)
