"""Upright frames: the eight orientations of EXIF, which the display matrix of a video names as well.

Cameras, phones and some scanners store an image as the sensor has it and say in a tag how it is to be shown. Every
viewer, player and annotation tool follows the tag, and so masks are drawn on the upright image.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from usbackbones.clips.formats.base import PILLOW_ERRORS, Warn

ORIENTATION_TAG = 0x0112

TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}
"""By EXIF orientation: what makes an upright frame of a stored one, both [H, W] or [H, W, C]."""

# Where the matrix sends a step to the right and a step down, each as (right, down).
_MATRICES = {
    **{(1, 0, 0, 1): 1, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4},
    **{(0, 1, 1, 0): 5, (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8},
}
_NEARLY = math.cos(math.radians(1))  # of a right angle; FFmpeg allows a degree as well


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """The frame as it is to be shown, in one piece of memory.

    Args:
        stored: [H, W] or [H, W, C].
        orientation: of EXIF, 1 to 8; from 5 on, height and width change places.
    """
    return np.ascontiguousarray(TURNS[orientation](stored))


def upright_spacing(spacing_mm: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    """(row, column) size of a pixel of the upright frame, from that of the stored one."""
    return spacing_mm[::-1] if spacing_mm and orientation >= 5 else spacing_mm


def exif_orientation(image: Image.Image, name: str, warn: Warn) -> int:
    """The orientation that an image, or the page of it that is open, names in its EXIF or XMP; 1 where it names none.

    `warn` gets a line that calls it `name` where its EXIF is damaged.
    """
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except PILLOW_ERRORS:
        warn(f"{name}: its EXIF is damaged; shown as it is stored, it may lie on its side")
        return 1
    return orientation if orientation in TURNS else 1  # viewers take numbers beyond 8 for 1


def matrix_orientation(matrix: bytes) -> int | None:
    """The orientation that a display matrix stands for, whatever its scale and shift.

    Args:
        matrix: nine int32 as FFmpeg keeps them, row by row; the first two of the first two rows turn and mirror.

    Returns:
        1 to 8; None for a turn by less than a right angle, or a shear. A matrix of zeros says nothing: 1.
    """
    turn = np.frombuffer(matrix, np.int32)[[0, 1, 3, 4]].astype(np.float64).reshape(2, 2)
    lengths = np.linalg.norm(turn, axis=1, keepdims=True)
    if not turn.any():
        return 1
    if not lengths.all():
        return None
    unit = turn / lengths
    return _MATRICES.get(tuple(np.round(unit).astype(int).ravel())) if (np.abs(unit).max(1) >= _NEARLY).all() else None
