"""Augmentations by a scanner's knobs and physics, on uint8 gray images; and where the beam is.

None of it changes what is seen: another depth setting, another speckle pattern, another smoothing and another local
contrast show the same organ. All randomness comes from the caller; a constant image and a frame of one pixel pass
through every operator.
"""

from dataclasses import dataclass

import cv2
import numpy as np

Point = tuple[float, float]  # (x, y) in pixels; the center of the top left pixel is (0, 0)

BLACK = 5  # gray levels up to this may be a codec's noise on a black background
LIFT = 3  # largest factor by which a change of contrast may brighten: black, the lack of an echo, stays black
_GRID = 112  # side in pixels of the copy on which the beam is sought: text and calipers vanish in it
_PATCH = 0.005  # smallest share of the frame that is taken for tissue
_LINES, _SAMPLES = 64, 128  # speckle cells across and along the beam: real ones are wider than they are long


@dataclass(frozen=True)
class Beam:
    """Where a frame shows tissue, and where that is seen from.

    Attributes:
        mask: uint8 [H, W], 255 inside the beam and 0 outside.
        face: middle of the transducer's face.
        apex: where the lines of sight meet, above the face; None where they are parallel, as a linear probe's are.
    """

    mask: np.ndarray
    face: Point
    apex: Point | None = None

    def zoomed(self, zoom: float) -> "Beam":
        """The beam of `change_depth(frame, zoom, self.face)`."""
        mask = cv2.warpAffine(self.mask, _about(self.face, zoom), self.mask.shape[::-1], flags=cv2.INTER_NEAREST)
        if self.apex is None:
            return Beam(mask, self.face)
        (face_x, face_y), (apex_x, apex_y) = self.face, self.apex
        return Beam(mask, self.face, (face_x + zoom * (apex_x - face_x), face_y + zoom * (apex_y - face_y)))

    def viewed(self, box: tuple[int, int, int, int], size: int, mirrored: bool) -> "Beam":
        """The beam of a crop (top, left, height, width) that is stretched to [size, size] and perhaps mirrored."""
        top, left, height, width = box
        crop = self.mask[top : top + height, left : left + width]
        mask = cv2.resize(crop, (size, size), interpolation=cv2.INTER_NEAREST)

        def move(point: Point) -> Point:
            x = (point[0] + 0.5 - left) * size / width - 0.5
            return size - 1 - x if mirrored else x, (point[1] + 0.5 - top) * size / height - 0.5

        apex = None if self.apex is None else move(self.apex)
        return Beam(cv2.flip(mask, 1) if mirrored else mask, move(self.face), apex)


