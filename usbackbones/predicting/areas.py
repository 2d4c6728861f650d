"""Areas of the structures of a mask in pixels and mm2, and their columns.

`MaskWriter.write` (masks.py) asks for them, `Predictor.add_rows` (rows.py) puts them into rows, and tables.py
writes those.
"""

from collections.abc import Sequence

import numpy as np


def area_columns(classes: Sequence[str]) -> list[str]:
    """The columns of `areas`: of a single structure without its name."""
    names = [f"_{name}" for name in classes] if len(classes) > 1 else [""]
    return [f"area_{unit}{name}" for name in names for unit in ("pixels", "mm2")]


def areas(mask: np.ndarray, classes: int, spacing: tuple[float, float] | None) -> np.ndarray:
    """The area of each structure in pixels and in mm2, float [2 C]; in mm2 nan where the spacing is unknown.

    Args:
        mask: bool [H, W] of one structure, or labels uint8 [H, W].
        classes: C.
        spacing: (row, column) size of a pixel in mm.
    """
    pixels = np.bincount(mask.ravel(), minlength=classes + 1)[1 : classes + 1].astype(float)
    return np.stack([pixels, pixels * (spacing[0] * spacing[1] if spacing else np.nan)], axis=1).ravel()