def find_beam(frame: np.ndarray) -> Beam:
    """Estimate the beam of a frame uint8 [H, W]: the convex hull of its echoes, below the first echo of each column.

    The hull bridges shadows and leaves text outside; the columns' first echoes restore the hollow that a curved face
    makes at the top. Where nothing echoes, the beam is the whole frame. Borders are good to about 1/100 of the frame.
    """
    height, width = frame.shape
    small = cv2.resize(frame, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    lit = cv2.threshold(small, BLACK, 255, cv2.THRESH_BINARY)[1]
    lit = cv2.morphologyEx(lit, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    patches, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    tissue = [patch for patch in patches if cv2.contourArea(patch) >= _PATCH * _GRID**2]
    if not tissue:
        return Beam(np.full(frame.shape, 255, np.uint8), ((width - 1) / 2, 0.0))
    hull = cv2.convexHull(np.concatenate(tissue)) * ((width - 1) / (_GRID - 1), (height - 1) / (_GRID - 1))
    mask = np.zeros(frame.shape, np.uint8)
    cv2.fillConvexPoly(mask, hull.round().astype(np.int32), 255)
    first = (frame > BLACK).argmax(0)  # row 0 where a column has no echo at all
    mask[np.arange(height)[:, None] < first] = 0
    return Beam(mask, *_origin(mask))


def _origin(mask: np.ndarray) -> tuple[Point, Point | None]:
    """Face and apex of a mask [H, W]: straight lines through its left and right border, down to its widest row.

    They meet in the apex. Borders that part by less than a fifth of a pixel a row are taken for parallel.
    """
    height, width = mask.shape
    inside = mask > 0
    left, right = inside.argmax(1), width - 1 - inside[:, ::-1].argmax(1)
    across = np.where(inside.any(1), right - left + 1, 0)
    top, widest = int((across > 0).argmax()), int(across.argmax())
    under = slice(top, top + 1 + height // 16)
    face_x = float((left[under] + right[under]).mean() / 2)
    face = face_x, float(inside[:, round(face_x)].argmax())
    if widest - top <= height // 8:
        return face, None
    rows = np.arange(top, widest + 1)
    borders = np.stack([left, right], 1)[top : widest + 1]
    middle, centered = rows.mean(), rows - rows.mean()
    slopes = centered @ borders / (centered @ centered)
    opening = slopes[1] - slopes[0]
    if opening < 0.2:
        return face, None
    at_middle = borders.mean(0)
    apex_y = middle - (at_middle[1] - at_middle[0]) / opening
    apex = float(at_middle[0] + slopes[0] * (apex_y - middle)), float(apex_y)
    return face, apex if apex_y <= face[1] else None


def _about(point: Point, zoom: float) -> np.ndarray:
    """The 2 x 3 matrix that scales by `zoom` and leaves a point where it is."""
    return np.array([[zoom, 0, (1 - zoom) * point[0]], [0, zoom, (1 - zoom) * point[1]]])


def change_depth(frame: np.ndarray, zoom: float, face: Point) -> np.ndarray:
    """What the depth knob does: the picture is scaled about the middle of the transducer's face.

    Args:
        frame: uint8 [H, W].
        zoom: pixels a centimetre, relative to before; above 1 is a shallower setting, 1 leaves the frame as it is.
        face: the point that stays.

    Returns:
        uint8 [H, W]; tissue that the frame does not show is black.
    """
    return cv2.warpAffine(frame, _about(face, zoom), frame.shape[::-1], flags=cv2.INTER_LINEAR)


def speckle_noise(rng: np.random.Generator) -> np.ndarray:
    """The noise n of `add_speckle`, float32, on the scanner's grid: samples down, lines across."""
    return rng.standard_normal((_SAMPLES, _LINES), dtype=np.float32)


def add_speckle(view: np.ndarray, strength: float, noise: np.ndarray, apex: Point | None = None) -> np.ndarray:
    """Speckle on the displayed, log-compressed image f: f + strength * sqrt(f) * n, n of mean 0 and variance about 1.

    The model is that of Loupas, McDicken and Allan (IEEE Trans. Circuits Syst. 36(1), 1989): the mean stays and black
    stays black. n lives on the scanner's own grid, so its grain follows the lines of sight and widens with depth.

    Args:
        view: uint8 [H, W].
        strength: in square roots of gray levels; at gray level 100 the noise has a deviation of 10 * strength.
        noise: n, of `speckle_noise`.
        apex: where the lines of sight meet; None makes them parallel.
    """
    height, width = view.shape
    if apex is None:
        noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        line, sample = _lines_of_sight(height, width, apex)
        noise = cv2.remap(noise, line, sample, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    # Bilinear interpolation between independent cells leaves 4/9 of their variance on average.
    root = cv2.LUT(view, np.sqrt(np.arange(256, dtype=np.float32)) * np.float32(1.5 * strength))
    return cv2.add(cv2.multiply(root, noise), view, dtype=cv2.CV_8U)


def _lines_of_sight(height: int, width: int, apex: Point) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of a view, the number of its line of sight [H, W] and of its sample on that line [H, W].

    Lines are spaced evenly in the tangent of their angle, which needs no arcus and keeps the grain even across a row.
    """
    x = np.arange(width, dtype=np.float32) - np.float32(apex[0])
    y = np.maximum(np.arange(height, dtype=np.float32) - np.float32(apex[1]), 1)[:, None]
    depth = np.sqrt(x * x + y * y)
    first, last, near, far = x[0] / y[-1, 0], x[-1] / y[-1, 0], y[0, 0], depth[-1].max()
    opening, reach = max(last - first, 1e-3), max(far - near, 1e-3)  # in a view of one pixel, both are 0
    return (x / y - first) * np.float32((_LINES - 1) / opening), (depth - near) * np.float32((_SAMPLES - 1) / reach)


def smooth(view: np.ndarray, gray: float) -> np.ndarray:
    """A scanner's speckle reduction: a bilateral filter (Tomasi and Manduchi, ICCV 1998) of 5 x 5 pixels.

    Args:
        view: uint8 [H, W].
        gray: deviation in gray levels; neighbours that differ by much more, as across an interface, are not mixed.
    """
    return cv2.bilateralFilter(view, 5, gray, 2.0)


def equalise(view: np.ndarray, clip: float) -> np.ndarray:
    """Local contrast: CLAHE (Zuiderveld, Graphics Gems IV, 1994) on 8 x 8 tiles, at most `LIFT` times as bright.

    Args:
        view: uint8 [H, W].
        clip: most pixels of one gray level in a tile, in multiples of an even spread; above about 3, noise shows.
    """
    return cv2.min(cv2.createCLAHE(clip, (8, 8)).apply(view), cv2.convertScaleAbs(view, alpha=LIFT))
